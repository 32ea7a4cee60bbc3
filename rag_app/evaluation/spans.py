"""How much of what was found is evidence, and how much of the evidence was found, by characters.

Chunks of different sizes can be compared by it, which ranks cannot. The field calls it token-level;
characters are counted, because tokens differ between models.

    char_recall@k         characters of evidence that the first k chunks cover, of all of them
    char_precision@k      the same characters, of the summed lengths of the first k chunks
    char_iou@k            the same, of those lengths and the evidence they leave uncovered
    char_precision_omega  what these chunks allow: the IoU if exactly those that touch evidence
                          were returned, each character counted once; a chunk touches evidence
                          that it borders on, too, as in the published figures

What several chunks cover is covered once, while their lengths are summed: overlapping chunks pay
for what they repeat. Evidence that overlaps is counted once.

Source: Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval", Chroma 2024,
https://research.trychroma.com/evaluating-chunking.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rag_app.evaluation.metrics import check_cutoffs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_app.evaluation.results import Located
    from rag_app.types import Span


def measure_spans(
    hits: Sequence[tuple[str, int, int]],
    located: Sequence[Located],
    ks: Sequence[int],
    chunks: Mapping[str, Sequence[Span]] | None = None,
) -> dict[str, float]:
    """The character metrics at each cutoff, as `char_recall@5`, and `char_precision_omega`.

    Args:
        hits: source, start and end of each chunk of the ranking, best first.
        located: the evidence of the case. Empty, or with a whole document in it: no metrics.
        ks: the cutoffs, from 1.
        chunks: of each source of the evidence, the spans of all its chunks; one that is absent has
            none. None: without `char_precision_omega`.

    Where a quote stands in several places, each cutoff takes the place of which its chunks cover
    the greatest share, and omega the place that its chunks fit best; the first of equal ones. A
    span without characters adds nothing; where all are such, every metric is 0.

    Raises:
        UsageError: a cutoff below 1, or none.
    """
    check_cutoffs(ks)
    if not located or not all(each.spans for each in located):
        return {}
    measured = {k: _measure(hits[:k], located) for k in ks}
    names = ("char_recall", "char_precision", "char_iou")
    metrics = {f"{name}@{k}": measured[k][at] for at, name in enumerate(names) for k in ks}
    if chunks is not None:
        metrics["char_precision_omega"] = _measure_omega(located, chunks)
    return metrics


def _measure(
    hits: Sequence[tuple[str, int, int]], located: Sequence[Located]
) -> tuple[float, float, float]:
    found = _by_source((source, (start, end)) for source, start, end in hits)
    chosen = [
        (each.source, _find_most_covered(each, found.get(each.source, ()))) for each in located
    ]
    evidence = _by_source(chosen)
    covered = sum(_count(_intersect(spans, found.get(s, ()))) for s, spans in evidence.items())
    total = sum(map(_count, evidence.values()))
    returned = sum(end - start for _, start, end in hits)
    return (
        _divide(covered, total),
        _divide(covered, returned),
        _divide(covered, returned + total - covered),
    )


def _measure_omega(located: Sequence[Located], chunks: Mapping[str, Sequence[Span]]) -> float:
    chosen = [(each.source, _find_best_cut(each, chunks.get(each.source, ()))) for each in located]
    covered = joined = 0
    for source, spans in _by_source(chosen).items():
        inside, around = _count_touching(spans, chunks.get(source, ()))
        covered, joined = covered + inside, joined + around
    return _divide(covered, joined)


def _find_most_covered(each: Located, found: Sequence[Span]) -> Span:
    def share(span: Span) -> float:
        return _divide(_count(_intersect([span], found)), span[1] - span[0])

    return max(each.spans, key=share)


def _find_best_cut(each: Located, chunks: Sequence[Span]) -> Span:
    if len(each.spans) == 1:
        return each.spans[0]
    return max(each.spans, key=lambda span: _divide(*_count_touching([span], chunks)))


def _count_touching(evidence: Sequence[Span], chunks: Sequence[Span]) -> tuple[int, int]:
    """Characters of the evidence in chunks; characters of it and of the chunks that touch it."""
    joined = _join(evidence)
    touching = [
        (start, end)
        for start, end in chunks
        if any(start <= last and first <= end for first, last in joined)
    ]
    return _count(_intersect(joined, touching)), _count([*joined, *touching])


def _by_source(places: Iterable[tuple[str, Span]]) -> dict[str, list[Span]]:
    grouped: dict[str, list[Span]] = defaultdict(list)
    for source, span in places:
        grouped[source].append(span)
    return dict(grouped)


def _join(spans: Iterable[Span]) -> list[Span]:
    """The same characters as spans in order that share none."""
    joined: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _count(spans: Iterable[Span]) -> int:
    """Characters in any of the spans."""
    return sum(end - start for start, end in _join(spans))


def _intersect(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What each two of them share; the same characters may be in it several times."""
    pairs = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return [(start, end) for start, end in pairs if start < end]


def _divide(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
