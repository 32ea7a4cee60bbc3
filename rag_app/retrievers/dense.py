"""Finds chunks whose vectors are nearest to the question's: by meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_app.hits import make_dense_hits
from rag_app.options import Field, Options
from rag_app.timing import timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from rag_app.index.view import View
    from rag_app.retrieval import HitRetriever
    from rag_app.types import Filter, Hit


class Config(Options):
    """Options of dense search."""

    k: int = Field(8, ge=1, le=10_000, description="How many chunks to return.")
    min_similarity: float | None = Field(
        None, ge=-1, le=1, description="Leave out chunks of a lower cosine similarity."
    )
    mmr_lambda: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Choose by maximal marginal relevance, so that chunks do not repeat each "
        "other: 1 counts similarity to the question alone, 0 difference alone. Left out: no MMR.",
    )
    fetch_k: int = Field(
        40, ge=1, le=10_000, description="How many candidates MMR chooses from; at least k."
    )


def build(config: Config, index: Any) -> HitRetriever:
    """The retriever over `index`."""
    from rag_app.retrieval import HitRetriever

    return HitRetriever(search=DenseSearch(config), index=index, k=config.k)


class DenseSearch:
    """Nearest vectors, and MMR over them when asked for."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def search(self, view: View, query: str, k: int, filter: Filter | None) -> list[Hit]:
        """The `k` chunks of highest cosine; with MMR those it chooses, scored by its worth."""
        with timed("embed"):
            vector = view.embed(query)
        with timed("dense"):
            if self._config.mmr_lambda is None:
                return self.find_nearest(view, vector, k, filter)
            candidates = self.find_nearest(view, vector, max(k, self._config.fetch_k), filter)
            return self._diversify(view, candidates, k, self._config.mmr_lambda)

    def lists(self, view: View, query: str, k: int, filter: Filter | None) -> dict[str, list[Hit]]:
        """`dense`: the `k` nearest chunks, before MMR and whatever their similarity."""
        return {"dense": make_dense_hits(view.search(view.embed(query), k, filter))}

    def find_nearest(
        self, view: View, vector: ArrayLike, k: int, filter: Filter | None
    ) -> list[Hit]:
        """The `k` chunks nearest to `vector`, of at least the similarity asked for."""
        hits = make_dense_hits(view.search(vector, k, filter))
        least = self._config.min_similarity
        return hits if least is None else [hit for hit in hits if hit.score >= least]

    def refresh(self, view: View) -> None:
        """Nothing: the store's vectors are the index."""

    def _diversify(self, view: View, hits: Sequence[Hit], k: int, weight: float) -> list[Hit]:
        from rag_app.store import select_diverse

        by_id = {hit.id: hit for hit in hits}
        rows = view.fetch([hit.id for hit in hits])
        found = [(row, by_id[row.id].score) for row in rows]
        chosen = select_diverse(found, k, weight)
        vectors = np.array([found[place][0].vector for place in chosen])
        diverse = []
        for step, place in enumerate(chosen):
            row, similarity = found[place]
            nearest = float((vectors[:step] @ row.vector).max(initial=-1.0)) if step else 0.0
            worth = weight * similarity - (1 - weight) * nearest
            diverse.append(replace(by_id[row.id], score=worth))
        return diverse
