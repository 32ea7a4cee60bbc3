"""`rag-app ingest`"""

from __future__ import annotations

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import ingest_json, ingest_lines, print_json
from rag_app.cli.progress import show_progress


@click.command()
@config_options
@json_option
@click.option("--rebuild", is_flag=True, help="Drop the index and embed everything again.")
@click.pass_context
def command(
    ctx: click.Context, config: str, overrides: tuple[str, ...], as_json: bool, rebuild: bool
) -> None:
    """Make the index hold what the sources hold now.

    New and changed documents are embedded, unchanged ones are not, and chunks of what is gone are
    removed. What cannot be read is quarantined and named, and the exit status is 3.
    """
    with open_app(config, overrides) as app, show_progress() as progress:
        report = app.ingest(progress=progress, rebuild=rebuild)
    if as_json:
        print_json(ingest_json(report))
    else:
        click.echo("\n".join(ingest_lines(report)))
    ctx.exit(3 if report.quarantined else 0)
