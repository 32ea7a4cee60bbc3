"""What a store holds, what a backend must be able to do, and what is let in.

Knows nothing of LangChain. `rag_app.store.Store` checks every row here before a backend sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from rag_app.errors import StoreError
from rag_app.json_values import find_non_json, is_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from rag_app.filters import Node
    from rag_app.types import Metadata

    Vector = NDArray[np.float32]


_BLOCK: Final = 2000
"""Vectors that are normalised at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a store holds of one chunk. `vector` is float32 of shape (d,), of norm 1 once stored."""

    id: str
    text: str
    vector: Vector
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row that a query found, without its vector, and its cosine to what was asked."""

    id: str
    text: str
    metadata: Metadata
    cosine: float


class Rows(Protocol):
    """A backend's primitives for one collection. `Store` has checked and normalised what they get.

    Every method may be called from several threads at once, raises `StoreError` when the store
    fails, and sees what other processes wrote.

    Attributes:
        place: what messages call the store: "vector_store.memory".
        persistent: whether the rows outlive the process.
    """

    place: str
    persistent: bool

    @property
    def dimension(self) -> int | None:
        """Numbers per vector, recorded at the first upsert; None before it and after `drop`."""
        ...

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows of distinct ids, any number; an id that is there is replaced whole."""
        ...

    def query(self, vector: Vector, k: int, where: Node | None) -> list[Neighbour]:
        """The `k` >= 1 rows of highest cosine among those that match, best first, all if fewer.

        The cosine is the exact one, but for what float32 rounds off.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """The rows of these ids that are there, in any order."""
        ...

    def scan(self) -> Iterator[Row]:
        """Every row, each once."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove these ids; one that is not there is no error."""
        ...

    def count(self) -> int:
        """The number of rows."""
        ...

    def drop(self) -> None:
        """Remove all rows and the recorded dimension; the collection can be filled again."""
        ...

    def close(self) -> None:
        """Free files, locks and connections; a second call does nothing."""
        ...


def rank(found: Iterable[Neighbour], k: int) -> list[Neighbour]:
    """The `k` of highest cosine, best first; those of one cosine in the order of their ids."""
    return sorted(found, key=lambda each: (-each.cosine, each.id))[:k]


def clip(cosine: float) -> float:
    """A cosine that rounding may have led a little beyond 1 or -1."""
    return min(1.0, max(-1.0, cosine))


def compare(rows: Sequence[Row], vector: Vector) -> list[Neighbour]:
    """The rows with their cosines, computed here from their vectors, in the order given."""
    if not rows:
        return []
    cosines = np.clip(np.stack([row.vector for row in rows]) @ vector, -1.0, 1.0).tolist()
    return [
        Neighbour(row.id, row.text, row.metadata, cosine)
        for row, cosine in zip(rows, cosines, strict=True)
    ]


def check_rows(rows: Sequence[Row], place: str) -> list[Row]:
    """The rows with their vectors normalised.

    Raises:
        StoreError: id, text, metadata or vector of one is nothing that a store can hold.
    """
    for row in rows:
        check_words(row.id, row.text, row.metadata, place)
    checked: list[Row] = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        units = _normalise_alike([row.vector for row in block])
        if units is None:  # one is wrong, or not an array like the others: look at each
            what = [f"the vector of {row.id!r}" for row in block]
            units = [normalise(row.vector, w, place) for row, w in zip(block, what, strict=True)]
        checked += [
            Row(row.id, row.text, unit, row.metadata)
            for row, unit in zip(block, units, strict=True)
        ]
    return checked


def _normalise_alike(vectors: list[Any]) -> Iterable[Vector] | None:
    """All of them at once; None unless they are good arrays of one shape."""
    first = vectors[0]
    for each in vectors:
        if not isinstance(each, np.ndarray) or each.ndim != 1 or each.shape != first.shape:
            return None
        if each.dtype.kind != "f":
            return None
    given = np.array(vectors, dtype=np.float64)
    if not given.size:
        return None
    largest = np.abs(given).max(axis=1, keepdims=True)
    if not np.isfinite(largest).all() or not largest.all():
        return None
    given /= largest
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    units: Vector = given.astype(np.float32)
    return units


def check_words(id: Any, text: Any, metadata: Any, place: str) -> None:
    """Refuse an id or text that is no Unicode string, and metadata that is no JSON object."""
    if not isinstance(id, str) or not id or not is_unicode(id):
        raise StoreError(place, f"the id {id!r} is not a text of Unicode", "Give a text as id.")
    if not isinstance(text, str) or not is_unicode(text):
        raise StoreError(
            place,
            f"the text of {id!r} is not a string of Unicode",
            "Decode it first; drop what UTF-8 cannot hold (lone surrogates).",
        )
    if not isinstance(metadata, dict):
        wrong = f"the metadata of {id!r} is of type {type(metadata).__name__}"
        raise StoreError(place, wrong, "Give a dict.")
    if bad := find_non_json(metadata):
        raise StoreError(
            place,
            f"metadata {bad[0]!r} of {id!r}: {bad[1]}",
            "Give JSON values: .isoformat() of dates, .item() of NumPy values, list() of tuples.",
        )


def normalise(vector: ArrayLike, what: str, place: str) -> Vector:
    """`vector` as float32 of norm 1, shape (d,).

    Raises:
        StoreError: it is not a flat list of numbers, or it has no direction (zero, NaN, infinite).
    """
    try:
        given = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StoreError(place, f"{what} is not a list of numbers", "Give numbers.") from error
    if given.ndim != 1 or not len(given):
        raise StoreError(place, f"{what} has the shape {given.shape}", "Give one flat list.")
    largest = np.abs(given).max()
    if not np.isfinite(largest) or largest == 0:
        wrong = f"{what} is zero" if largest == 0 else f"{what} holds NaN or infinite numbers"
        raise StoreError(place, f"{wrong}: it has no direction", "Check the embedding model.")
    scaled = given / largest  # so that the squares of huge and tiny numbers keep their digits
    unit: Vector = (scaled / np.linalg.norm(scaled)).astype(np.float32)
    return unit


def wrong_dimension(what: str, given: int, dimension: int, place: str) -> StoreError:
    """The error for a vector that does not fit the collection."""
    return StoreError(
        place,
        f"{what} has {given} dimensions, the collection {dimension}",
        "Use the embedding model it was filled with, or another collection.",
    )
