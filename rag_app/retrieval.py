"""Retrievers: what was found as LangChain's documents, and searches as LangChain's retrievers."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor

from rag_app.errors import UsageError
from rag_app.hits import make_hit
from rag_app.timing import timed
from rag_app.types import Rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )

    from rag_app.index.view import View
    from rag_app.types import Filter, Hit


class Search(Protocol):
    """A way of finding chunks in an index; `HitRetriever` makes a LangChain retriever of it."""

    def search(self, view: View, query: str, k: int, filter: Filter | None) -> list[Hit]:
        """The `k` >= 1 best chunks of `view` among those that match the filter, best first."""
        ...

    def lists(self, view: View, query: str, k: int, filter: Filter | None) -> dict[str, list[Hit]]:
        """The `k` best chunks of each list that `search` draws on, before it chooses among them."""
        ...

    def refresh(self, view: View) -> None:
        """Bring what is derived from the index up to date; searching does it when it must."""
        ...


def to_document(hit: Hit) -> Document:
    """The hit as LangChain's document; similarity, score and ranks under the key `_hit`."""
    found = {
        "similarity": hit.similarity,
        "score": hit.score,
        "ranks": {name: asdict(rank) for name, rank in hit.ranks.items()},
    }
    place = {"source": hit.source, "start": hit.start, "end": hit.end, "_hit": found}
    return Document(hit.text, id=hit.id, metadata={**hit.metadata, **place})


def to_hit(document: Document) -> Hit:
    """The hit a document stands for; the score is 0 when no retriever of ours found it."""
    found = document.metadata.get("_hit", {})
    return make_hit(
        document.id or "",
        document.page_content,
        document.metadata,
        similarity=found.get("similarity"),
        score=found.get("score", 0.0),
        ranks={name: Rank(**rank) for name, rank in found.get("ranks", {}).items()},
    )


def reorder(
    documents: Sequence[Document], scores: Sequence[float], name: str, k: int
) -> list[Document]:
    """The `k` documents of highest score, best first: what a reranker returns.

    `_hit` of each keeps what it held, with `score` the new one and `ranks[name]` added. The given
    documents are left as they are; equal scores stay in their order.
    """
    order = sorted(range(len(documents)), key=lambda place: -scores[place])
    reordered = []
    for rank, place in enumerate(order[:k], 1):
        document, score = documents[place], float(scores[place])
        found = {"similarity": None, "ranks": {}} | document.metadata.get("_hit", {})
        ranks = {**found["ranks"], name: {"rank": rank, "score": score}}
        metadata = {**document.metadata, "_hit": {**found, "score": score, "ranks": ranks}}
        reordered.append(Document(document.page_content, id=document.id, metadata=metadata))
    return reordered


class OptionRetriever(BaseRetriever):
    """A LangChain retriever whose `ainvoke` takes the options that its `invoke` takes."""

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        search = partial(self._get_relevant_documents, run_manager=run_manager.get_sync())
        return await run_in_executor(None, search, query, **options)


class HitRetriever(OptionRetriever):
    """A search over an index as LangChain's retriever.

    `invoke(query, k=…, filter=…)`: how many chunks, and which may be found (`rag_app.filters`).

    Attributes:
        search: finds the chunks; a `Search`.
        index: the index searched; an `Index`.
        k: how many chunks, unless `invoke` says otherwise.
    """

    search: Any
    index: Any
    k: int

    def refresh(self) -> None:
        """Bring what is derived from the index up to date."""
        self.index.read(self.search.refresh)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
        filter: Filter | None = None,
        **unknown: Any,
    ) -> list[Document]:
        _refuse(unknown)
        wanted = _check_k(self.k if k is None else k)

        def search(view: View) -> list[Hit]:
            return self.search.search(view, query, wanted, filter) if wanted else []

        return [to_document(hit) for hit in self.index.read(search)]


class RerankingRetriever(OptionRetriever):
    """A retriever whose finds a reranker puts in a new order and cuts.

    The retriever fetches its own `k`; the reranker keeps its own `k`, or the `k` of `invoke`.
    """

    retriever: BaseRetriever
    compressor: BaseDocumentCompressor

    def refresh(self) -> None:
        """Bring what is derived from the index up to date."""
        if isinstance(self.retriever, HitRetriever):
            self.retriever.refresh()

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,
        **unknown: Any,
    ) -> list[Document]:
        _refuse(unknown)
        options: dict[str, Any] = {} if filter is None else {"filter": filter}
        if k is not None and _check_k(k) > getattr(self.retriever, "k", k):
            options["k"] = k
        config = {"callbacks": run_manager.get_child()}
        found = self.retriever.invoke(query, config, **options)  # type: ignore[arg-type]
        return self.rerank(found, query, k)

    def rerank(self, documents: Sequence[Document], query: str, k: int | None) -> list[Document]:
        """The documents in the reranker's order: the first `k`, or as many as it keeps."""
        with timed("rerank"):
            ranked = self._with_k(k).compress_documents(documents, query)
        return list(ranked)[:k]

    def _with_k(self, k: int | None) -> BaseDocumentCompressor:
        """The reranker, keeping `k` where it lets itself be told."""
        if k is None or "k" not in type(self.compressor).model_fields:
            return self.compressor
        return self.compressor.model_copy(update={"k": k})


def _refuse(unknown: Mapping[str, Any]) -> None:
    if unknown:
        name = next(iter(unknown))
        raise UsageError(
            "retriever", f"{name!r} is not an option of a search", "It takes: k, filter."
        )


def _check_k(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise UsageError("k", f"{k!r} is not a number of chunks", "Give a whole number from 0.")
    return k
