"""`rag-app ingest`"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import (
    ingest_json,
    ingest_line,
    ingest_lines,
    note,
    plan_json,
    plan_lines,
    print_json,
)
from rag_app.cli.progress import show_progress
from rag_app.errors import UsageError

if TYPE_CHECKING:
    from rag_app.app import RagApp
    from rag_app.cli.progress import Progress
    from rag_app.types import IngestReport, Unreadable


@click.command()
@config_options
@json_option
@click.option("--rebuild", is_flag=True, help="Make the index anew; the cache's vectors are used.")
@click.option(
    "--plan",
    "--dry-run",
    "plan",
    is_flag=True,
    help="Say what it would do and cost; embed and write nothing.",
)
@click.option("--watch", is_flag=True, help="Then go on, ingesting after each burst of changes.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop before embedding costs more than this; the exit status is 6.",
)
@click.option(
    "--allow-delete",
    is_flag=True,
    help="Delete what the sources no longer have, even where that is a large part of the index.",
)
@click.option(
    "--retry-quarantined",
    is_flag=True,
    help="Read again what was quarantined for its content, though it has not changed.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    plan: bool,
    watch: bool,
    **given: Any,
) -> None:
    """Make the index hold what the sources hold now.

    New and changed documents are embedded, unchanged ones are not, and chunks of what is gone are
    removed. What cannot be read is quarantined and named, and the exit status is 3.
    """
    given = {n: v for n, v in given.items() if v is not None and v is not False}  # 0 is a limit
    _require_apart(plan, watch, given)
    with open_app(config, overrides) as app, show_progress() as progress:
        if plan:
            planned = app.plan(progress=progress, **given)
            progress.clear()
            _print(plan_json(planned) if as_json else plan_lines(planned))
        elif watch:
            _watch(app, progress, as_json, given)
        else:
            report = app.ingest(progress=progress, **given)
            progress.clear()
            _print(ingest_json(report) if as_json else ingest_lines(report))
            ctx.exit(3 if report.quarantined else 0)


def _require_apart(plan: bool, watch: bool, given: dict[str, Any]) -> None:
    if plan and (watch or "max_cost" in given):
        others = [*(["--max-cost"] if "max_cost" in given else []), *(["--watch"] if watch else [])]
        wrong = "it embeds nothing, and ends"
        raise UsageError("--plan", wrong, f"Leave out {' and '.join(others)}.")
    if watch and "rebuild" in given:
        raise UsageError("--watch", "each ingest would rebuild", "Run --rebuild alone before.")


def _print(told: dict[str, Any] | list[str]) -> None:
    if isinstance(told, dict):
        print_json(told)
    else:
        click.echo("\n".join(told))


def _watch(app: RagApp, progress: Progress, as_json: bool, given: dict[str, Any]) -> None:
    """A line for each ingest; what was quarantined is named when it is so for the first time."""
    named: set[Unreadable] = set()

    def tell(report: IngestReport) -> None:
        app.index.release()  # what is embedded in a process is open to others between bursts
        progress.clear()
        if as_json:
            click.echo(json.dumps(ingest_json(report), ensure_ascii=False))
        else:
            click.echo(f"{datetime.now():%H:%M:%S} {ingest_line(report)}")
        for each in report.quarantine:
            if each not in named:
                note(f"quarantined: {each.source}: {each.reason}")
        named.clear()
        named.update(report.quarantine)

    def explain(error: Exception) -> None:
        app.index.release()
        progress.clear()
        note(f"{error}\nStill watching.")

    app.watch(report=tell, failed=explain, progress=progress, **given)
