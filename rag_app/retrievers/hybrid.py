"""Finds chunks by meaning and by words, and fuses the two lists by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import model_validator

from rag_app.hits import fuse, make_dense_hits, make_hit
from rag_app.lexical import KeptSearch, WordSearch
from rag_app.options import Field, Options
from rag_app.retrievers.bm25 import BM25Options
from rag_app.timing import timed
from rag_app.token_weights import TokenSearch
from rag_app.types import Hit, Rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rag_app.index.view import View
    from rag_app.retrieval import HitRetriever
    from rag_app.types import Filter


class Weights(Options):
    """How much each list counts; 0 leaves a list out."""

    dense: float = Field(1.0, ge=0, le=1000, description="Weight of the list by meaning.")
    bm25: float = Field(
        1.0, ge=0, le=1000, description="Weight of the list by words, whoever weighs them."
    )

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if self.dense == self.bm25 == 0:
            raise ValueError("dense and bm25 are both 0; at least one must be more")
        return self


class Config(Options):
    """Options of hybrid search."""

    k: int = Field(8, ge=1, le=10_000, description="How many chunks to return.")
    fetch_k: int = Field(
        100, ge=1, le=10_000, description="How many chunks each list contributes; at least k."
    )
    weights: Weights = Field(Weights(), description="How much each list counts.")
    rank_constant: float = Field(
        60,
        ge=0,
        le=10_000,
        description="Constant of reciprocal rank fusion: the lower, the more first places count.",
    )
    words: Literal["bm25", "model"] = Field(
        "bm25",
        description="How words are searched: bm25 counts them, model takes the weights that the "
        "embedding model gives to tokens, which few models do (BAAI/bge-m3).",
    )
    bm25: BM25Options = Field(BM25Options(), description="Options of the word search by BM25.")

    @model_validator(mode="after")
    def _check_words(self) -> Self:
        if self.words == "model" and self.bm25 != BM25Options():
            raise ValueError("bm25 has options, but words: model does not use BM25; leave them out")
        return self


def build(config: Config, index: Any) -> HitRetriever:
    """The retriever over `index`."""
    from rag_app.retrieval import HitRetriever

    return HitRetriever(search=HybridSearch(config, index), index=index, k=config.k)


class HybridSearch:
    """Dense and word search fused by reciprocal rank."""

    def __init__(self, config: Config, index: Any) -> None:
        self._config = config
        self._words: KeptSearch[Any]
        if config.words == "model":
            self._list, self._words = "sparse", TokenSearch(index)
        else:
            self._list, self._words = "bm25", WordSearch(config.bm25.scoring())

    def search(self, view: View, query: str, k: int, filter: Filter | None) -> list[Hit]:
        """The `k` chunks of highest fused score, with similarity and the rank in each list."""
        config = self._config
        lists = self.lists(view, query, max(k, config.fetch_k), filter)
        with timed("fusion"):
            weights = {"dense": config.weights.dense, self._list: config.weights.bm25}
            return fuse(lists, weights, config.rank_constant)[:k]

    def lists(self, view: View, query: str, k: int, filter: Filter | None) -> dict[str, list[Hit]]:
        """`dense`, and `bm25` or `sparse`: the first `k` of each list, as they are fused."""
        with timed("embed"):
            vector = np.asarray(view.embed(query), np.float32)
        with timed("dense"):
            dense = make_dense_hits(view.search(vector, k, filter))
        with timed(self._list):
            words = self._search_words(view, query, vector, k, filter)
        return {"dense": dense, self._list: words}

    def refresh(self, view: View) -> None:
        """Build the index of the chunks' words as they are now, unless it is there."""
        self._words.refresh(view)

    def _search_words(
        self, view: View, query: str, vector: NDArray[np.float32], k: int, filter: Filter | None
    ) -> list[Hit]:
        unit = vector / np.linalg.norm(vector)
        return [
            make_hit(
                row.id,
                row.text,
                row.metadata,
                similarity=float(np.clip(unit @ row.vector, -1, 1)),
                score=score,
                ranks={self._list: Rank(rank, score)},
            )
            for rank, (row, score) in enumerate(self._words.find(view, query, k, filter), 1)
        ]
