"""`rag-app tune`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rag_app.cli.evaluate import evaluation_json
from rag_app.cli.measuring import (
    cases_options,
    check_outputs,
    measuring_options,
    open_judge,
    pad,
    read_given_cases,
)
from rag_app.cli.options import config_options, json_option
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress

if TYPE_CHECKING:
    from rag_app.evaluation.tuning import Tuning

SHOWN: Final = 10
"""Configs that are listed for people."""


@click.command()
@config_options
@json_option
@cases_options
@measuring_options
@click.option(
    "--metric", default="ndcg@10", show_default=True, metavar="NAME", help="What is searched for."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many configs to try; all of them where there are no more.",
)
@click.option(
    "--holdout",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the questions that are not searched on, to judge by.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws questions and trials.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop before all of it costs more than this; the exit status is 6.",
)
@click.option("--out", metavar="FILE", help="Write the best config, with what speaks for it.")
def command(
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    cases: str,
    split: str | None,
    ks: tuple[int, ...],
    answers: bool,
    judge: str | None,
    filter: Any,
    stale: Any,
    metric: str,
    trials: int,
    holdout: float,
    seed: int,
    budget: float | None,
    out: str | None,
) -> None:
    """Search a config's lists and ranges for the best values, and judge them by other questions.

    A list or a range where one value belongs is searched, as `chunk_size: {from: 200, to: 800}`.
    The config with the first value of each is what the best one is held against. Stopped, the same
    command goes on where it was.
    """
    from rag_app.evaluation.baseline import list_metrics, require_metrics
    from rag_app.evaluation.run import Plan
    from rag_app.evaluation.tune import find_storage, tune
    from rag_app.evaluation.tuning import write_best
    from rag_app.evaluation.workbench import Workbench

    check_outputs({"--out": out}, [("-c", config), ("--cases", cases), ("--judge", judge)])
    known = list_metrics(ks, answers=answers, judged=judge is not None)
    require_metrics([metric], known, "--metric")
    chosen = read_given_cases(cases, split)
    plan = Plan(ks, answers, open_judge(judge, answers=answers), filter, stale)
    with show_progress() as progress, Workbench(max_cost=budget, progress=progress) as bench:
        found = tune(
            config,
            chosen,
            bench.measure,
            plan,
            trials=trials,
            metric=metric,
            holdout=holdout,
            seed=seed,
            overrides=overrides,
            storage=find_storage(config, overrides),
            progress=progress,
        )
        bench.finish()
    if out is not None:
        write_best(found, Path(out))
    if as_json:
        print_json(tuning_json(found, out))
    else:
        click.echo("\n".join(tuning_lines(found, out)))


def tuning_json(found: Tuning, out: str | None) -> dict[str, Any]:
    """`tune --json`: the best config and the first on the questions held out; trials best first."""
    return {
        "metric": found.metric,
        "best": {**evaluation_json(found.best), "settings": dict(found.trials[0].values)},
        "baseline": evaluation_json(found.baseline),
        "paired": asdict(found.paired),
        "distinguishable": found.paired.distinguishable,
        "verdict": found.verdict,
        "optimism": found.optimism,
        "complete": found.complete,
        "questions": {"searched_on": found.train, "held_out": found.held_out},
        "findings": [asdict(each) for each in found.findings],
        "trials": [asdict(each) for each in found.trials],
        "resumed": found.resumed,
        "out": out,
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }


def tuning_lines(found: Tuning, out: str | None) -> list[str]:
    """The best configs, what the best one is worth on other questions, and what speaks for it."""
    from rag_app.evaluation.tuning import explain

    many = "all of them" if found.complete else "by TPE"
    rows = [["config", found.metric, "p50 ms"]]
    rows += [[t.name, f"{t.score:.4f}", f"{t.latency_ms:.1f}"] for t in found.trials[:SHOWN]]
    lines = [f"{len(found.trials):,} configs on {found.train:,} questions, {many}; the best:"]
    lines += ["", *pad(rows), "", f"on {found.held_out:,} questions that were held out:"]
    lines += [
        f"  the best        {found.best.metrics[found.metric]:.4f}",
        f"  first values    {found.baseline.metrics[found.metric]:.4f}",
        f"  {found.verdict}",
        f"  the questions it was chosen on flatter the best by {found.optimism:+.4f}",
        "",
    ]
    lines += [
        f"{each.path}: {each.chosen}, {explain(each, found.train)}" for each in found.findings
    ]
    if out is not None:
        lines += ["", f"written: {out}"]
    resumed = f", {found.resumed} of them before" if found.resumed else ""
    lines += ["", f"{len(found.trials):,} configs measured{resumed}; {found.seconds:.1f} s"]
    return lines + [f"note: {note}" for note in found.notes]
