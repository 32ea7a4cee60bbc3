"""A pipeline's retriever that notes what each stage found, deeper than the pipeline reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.retrievers import BaseRetriever  # noqa: TC002  (pydantic reads it)

from rag_app.retrieval import OptionRetriever, RerankingRetriever, to_hit

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document

    from rag_app.types import Filter

MOST = 10_000
"""Hits that a search may ask for."""


class RecordingRetriever(OptionRetriever):
    """Returns what the pipeline's own retriever would, and notes the rankings of its stages.

    Attributes:
        first: finds chunks.
        reranking: the same with the reranker over it; None without one.
        depth: hits that each stage is asked for, where it is asked for fewer.
        pool: hits that the first stage may be asked for and begin as the pipeline's own; None for
            any number.
        rankings: what the last search found, by stage: hits, best first.
        query: the last that was searched for.
    """

    first: BaseRetriever
    reranking: RerankingRetriever | None = None
    depth: int
    pool: int | None = None
    rankings: dict[str, list[Any]] = {}  # noqa: RUF012  (pydantic copies it)
    query: str = ""

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
        filter: Filter | None = None,
    ) -> list[Document]:
        self.query = query
        own = getattr(self.first, "k", None)
        wanted = self.depth if self.pool is None else min(self.depth, self.pool)
        found = self.search(query, max(wanted, own or 0), filter)
        rankings = {"retriever": list(map(to_hit, found))}
        kept = found[:own]
        if self.reranking is not None:
            compressor: Any = self.reranking.compressor
            own = getattr(compressor, "k", None)
            kept = self.reranking.rerank(kept, query, max(self.depth, own or 0))
            rankings["reranker"] = list(map(to_hit, kept))
            kept = kept[:own]
        self.rankings = rankings
        return kept

    def search(self, query: str, k: int, filter: Filter | None) -> list[Document]:
        """What the first stage finds; one that is not ours decides itself how many."""
        given: dict[str, Any] = {} if filter is None else {"filter": filter}
        if isinstance(self.first, OptionRetriever):
            given["k"] = min(k, MOST)
        return self.first.invoke(query, **given)
