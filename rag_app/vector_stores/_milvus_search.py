"""Finding the nearest rows of a Milvus collection, however many are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from rag_app.rows import compare
from rag_app.vector_stores._milvus_collection import MOST, PAGE, is_too_large, one_of
from rag_app.vector_stores._milvus_entities import CONTENT, FOUND, decode, decode_found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rag_app.rows import Neighbour, Row
    from rag_app.vector_stores._milvus_collection import MilvusCollection

    Vector = NDArray[np.float32]

WHOLE: Final = 1000
"""Hits that are asked for with all their content; of more, the keys come first."""

MANY: Final = 10_000
"""Keys that limit one search."""


def find_nearest(
    collection: MilvusCollection, vector: Vector, k: int, expression: str
) -> list[Neighbour]:
    """The `k` nearest of the rows that the expression lets pass, all if fewer, in any order.

    An approximate index may find fewer than there are, and a server at most `MOST`: then the
    vectors are read and compared here.
    """
    found = _search(collection, vector, min(k, MOST), expression)
    if len(found) < k and collection.count(expression) > len(found):
        return _compare_all(collection, vector, k, expression)
    return found


def find_among(
    collection: MilvusCollection, vector: Vector, k: int, keys: Sequence[str]
) -> list[Neighbour]:
    """At least the `k` nearest of the rows of these keys, in any order."""
    if len(keys) <= k:
        return compare(read_rows(collection, keys), vector)
    parts = (keys[start : start + MANY] for start in range(0, len(keys), MANY))
    return [each for part in parts for each in find_nearest(collection, vector, k, one_of(part))]


def _search(
    collection: MilvusCollection, vector: Vector, k: int, expression: str
) -> list[Neighbour]:
    if k <= WHOLE:
        try:
            return list(map(decode_found, collection.search(vector, k, expression, FOUND)))
        except Exception as error:
            if not is_too_large(error):
                raise
    keys = [hit["pk"] for hit in collection.search(vector, k, expression, [])]
    # With the vectors: a row may have been replaced since, and its cosine is that of what is read.
    return compare(read_rows(collection, keys), vector)


def _compare_all(
    collection: MilvusCollection, vector: Vector, k: int, expression: str
) -> list[Neighbour]:
    cosines = {
        entity["pk"]: float(np.asarray(entity["vector"], dtype=np.float32) @ vector)
        for entity in collection.read_all(expression, ["vector"])
    }
    nearest = sorted(cosines, key=lambda key: -cosines[key])[:k]
    return compare(read_rows(collection, nearest), vector)


def read_rows(collection: MilvusCollection, keys: Sequence[str]) -> list[Row]:
    """The rows of these keys that are there."""
    parts = (keys[start : start + PAGE] for start in range(0, len(keys), PAGE))
    return [decode(entity) for part in parts for entity in collection.read(part, CONTENT)]
