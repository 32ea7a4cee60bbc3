"""`Store`: LangChain's whole `VectorStore` interface, once, on the few primitives of a backend.

What every store then does the same way: similarity is the cosine, higher is better, in [-1, 1]; one
filter language (`rag_app.filters`); adding an id that is there replaces text, vector and metadata;
metadata of any JSON value comes back as it went in; and what is wrong is refused, never skipped.
A backend implements `Rows` (`rag_app.rows`) and nothing else.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, NoReturn, overload

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from rag_app.errors import ModelError, StoreError, UsageError
from rag_app.filters import matches, parse
from rag_app.rows import (
    Neighbour,
    Row,
    Rows,
    check_rows,
    check_words,
    compare,
    normalise,
    wrong_dimension,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from langchain_core.embeddings import Embeddings
    from numpy.typing import ArrayLike

    from rag_app.filters import Node
    from rag_app.rows import Vector
    from rag_app.types import Filter

__all__ = ["Neighbour", "Row", "Rows", "Store", "select_diverse", "to_document"]

BATCH: Final = 1000
"""Texts that `add_texts` embeds and writes at a time."""


class Store(VectorStore):
    """A collection of chunks with their vectors, in any backend.

    Raises, from any method: StoreError for what the store cannot hold or do, FilterError for a
    malformed filter, UsageError for an argument it does not know.
    """

    def __init__(self, rows: Rows, embeddings: Embeddings) -> None:
        self._rows = rows
        self._embeddings = embeddings

    @property
    def embeddings(self) -> Embeddings:
        """The model that embeds texts and queries."""
        return self._embeddings

    @property
    def persistent(self) -> bool:
        """Whether the rows outlive the process."""
        return self._rows.persistent

    @property
    def dimension(self) -> int | None:
        """Numbers per vector; None while nothing was ever stored."""
        return self._rows.dimension

    # Rows and vectors: what the index works with.

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows, replacing those of the same id whole; of an id given twice the last counts.

        Vectors of any length are accepted and stored normalised; zero, NaN, infinite and those of
        another dimension are refused, and so is metadata that is not JSON, before any is written.
        """
        checked = check_rows(rows, self._rows.place)
        self._check_dimension(checked)
        if distinct := list({row.id: row for row in checked}.values()):
            self._rows.upsert(distinct)

    @overload
    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]: ...
    @overload
    def search(
        self, query: ArrayLike, k: int, filter: Filter | None = None
    ) -> list[tuple[Document, float]]: ...
    def search(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """The `k` chunks nearest to a vector among those that match, with their cosine, best first.

        For a text it is LangChain's `search(query, search_type)`.
        """
        if isinstance(query, str):
            return super().search(query, *args, **kwargs)
        return self._search(query, *args, **kwargs)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """The rows of `ids` in the order asked, each once; ids that are not there are left out."""
        wanted = list(dict.fromkeys(ids))
        held = {row.id: row for row in self._rows.fetch(wanted)} if wanted else {}
        return [held[each] for each in wanted if each in held]

    def scan(self) -> Iterator[Row]:
        """Every row of the collection, each once."""
        return self._rows.scan()

    def count(self) -> int:
        """The number of rows."""
        return self._rows.count()

    def drop(self) -> None:
        """Remove all rows; the collection can be filled again, with vectors of any dimension."""
        self._rows.drop()

    def close(self) -> None:
        """Free files, locks and connections; the store cannot be used afterwards."""
        self._rows.close()

    # LangChain's interface. The async methods are LangChain's own, in its thread pool.

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and upsert texts, `BATCH` at a time; a missing id becomes a random UUID.

        Returns:
            One id for each text, in order.
        """
        _refuse(kwargs, "add_texts", ("texts", "metadatas", "ids"))
        listed = list(texts)
        all_metadata = self._align("metadatas", metadatas, len(listed)) or [{} for _ in listed]
        named = self._align("ids", ids, len(listed)) or [None for _ in listed]
        chosen = [str(uuid.uuid4()) if each is None else each for each in named]
        for id, text, metadata in zip(chosen, listed, all_metadata, strict=True):
            check_words(id, text, metadata, self._rows.place)
        for start in range(0, len(listed), BATCH):
            part = slice(start, start + BATCH)
            vectors = self._embed(listed[part])
            self.upsert(list(map(Row, chosen[part], listed[part], vectors, all_metadata[part])))
        return chosen

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Remove these ids; one that is not there is no error. To remove all, see `drop`."""
        _refuse(kwargs, "delete", ("ids",))
        if ids is None:
            raise UsageError(
                "delete", "no ids were given", "Give ids, or call drop() to remove all."
            )
        if ids:
            self._rows.delete(list(dict.fromkeys(ids)))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The chunks of `ids` in the order asked, each once; those that are not there left out."""
        return [to_document(row) for row in self.fetch(ids)]

    def similarity_search(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """The `k` chunks most similar to `query` among those that match the filter, best first."""
        return [
            hit for hit, _ in self.similarity_search_with_score(query, k, filter=filter, **kwargs)
        ]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`, with the cosine similarity in [-1, 1]."""
        _refuse(kwargs, "similarity_search", ("query", "k", "filter"))
        return self._search(self._embeddings.embed_query(query), k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search`, for a vector."""
        _refuse(kwargs, "similarity_search_by_vector", ("embedding", "k", "filter"))
        return [document for document, _ in self._search(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Of the `fetch_k` most similar chunks, `k` that are similar and differ from each other."""
        vector = self._embeddings.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, filter=filter, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector; at least `k` chunks are considered."""
        known = ("embedding", "k", "fetch_k", "lambda_mult", "filter")
        _refuse(kwargs, "max_marginal_relevance_search", known)
        if not 0 <= lambda_mult <= 1:
            raise UsageError("lambda_mult", f"{lambda_mult} is out of range", "Give 0 to 1.")
        where = parse(filter)
        unit = self._normalise(embedding)
        found = self._query(unit, max(k, fetch_k) if k > 0 else k, where)
        ranked = self._read_again(found, unit, where)
        return [to_document(ranked[place][0]) for place in select_diverse(ranked, k, lambda_mult)]

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG003
        """Not offered: a store needs to know where it lives, which texts do not say."""
        raise UsageError(
            "from_texts",
            "a Store is not made from texts, which do not say where it lives",
            "Open one (rag_app.load(…).store) and call add_texts or add_documents.",
        )

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Relevance is the cosine similarity itself, negative ones raised to 0."""
        return lambda cosine: max(0.0, cosine)

    # What is let in.

    def _search(
        self, vector: ArrayLike, k: int, filter: Filter | None = None
    ) -> list[tuple[Document, float]]:
        where = parse(filter)
        found = self._query(self._normalise(vector), k, where)
        return [(to_document(each), each.cosine) for each in found]

    def _query(self, unit: Vector, k: int, where: Node | None) -> list[Neighbour]:
        if k < 0:
            raise UsageError("k", f"{k} is negative", "Give 0 or more.")
        dimension = self._rows.dimension
        if k == 0 or dimension is None:
            return []
        if len(unit) != dimension:
            raise wrong_dimension("the query vector", len(unit), dimension, self._rows.place)
        return self._rows.query(unit, k, where)

    def _read_again(
        self, found: Sequence[Neighbour], unit: Vector, where: Node | None
    ) -> list[tuple[Row, float]]:
        """The rows found with their vectors, as they are now: some may be gone or replaced."""
        rows = [
            row for row in self.fetch([each.id for each in found]) if matches(where, row.metadata)
        ]
        for row in rows:
            if len(row.vector) != len(unit):
                raise wrong_dimension(
                    "the query vector", len(unit), len(row.vector), self._rows.place
                )
        cosines = [each.cosine for each in compare(rows, unit)]
        return sorted(zip(rows, cosines, strict=True), key=lambda pair: (-pair[1], pair[0].id))

    def _normalise(self, query: ArrayLike) -> Vector:
        return normalise(query, "the query vector", self._rows.place)

    def _check_dimension(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        dimension = self._rows.dimension or len(rows[0].vector)
        for row in rows:
            if len(row.vector) != dimension:
                raise wrong_dimension(
                    f"the vector of {row.id!r}", len(row.vector), dimension, self._rows.place
                )

    def _embed(self, texts: list[str]) -> list[Any]:
        vectors = self._embeddings.embed_documents(texts)
        if len(vectors) != len(texts):
            raise ModelError(
                "embeddings",
                f"the model returned {len(vectors)} vectors for {len(texts)} texts",
                "Check the embedding model or its server.",
            )
        return vectors

    def _align(self, what: str, given: Iterable[Any] | None, length: int) -> list[Any] | None:
        listed = None if given is None else list(given)
        if listed is not None and len(listed) != length:
            raise StoreError(
                self._rows.place,
                f"{len(listed)} {what} were given for {length} texts",
                f"Give as many {what} as texts.",
            )
        return listed


def to_document(row: Row | Neighbour) -> Document:
    """The LangChain document of a row."""
    return Document(id=row.id, page_content=row.text, metadata=dict(row.metadata))


def select_diverse(found: Sequence[tuple[Row, float]], k: int, lambda_mult: float) -> list[int]:
    """Places in `found` (best first) chosen by maximal marginal relevance, at most `k`.

    Each step takes the row of highest `lambda_mult * similarity to the query - (1 - lambda_mult) *
    highest similarity to a row already taken`: 1 keeps the order, 0 asks for difference alone.
    Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", SIGIR 1998.
    """
    if not found or k <= 0:
        return []
    vectors = np.stack([row.vector for row, _ in found])
    relevance = np.array([cosine for _, cosine in found])
    taken = [0]
    nearest = vectors @ vectors[0]
    while len(taken) < min(k, len(found)):
        worth = lambda_mult * relevance - (1 - lambda_mult) * nearest
        worth[taken] = -np.inf
        taken.append(int(worth.argmax()))
        nearest = np.maximum(nearest, vectors @ vectors[taken[-1]])
    return taken


def _refuse(unknown: dict[str, Any], where: str, known: Sequence[str]) -> None:
    if unknown:
        name = next(iter(unknown))
        raise UsageError(
            where, f"{name!r} is not an argument of it", f"It takes: {', '.join(known)}."
        )
