"""`rag-app index import`"""

from __future__ import annotations

from dataclasses import asdict

import click

from rag_app.cli.index.lines import generation_line
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress


@click.command()
@click.argument("source", type=click.Path())
@config_options
@json_option
@click.option(
    "--replace",
    is_flag=True,
    help="Serve it in the place of what is served, which is kept for a rollback.",
)
def command(
    source: str, config: str, overrides: tuple[str, ...], as_json: bool, replace: bool
) -> None:
    """Serve what `rag-app index export` wrote to SOURCE, in the config's vector store.

    The config's embedding model and splitter must be those of the export. Everything is checked
    before anything is written; stopped or killed, the same command goes on from there.
    """
    with open_app(config, overrides) as app, show_progress() as progress:
        served = app.import_index(source, replace=replace, progress=progress)
        progress.clear()
    if as_json:
        print_json(asdict(served))
    else:
        click.echo(f"served: {generation_line(served)}")
