"""A Chroma collection: its name and settings, and the reading of its rows."""

from __future__ import annotations

import hashlib
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.rows import Row
from rag_app.vector_stores._chroma_filter import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from rag_app.types import Metadata

    Explain = Callable[[], AbstractContextManager[None]]

PAGE: Final = 1000
"""Rows that are read at a time."""


def encode_name(name: str) -> str:
    """A name that Chroma takes: `name` itself, or a digest where it has other characters."""
    if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,500}[a-zA-Z0-9]", name) and ".." not in name:
        return name
    return f"rag-app-{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def set_ef_search(collection: Any, ef_search: int) -> None:
    """Change what a collection was made with; it counts when the collection is next loaded."""
    with warnings.catch_warnings():
        # Chroma says so of every collection that is given vectors, as ours are.
        warnings.filterwarnings("ignore", "legacy embedding function", DeprecationWarning)
        collection.modify(configuration={"hnsw": {"ef_search": ef_search}})


def search(
    collection: Any, vector: NDArray[np.float32], k: int, limit: dict[str, Any], explain: Explain
) -> list[tuple[Row, float]]:
    """The rows nearest to `vector`, among those that `limit` lets pass, with their cosines.

    Chroma's distance is 1 - cosine, in float32 of the whole vectors.
    """
    found = collection.query(
        query_embeddings=[vector],
        n_results=k if k <= PAGE else max(1, min(k, collection.count())),
        include=["metadatas", "documents", "distances"],
        **limit,
    )
    names = ("ids", "documents", "metadatas", "distances")
    ids, texts, metadatas, distances = (found[name][0] for name in names)
    vectors = _Vectors(collection, ids, explain)
    rows = [
        _FoundRow(id, text or "", decode(metadata), vectors)
        for id, text, metadata in zip(ids, texts, metadatas, strict=True)
    ]
    return list(zip(rows, np.clip(1.0 - np.array(distances), -1.0, 1.0).tolist(), strict=True))


class _Vectors:
    """The vectors of what a search found, read together when the first is asked for."""

    def __init__(self, collection: Any, ids: list[str], explain: Explain) -> None:
        self._explain = explain
        self._collection = collection
        self._ids = ids
        self._read: dict[str, NDArray[np.float32]] = {}

    def get(self, id: str) -> NDArray[np.float32]:
        if not self._read:
            with self._explain():
                self._read_all()
        if id not in self._read:
            wrong = f"the row {id!r} was removed while it was being read"
            raise StoreError("vector_store.chroma", wrong, "Search again.")
        return self._read[id]

    def _read_all(self) -> None:
        for start in range(0, len(self._ids), PAGE):
            page = self._ids[start : start + PAGE]
            held = self._collection.get(ids=page, include=["embeddings"])
            arrays = np.asarray(held["embeddings"], dtype=np.float32)
            self._read.update(zip(held["ids"], arrays, strict=True))


class _FoundRow(Row):
    """A row whose vector is read only when it is asked for: most searches need none."""

    __slots__ = ("_vectors",)

    _vectors: _Vectors

    def __init__(self, id: str, text: str, metadata: Metadata, vectors: _Vectors) -> None:
        for name, value in (("id", id), ("text", text), ("metadata", metadata)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_vectors", vectors)

    @property
    def vector(self) -> NDArray[np.float32]:
        """See `Row`."""
        return self._vectors.get(self.id)


def read(collection: Any, ids: list[str]) -> list[Row]:
    """The rows of `ids` that are there."""
    found = collection.get(ids=ids, include=["metadatas", "documents", "embeddings"])
    columns = (found[name] for name in ("ids", "documents", "embeddings", "metadatas"))
    return list(map(_decode, *columns))


def _decode(id: str, text: str | None, vector: Any, metadata: Any) -> Row:
    return Row(id, text or "", np.asarray(vector, dtype=np.float32), decode(metadata))


def list_metadata(collection: Any, limit: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Id and metadata of all rows that `limit` lets pass."""
    held = collection.get(include=["metadatas"], **limit)
    pairs = zip(held["ids"], held["metadatas"], strict=True)
    return [(id, decode(metadata)) for id, metadata in pairs]
