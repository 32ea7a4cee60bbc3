"""The stages of a pipeline, each by itself, so that what each lets through can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rag_app.answering import fit, takes_filter
from rag_app.errors import UsageError
from rag_app.lexical import WordSearch
from rag_app.retrieval import HitRetriever, RerankingRetriever, to_hit
from rag_app.retrievers.bm25 import BM25Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.documents import Document

    from rag_app.app import RagApp
    from rag_app.evaluation.why.places import Place
    from rag_app.index.view import View
    from rag_app.types import Filter, Hit

DEEPEST: Final = 10_000
"""Chunks of a list that are looked at: some vector stores give no more."""
OURS: Final = ("dense", "bm25", "hybrid")
FIRST: Final = 200
"""Chunks of a list that are looked at first."""


@dataclass(frozen=True)
class Run:
    """What each stage let through for a question.

    Attributes:
        pool: what the retriever found.
        kept: what the reranker left of it; the pool where there is none.
        context: what of that fits into the prompt.
    """

    question: str
    filter: Filter | None
    pool: tuple[Document, ...]
    kept: tuple[Document, ...]
    context: tuple[Document, ...]

    @cached_property
    def found(self) -> tuple[Hit, ...]:
        """The pool as hits."""
        return tuple(map(to_hit, self.pool))

    @cached_property
    def hits(self) -> tuple[Hit, ...]:
        """What the search returns."""
        return tuple(map(to_hit, self.kept))

    @cached_property
    def prompt(self) -> tuple[Hit, ...]:
        """What the chat model gets."""
        return tuple(map(to_hit, self.context))


class Pipeline:
    """The stages of an app.

    Attributes:
        first: the retriever without a reranker; `k`, how many chunks it returns.
        reranking: the same with the reranker over it; None without one.
        kind: the retriever's name in the config.
        context_chars: what of the chunks' text the prompt may hold; None for all.
        cuts: documents cut with other overlaps than the config's, by source and overlap.
        ranks: whether the retriever tells its lists; others than ours do not.
    """

    def __init__(self, app: RagApp) -> None:
        retriever = app.retriever
        self.app = app
        self.reranking = retriever if isinstance(retriever, RerankingRetriever) else None
        self.first: Any = retriever if self.reranking is None else self.reranking.retriever
        self.k: int | None = getattr(self.first, "k", None)
        self.kind = app.config.retriever.kind
        self.options: Any = app.config.retriever.options
        chars = getattr(app.config.chain.options, "context_chars", None)
        self.context_chars: int | None = chars
        self.cuts: dict[tuple[str, int], list[Document]] = {}
        self.ranks = isinstance(self.first, HitRetriever) and self.kind in OURS

    # -- what it does -------------------------------------------------------------------------

    def run(self, question: str, filter: Filter | None) -> Run:
        """What each stage lets through."""
        pool = self.find(question, filter)
        kept = self.rerank(pool, question)
        return Run(question, filter, tuple(pool), tuple(kept), tuple(self.fit(kept)))

    def find(self, question: str, filter: Filter | None, k: int | None = None) -> list[Document]:
        """What the retriever finds.

        Raises:
            UsageError: there is a filter, and the retriever would have ignored it.
        """
        given: dict[str, Any] = {} if k is None else {"k": k}
        if filter is not None:
            if not takes_filter(self.first):
                wrong = f"the retriever {self.kind!r} takes no filter and would search everything"
                raise UsageError("filter", wrong, "Use a retriever that takes one.")
            given["filter"] = filter
        found: list[Document] = self.first.invoke(question, **given)
        return found

    def rerank(
        self, documents: Sequence[Document], question: str, k: int | None = None
    ) -> list[Document]:
        """What the reranker leaves of documents, `k` of them where it lets itself be told."""
        if self.reranking is None:
            return list(documents)
        return self.reranking.rerank(documents, question, k)

    def fit(self, documents: Sequence[Document], chars: int | None = None) -> list[Document]:
        """What of documents fits into the prompt; nothing where not even the first does."""
        if self.context_chars is None:
            return list(documents)
        try:
            return fit(documents, chars or self.context_chars)
        except UsageError:
            return []

    def finish(self, pool: Sequence[Document], question: str) -> tuple[Hit, ...]:
        """What of a pool the prompt would hold."""
        return tuple(map(to_hit, self.fit(self.rerank(pool, question))))

    # -- its lists ----------------------------------------------------------------------------

    def lists(
        self, view: View, run: Run, place: Place, filter: Filter | None
    ) -> dict[str, list[Hit]]:
        """Each list of the retriever, down to where the evidence stands in all, or `DEEPEST`."""
        most = min(view.count(), DEEPEST)
        depth = min(max(FIRST, 4 * (self.k or 0), getattr(self.options, "fetch_k", 0)), most)
        while True:
            made: dict[str, list[Hit]] = self.first.search.lists(view, run.question, depth, filter)
            done = all(len(hits) < depth or place.held_by(hits) for hits in made.values())
            if done or depth >= most:
                return made
            depth = min(10 * depth, most)

    def find_words(self, view: View, run: Run, k: int, filter: Filter | None) -> list[Hit]:
        """The chunks by BM25, whether or not the retriever uses it."""
        from rag_app.hits import make_hit

        found = self.words.find(view, run.question, k, filter)
        return [
            make_hit(row.id, row.text, row.metadata, similarity=None, score=score, ranks={})
            for row, score in found
        ]

    @cached_property
    def words(self) -> WordSearch:
        """A BM25 search by the retriever's options, or by the usual ones where it has none."""
        options = getattr(self.options, "bm25", self.options)
        usual = not isinstance(options, BM25Options)
        return WordSearch(BM25Options().scoring() if usual else options.scoring())

    @property
    def weights(self) -> Mapping[str, float]:
        """How much each list counts; a single list counts alone."""
        if self.kind != "hybrid":
            return {self.kind: 1.0}
        weights = self.options.weights
        name = "sparse" if self.options.words == "model" else "bm25"
        return {"dense": weights.dense, name: weights.bm25}
