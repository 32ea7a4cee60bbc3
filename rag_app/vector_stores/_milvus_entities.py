"""A row as Milvus holds it, an entity, and back.

Milvus's strings end at 65,535 bytes; what is longer of text and metadata goes on in `rest`, a list.
The key of a row is a digest of its id: of one length, and spread evenly, so that ranges of keys cut
a collection into pages of one size.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.rows import Neighbour, Row, clip
from rag_app.vector_stores._milvus_filter import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH_ROWS: Final = 5000
BATCH_BYTES: Final = 16 * 2**20
"""What is written at a time: a Milvus server takes 64 MB."""

LARGEST: Final = 48 * 2**20
"""Bytes of one row."""

LONGEST: Final = 65_535
"""Bytes of one string."""

PIECE: Final = LONGEST // 4
"""Characters that surely fit into one."""

PIECES: Final = 4096

METADATA: Final = ["metadata", "rest"]
FOUND: Final = ["id", "text", *METADATA]
CONTENT: Final = [*FOUND, "vector"]


def encode_id(id: str) -> str:
    """The key of a row."""
    return hashlib.sha256(id.encode()).hexdigest()[:40]


def encode(row: Row, told: bool) -> dict[str, Any]:
    """The entity of a row."""
    text, *more_text = _cut(row.text)
    metadata, *more = _cut(json.dumps(row.metadata, ensure_ascii=False, separators=(",", ":")))
    entity = {
        "pk": encode_id(row.id),
        "id": row.id,
        "text": text,
        "metadata": metadata,
        "rest": [str(len(more_text)), *more_text, *more] if more_text or more else [],
        "vector": row.vector,
    }
    return {**entity, **describe(row.metadata)} if told else entity


def decode(entity: Mapping[str, Any]) -> Row:
    """The row that `encode` was given."""
    vector = np.asarray(entity["vector"], dtype=np.float32)
    return Row(entity["id"], _decode_text(entity), vector, decode_metadata(entity))


def decode_found(entity: Mapping[str, Any]) -> Neighbour:
    """What a search says of a row.

    Of the indexes here Milvus's score is the cosine in float32 of whole vectors: none of them
    compresses.
    """
    text, metadata = _decode_text(entity), decode_metadata(entity)
    return Neighbour(entity["id"], text, metadata, clip(entity["cosine"]))


def decode_metadata(entity: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an entity."""
    written, rest = entity["metadata"], entity["rest"]
    if rest:
        written += "".join(rest[1 + int(rest[0]) :])
    metadata: dict[str, Any] = json.loads(written)
    return metadata


def _decode_text(entity: Mapping[str, Any]) -> str:
    text, rest = entity["text"], entity["rest"]
    whole: str = text + "".join(rest[1 : 1 + int(rest[0])]) if rest else text
    return whole


def cut_batches(entities: list[dict[str, Any]], place: str) -> list[list[dict[str, Any]]]:
    """The entities in portions that can be written at once.

    Raises:
        StoreError: one of them is larger than Milvus can hold.
    """
    portions: list[list[dict[str, Any]]] = [[]]
    size = 0
    for entity in entities:
        bytes = _measure(entity, place)
        if len(portions[-1]) == BATCH_ROWS or (portions[-1] and size + bytes > BATCH_BYTES):
            portions.append([])
            size = 0
        portions[-1].append(entity)
        size += bytes
    return portions


def _measure(entity: dict[str, Any], place: str) -> int:
    """About the bytes of an entity."""
    id = entity["id"]
    if len(id) > PIECE and len(id.encode()) > LONGEST:
        wrong = f"the id {id[:40]!r}… has more than {LONGEST:,} bytes"
        raise StoreError(place, wrong, "Give shorter ids.")
    pieces = (entity["text"], entity["metadata"], *entity["rest"])
    size = sum(len(each) if each.isascii() else len(each.encode()) for each in pieces)
    if size > LARGEST:
        wrong = f"the chunk {id[:80]!r} has more than {LARGEST:,} bytes of text and metadata"
        raise StoreError(place, wrong, "Split its text.")
    return size + 4 * len(entity["vector"]) + 200


def _cut(text: str) -> list[str]:
    if len(text) <= PIECE:
        return [text]
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
