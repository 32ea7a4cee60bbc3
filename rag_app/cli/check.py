"""`rag-app check`"""

from __future__ import annotations

from dataclasses import asdict

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import note, print_json


@click.command()
@config_options
@json_option
@click.pass_context
def command(ctx: click.Context, config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Validate the config, then prove that each part works.

    Reads a document, embeds a text, writes, finds and deletes a chunk (in a collection of its own),
    asks the chat model for a token, and prints the command that mends what fails.
    """
    from rag_app.check import check

    with open_app(config, overrides) as app:
        checks = []
        for each in check(app):
            checks.append(each)
            if not as_json:
                click.echo(f"{'ok    ' if each.ok else 'FAILED'}  {each.part}: {each.detail}")
                if each.remedy:
                    click.echo(f"        {each.remedy}")
        warnings = list(app.config.warnings)
    if as_json:
        print_json({"config": config, "checks": [asdict(c) for c in checks], "warnings": warnings})
    for warning in warnings:
        note(f"warning: {warning}")
    ctx.exit(0 if all(each.ok for each in checks) else 1)
