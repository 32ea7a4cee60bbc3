"""Several configs on the same cases: which is better, whether it is a difference, at what price."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rag_app.errors import IndexStateError, UsageError
from rag_app.evaluation.ablations import find_ablations, with_ablations
from rag_app.evaluation.frames import cost_per_thousand
from rag_app.evaluation.grid import find_void
from rag_app.evaluation.results import CUTOFFS, LOWER_IS_BETTER, Ablation, Comparison, Pair
from rag_app.evaluation.run import Plan
from rag_app.evaluation.significance import adjust, compare_paired, describe
from rag_app.evaluation.summary import (
    add_costs,
    count_tokens,
    mean_metrics,
    mean_stages,
    measure_intervals,
    summarise_latency,
)
from rag_app.evaluation.workbench import Workbench
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.language_models import BaseChatModel

    from rag_app.evaluation.grid import Variant
    from rag_app.evaluation.results import Cases, Evaluation, Paired
    from rag_app.evaluation.run import WhenStale
    from rag_app.types import Filter


def compare(
    variants: Sequence[Variant],
    cases: Cases,
    *,
    metric: str = "ndcg@10",
    ks: Sequence[int] = CUTOFFS,
    answers: bool = False,
    judge: BaseChatModel | None = None,
    filter: Filter | None = None,
    stale: WhenStale = "error",
    max_cost: float | None = None,
    ablate: bool = False,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Comparison:
    """Measure every config on the same cases; interrupted, the same call goes on from there.

    Each config has an index of its own where no other makes the same one, and no text is embedded
    twice. The index that a config serves is neither read nor written.

    Args:
        metric: what decides the order; one of those that evaluation gives.
        ks, answers, judge, filter, stale: as `RagApp.evaluate` takes them.
        max_cost: US dollars that all of it may cost; None for no limit.
        ablate: measure each config also without each of its optional stages.
        progress: called as (stage, done, total).

    Raises:
        UsageError: fewer than two configs, or no such metric.
        BudgetError: it would cost more; what was measured is kept. Others as `evaluate`.
    """
    begun = time.perf_counter()
    plan = Plan(tuple(ks), answers, judge, filter, stale)
    listed = with_ablations(variants) if ablate else list(variants)
    if len(listed) < 2:
        wrong = "one config alone cannot be compared"
        raise UsageError("compare", wrong, "Name another, or give a list where one value belongs.")
    with Workbench(max_cost=max_cost, progress=progress) as bench:
        measured = _measure_all(bench, listed, cases, plan)
        made = judge_all(listed, measured, metric)
        bench.finish()
        void = [
            f"{path} decides nothing that {metric} measures; add --answers"
            for path in find_void(listed, answers)
        ]
        return replace(
            made,
            notes=(*void, *made.notes),
            embedded=bench.embedded,
            cached=bench.cached,
            seconds=time.perf_counter() - begun,
        )


def _measure_all(
    bench: Workbench, variants: Sequence[Variant], cases: Cases, plan: Plan
) -> list[Evaluation]:
    """In an order that opens each index once; returned in the order given."""
    from rag_app.evaluation.workbench import name_index

    indexes = [name_index(variant.config) for variant in variants]
    order = sorted(range(len(variants)), key=lambda place: indexes.index(indexes[place]))
    measured = {place: bench.measure(variants[place], cases, plan) for place in order}
    return [measured[place] for place in range(len(variants))]


def judge_all(
    variants: Sequence[Variant], evaluations: Sequence[Evaluation], metric: str
) -> Comparison:
    """What evaluations of the same cases say about their configs: the best by the cases that all
    of them have, and of equal ones the first by name.

    A case that has the metric with some and not with others is left out of every figure.

    Raises:
        UsageError: they have no such metric, are of other cases, share none, or share a name.
        IndexStateError: the same sources said different things.
    """
    _require_comparable(evaluations, metric)
    _require_same_corpus(evaluations)
    evaluations, left_out = _keep_shared(evaluations, metric)
    scores = {each.name: each.scores(metric) for each in evaluations}
    shared = sorted(scores[evaluations[0].name])
    sign = -1 if metric in LOWER_IS_BETTER else 1
    means = {name: sign * fmean(_take(each, shared)) for name, each in scores.items()}
    best_first = sorted(evaluations, key=lambda each: (-means[each.name], each.name))
    ids = [(b.name, a.name) for b, a in combinations(best_first, 2)]
    paired = adjust(
        [compare_paired(_take(scores[a], shared), _take(scores[b], shared)) for b, a in ids]
    )
    pairs = tuple(
        Pair(a, b, metric, each.judged_by(metric), describe(a, b, metric, each))
        for (b, a), each in zip(ids, paired, strict=True)
    )
    best = best_first[0].name
    tied = [pair.a for pair in pairs if pair.b == best and not pair.paired.distinguishable]
    notes = [_tell_left_out(left_out, metric)] if left_out else []
    notes += dict.fromkeys(note for each in evaluations for note in each.notes)
    return Comparison(
        metric=metric,
        evaluations=tuple(best_first),
        settings={variant.name: dict(variant.values) for variant in variants},
        pairs=pairs,
        tied=(best, *tied),
        front=find_front(best_first, metric),
        ablations=tuple(_ablate(variants, best_first, scores, shared, metric)),
        embedded=0,
        cached=0,
        seconds=0.0,
        notes=tuple(notes),
    )


def _keep_shared(
    evaluations: Sequence[Evaluation], metric: str
) -> tuple[list[Evaluation], list[str]]:
    """The evaluations of those cases that all were asked and that have the metric with all or with
    none (a question without evidence has no ranking to measure); and the ids of the others."""
    asked = [{result.case.id for result in each.results} for each in evaluations]
    scored = [set(each.scores(metric)) for each in evaluations]
    everywhere = set.intersection(*scored)
    if not everywhere:
        wrong = "no case was measured with every config"
        raise UsageError("cases", wrong, "Give cases whose evidence is in all of their sources.")
    unlike = {id for each in scored for id in each} - everywhere
    kept = set.intersection(*asked) - unlike
    left_out = sorted(set().union(*asked) - kept)
    return [_restrict(each, kept) for each in evaluations], left_out


def _restrict(evaluation: Evaluation, kept: set[str]) -> Evaluation:
    """The evaluation of only these cases."""
    results = tuple(each for each in evaluation.results if each.case.id in kept)
    if len(results) == len(evaluation.results):
        return evaluation
    measured = [result.metrics for result in results]
    costs = (result.cost for result in results)
    return replace(
        evaluation,
        results=results,
        metrics=mean_metrics(measured),
        intervals=measure_intervals(measured),
        stages=mean_stages(results),
        latency_ms=summarise_latency(results),
        tokens=count_tokens(results),
        cost=None if evaluation.cost is None else add_costs(costs),
    )


def _tell_left_out(ids: Sequence[str], metric: str) -> str:
    named = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
    return (
        f"{len(ids)} cases were not measured with every config in {metric}, and are left out of "
        f"every figure: {named}"
    )


def find_front(evaluations: Sequence[Evaluation], metric: str) -> tuple[str, ...]:
    """The names that no other is better than in one of quality, median latency and cost of a
    question, and as good in the rest (the Pareto front). A cost that is not known is not compared.
    """
    sign = -1 if metric in LOWER_IS_BETTER else 1
    costs = {each.name: cost_per_thousand(each) for each in evaluations}
    priced = None not in costs.values()
    points = {
        each.name: (
            -sign * each.metrics[metric],
            each.latency_ms["total"]["p50"],
            (costs[each.name] or 0.0) if priced else 0.0,
        )
        for each in evaluations
    }
    return tuple(
        name
        for name, point in points.items()
        if not any(
            other != point and all(o <= p for o, p in zip(other, point, strict=True))
            for other in points.values()
        )
    )


def _require_comparable(evaluations: Sequence[Evaluation], metric: str) -> None:
    for place, each in enumerate(evaluations):
        if metric not in each.metrics:
            names = sorted(each.metrics)
            wrong = f"{metric!r} was not measured"
            remedy = f"There are: {', '.join(names)}. {did_you_mean(metric, names)}".strip()
            raise UsageError("metric", wrong, remedy)
        if each.digest != evaluations[0].digest:
            wrong = f"{each.name!r} was measured on other cases than {evaluations[0].name!r}"
            raise UsageError("cases", wrong, "Measure both on the same.")
        if each.name in (other.name for other in evaluations[:place]):
            wrong = f"{each.name!r} is the name of two configs"
            raise UsageError("compare", wrong, "Give each a name of its own.")


def _require_same_corpus(evaluations: Sequence[Evaluation]) -> None:
    """Refuse configs that read the same sources at times when these said different things."""
    seen: dict[str, Any] = {}
    for each in evaluations:
        sources = json.dumps(each.config["sources"], sort_keys=True)
        corpus = each.index["corpus"]
        if seen.setdefault(sources, corpus) != corpus:
            wrong = "the sources changed while their configs were measured one after the other"
            raise IndexStateError("compare", wrong, "Run it again: what is embedded is kept.")


def _take(scores: Mapping[str, float], ids: Sequence[str]) -> list[float]:
    return [scores[id] for id in ids]


def _ablate(
    variants: Sequence[Variant],
    evaluations: Sequence[Evaluation],
    scores: Mapping[str, Mapping[str, float]],
    shared: Sequence[str],
    metric: str,
) -> list[Ablation]:
    """Each optional stage on and off: questions of their own, corrected among themselves."""
    by_name = {each.name: each for each in evaluations}
    listed = find_ablations(variants)
    paired = [
        compare_paired(_take(scores[without], shared), _take(scores[with_it], shared))
        for _, _, without, with_it in listed
    ]
    made = []
    for (stage, value, without, with_it), each in zip(listed, adjust(paired), strict=True):
        off, on = by_name[without], by_name[with_it]
        latency = on.latency_ms["total"]["p50"] - off.latency_ms["total"]["p50"]
        price, before = cost_per_thousand(on), cost_per_thousand(off)
        cost = None if price is None or before is None else price - before
        words = _say(each, metric, latency)
        judged = each.judged_by(metric)
        made.append(Ablation(stage, value, without, with_it, judged, latency, cost, words))
    return made


def _say(paired: Paired, metric: str, latency: float) -> str:
    price = f"{latency:+.0f} ms a question"
    if not paired.distinguishable:
        return f"no difference that {paired.n} questions show, {price}"
    better = (paired.difference > 0) != (metric in LOWER_IS_BETTER)
    pays = "pays" if better else "harms"
    return f"{pays}: {paired.difference:+.3f} {metric}, {price}"
