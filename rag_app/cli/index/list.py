"""`rag-app index list`"""

from __future__ import annotations

from dataclasses import asdict

import click

from rag_app.cli.index.lines import generation_lines
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import note, print_json


@click.command()
@config_options
@json_option
def command(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the generations of the index, in the order they were begun.

    One is served. Others are kept for a rollback, or filling: not published yet.
    """
    with open_app(config, overrides) as app:
        found = app.generations()
        if as_json:
            print_json({"index": app.config.name, "generations": [asdict(each) for each in found]})
        elif found:
            click.echo("\n".join(generation_lines(found)))
        else:
            note("There is none yet. Run: rag-app ingest")
