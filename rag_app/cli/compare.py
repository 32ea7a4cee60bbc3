"""`rag-app compare`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.behaviour import behaviour_json, behaviour_lines, find_behaviour
from rag_app.cli.evaluate import evaluation_json
from rag_app.cli.measuring import (
    cases_options,
    check_outputs,
    measuring_options,
    open_judge,
    pad,
    read_given_cases,
    show_interval,
)
from rag_app.cli.options import DEFAULT_CONFIG, json_option
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from rag_app.evaluation.results import Ablation, Comparison, Evaluation, Pair


@click.command()
@click.argument("configs", nargs=-1, metavar="[CONFIG]...")
@click.option("-c", "--config", "more", multiple=True, metavar="FILE", help="As an argument.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override an option of every config; a list is tried value by value. Repeatable.",
)
@json_option
@cases_options
@measuring_options
@click.option(
    "--metric",
    default="ndcg@10",
    show_default=True,
    metavar="NAME",
    help="What configs are ordered and judged by.",
)
@click.option("--ablate", is_flag=True, help="Measure each optional stage on and off, too.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop before all of it costs more than this; the exit status is 6.",
)
@click.option("--behaviour", is_flag=True, help="Show what changed question by question.")
@click.option("--report", metavar="FILE", help="Write an HTML page, with every question.")
def command(
    configs: tuple[str, ...],
    more: tuple[str, ...],
    overrides: tuple[str, ...],
    as_json: bool,
    cases: str,
    split: str | None,
    answers: bool,
    judge: str | None,
    budget: float | None,
    behaviour: bool,
    report: str | None,
    **given: Any,
) -> None:
    """Measure configs on the same questions, and tell which differences are more than chance.

    Each CONFIG is a YAML file; a list where one value belongs stands for a config of each value, as
    `retriever: [bm25, hybrid]`. Each is ingested into an index of its own where it needs one, and
    no text is embedded twice. Stopped, the same command goes on where it was.
    """
    from rag_app.evaluation.baseline import list_metrics, require_metrics
    from rag_app.evaluation.compare import compare
    from rag_app.evaluation.grid import expand_many

    files = [*configs, *more] or [DEFAULT_CONFIG]
    read = [("--cases", cases), ("--judge", judge), *(("CONFIG", file) for file in files)]
    check_outputs({"--report": report}, read)
    known = list_metrics(given["ks"], answers=answers, judged=judge is not None)
    require_metrics([given["metric"]], known, "--metric")
    variants = expand_many(files, overrides)
    chosen = read_given_cases(cases, split)
    model = open_judge(judge, answers=answers)
    with show_progress() as progress:
        found = compare(
            variants,
            chosen,
            answers=answers,
            judge=model,
            max_cost=budget,
            progress=progress,
            **given,
        )
        progress.clear()
    changes = find_behaviour(found) if behaviour else []
    if as_json:
        more_json = {"behaviour": behaviour_json(changes)} if behaviour else {}
        print_json({**comparison_json(found), **more_json})
    else:
        click.echo("\n".join([*comparison_lines(found), *behaviour_lines(changes)]))
    if report is not None:
        from rag_app.evaluation.reports import write

        write(found, report)


def comparison_json(found: Comparison) -> dict[str, Any]:
    """`compare --json`: the configs best first, every pair of them."""
    return {
        "metric": found.metric,
        "configs": [
            {**evaluation_json(each), "settings": dict(found.settings.get(each.name, {}))}
            for each in found.evaluations
        ],
        "pairs": [_pair_json(pair) for pair in found.pairs],
        "tied": list(found.tied),
        "front": list(found.front),
        "ablations": [
            {**asdict(each), "distinguishable": each.paired.distinguishable}
            for each in found.ablations
        ],
        "embedded": found.embedded,
        "cached": found.cached,
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {**asdict(pair), "distinguishable": pair.paired.distinguishable}


def comparison_lines(found: Comparison) -> list[str]:
    """The configs best first, the verdicts on the best, ablations, and what it took."""
    lines = [*pad(_rows(found)), ""]
    if len(found.tied) > 1:
        lines.append("= cannot be told from the best by these cases")
    lines.append("* none is as good for less time and money")
    best = found.evaluations[0].name
    with_best = [pair for pair in found.pairs if best in (pair.a, pair.b)]
    lines += ["", *(pair.verdict for pair in with_best)] if with_best else []
    if found.ablations:
        lines += ["", *(_ablation_line(each) for each in found.ablations)]
    lines += [
        "",
        f"{found.embedded:,} texts embedded, {found.cached:,} more had their vector in the cache; "
        f"{found.seconds:.1f} s",
    ]
    return lines + [f"note: {note}" for note in found.notes]


def _rows(found: Comparison) -> list[list[str]]:
    rows = [["", "config", found.metric, "95 %", "p50 ms", "$ per 1,000", ""]]
    for each in found.evaluations:
        mean = each.metrics.get(found.metric)
        rows.append(
            [
                "=" if each.name in found.tied and len(found.tied) > 1 else "",
                each.name,
                "" if mean is None else f"{mean:.4f}",
                show_interval(each.intervals.get(found.metric)),
                f"{each.latency_ms['total']['p50']:.1f}" if "total" in each.latency_ms else "",
                _show_cost(each),
                "*" if each.name in found.front else "",
            ]
        )
    if all(row[5] in {"", "$0.00"} for row in rows[1:]):
        rows = [[*row[:5], row[6]] for row in rows]
    return [[f"{row[0]:1} {row[1]}", *row[2:]] for row in rows]


def _show_cost(each: Evaluation) -> str:
    from rag_app.evaluation.frames import cost_per_thousand

    cost = cost_per_thousand(each)
    return "unknown" if cost is None else show_dollars(cost)


def _ablation_line(each: Ablation) -> str:
    cost = f", {show_dollars(each.cost)} more per 1,000 questions" if each.cost else ""
    return f"{each.stage} ({each.value}) in {each.with_it}: {each.verdict}{cost}"
