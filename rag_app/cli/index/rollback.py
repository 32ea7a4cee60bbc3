"""`rag-app index rollback`"""

from __future__ import annotations

from dataclasses import asdict

import click

from rag_app.cli.index.lines import generation_line
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json


@click.command()
@config_options
@json_option
def command(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Serve again the generation that was served before.

    Afterwards use the config that made it: one that asks for another model or store is refused.
    """
    with open_app(config, overrides) as app:
        served = app.rollback()
    if as_json:
        print_json(asdict(served))
    else:
        click.echo(f"served again: {generation_line(served)}")
