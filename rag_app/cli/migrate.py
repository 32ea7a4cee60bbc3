"""`rag-app migrate`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress
from rag_app.errors import UsageError
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from rag_app.types import MigrationPlan, MigrationReport


@click.command()
@config_options
@json_option
@click.option(
    "--to", required=True, metavar="FILE", help="The config to change to, of the same index."
)
@click.option(
    "--plan",
    "--dry-run",
    "plan",
    is_flag=True,
    help="Say what it would do and cost; embed and write nothing.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop before embedding costs more than this; the exit status is 6.",
)
@click.option(
    "--cases",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Questions with evidence (JSONL): switch only when no less of it is found than before.",
)
@click.option("--accept-worse", is_flag=True, help="Switch all the same.")
def command(
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    to: str,
    plan: bool,
    max_cost: float | None,
    cases: str | None,
    accept_worse: bool,
) -> None:
    """Change the embedding model, the splitter or the vector store to those of another config.

    A new generation is filled from what the index keeps of the documents while the old one answers
    searches, is verified, and then served in one step. The old one is kept for `rag-app index
    rollback`. Stopped on the way, the same command goes on from there.
    """
    if plan and (max_cost is not None or cases or accept_worse):
        raise UsageError("--plan", "it stands alone", "Leave out the other options.")
    if accept_worse and not cases:
        raise UsageError("--accept-worse", "nothing is compared", "Give --cases, or leave it out.")
    with open_app(config, overrides) as app, show_progress() as progress:
        if plan:
            planned = app.plan_migration(to, progress=progress)
            progress.clear()
            _show(planned, _plan_lines(planned), as_json)
            return
        report = app.migrate(
            to, progress=progress, max_cost=max_cost, cases=cases, accept_worse=accept_worse
        )
    _show(report, _report_lines(report, to), as_json)


def _show(told: MigrationPlan | MigrationReport, lines: list[str], as_json: bool) -> None:
    if as_json:
        print_json(asdict(told))
    else:
        click.echo("\n".join(lines))


def _plan_lines(plan: MigrationPlan) -> list[str]:
    time = [] if plan.minutes is None else [f"time: {plan.minutes:.1f} minutes at the rate limit"]
    return [
        *(f"changes: {change}" for change in plan.changes),
        f"chunks: {plan.chunks:,} of {plan.documents:,} documents; {plan.copied:,} keep their "
        f"vectors, {plan.cached:,} have one in the cache; {plan.embed:,} to embed",
        f"tokens: about {plan.tokens:,}",
        "cost: " + (_dollars(plan.cost) if plan.cost != 0 else "none"),
        *time,
        "nothing was embedded, and the index is as it was",
    ]


def _report_lines(report: MigrationReport, to: str) -> list[str]:
    lines = [
        f"g{report.generation} is served: {report.documents:,} documents, {report.chunks:,} chunks;"
        f" {report.copied:,} kept their vectors, {report.cached:,} had one in the cache, "
        f"{report.embedded:,} texts embedded in {report.seconds:.1f} s"
    ]
    if report.tokens:
        lines.append(f"embedding service: {report.tokens:,} tokens, {_dollars(report.cost)}")
    if report.recall is not None:
        before, now = report.recall
        lines.append(f"evidence found: {before:.1%} before, {now:.1%} now")
    lines.append(
        f"g{report.before} is kept: `rag-app index rollback -c {to}` serves it again, "
        f"`rag-app index gc -c {to}` removes it"
    )
    return lines


def _dollars(amount: float | None) -> str:
    return "no price known; set embeddings.price" if amount is None else show_dollars(amount)
