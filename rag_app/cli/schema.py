"""`rag-app schema`"""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Print the JSON Schema (draft-07) of the config.

    Save it and point your editor at it: # yaml-language-server: $schema=./rag-app.schema.json
    """
    from rag_app.schema import schema_text

    click.echo(schema_text(), nl=False)
