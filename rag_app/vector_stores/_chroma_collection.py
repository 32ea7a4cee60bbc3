"""A Chroma collection: its name and settings, and the reading of its rows."""

from __future__ import annotations

import hashlib
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.rows import Neighbour, Row, clip, compare, rank
from rag_app.vector_stores._chroma_filter import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

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
    collection: Any, vector: NDArray[np.float32], k: int, limit: dict[str, Any]
) -> list[Neighbour]:
    """The `k` rows nearest to `vector`, among those that `limit` lets pass; all, if fewer.

    Chroma's graph may lead to fewer than `k` although there are more: then all are compared.
    """
    found = _search_graph(collection, vector, k, limit)
    if len(found) >= k or (not limit and collection.count() <= len(found)):
        return found
    ids = collection.get(include=[], **limit)["ids"]
    if len(ids) <= len(found):
        return found
    nearest: list[Neighbour] = []
    for start in range(0, len(ids), PAGE):
        page = compare(read(collection, ids[start : start + PAGE]), vector)
        nearest = rank([*nearest, *page], k)
    return nearest


def _search_graph(
    collection: Any, vector: NDArray[np.float32], k: int, limit: dict[str, Any]
) -> list[Neighbour]:
    """What the graph leads to. Chroma's distance is 1 - cosine, in float32 of whole vectors."""
    found = collection.query(
        query_embeddings=[vector],
        n_results=k if k <= PAGE else max(1, min(k, collection.count())),
        include=["metadatas", "documents", "distances"],
        **limit,
    )
    names = ("ids", "documents", "metadatas", "distances")
    columns = zip(*(found[name][0] for name in names), strict=True)
    return [
        Neighbour(id, text or "", decode(metadata), clip(1.0 - distance))
        for id, text, metadata, distance in columns
    ]


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
