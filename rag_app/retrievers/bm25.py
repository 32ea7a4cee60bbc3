"""Finds chunks that share words with the question, rare words counting most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app.hits import make_hit
from rag_app.lexical import Scoring, WordSearch
from rag_app.options import Field, Options
from rag_app.timing import timed
from rag_app.types import Hit, Rank
from rag_app.words import TokenizerName  # noqa: TC001  (pydantic reads it)

if TYPE_CHECKING:
    from rag_app.index.view import View
    from rag_app.retrieval import HitRetriever
    from rag_app.types import Filter


class BM25Options(Options):
    """What decides a BM25 score."""

    tokenizer: TokenizerName = Field(
        "english",
        description="english: words without stop words, reduced to their stems; words: as they "
        "are, for other languages. Both cut Chinese, Japanese, Korean, Thai and other text "
        "without spaces into pairs of characters.",
    )
    k1: float = Field(
        1.5, ge=0, le=100, description="How much repeating a word in a chunk still counts."
    )
    b: float = Field(
        0.75, ge=0, le=1, description="How much long chunks are marked down: 0 not at all."
    )

    def scoring(self) -> Scoring:
        """The options as the lexical index takes them."""
        return Scoring(self.tokenizer, self.k1, self.b)


class Config(BM25Options):
    """Options of word search."""

    k: int = Field(8, ge=1, le=10_000, description="How many chunks to return, at most.")


def build(config: Config, index: Any) -> HitRetriever:
    """The retriever over `index`."""
    from rag_app.retrieval import HitRetriever

    return HitRetriever(search=BM25Search(config), index=index, k=config.k)


class BM25Search:
    """Chunks by BM25 score; only those that share a word with the question."""

    def __init__(self, options: BM25Options) -> None:
        self._words = WordSearch(options.scoring())

    def search(self, view: View, query: str, k: int, filter: Filter | None) -> list[Hit]:
        """The `k` chunks of highest score; no vector is compared, so hits have no similarity."""
        with timed("bm25"):
            return [
                make_hit(
                    row.id,
                    row.text,
                    row.metadata,
                    similarity=None,
                    score=score,
                    ranks={"bm25": Rank(rank, score)},
                )
                for rank, (row, score) in enumerate(self._words.find(view, query, k, filter), 1)
            ]

    def lists(self, view: View, query: str, k: int, filter: Filter | None) -> dict[str, list[Hit]]:
        """`bm25`: what `search` finds."""
        return {"bm25": self.search(view, query, k, filter)}

    def refresh(self, view: View) -> None:
        """Build the BM25 index of the chunks as they are now, unless it is there."""
        self._words.refresh(view)
