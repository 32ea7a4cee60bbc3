"""`rag-app demo`"""

from __future__ import annotations

from pathlib import Path

import click

import rag_app
from rag_app.cli.ask import print_answer
from rag_app.cli.options import json_option
from rag_app.cli.output import ingest_lines, note
from rag_app.cli.progress import show_progress
from rag_app.errors import IdentityError

QUESTION = "What happens to a file that cannot be read?"


@click.command()
@click.argument("question", default=QUESTION)
@json_option
def command(question: str, as_json: bool) -> None:
    """Ask rag-app about rag-app: index the guide that comes with it and answer QUESTION.

    Needs no key, no server and no download. The index is kept in .rag/guide, so that the second
    question embeds nothing anew.
    """
    home = Path(".rag").resolve()
    folder = Path(__file__).parents[1] / "guide"
    overrides = {
        "index.path": str(home),
        "vector_store.path": str(home / "guide" / "vectors.sqlite"),
    }
    with rag_app.load(folder / "rag-app.yaml", overrides) as app:
        with show_progress() as progress:
            try:
                report = app.ingest(progress=progress)
            except IdentityError:
                note("The demo's index was made by another version of the model; made anew.")
                report = app.ingest(progress=progress, rebuild=True)
        for line in ingest_lines(report):
            note(line)
        note(f"\n> {question}\n")
        print_answer(app.config, app.ask(question), as_json=as_json)
