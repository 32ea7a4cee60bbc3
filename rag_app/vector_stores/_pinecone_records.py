"""Rows as Pinecone's records and back, whatever their size.

A record's metadata may have 40 KB. A row that has more is compressed, and where it still does not
fit, it is cut into parts, records of their own in a namespace beside the rows', which no search
looks at. A part's id is made of the content: a new version of a row never mixes with the old one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.rows import Row
from rag_app.vector_stores._pinecone_filter import TOKENS, UNINDEXED, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

MOST_METADATA: Final = 40_000
"""Bytes of a record's metadata; Pinecone's limit is 40 KB."""

MOST_REQUEST: Final = 1_950_000
"""Bytes of a request that writes; Pinecone's limit is 2 MB."""

MOST_ANSWER: Final = 3_900_000
"""Bytes of a search's answer; Pinecone's limit is 4 MB."""

MOST_RECORDS: Final = 1000
"""Records of a request that writes or deletes: Pinecone's limit."""

PIECE: Final = 36_000
"""Characters of one part."""

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Record:
    """A record to write: its size in bytes, and the parts that must be there before it."""

    id: str
    values: list[float]
    metadata: dict[str, Any]
    size: int
    parts: tuple[Record, ...] = ()


def encode_id(id: str) -> str:
    """What stands for `id`: Pinecone takes ASCII of at most 512 characters."""
    return base64.urlsafe_b64encode(hashlib.sha256(id.encode()).digest()[:16]).decode()[:22]


def to_records(rows: Sequence[Row]) -> list[Record]:
    """The records of rows."""
    # Nine decimals are what float32 knows of a unit vector, and half as long as all of float64's.
    vectors = np.stack([row.vector for row in rows]).astype(np.float64).round(9)
    return list(map(_to_record, rows, vectors.tolist()))


def _to_record(row: Row, values: list[float]) -> Record:
    id = encode_id(row.id)
    metadata, pieces, size = _encode(row, id)
    parts: tuple[Record, ...] = ()
    if pieces:
        parts = tuple(
            _to_part(len(values), id, metadata["version"], position, piece)
            for position, piece in enumerate(pieces)
        )
    return Record(id, values, metadata, size + 14 * len(values) + 100, parts)


def _encode(row: Row, id: str) -> tuple[dict[str, Any], list[str], int]:
    """The record's metadata, the pieces of what does not fit into it, and its size in bytes."""
    import orjson

    whole = _JSON.encode(row.metadata)
    held = {**encode(row.metadata), "row": id}
    plain = {**held, "id": row.id, "text": row.text, "metadata": whole}
    rough = len(row.id) + len(row.text) + len(whole)
    has_null = "\x00" in row.id or "\x00" in row.text  # which not every reader of JSON lets pass
    if not has_null and rough < MOST_METADATA:
        size = len(orjson.dumps(plain))
        if size <= MOST_METADATA:
            return plain, [], size
    if len(orjson.dumps(held)) > MOST_METADATA - 1000:
        held = {TOKENS: [UNINDEXED], "row": id}
    content = _JSON.encode([row.id, row.text, row.metadata]).encode()
    packed = base64.b64encode(zlib.compress(content)).decode()
    if len(packed) + len(orjson.dumps(held)) <= MOST_METADATA - 100:
        return {**held, "packed": packed}, [], MOST_METADATA
    version = base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:12]).decode()
    pieces = [packed[start : start + PIECE] for start in range(0, len(packed), PIECE)]
    return {**held, "version": version, "parts": len(pieces)}, pieces, MOST_METADATA


def _to_part(dimension: int, row: str, version: str, position: int, piece: str) -> Record:
    values = [1.0, *[0.0] * (dimension - 1)]  # Pinecone refuses zero vectors
    metadata = {"row": row, "version": version, "piece": piece}
    return Record(_name_part(row, version, position), values, metadata, 5 * dimension + PIECE + 300)


def _name_part(row: str, version: str, position: int) -> str:
    return f"{row}.{version}.{position}"


def batch(records: Sequence[Record]) -> Iterator[list[Record]]:
    """The records in requests that Pinecone takes."""
    taken: list[Record] = []
    size = 0
    for record in records:
        if taken and (size + record.size > MOST_REQUEST or len(taken) == MOST_RECORDS):
            yield taken
            taken, size = [], 0
        taken.append(record)
        size += record.size
    if taken:
        yield taken


def list_parts(metadata: Mapping[str, Any]) -> list[str]:
    """The ids of the parts of a record, in order; none for one that is whole."""
    count = int(metadata.get("parts", 0))
    return [_name_part(metadata["row"], metadata["version"], i) for i in range(count)]


def to_row(values: Any, metadata: Mapping[str, Any], pieces: Sequence[str]) -> Row:
    """The row of a record, given the pieces of its parts."""
    vector: NDArray[np.float32] = np.asarray(values, dtype=np.float32)
    if "text" in metadata:
        return Row(metadata["id"], metadata["text"], vector, json.loads(metadata["metadata"]))
    packed = "".join(pieces) or metadata["packed"]
    id, text, whole = json.loads(zlib.decompress(base64.b64decode(packed)))
    return Row(id, text, vector, whole)


def count_answer(dimension: int) -> int:
    """Records with values and metadata that one answer surely holds."""
    return max(1, MOST_ANSWER // (MOST_METADATA + 1500 + 14 * dimension))
