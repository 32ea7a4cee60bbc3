"""Rows in an SQLite file, beside something in memory that searches them.

Every row is in the file before `upsert` returns (WAL, synchronous=FULL, one transaction a batch).
Every write gives its row a new, higher number, so the rows above the highest number seen are all
there is to read again, and a count tells whether any were removed: that is how what is searched
follows the file, whoever wrote to it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from rag_app.errors import StoreError
from rag_app.rows import Neighbour, Row, wrong_dimension
from rag_app.sqlite_files import has_changed, was_rewritten
from rag_app.vector_stores._sqlite_file import (
    checksum,
    damaged,
    open_file,
    remedy,
    require_whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_app.filters import Node

PAGE: Final = 2000
"""Rows that are read at a time."""

ROW: Final = "id, text, vector, metadata, vector_sum, metadata_sum, text_sum"
"""The columns of which `_decode` makes a row."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

Change: TypeAlias = tuple[str, int, bytes, str]
"""A row that is new to what is searched: id, number, vector (float32, little-endian), metadata."""


class Searched(Protocol):
    """What is searched: the rows of one collection, each under its number."""

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def take(self, changes: Sequence[Change]) -> None:
        """Add rows, in the order of their numbers, all above those that are there."""
        ...

    def keep(self, numbers: Iterable[int]) -> None:
        """Remove every row whose number is not among `numbers`."""
        ...


S = TypeVar("S", bound=Searched)


class SqliteRows(ABC, Generic[S]):
    """`Rows` but for what is searched, which a backend makes (`_make`) and asks (`_search`)."""

    place: str
    tables: ClassVar[str] = ""
    """SQL of the tables that a backend needs besides."""

    def __init__(self, path: Path | None, collection: str, wait_seconds: float) -> None:
        self.persistent = path is not None
        self._path = path
        self._name, self._wait_seconds = collection, wait_seconds
        self._lock = threading.RLock()
        self._searched: S | None = None
        self._collection: int | None = None  # number of the collection that is searched
        self._seen = 0  # highest row number in what is searched
        self._version = -1  # SQLite's count of other connections' commits
        self._stale = True  # this connection wrote since
        self._agrees = False  # SQLite's index of the ids was compared with the rows
        self._open = False
        with self._explain():
            self._connection = open_file(path, wait_seconds, self.tables)
        self._open = True

    @abstractmethod
    def _make(self, collection: int, dimension: int) -> tuple[S, int]:
        """What is searched, and the highest row number that is in it already."""

    @abstractmethod
    def _search(
        self, searched: S, vector: NDArray[np.float32], k: int, where: Node | None
    ) -> list[tuple[int, float]]:
        """Number and cosine of the `k` nearest rows that match, best first."""

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._reading():
            return self._find_collection()[1]

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. One transaction: all rows are written or none."""
        with self._writing():
            collection, dimension = self._require_collection(len(rows[0].vector))
            for row in rows:
                if len(row.vector) != dimension:
                    what = f"the vector of {row.id!r}"
                    raise wrong_dimension(what, len(row.vector), dimension, self.place)
            self._connection.executemany(
                "INSERT OR REPLACE INTO rows (collection, id, vector, metadata, text, vector_sum,"
                " metadata_sum, text_sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((collection, row.id, *_encode(row)) for row in rows),
            )
            self._stale = True

    def query(self, vector: NDArray[np.float32], k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`."""
        with self._reading():
            searched = self._refresh()
            if searched is None:
                return []
            found = self._search(searched, vector, k, where)
            return [self._read_neighbour(number, cosine) for number, cosine in found]

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        query = f"SELECT {ROW} FROM rows WHERE collection = ? AND id = ?"
        with self._reading():
            collection = self._find_collection()[0]
            found = [self._connection.execute(query, (collection, id)).fetchone() for id in ids]
            if None in found:
                self._require_agreement()
            return [_decode(*row) for row in found if row]

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of writing; rows written meanwhile come too."""
        query = (
            f"SELECT number, {ROW} FROM rows NOT INDEXED"
            " WHERE collection = ? AND number > ? ORDER BY number LIMIT 500"
        )
        last = 0
        while True:
            with self._reading():
                collection = self._find_collection()[0]
                page = self._connection.execute(query, (collection, last)).fetchall()
                rows = [_decode(*row) for _, *row in page]
            if not page:
                return
            last = page[-1][0]
            yield from rows

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._writing():
            collection = self._find_collection()[0]
            self._connection.executemany(
                "DELETE FROM rows WHERE collection = ? AND id = ?",
                ((collection, id) for id in ids),
            )
            self._stale = True

    def count(self) -> int:
        """See `Rows`."""
        with self._reading():
            return self._count(self._find_collection()[0])

    def drop(self) -> None:
        """See `Rows`."""
        with self._writing():
            collection = self._find_collection()[0]
            self._connection.execute("DELETE FROM rows WHERE collection = ?", (collection,))
            self._connection.execute("DELETE FROM collections WHERE number = ?", (collection,))
            self._stale = True

    def close(self) -> None:
        """See `Rows`."""
        with self._lock:
            self._open = False
            self._searched = None
            self._connection.close()

    def _find_collection(self) -> tuple[int | None, int | None]:
        """The collection's number and dimension."""
        listed = self._connection.execute("SELECT name, number, dimension, sum FROM collections")
        found = None, None
        for name, number, dimension, total in listed:
            require_whole(name, (f"{number} {dimension}", total))
            if name == self._name:
                found = number, dimension
        return found

    def _require_collection(self, dimension: int) -> tuple[int, int]:
        if self._find_collection() == (None, None):
            made = self._connection.execute(
                "INSERT INTO collections (name, dimension, sum) VALUES (?, ?, 0)",
                (self._name, dimension),
            ).lastrowid
            self._connection.execute(
                "UPDATE collections SET sum = ? WHERE number = ?",
                (checksum(self._name, f"{made} {dimension}"), made),
            )
        collection, recorded = self._find_collection()
        assert collection is not None
        assert recorded is not None
        return collection, recorded

    def _refresh(self) -> S | None:
        """What is searched, as the file is now; None when there is no such collection."""
        version = self._read_version()
        if version == self._version and not self._stale:
            return self._searched
        collection, dimension = self._find_collection()
        if collection != self._collection or self._searched is None:
            self._collection, self._seen, self._searched = collection, 0, None
            if collection is not None and dimension is not None:
                self._searched, self._seen = self._make(collection, dimension)
        if self._searched is not None:
            try:
                self._read_changes(self._searched)
            except BaseException:
                self._searched = None  # half of the changes may be in it
                raise
        self._version, self._stale = version, False
        return self._searched

    def _read_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _read_changes(self, searched: S) -> None:
        changed = self._connection.execute(
            "SELECT id, number, vector, metadata, vector_sum, metadata_sum FROM rows NOT INDEXED"
            " WHERE collection = ? AND number > ? ORDER BY number",
            (self._collection, self._seen),
        )
        while page := changed.fetchmany(PAGE):
            for id, _, vector, metadata, *sums in page:
                require_whole(id, (vector, sums[0]), (metadata, sums[1]))
            searched.take([row[:4] for row in page])
            self._seen = page[-1][1]
        count = self._count(self._collection)
        if len(searched) > count:
            query = "SELECT number FROM rows WHERE collection = ?"
            kept = self._connection.execute(query, (self._collection,))
            searched.keep(number for (number,) in kept)
        if len(searched) != count:
            raise damaged(f"of {count} rows {len(searched)} can be read")

    def _require_agreement(self) -> None:
        """Once: see that an id that SQLite's index does not have is in no row either."""
        if self._agrees:
            return
        query = (
            "SELECT count(*) FROM rows AS each NOT INDEXED WHERE (SELECT number FROM rows"
            " WHERE collection = each.collection AND id = each.id) IS NOT each.number"
        )
        ((apart,),) = self._connection.execute(query)
        if apart:
            raise damaged(f"{apart} rows are not found by their id")
        self._agrees = True

    def _read_neighbour(self, number: int, cosine: float) -> Neighbour:
        query = "SELECT id, text, metadata, text_sum, metadata_sum FROM rows WHERE number = ?"
        found = self._connection.execute(query, (number,)).fetchone()
        if found is None:
            raise damaged(f"row {number} is gone")
        id, text, metadata, *sums = found
        require_whole(id, (text, sums[0]), (metadata, sums[1]))
        return Neighbour(id, text, json.loads(metadata), cosine)

    def _count(self, collection: int | None) -> int:
        query = "SELECT count(*) FROM rows WHERE collection = ?"
        count: int = self._connection.execute(query, (collection,)).fetchone()[0]
        return count

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One view of the file for all reads inside."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """All writes inside or none."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock, self._explain():
            if not self._open:
                raise StoreError(self.place, f"{self._path} is closed", "Open the store again.")
            self._open_changed()
            self._connection.execute(begin)
            try:
                yield
                if was_rewritten(self._connection):
                    raise sqlite3.OperationalError("the file was changed while it was read")
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _open_changed(self) -> None:
        """Open a file anew that was opened as one that changes no more, and has."""
        if has_changed(self._connection):
            self._open = False
            self._connection.close()
            self._connection = open_file(self._path, self._wait_seconds, self.tables)
            self._version, self._open = -1, True

    def _roll_back(self) -> None:
        """Undo the transaction; SQLite has already done so after some errors, such as no room."""
        with suppress(sqlite3.Error):  # what went wrong first is what is told
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """SQLite's errors in our words."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            words = str(error).partition(" with text ")[0]  # what follows is of a document
            raise StoreError(self.place, f"{self._path}: {words}", remedy(error)) from error


def _encode(row: Row) -> tuple[bytes, str, str, int, int, int]:
    vector = row.vector.astype("<f4", copy=False).tobytes()
    values = vector, _ENCODER.encode(row.metadata), row.text
    sums = (checksum(row.id, value) for value in values)
    return (*values, *sums)  # type: ignore[return-value]


def _decode(id: str, text: str, vector: bytes, metadata: str, *sums: int) -> Row:
    require_whole(id, (vector, sums[0]), (metadata, sums[1]), (text, sums[2]))
    return Row(id, text, np.frombuffer(vector, dtype="<f4"), json.loads(metadata))
