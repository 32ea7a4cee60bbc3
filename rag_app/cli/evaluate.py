"""`rag-app evaluate`"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.measuring import (
    WORSE,
    cases_options,
    check_outputs,
    measuring_options,
    open_judge,
    pad,
    read_given_cases,
    show_interval,
)
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import note, print_json
from rag_app.cli.progress import show_progress
from rag_app.errors import UsageError
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.language_models import BaseChatModel

    from rag_app.evaluation.baseline import Change, Floor
    from rag_app.evaluation.results import Cases, Evaluation, Metrics


@click.command()
@config_options
@json_option
@cases_options
@measuring_options
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="Stop when measuring has cost more than this; the exit status is 6.",
)
@click.option("--save", metavar="FILE", help="Write the result, to be a baseline or a report.")
@click.option(
    "--baseline",
    metavar="FILE",
    help="A saved result on the same cases; where this one is worse by more than chance, the exit "
    "status is 10.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="What --baseline compares. Repeatable.  [default: recall, mrr and ndcg at the largest "
    "cutoff, and all of the answers]",
)
@click.option(
    "--fail-under",
    "floors",
    multiple=True,
    metavar="METRIC=VALUE",
    help="The exit status is 10 where the mean is below, as in ndcg@10=0.7. Repeatable.",
)
@click.option("--report", metavar="FILE", help="Write an HTML page, with every question.")
@click.option("--trec", metavar="FOLDER", help="Write run.txt and qrels.txt, for trec_eval.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    cases: str,
    split: str | None,
    answers: bool,
    judge: str | None,
    save: str | None,
    report: str | None,
    trec: str | None,
    **given: Any,
) -> None:
    """Measure the pipeline on questions whose evidence is known.

    Of the search: recall, precision, hit rate, MRR, nDCG and MAP, with 95 % intervals, latency and
    cost; with --answers, of the answers too. Stopped, the same command goes on where it was.
    """
    check_outputs(
        {"--save": save, "--report": report, "--trec": trec},
        [("-c", config), ("--cases", cases), ("--judge", judge), ("--baseline", given["baseline"])],
    )
    chosen = read_given_cases(cases, split)
    model = open_judge(judge, answers=answers)
    limits = _read_limits(given, chosen, answers=answers, judge=model)
    measuring = {name: given[name] for name in ("ks", "filter", "stale", "max_cost")}
    with open_app(config, overrides) as app, show_progress() as progress:
        found = app.evaluate(chosen, answers=answers, judge=model, progress=progress, **measuring)
        progress.clear()
    if save is not None:
        _save(found, save)
    if not as_json:
        click.echo("\n".join(evaluation_lines(found)))
    outcome = limits.check(found)
    if as_json:
        print_json({**evaluation_json(found), **outcome.to_json()})
    elif held := outcome.lines():
        click.echo("\n".join(held))
    _write(found, report, trec)
    if outcome.failed:
        note("; ".join(outcome.failed))
        ctx.exit(WORSE)


def evaluation_json(found: Evaluation) -> dict[str, Any]:
    """`evaluate --json`, but for what it was held against."""
    return {
        "name": found.name,
        "cases": len(found.results),
        "answerable": found.answerable,
        "metrics": _round(found.metrics),
        "intervals": {name: [round(v, 6) for v in pair] for name, pair in found.intervals.items()},
        "stages": {stage: _round(metrics) for stage, metrics in found.stages.items()},
        "latency_ms": {
            stage: {n: round(v, 3) for n, v in times.items()}
            for stage, times in found.latency_ms.items()
        },
        "tokens": dict(found.tokens),
        "cost": None if found.cost is None else round(found.cost, 6),
        "index": dict(found.index),
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }


def evaluation_lines(found: Evaluation) -> list[str]:
    """The result for people: rankings by cutoff, the interval of the last; latency; cost."""
    cases = f"{len(found.results):,} cases, {found.answerable:,} with evidence"
    held = ", ".join(f"{found.index[n]:,} {n}" for n in ("documents", "chunks") if n in found.index)
    lines = [f"{found.name}: {cases}; {held}; {found.seconds:.1f} s", ""]
    lines += _table(found.metrics, found.ks, found.intervals)
    if len(found.stages) > 1:
        lines += ["", "before the reranker", *_table(found.stages["retriever"], found.ks, {})]
    single = [name for name in found.metrics if "@" not in name]
    if single:
        intervals = (found.intervals.get(name) for name in single)
        rows = zip(single, intervals, strict=True)
        shown = [[n, f"{found.metrics[n]:.4f}", show_interval(i)] for n, i in rows]
        lines += ["", *pad(shown)]
    lines += ["", *_latency_lines(found), *_cost_lines(found)]
    return lines + [f"note: {each}" for each in found.notes]


def _table(metrics: Metrics, ks: Sequence[int], intervals: Any) -> list[str]:
    names = list(dict.fromkeys(name.partition("@")[0] for name in metrics if "@" in name))
    if not names:
        return ["no case has evidence, so there is no ranking to measure"]
    last = max(ks)
    end = [f"95 % of @{last}"] if intervals else []
    rows = [["", *(f"@{k}" for k in ks), *end]]
    for name in names:
        cells = [metrics.get(f"{name}@{k}") for k in ks]
        shown = ["" if value is None else f"{value:.4f}" for value in cells]
        end = [show_interval(intervals.get(f"{name}@{last}"))] if intervals else []
        rows.append([name, *shown, *end])
    return list(pad(rows))


def _latency_lines(found: Evaluation) -> list[str]:
    times = [
        f"{stage} {each['p50']:.1f} / {each['p95']:.1f}" for stage, each in found.latency_ms.items()
    ]
    return [f"latency in ms, p50 / p95: {'; '.join(times)}"] if times else []


def _cost_lines(found: Evaluation) -> list[str]:
    if not any(found.tokens.values()) and not found.cost:
        return []
    counts = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in found.tokens.items()
    )
    cost = "no price known" if found.cost is None else show_dollars(found.cost)
    return [f"tokens: {counts or 'none'}; cost: {cost}"]


# -- what it is held against ----------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What a result is held against: a baseline, floors, both or neither."""

    baseline: Evaluation | None
    file: str | None
    metrics: tuple[str, ...]
    floors: dict[str, float]

    def check(self, found: Evaluation) -> Outcome:
        """How the result stands against them."""
        from rag_app.evaluation.baseline import check_baseline, check_floors

        changes = None
        if self.baseline is not None:
            changes = check_baseline(found, self.baseline, self.metrics or None)
        return Outcome(self.file, changes, check_floors(found, self.floors))


@dataclass(frozen=True)
class Outcome:
    """How a result stands against its limits; `changes` is None without a baseline."""

    file: str | None
    changes: list[Change] | None
    floors: list[Floor]

    @property
    def failed(self) -> list[str]:
        """What is worse than it may be, in words."""
        worse = [
            f"{c.metric} is worse than in {self.file}: {c.now:.4f} after {c.baseline:.4f}"
            for c in self.changes or ()
            if c.worse
        ]
        broken = [f"{f.metric} is {f.now:.4f}, the limit {f.limit:g}" for f in self.floors]
        return worse + [w for w, f in zip(broken, self.floors, strict=True) if f.broken]

    def to_json(self) -> dict[str, Any]:
        """For `evaluate --json`."""
        made: dict[str, Any] = {}
        if self.changes is not None:
            changes = [
                {"metric": c.metric, "worse": c.worse, "blind": c.blind}
                | {"baseline": c.baseline, "now": c.now, **asdict(c.paired)}
                for c in self.changes
            ]
            made["baseline"] = {"file": self.file, "changes": changes}
        if self.floors:
            made["floors"] = [{**asdict(each), "broken": each.broken} for each in self.floors]
        return made | ({"failed": self.failed} if made else {})

    def lines(self) -> list[str]:
        """For people."""
        lines = []
        if self.changes is not None:
            rows = [["", "then", "now", "difference", "95 %", "p", ""]]
            rows += [_change_row(change) for change in self.changes]
            lines += ["", f"against {self.file} (p corrected for {len(rows) - 1} metrics)"]
            lines += pad(rows)
            lines += [_verdict(self.changes)]
        for each in self.floors:
            word = "FAILED" if each.broken else "ok"
            lines.append(f"{word}: {each.metric} {each.now:.4f}, limit {each.limit:g}")
        return lines


def _change_row(change: Change) -> list[str]:
    paired = change.paired
    unseen = "too few cases" if change.blind else "no difference"
    word = "WORSE" if change.worse else "differs" if paired.distinguishable else unseen
    means = [f"{change.baseline:.4f}", f"{change.now:.4f}", f"{paired.difference:+.4f}"]
    return [change.metric, *means, show_interval(paired.interval), f"{paired.adjusted:.3f}", word]


def _verdict(changes: Sequence[Change]) -> str:
    if any(change.worse for change in changes):
        return "worse than the baseline by more than chance"
    cases = max(change.paired.n for change in changes)
    words = f"nothing is worse as far as {cases:,} cases show"
    missed = [each for change in changes if (each := change.paired.detectable) is not None]
    words += f"; falls under {max(missed):.3f} may be missed" if missed else ""
    blind = [f"{change.metric} ({change.paired.n})" for change in changes if change.blind]
    return words + (f"; too few cases to show any fall in {', '.join(blind)}" if blind else "")


def _read_limits(
    given: dict[str, Any],
    cases: Cases,
    *,
    answers: bool,
    judge: BaseChatModel | None,
) -> Limits:
    """What the result will be held against, refused before anything is measured."""
    from rag_app.evaluation import baseline as held
    from rag_app.evaluation.run import Plan
    from rag_app.evaluation.storing import load_evaluation

    floors = held.read_floors(given["floors"])
    known = held.list_metrics(given["ks"], answers=answers, judged=judge is not None)
    held.require_metrics(floors, known, "--fail-under")
    held.require_metrics(given["metrics"], known, "--metric")
    file = given["baseline"]
    if file is None:
        if given["metrics"]:
            raise UsageError("--metric", "there is nothing to compare with", "Add --baseline FILE.")
        return Limits(None, None, (), floors)
    baseline = load_evaluation(file)
    held.require_same_cases(cases.cases, cases.digest, baseline)
    plan = Plan(given["ks"], answers, judge, given["filter"], given["stale"])
    held.require_same_plan(plan.describe(), baseline)
    held.require_metrics(given["metrics"], list(baseline.metrics), "--baseline")
    held.require_sight(given["metrics"] or held.choose_metrics(known, baseline), baseline)
    return Limits(baseline, file, given["metrics"], floors)


# -- what is written ------------------------------------------------------------------------------


def _save(found: Evaluation, path: str) -> None:
    from rag_app.evaluation.storing import save

    save(found, path)


def _write(found: Evaluation, report: str | None, trec: str | None) -> None:
    if report is not None:
        from rag_app.evaluation.reports import write

        write(found, report)
    if trec is not None:
        from rag_app.evaluation.metrics import write_trec

        write_trec(found, trec)


def _round(metrics: Metrics) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}
