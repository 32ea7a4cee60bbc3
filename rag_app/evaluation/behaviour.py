"""What changed between two configs, question by question: chunks, metric and answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from rag_app.errors import UsageError
from rag_app.evaluation.results import LOWER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.evaluation.results import Case, CaseResult, Evaluation, Retrieved
    from rag_app.types import Hit

Flip: TypeAlias = Literal["", "now wrong", "now right", "now abstains", "now answers"]
"""What became of an answer."""

PREFERRED: Final = ("ndcg", "recall", "hit_rate", "mrr", "correctness", "token_f1", "exact_match")
"""Metrics that changes are ordered by unless told otherwise: the first that both have."""

RIGHT: Final = 0.5
"""From which value of the metric an answer is right."""


@dataclass(frozen=True, slots=True)
class Move:
    """A chunk, in two rankings of one question.

    Attributes:
        before: its hit and rank, from 1; None where it is not among the hits.
        after: the same of the other config; another chunk when the two cut documents differently.
        evidence: the places, in its case, of what either of the two overlaps.
    """

    before: tuple[int, Hit] | None
    after: tuple[int, Hit] | None
    evidence: tuple[int, ...]

    @property
    def kind(self) -> Literal["appeared", "vanished", "moved", "stayed"]:
        """What became of it."""
        if self.before is None:
            return "appeared"
        if self.after is None:
            return "vanished"
        return "stayed" if self.before[0] == self.after[0] else "moved"


@dataclass(frozen=True, slots=True)
class Change:
    """One question, asked of two configs.

    Attributes:
        metric: the one that is compared; `difference` is after - before, None where it has none.
        moves: every chunk of either ranking: by its rank before, then those that appeared.
        flip: what became of the answer; empty where it is as right as it was, or cannot be told.
    """

    case: Case
    metric: str
    before: CaseResult
    after: CaseResult
    difference: float | None
    moves: tuple[Move, ...]
    flip: Flip

    @property
    def changed(self) -> bool:
        """Whether anything differs: a chunk, its rank, the metric or the answer."""
        return bool(self.difference or self.flip) or any(m.kind != "stayed" for m in self.moves)


def changes(before: Evaluation, after: Evaluation, metric: str | None = None) -> list[Change]:
    """What two configs did differently, one for each question that both were asked, worst first.

    Chunks are the same when their ids are. Of others, those of one source are when they overlap by
    half of the shorter one or more: each with the one it overlaps most.

    Args:
        metric: compared and ordered by; by default nDCG at the deepest cutoff that both have.

    Raises:
        UsageError: they were measured on other cases, or have no such metric in common.
    """
    if before.digest != after.digest:
        wrong = f"measured on other cases than {before.name!r} ({after.origin}, {before.origin})"
        raise UsageError(after.name, wrong, "Measure both on the same cases.")
    chosen = _choose_metric(before, after, metric)
    held = {result.case.id: result for result in before.results}
    found = [
        _compare(held[result.case.id], result, chosen)
        for result in after.results
        if result.case.id in held
    ]
    return sorted(found, key=_order)


def pair_hits(before: Sequence[Retrieved], after: Sequence[Retrieved]) -> tuple[Move, ...]:
    """Which hits of two rankings are the same piece of text; see `changes`."""
    forth = [_find_partner(each.hit, after) for each in before]
    back = [_find_partner(each.hit, before) for each in after]
    pairs: list[tuple[int | None, int | None]] = list(enumerate(forth))
    taken = {place for place in forth if place is not None}
    pairs += [(partner, place) for place, partner in enumerate(back) if place not in taken]
    pairs.sort(key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1] or 0))
    return tuple(_move(before, after, *pair) for pair in pairs)


def _compare(before: CaseResult, after: CaseResult, metric: str) -> Change:
    a, b = before.metrics.get(metric), after.metrics.get(metric)
    return Change(
        case=after.case,
        metric=metric,
        before=before,
        after=after,
        difference=None if a is None or b is None else b - a,
        moves=pair_hits(before.ranking, after.ranking),
        flip=find_flip(before, after),
    )


def find_flip(before: CaseResult, after: CaseResult) -> Flip:
    """What became of the answer. A question without evidence is answered right by abstaining."""
    if before.answer is None or after.answer is None:
        return ""
    was, now = is_right(before), is_right(after)
    if was is not None and now is not None and was is not now:
        return "now right" if now else "now wrong"
    if before.answer.abstained is not after.answer.abstained:
        return "now abstains" if after.answer.abstained else "now answers"
    return ""


def is_right(result: CaseResult) -> bool | None:
    """Whether its answer is right; None where nothing tells.

    Read from the judge's correctness, else an exact match, else token F1.
    """
    if result.answer is None:
        return None
    if not result.case.answerable:
        return result.answer.abstained
    if result.answer.abstained:
        return False
    names = ("correctness", "exact_match", "token_f1")
    told = [result.metrics[name] for name in names if name in result.metrics]
    return told[0] >= RIGHT if told else None


def _choose_metric(before: Evaluation, after: Evaluation, metric: str | None) -> str:
    shared = [name for name in before.metrics if name in after.metrics]
    if metric is not None:
        if metric in shared:
            return metric
        listed = ", ".join(shared) or "none at all"
        raise UsageError("metric", f"{metric!r} is not measured in both", f"Both have: {listed}.")
    deepest = max(before.ks)
    for name in PREFERRED:
        for candidate in (f"{name}@{deepest}", name):
            if candidate in shared:
                return candidate
    if not shared:
        wrong = f"no metric in common with {before.name!r}"
        raise UsageError(after.name, wrong, "Measure both with the same cutoffs.")
    return shared[0]


def _find_partner(hit: Hit, others: Sequence[Retrieved]) -> int | None:
    """The place of the hit that is the same piece of text; of equal ones, the best ranked."""
    best, most = None, 0
    for place, other in enumerate(others):
        if other.hit.id == hit.id:
            return place
        shared = _overlap(hit, other.hit)
        if shared > most:
            best, most = place, shared
    return best


def _overlap(a: Hit, b: Hit) -> int:
    """Characters that both hold; 0 when it is less than half of the shorter one."""
    if a.source != b.source:
        return 0
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared if 2 * shared >= min(a.end - a.start, b.end - b.start) else 0


def _move(
    before: Sequence[Retrieved], after: Sequence[Retrieved], a: int | None, b: int | None
) -> Move:
    first = None if a is None else before[a]
    second = None if b is None else after[b]
    held = {place for each in (first, second) if each is not None for place in each.evidence}
    return Move(
        before=None if a is None or first is None else (a + 1, first.hit),
        after=None if b is None or second is None else (b + 1, second.hit),
        evidence=tuple(sorted(held)),
    )


_FLIPS: Final[dict[Flip, int]] = {
    "now wrong": 0,
    "now abstains": 1,
    "": 2,
    "now answers": 3,
    "now right": 4,
}


def _order(change: Change) -> tuple[float, int, int, str]:
    """Worst first: by metric, by answer, then by how much of the ranking changed."""
    moved = sum(move.kind != "stayed" for move in change.moves)
    sign = -1.0 if change.metric in LOWER_IS_BETTER else 1.0
    return sign * (change.difference or 0.0), _FLIPS[change.flip], -moved, change.case.id
