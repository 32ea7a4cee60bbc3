"""`rag-app index gc`"""

from __future__ import annotations

from dataclasses import asdict

import click

from rag_app.cli.index.lines import generation_line
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import note, print_json


@click.command()
@config_options
@json_option
def command(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Remove every generation that is not served, with its rows in the vector store.

    There is nothing to roll back to afterwards.
    """
    with open_app(config, overrides) as app:
        removed = app.gc()
        serves = any(each.state == "served" for each in app.generations())
    if as_json:
        print_json({"removed": [asdict(each) for each in removed]})
    elif removed:
        click.echo("\n".join(f"removed: {generation_line(each)}" for each in removed))
    elif serves:
        note("Only what is served is there; nothing was removed.")
    else:
        note("Nothing is served, and nothing was removed.")
