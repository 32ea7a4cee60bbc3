"""`rag-app index show`"""

from __future__ import annotations

import click

from rag_app.cli.index.lines import description_lines
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json


@click.command()
@click.argument("generation", type=click.IntRange(min=1), required=False)
@config_options
@json_option
def command(generation: int | None, config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tell all about the GENERATION of this number, or about the one that is served.

    Its model, splitter and counts, the config that it was made with, and the size of the manifest.
    """
    with open_app(config, overrides) as app:
        described = app.describe_generation(generation)
    if as_json:
        print_json(described)
    else:
        click.echo("\n".join(description_lines(described)))
