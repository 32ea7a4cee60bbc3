"""`rag-app cases generate`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from rag_app.evaluation.drafting import Drafted


@click.command()
@config_options
@json_option
@click.option("-n", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@click.option("--out", required=True, metavar="FILE", help="The JSONL file; its cases are kept.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of passages.")
@click.option(
    "--unanswerable",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of questions that the documents should not answer.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop when the chat model has cost this; the exit status is 6.",
)
def command(
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    n: int,
    out: str,
    seed: int,
    unanswerable: float,
    max_cost: float | None,
) -> None:
    """Draft cases from the index with the chat model, for a person to confirm.

    Each question is written from one passage, and its quote stands there word by word. Read every
    draft, correct it, and take the tag `draft` away. Stopped, the same command goes on.
    """
    from rag_app.evaluation.drafting import draft_cases

    with open_app(config, overrides) as app, show_progress() as progress:
        drafted = draft_cases(
            app,
            out,
            n,
            seed=seed,
            unanswerable=unanswerable,
            max_cost=max_cost,
            progress=progress,
        )
        progress.clear()
    if as_json:
        print_json(asdict(drafted))
    else:
        click.echo("\n".join(_lines(drafted)))


def _lines(drafted: Drafted) -> list[str]:
    lines = [
        f"{drafted.path}: {drafted.cases:,} cases, {drafted.written:,} of them drafted now "
        f"({drafted.unanswerable:,} unanswerable, {drafted.copied:,} in the words of their quote)"
    ]
    lines += [f"dropped {count:,}: {reason}" for reason, count in drafted.dropped.items()]
    if drafted.exhausted:
        lines.append("there are no more passages to ask about")
    if drafted.tokens:
        cost = "no price known" if drafted.cost is None else show_dollars(drafted.cost)
        lines.append(f"chat model: {drafted.tokens.get('total_tokens', 0):,} tokens, {cost}")
    return [
        *lines,
        "Read each, correct it, and take its tag `draft` away; then: rag-app cases check",
    ]
