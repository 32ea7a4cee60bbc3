"""`rag-app ingest`"""

from __future__ import annotations

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import ingest_json, ingest_lines, plan_json, plan_lines, print_json
from rag_app.cli.progress import show_progress
from rag_app.errors import UsageError


@click.command()
@config_options
@json_option
@click.option(
    "--rebuild", is_flag=True, help="Drop the index and make it anew; the cache's vectors are used."
)
@click.option(
    "--plan", is_flag=True, help="Say what it would do and cost; embed and write nothing."
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop before embedding costs more than this; the exit status is 6.",
)
@click.pass_context
def command(
    ctx: click.Context,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    rebuild: bool,
    plan: bool,
    max_cost: float | None,
) -> None:
    """Make the index hold what the sources hold now.

    New and changed documents are embedded, unchanged ones are not, and chunks of what is gone are
    removed. What cannot be read is quarantined and named, and the exit status is 3.
    """
    if plan:
        _plan(config, overrides, as_json, rebuild or max_cost is not None)
        return
    with open_app(config, overrides) as app, show_progress() as progress:
        report = app.ingest(progress=progress, rebuild=rebuild, max_cost=max_cost)
    if as_json:
        print_json(ingest_json(report))
    else:
        click.echo("\n".join(ingest_lines(report)))
    ctx.exit(3 if report.quarantined else 0)


def _plan(config: str, overrides: tuple[str, ...], as_json: bool, more: bool) -> None:
    if more:
        raise UsageError("--plan", "it stands alone", "Leave out --rebuild and --max-cost.")
    with open_app(config, overrides) as app, show_progress() as progress:
        planned = app.plan(progress=progress)
    if as_json:
        print_json(plan_json(planned))
    else:
        click.echo("\n".join(plan_lines(planned)))
