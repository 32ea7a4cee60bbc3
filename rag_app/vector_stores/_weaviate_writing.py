"""Writing rows to a Weaviate collection, in batches that its messages hold."""

from __future__ import annotations

import json
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import StoreError
from rag_app.vector_stores._weaviate_collection import PLACE, to_object
from rag_app.vector_stores._weaviate_filter import MAX_TOKENS
from rag_app.vector_stores._weaviate_search import PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.rows import Row

BATCH_BYTES: Final = 10_000_000
"""Bytes that are written at a time."""

WRITERS: Final = 2
"""Batches on their way at a time."""

ATTEMPTS: Final = 3
"""How often rows are written that Weaviate could not take for a passing reason."""

PASSING: Final = ("timeout", "timed out", "deadline", "unavailable", "try again", "overload")
"""Words of the errors of single rows that may pass."""


def pack(rows: Sequence[Row], largest: int) -> list[list[tuple[Row, str]]]:
    """`rows`, each with its metadata as JSON, in batches that messages of `largest` bytes hold.

    Raises:
        StoreError: a row is more than a message may hold.
    """
    batches: list[list[tuple[Row, str]]] = []
    filled = 0
    for row in rows:
        metadata = json.dumps(row.metadata, ensure_ascii=False, separators=(",", ":"))
        size = _measure(row, metadata)
        if size > largest:
            raise StoreError(
                PLACE,
                f"{row.id!r} takes up to {size:,} bytes, a message to Weaviate holds {largest:,}",
                "Split the text, or raise GRPC_MAX_MESSAGE_SIZE on the server.",
            )
        if not batches or len(batches[-1]) == PAGE or filled + size > min(BATCH_BYTES, largest):
            batches.append([])
            filled = 0
        batches[-1].append((row, metadata))
        filled += size
    return batches


def write(handle: Any, batches: Sequence[Sequence[tuple[Row, str]]]) -> None:
    """Write `batches`; while some are on their way, the next is made ready.

    Raises:
        StoreError: Weaviate refused rows; those of other batches may be written.
    """
    if len(batches) == 1:
        return _write(handle, [to_object(*each) for each in batches[0]])
    sent: deque[Future[None]] = deque()
    with ThreadPoolExecutor(WRITERS) as pool:
        for batch in batches:
            objects = [to_object(*each) for each in batch]
            if len(sent) == WRITERS:
                sent.popleft().result()
            sent.append(pool.submit(_write, handle, objects))
        for each in sent:
            each.result()
    return None


def _write(handle: Any, objects: list[Any]) -> None:
    """Write one batch; rows refused for a passing reason are tried again, and only those."""
    refused: dict[int, str] = {}
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.5 * attempt)
            objects = [objects[place] for place in refused]
        refused = _insert(handle, objects)
        if not refused:
            return
        if not all(any(word in words.lower() for word in PASSING) for words in refused.values()):
            break
    place, words = next(iter(refused.items()))
    raise StoreError(
        PLACE,
        f"Weaviate refused {len(refused)} rows of {len(objects)}, the first is "
        f"{objects[place].properties['chunk_id']!r}: {words[:500]}",
        "Mend what it says and write them again; rows that are there are replaced.",
    )


def _insert(handle: Any, objects: list[Any]) -> dict[int, str]:
    """Why objects were refused, by their places; empty when all are written."""
    from weaviate.exceptions import WeaviateInsertManyAllFailedError

    try:
        done = handle.data.insert_many(objects)
    except WeaviateInsertManyAllFailedError as error:
        return dict.fromkeys(range(len(objects)), str(error))
    return {place: error.message for place, error in done.errors.items()}


def _measure(row: Row, metadata: str) -> int:
    """How many bytes a row takes in a message, at most: text, vector, metadata, tokens, numbers."""
    described = len(metadata.encode())
    tokens = min(12 * described, 28 * MAX_TOKENS)
    return (
        len(row.text.encode())
        + len(row.id) * 4
        + 4 * len(row.vector)
        + 5 * described
        + tokens
        + 500
    )
