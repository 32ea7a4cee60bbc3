"""The stages of a pipeline, each by itself, so that what each lets through can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rag_app import registry
from rag_app.answering import fit, takes_filter
from rag_app.errors import UsageError
from rag_app.hits import fuse
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

    def find(
        self,
        question: str,
        filter: Filter | None,
        k: int | None = None,
        retriever: Any = None,
    ) -> list[Document]:
        """What the retriever finds, or another in its place.

        Raises:
            UsageError: there is a filter, and the retriever would have ignored it.
        """
        given: dict[str, Any] = {} if k is None else {"k": k}
        if filter is not None:
            if not takes_filter(self.first):
                wrong = f"the retriever {self.kind!r} takes no filter and would search everything"
                raise UsageError("filter", wrong, "Use a retriever that takes one.")
            given["filter"] = filter
        found: list[Document] = (retriever or self.first).invoke(question, **given)
        return found

    def change(self, **options: Any) -> Any:
        """The retriever with other values of some of its options."""
        changed = type(self.options)(**{**self.options.model_dump(), **options})
        return registry.build("retrievers", self.kind, changed, index=self.app.index)

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

    def find_cut(self, pool: Sequence[Document], question: str, place: Place) -> str:
        """What cuts off, after the retriever, evidence that a pool holds; "" for nothing."""
        kept = self.rerank(pool, question)
        if not place.held_by(list(map(to_hit, kept))):
            return "the reranker"
        if not place.held_by(list(map(to_hit, self.fit(kept)))):
            return "chain.context_chars"
        return ""

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

    @property
    def depth(self) -> int:
        """How much of each list hybrid search fuses."""
        return max(self.k or 0, int(self.options.fetch_k))

    def fuse(
        self,
        lists: Mapping[str, Sequence[Hit]],
        weights: Mapping[str, float] | None = None,
        constant: float | None = None,
        depth: int | None = None,
    ) -> list[Hit]:
        """Lists fused as hybrid search does, or by other values than its own."""
        cut = {name: hits[: depth or self.depth] for name, hits in lists.items()}
        rank_constant = self.options.rank_constant if constant is None else constant
        return fuse(cut, weights or self.weights, rank_constant)

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
