"""Questions to a Weaviate collection, each within the limits of what one answer may hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rag_app.rows import compare
from rag_app.vector_stores._weaviate_collection import CONTENT, encode_id, to_neighbour, to_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rag_app.rows import Neighbour, Row
    from rag_app.vector_stores._weaviate_collection import Made

MOST: Final = 10_000
"""Rows that Weaviate returns to one question, its QUERY_MAXIMUM_RESULTS by default."""

PAGE: Final = 1000
"""Rows that are read, written or deleted at a time."""


def search(made: Made, vector: NDArray[np.float32], k: int, where: Any) -> list[Neighbour]:
    """The rows nearest to `vector`, among those that `where` lets pass; None lets all.

    Weaviate's distance is 1 - cosine, in float32 of the whole vectors. Of a collection whose
    vectors somebody has compressed it may be less exact: then they are read and compared here.
    """
    from weaviate.classes.query import MetadataQuery

    near = made.handle.query.near_vector
    wanted = {"near_vector": vector.tolist(), "limit": k, "filters": where}
    whole = {"return_properties": CONTENT, "include_vector": made.compressed}
    try:
        found = near(**wanted, **whole, return_metadata=MetadataQuery(distance=True)).objects
    except Exception as error:
        if not _is_too_large(error):
            raise
        named = near(**wanted, return_properties=["chunk_id"]).objects
        ids = [each.properties["chunk_id"] for each in named]
        rows = [row for page in cut(ids) for row in read(made.handle, page)]
        return compare(rows, vector)
    if made.compressed:
        return compare(list(map(to_row, found)), vector)
    return list(map(to_neighbour, found))


def search_within(
    made: Made, vector: NDArray[np.float32], k: int, ids: Sequence[str]
) -> list[Neighbour]:
    """The `k` rows nearest to `vector` among those of `ids`, and some more, in any order."""
    pages = (ids[start : start + MOST] for start in range(0, len(ids), MOST))
    return [row for page in pages for row in search(made, vector, k, _only(page))]


def read(handle: Any, ids: Sequence[str]) -> list[Row]:
    """The rows of `ids`; in halves when their texts are too much for one answer."""
    try:
        found = handle.query.fetch_objects(
            filters=_only(ids), limit=len(ids), include_vector=True, return_properties=CONTENT
        )
    except Exception as error:
        if not _is_too_large(error) or len(ids) == 1:
            raise
        half = len(ids) // 2
        return read(handle, ids[:half]) + read(handle, ids[half:])
    return list(map(to_row, found.objects))


def list_metadata(handle: Any, where: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and metadata of at least the rows that `where` lets pass; True lets all."""
    named = ["chunk_id", "metadata"]
    held: list[Any] = []
    if where is not True:
        held = handle.query.fetch_objects(
            filters=where, limit=MOST, return_properties=named
        ).objects
    if where is True or len(held) == MOST:  # what has a filter cannot be read page by page
        held = [each for page in walk(handle, named, vectors=False) for each in page]
    for each in held:
        yield each.properties["chunk_id"], json.loads(each.properties["metadata"])


def walk(
    handle: Any, properties: Sequence[str] = CONTENT, *, vectors: bool = True
) -> Iterator[list[Any]]:
    """All objects, a page at a time; smaller pages when their texts are too much for one answer."""
    after, size = None, PAGE
    while True:
        try:
            page = handle.query.fetch_objects(
                limit=size, after=after, include_vector=vectors, return_properties=list(properties)
            ).objects
        except Exception as error:
            if not _is_too_large(error) or size == 1:
                raise
            size //= 2
            continue
        if not page:
            return
        yield page
        after = page[-1].uuid


def cut(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """`ids` in pages."""
    return (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))


def _only(ids: Sequence[str]) -> Any:
    from weaviate.classes.query import Filter

    return Filter.by_id().contains_any(list(map(encode_id, ids)))


def _is_too_large(error: Exception) -> bool:
    """Whether an answer was more than a gRPC message may hold."""
    return "larger than max" in str(error)
