"""Vectors in memory, searched exactly: what the file-backed store keeps beside its file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_app.filters import matches
from rag_app.vector_stores._sqlite_rows import SqliteRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.vector_stores._sqlite_rows import Change

    Vector = NDArray[np.float32]


class Matrix:
    """The vectors of a collection, each with its row number and its metadata as JSON text.

    Not thread-safe. Slots are dense: a removed one is taken by the last. Room doubles, so that n
    additions cost O(n).
    """

    def __init__(self, dimension: int) -> None:
        self._vectors = np.empty((64, dimension), dtype=np.float32)
        self._numbers = np.empty(64, dtype=np.int64)
        self._ids: list[str] = []
        self._metadata: list[str | dict[str, Any]] = []  # parsed when a filter first needs it
        self._slots: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, id: str, number: int, vector: bytes, metadata: str) -> None:
        """Add a row or replace the one of that id. `vector` is float32, little-endian."""
        slot = self._slots.get(id)
        if slot is None:
            slot = self._slots[id] = len(self._ids)
            self._ids.append(id)
            self._metadata.append(metadata)
            self._make_room(slot)
        self._vectors[slot] = np.frombuffer(vector, dtype="<f4")
        self._numbers[slot] = number
        self._metadata[slot] = metadata

    def take(self, changes: Sequence[Change]) -> None:
        """Put rows."""
        for change in changes:
            self.put(*change)

    def remove(self, id: str) -> None:
        """Remove a row; one that is not there is no error."""
        slot = self._slots.pop(id, None)
        if slot is None:
            return
        last_id, last_metadata = self._ids.pop(), self._metadata.pop()
        last = len(self._ids)
        if slot != last:
            self._ids[slot], self._metadata[slot] = last_id, last_metadata
            self._vectors[slot], self._numbers[slot] = self._vectors[last], self._numbers[last]
            self._slots[last_id] = slot

    def keep(self, numbers: Iterable[int]) -> None:
        """Remove every row whose number is not among `numbers`."""
        kept = set(numbers)
        held = self._numbers[: len(self)].tolist()
        for id in [id for id, number in zip(self._ids, held, strict=True) if number not in kept]:
            self.remove(id)

    def query(self, vector: Vector, k: int, where: Node | None) -> list[tuple[int, float]]:
        """Number and cosine of the `k` nearest rows that match, best first, ties by number."""
        selected = None if where is None else self._select(where)
        numbers, cosines = self._measure(vector, selected)
        if len(cosines) > k:
            cut = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
            near = np.flatnonzero(cosines >= cut)
            numbers, cosines = numbers[near], cosines[near]
        order = np.lexsort((numbers, -cosines))[:k]
        best = np.clip(cosines[order].astype(np.float64), -1.0, 1.0)
        return list(zip(numbers[order].tolist(), best.tolist(), strict=True))

    def _measure(
        self, vector: Vector, selected: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        size = len(self)
        if selected is None:
            return self._numbers[:size], self._vectors[:size] @ vector
        if len(selected) * 4 < size:  # gathering few rows is cheaper than measuring all
            return self._numbers[selected], self._vectors[selected] @ vector
        return self._numbers[selected], (self._vectors[:size] @ vector)[selected]

    def _select(self, where: Node) -> NDArray[np.intp]:
        return np.array(
            [slot for slot in range(len(self)) if matches(where, self._parsed(slot))],
            dtype=np.intp,
        )

    def _parsed(self, slot: int) -> dict[str, Any]:
        held = self._metadata[slot]
        if isinstance(held, str):
            held = self._metadata[slot] = json.loads(held)
        return held

    def _make_room(self, slot: int) -> None:
        if slot >= len(self._numbers):
            room = 2 * len(self._numbers)
            self._vectors = _enlarge(self._vectors, room)
            self._numbers = _enlarge(self._numbers, room)


class MemoryRows(SqliteRows[Matrix]):
    """`Rows` on SQLite and a matrix: exact."""

    place = "vector_store.memory"

    def _make(self, collection: int, dimension: int) -> tuple[Matrix, int]:  # noqa: ARG002
        return Matrix(dimension), 0

    def _search(
        self, searched: Matrix, vector: Vector, k: int, where: Node | None
    ) -> list[tuple[int, float]]:
        return searched.query(vector, k, where)


def _enlarge(array: NDArray[Any], room: int) -> NDArray[Any]:
    larger = np.empty((room, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
