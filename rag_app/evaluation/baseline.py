"""Has it become worse? A result held against one of before on the same cases, or against floors.

A fall counts when it is more than chance: paired, case by case, and corrected for how many metrics
are looked at. So few cases that no fall of theirs could count are refused. A floor is absolute: the
mean is below it, or it is not.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from statistics import NormalDist, stdev
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import UsageError
from rag_app.evaluation.cases import to_line
from rag_app.evaluation.results import LOWER_IS_BETTER
from rag_app.evaluation.significance import ALPHA, POWER, RESAMPLES, adjust, compare_paired
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_app.evaluation.results import Case, Evaluation, Paired


RANKING_METRICS: Final = (
    *("recall", "precision", "hit_rate", "mrr", "ndcg", "map"),
    *("char_recall", "char_precision", "char_iou"),
)
"""Those that have a cutoff."""

ANSWER_METRICS: Final = (
    *("answer_rate", "false_answer_rate", "exact_match", "token_f1"),
    *("citation_precision", "citation_recall"),
)
JUDGED_METRICS: Final = ("faithfulness", "correctness")

WATCHED: Final = ("recall", "mrr", "ndcg")
"""Ranking metrics that a baseline is compared in, at the largest cutoff, unless others are named:
each more that is looked at makes it harder to see that one has fallen."""


@dataclass(frozen=True, slots=True)
class Change:
    """A metric now and in the baseline.

    Attributes:
        baseline: its mean then; `now`, its mean now. Both over the cases that have it in both.
        paired: now against then; `adjusted` and `detectable` for all metrics that were looked at.
        blind: so few cases have it that no fall of it alone would count.
    """

    metric: str
    baseline: float
    now: float
    paired: Paired
    blind: bool = False

    @property
    def worse(self) -> bool:
        """Whether it has become worse by more than chance."""
        loss = self.paired.difference < 0
        if self.metric in LOWER_IS_BETTER:
            loss = self.paired.difference > 0
        return loss and self.paired.distinguishable


@dataclass(frozen=True, slots=True)
class Floor:
    """The mean of a metric, and the least that it may be; for `false_answer_rate` the most."""

    metric: str
    limit: float
    now: float

    @property
    def broken(self) -> bool:
        """Whether the mean is on the wrong side; on the floor is on the right one."""
        if self.metric in LOWER_IS_BETTER:
            return self.now > self.limit
        return self.now < self.limit


def list_metrics(ks: Sequence[int], *, answers: bool = False, judged: bool = False) -> list[str]:
    """What an evaluation can measure with these settings."""
    listed = [f"{name}@{k}" for name in RANKING_METRICS for k in ks] + ["char_precision_omega"]
    return [*listed, *(ANSWER_METRICS if answers else ()), *(JUDGED_METRICS if judged else ())]


def require_metrics(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Refuse a metric that is not measured.

    Raises:
        UsageError: naming the nearest.
    """
    for name in given:
        if name not in known:
            raise UsageError(where, f"{name!r} is not measured here", _advise(name, known))


def read_floors(given: Iterable[str]) -> dict[str, float]:
    """`METRIC=VALUE` as a number by metric.

    Raises:
        UsageError: one is not written so, is given twice, or its value is not within 0 and 1.
    """
    floors: dict[str, float] = {}
    for each in given:
        name, equals, value = (part.strip() for part in each.partition("="))
        if not (equals and name and re.fullmatch(r"\d*\.?\d+", value) and float(value) <= 1):
            wrong = f"{each!r} is no metric with a value from 0 to 1"
            raise UsageError("--fail-under", wrong, "Write it as in ndcg@10=0.7.")
        if name in floors:
            wrong = f"{name} is given twice"
            raise UsageError("--fail-under", wrong, "Give each metric once.")
        floors[name] = float(value)
    return floors


def check_floors(evaluation: Evaluation, floors: Mapping[str, float]) -> list[Floor]:
    """The mean of each metric beside the least it may be, in the order given.

    Raises:
        UsageError: a metric was not measured on these cases.
    """
    require_metrics(floors, list(evaluation.metrics), "--fail-under")
    return [Floor(name, limit, evaluation.metrics[name]) for name, limit in floors.items()]


def check_baseline(
    evaluation: Evaluation, baseline: Evaluation, metrics: Sequence[str] | None = None
) -> list[Change]:
    """How each metric differs from a baseline on the same cases, by a paired randomisation test.

    Holm's correction is over the metrics compared, so that the chance of any false alarm stays
    under 5 %.

    Args:
        metrics: which to compare; None for `choose_metrics`.

    Raises:
        UsageError: the baseline was measured on other cases or in another way, lacks a metric, or
            has a case that is left out now; or its cases are too few to show any fall.
    """
    cases = [result.case for result in evaluation.results]
    require_same_cases(cases, evaluation.digest, baseline)
    require_same_plan(evaluation.plan, baseline)
    _require_no_gaps(evaluation, baseline)
    chosen = choose_metrics(evaluation.metrics, baseline) if metrics is None else list(metrics)
    both = [name for name in evaluation.metrics if name in baseline.metrics]
    require_metrics(chosen, both, "--baseline")
    measured = []
    for name in chosen:
        then, now = baseline.scores(name), evaluation.scores(name)
        shared = [id for id in now if id in then]
        if not shared:
            wrong = f"no case has {name} both now and in it"
            raise UsageError("--baseline", wrong, "Save a new one: rag-app evaluate --save FILE")
        measured.append((name, [then[id] for id in shared], [now[id] for id in shared]))
    _refuse_blindness({name: len(now) for name, _, now in measured})
    pairs = adjust([compare_paired(then, now) for _, then, now in measured])
    return [
        Change(
            metric=name,
            baseline=sum(then) / len(then),
            now=sum(now) / len(now),
            paired=replace(
                paired.judged_by(name), detectable=_find_detectable(then, now, len(measured))
            ),
            blind=not can_show(len(now), len(measured)),
        )
        for (name, then, now), paired in zip(measured, pairs, strict=True)
    ]


def can_show(cases: int, metrics: int) -> bool:
    """Whether so many cases can show a fall at all when so many metrics are looked at: whether it
    counts as more than chance when every case falls."""
    return metrics * max(2.0 ** (1 - cases), 1 / (RESAMPLES + 1)) < ALPHA


def require_sight(metrics: Sequence[str], baseline: Evaluation) -> None:
    """Refuse a baseline whose cases are too few to show a fall in any of the metrics.

    Args:
        metrics: that are compared; each is one of the baseline.

    Raises:
        UsageError: a total collapse would pass as well.
    """
    _refuse_blindness({name: len(baseline.scores(name)) for name in metrics})


def choose_metrics(measured: Iterable[str], baseline: Evaluation) -> list[str]:
    """What is compared unless metrics are named: of those measured, `WATCHED` at the largest cutoff
    that the baseline has, too, and all that is known of the answers."""
    both = {name for name in measured if name in baseline.metrics}
    shared = [k for k in baseline.ks if any(f"{name}@{k}" in both for name in WATCHED)]
    names = [f"{name}@{max(shared)}" for name in WATCHED] if shared else []
    names += [*ANSWER_METRICS, *JUDGED_METRICS]
    found = [each for each in names if each in both]
    if not found:
        wrong = "it has no metric in common with this result"
        raise UsageError("--baseline", wrong, "Save a new one: rag-app evaluate --save FILE")
    return found


def require_same_cases(cases: Iterable[Case], digest: str, baseline: Evaluation) -> None:
    """Refuse a baseline on other cases: a case that was added or corrected looks like a change.

    Args:
        digest: of the cases.

    Raises:
        UsageError: saying how many differ.
    """
    if digest == baseline.digest:
        return
    now = {case.id: to_line(case) for case in cases}
    then = {result.case.id: to_line(result.case) for result in baseline.results}
    counts = {
        "new": len(now.keys() - then.keys()),
        "gone": len(then.keys() - now.keys()),
        "changed": sum(now[id] != then[id] for id in now.keys() & then.keys()),
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    wrong = f"it was measured on other cases ({told or 'in another order'})"
    remedy = (
        "Measure the pipeline it is of on these cases, and save that: rag-app evaluate --save FILE"
    )
    raise UsageError("--baseline", wrong, remedy)


def require_same_plan(plan: Mapping[str, Any], baseline: Evaluation) -> None:
    """Refuse a baseline that was measured in another way: with other questions' filter, by another
    judge, or not of the answers.

    What becomes of stale cases may differ: those that are left out are told by their absence.

    Args:
        plan: as `Evaluation.plan` has it.

    Raises:
        UsageError: saying what differs.
    """
    if plan and not baseline.plan:
        wrong = "it does not say how it was measured"
        raise UsageError("--baseline", wrong, "Save a new one: rag-app evaluate --save FILE")
    told = [
        f"{name} {_show(baseline.plan.get(name))} there, {_show(plan.get(name))} here"
        for name in ("filter", "answers", "judge")
        if baseline.plan.get(name) != plan.get(name)
    ]
    if told:
        wrong = f"it was measured in another way: {'; '.join(told)}"
        remedy = "Measure in the same way, or save a new one: rag-app evaluate --save FILE"
        raise UsageError("--baseline", wrong, remedy)


def _require_no_gaps(evaluation: Evaluation, baseline: Evaluation) -> None:
    now = {result.case.id for result in evaluation.results}
    gone = [result.case.id for result in baseline.results if result.case.id not in now]
    if gone:
        named = ", ".join(gone[:5]) + (", …" if len(gone) > 5 else "")
        wrong = f"{len(gone)} of its {len(baseline.results)} cases are left out now: {named}"
        remedy = "To count what is no longer in the index as not found: --stale miss"
        raise UsageError("--baseline", wrong, remedy)


def _refuse_blindness(counts: Mapping[str, int]) -> None:
    if any(can_show(cases, len(counts)) for cases in counts.values()):
        return
    cases, metrics = max(counts.values()), len(counts)
    least = next(n for n in range(1, 64) if can_show(n, metrics) or n == 63)
    listed = ", ".join(counts)
    wrong = f"these {cases} cases cannot show any fall in {metrics} metrics ({listed})"
    fewer = ", or fewer --metric" if can_show(cases, 1) else ""
    remedy = f"Give {least} cases or more{fewer}"
    raise UsageError("--baseline", wrong, f"{remedy}, or use --fail-under METRIC=VALUE.")


def _find_detectable(then: Sequence[float], now: Sequence[float], metrics: int) -> float | None:
    """The smallest change that these cases show with 80 % power, each metric having its share of
    the 5 %; None where they show none, or all of them changed alike."""
    if not can_show(len(now), metrics):
        return None
    spread = stdev(b - a for a, b in zip(then, now, strict=True))
    normal = NormalDist()
    reach = normal.inv_cdf(1 - ALPHA / metrics / 2) + normal.inv_cdf(POWER)
    return reach * spread / math.sqrt(len(now)) if spread > 1e-12 else None


def _show(value: object) -> str:
    return "none" if value is None else json.dumps(value)


def _advise(name: str, known: Sequence[str]) -> str:
    cutoff = re.fullmatch(r"(\w+)@(\d+)", name)
    if cutoff and cutoff[1] in RANKING_METRICS and f"{cutoff[1]}@" in "".join(known):
        return f"Add {cutoff[2]} to --k."
    bare = sorted({each.partition("@")[0] for each in known})
    listed = ", ".join(bare)
    return f"There are: {listed}. {did_you_mean(name, known)}".strip()
