"""Hits: what a search found, as a value, and lists of them fused."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rag_app.types import Hit, Rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_core.documents import Document

    from rag_app.types import Metadata

_OWN = ("source", "start", "end", "_hit")


def make_hit(
    id: str,
    text: str,
    metadata: Metadata,
    *,
    similarity: float | None,
    score: float,
    ranks: Mapping[str, Rank],
) -> Hit:
    """A hit from what a store holds of a chunk. One stored without a span counts as a whole."""
    start = metadata.get("start", 0)
    return Hit(
        id=id,
        source=str(metadata.get("source", "")),
        text=text,
        start=start,
        end=metadata.get("end", start + len(text)),
        similarity=similarity,
        score=score,
        ranks=ranks,
        metadata={name: value for name, value in metadata.items() if name not in _OWN},
    )


def make_dense_hits(found: Iterable[tuple[Document, float]]) -> list[Hit]:
    """Hits of a vector search from what `Store.search` found, best first, with its similarities."""
    return [
        make_hit(
            document.id or "",
            document.page_content,
            document.metadata,
            similarity=similarity,
            score=similarity,
            ranks={"dense": Rank(rank, similarity)},
        )
        for rank, (document, similarity) in enumerate(found, 1)
    ]


def fuse(
    lists: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], rank_constant: float = 60
) -> list[Hit]:
    """Reciprocal rank fusion by chunk id: the sum of `weight / (rank_constant + rank)` over lists.

    A hit keeps its rank and score in every list. Lists of weight 0 add no hits. Equal scores stay
    in the order of the lists.

    Source: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and
    individual Rank Learning Methods", SIGIR 2009.
    """
    scores: dict[str, float] = defaultdict(float)
    copies: dict[str, list[Hit]] = defaultdict(list)
    for name, hits in lists.items():
        for rank, hit in enumerate(hits, 1):
            scores[hit.id] += weights[name] / (rank_constant + rank)
            copies[hit.id].append(hit)
    fused = [_join_copies(copies[id], score) for id, score in scores.items() if score > 0]
    return sorted(fused, key=lambda hit: -hit.score)


def _join_copies(copies: Sequence[Hit], score: float) -> Hit:
    first = copies[0]
    similarities = [hit.similarity for hit in copies if hit.similarity is not None]
    return Hit(
        id=first.id,
        source=first.source,
        text=first.text,
        start=first.start,
        end=first.end,
        similarity=similarities[0] if similarities else None,
        score=score,
        ranks={name: rank for hit in copies for name, rank in hit.ranks.items()},
        metadata=first.metadata,
    )
