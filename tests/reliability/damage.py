"""What is wrong with an index, told from the sources alone: no part of rag_app is asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from tests.reliability.sources import count_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tests.reliability.sources import State

READER: Final = ("error", "unpublished", "mixed")
"""What a reader may see wrong right after the kill: it fails; chunks shown that are not of the
published state, or missing from it; documents of two versions at once."""

AFTER: Final = (
    *("error", "lost", "duplicated", "orphaned", "phantom", "mixed", "bad vectors", "not found"),
)
"""What may be wrong after the rerun, counted in chunks, `mixed` in documents: the rerun failed; a
chunk of the sources is not shown; is stored twice; is stored though its document is gone; is stored
though its document holds no such text; documents show two versions; the vector is zero or not that
of the text; a chunk's own vector does not find it."""


class Held(NamedTuple):
    """One row of an index."""

    source: str
    text: str
    vector: NDArray[np.float32]


def judge_reader(
    shown: Iterable[Held],
    hits: Iterable[tuple[str, str]],
    published: Sequence[State],
    known: Sequence[State],
) -> dict[str, int]:
    """What a reader saw against the states that may be the published one.

    Args:
        hits: source and text of what was found by searches.
        published: the state before the killed run, and the one that it may just have published;
            the reader must have seen one of them, and of that one all.
        known: as for `judge`.
    """
    seen = Counter((row.source, row.text) for row in shown)
    found = set(hits)
    strange = []
    for state in published:
        wanted = count_chunks(state)
        strange.append(((seen - wanted) + (wanted - seen)).total() + len(found - wanted.keys()))
    return {"unpublished": min(strange), "mixed": _count_mixed(seen, known)}


def judge(
    shown: Iterable[Held],
    stored: Sequence[Held],
    sources: State,
    known: Sequence[State],
    embed: Callable[[str], NDArray[np.float32]],
) -> dict[str, int]:
    """What the index shows and what its store holds against the sources.

    Args:
        known: every state that the sources were in, for telling versions from mixtures.
        embed: the vector, of length 1, that a text must have.
    """
    wanted = count_chunks(sources)
    seen = Counter((row.source, row.text) for row in shown)
    rows = Counter((row.source, row.text) for row in stored)
    strange = [key for key in rows.elements() if key not in wanted]
    return {
        "lost": (wanted - seen).total(),
        "duplicated": sum(max(0, rows[key] - wanted[key]) for key in wanted),
        "orphaned": sum(source not in sources for source, _ in strange),
        "phantom": sum(source in sources for source, _ in strange),
        "mixed": _count_mixed(seen, known),
        "bad vectors": sum(_is_bad(row, embed) for row in stored),
    }


def count_not_found(
    find: Callable[[NDArray[np.float32], int], Iterable[tuple[str, str, float]]],
    rows: int,
    sources: State,
    embed: Callable[[str], NDArray[np.float32]],
    each: Iterable[tuple[str, str]],
) -> int:
    """Chunks that the store's search misses or misreports.

    One search asks for all of them with their similarities; then each chunk of `each` is searched
    by its own vector and must come first (of equal texts, any).

    Args:
        find: (vector, k) to (source, text, cosine), best first.
        rows: how many the store holds.
    """
    wanted = count_chunks(sources)
    probe = embed(next(text for _, text in sorted(wanted)))
    found: Counter[tuple[str, str]] = Counter()
    for source, text, cosine in find(probe, rows):
        found[source, text] += abs(float(embed(text) @ probe) - cosine) < 1e-3
    missing = set((wanted - found).elements())
    for source, text in dict.fromkeys(each):
        best = next(iter(find(embed(text), 1)), ("", "", 0.0))
        if best[1] != text or best[2] < 1 - 1e-3:
            missing.add((source, text))
    return len(missing)


def _count_mixed(seen: Iterable[tuple[str, str]], known: Sequence[State]) -> int:
    """Documents whose chunks are of no single version that there ever was."""
    texts: dict[str, set[str]] = {}
    for source, text in seen:
        texts.setdefault(source, set()).add(text)
    versions = [{name: set(of) for name, of in state.items()} for state in known]
    return sum(
        not any(shown <= version.get(source, set()) for version in versions)
        for source, shown in texts.items()
    )


def _is_bad(row: Held, embed: Callable[[str], NDArray[np.float32]]) -> bool:
    length = float(np.linalg.norm(row.vector))
    return not length > 0.5 or not float(row.vector @ embed(row.text)) / length > 1 - 1e-3
