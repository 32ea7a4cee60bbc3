"""How many points fit into one request to a Qdrant server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rag_app.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rag_app.vector_stores._qdrant_points import Point

BATCH: Final = 500
"""Points in one request, unless they are large."""

MOST_BYTES: Final = 32 * 2**20
"""What a request may have: the server's `max_request_size_mb`, 32 unless its owner changed it."""

NUMBER_BYTES: Final = 25
"""At most of one number of a vector, as JSON: a sign, 17 digits, a point, an exponent, a comma."""

CHARACTER_BYTES: Final = 12
"""At most of one character, as JSON: two escapes of six bytes."""


def cut(points: Iterable[Point]) -> Iterator[list[Point]]:
    """`points` in batches that fit into requests.

    Raises:
        StoreError: a point is larger than a request may be.
    """
    batch: list[Point] = []
    size = 0
    for point in points:
        bytes = _measure(point)
        if batch and (len(batch) == BATCH or size + bytes > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += bytes
    yield batch


def _measure(point: Point) -> int:
    """An upper bound of its bytes as JSON; the size itself, where that is much of a request."""
    payload = point.payload
    words = len(payload["text"]) + len(payload["metadata"]) + len(payload["id"])
    others = 50 * sum(len(payload.get(name, ())) for name in ("facts", "numbers", "words"))
    names = sum(len(name) for part in ("numbers", "words") for name in payload.get(part, ()))
    vector = NUMBER_BYTES * len(point.vector) + 200
    bound = CHARACTER_BYTES * words + others + names + vector
    if bound <= MOST_BYTES // 4:
        return bound
    exact = len(json.dumps(payload, ensure_ascii=False).encode()) + vector
    if exact > MOST_BYTES:
        raise StoreError(
            "vector_store.qdrant",
            f"{payload['id']!r} is {exact:,} bytes with its metadata, and a request to a Qdrant"
            f" server may have {MOST_BYTES:,}",
            "Split it into smaller chunks.",
        )
    return exact
