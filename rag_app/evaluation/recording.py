"""A pipeline's retriever that notes what each stage found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.retrievers import BaseRetriever  # noqa: TC002  (pydantic reads it)

from rag_app.errors import UsageError
from rag_app.retrieval import OptionRetriever, RerankingRetriever, to_hit

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document

    from rag_app.types import Filter

MOST = 10_000
"""Hits that a search may ask for."""


class RecordingRetriever(OptionRetriever):
    """Searches as the pipeline's own retriever does, and notes the rankings of its stages.

    Attributes:
        first: finds chunks; it is asked for as many as in the pipeline.
        reranking: the same with the reranker over it; None without one.
        depth: hits that the reranker is to keep, where it keeps fewer.
        searches: what each search found, by stage: hits, best first.
        query: the last that was searched for.
    """

    first: BaseRetriever
    reranking: RerankingRetriever | None = None
    depth: int
    searches: list[dict[str, list[Any]]] = []  # noqa: RUF012  (pydantic copies it)
    query: str = ""

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
        filter: Filter | None = None,
        **unknown: Any,
    ) -> list[Document]:
        if unknown:
            wrong = f"the chain searches with {', '.join(sorted(unknown))}, which is not measured"
            raise UsageError("chain", wrong, "Measure one that leaves it to the config.")
        self.query = query
        kept = self.search(query, None, filter)
        rankings = {"retriever": list(map(to_hit, kept))}
        if self.reranking is not None:
            compressor: Any = self.reranking.compressor
            own = getattr(compressor, "k", None)
            kept = self.reranking.rerank(kept, query, max(self.depth, own or 0))
            rankings["reranker"] = list(map(to_hit, kept))
            kept = kept[:own]
        self.searches.append(rankings)
        return kept

    def search(self, query: str, k: int | None, filter: Filter | None) -> list[Document]:
        """The `k` best of the first stage, or as many as in the pipeline; a retriever that is not
        ours decides itself how many."""
        given: dict[str, Any] = {} if filter is None else {"filter": filter}
        if k is not None and isinstance(self.first, OptionRetriever):
            given["k"] = min(k, MOST)
        return self.first.invoke(query, **given)
