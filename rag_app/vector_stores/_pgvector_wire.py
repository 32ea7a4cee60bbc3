"""Rows in PostgreSQL's binary form: whole columns as arrays, so that one statement writes a batch.

Source: the functions `array_send`, `uuid_send` and `vector_send` of PostgreSQL and pgvector. An
array is its number of dimensions, a flag for NULLs, the type of its elements, its length and first
index, then each element with its length before it; all numbers big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

TEXT: Final = 25
UUID: Final = 2950
JSONB: Final = 3802
"""PostgreSQL's numbers of the types."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value in binary form, of the type that the statement casts it to."""

    data: bytes


def make_key(id: str) -> bytes:
    """The row's primary key, a UUID: ids may be longer than what an index takes."""
    return hashlib.sha256(id.encode()).digest()[:16]


def encode_array(type: int, items: Sequence[bytes]) -> bytes:
    """An array of elements that are in binary form already."""
    return _head(type, len(items)) + b"".join(_with_lengths(items))


def encode_vectors(type: int, vectors: Sequence[NDArray[np.float32]]) -> bytes:
    """An array of `vector`; `type` is its number, which differs between databases."""
    matrix = np.stack(vectors)
    dimension = matrix.shape[1]
    form = [("length", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("v", ">f4", (dimension,))]
    encoded = np.zeros(len(matrix), dtype=form)
    encoded["length"] = 4 + 4 * dimension
    encoded["dimension"] = dimension
    encoded["v"] = matrix
    return _head(type, len(matrix)) + encoded.tobytes()


def _head(type: int, count: int) -> bytes:
    return struct.pack(">iiIii", 1, 0, type, count, 1) if count else struct.pack(">iiI", 0, 0, type)


def _with_lengths(items: Sequence[bytes]) -> Iterator[bytes]:
    pack = struct.Struct(">i").pack
    for item in items:
        yield pack(len(item))
        yield item
