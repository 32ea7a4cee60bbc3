"""Exact search in memory over an SQLite file, or over nothing but memory; needs no extra package.

Every row is in the file before `upsert` returns (WAL, synchronous=FULL, one transaction a batch);
vectors and metadata are held in memory too, and searched whole: about 15 ms a query at 100,000 rows
of 384 dimensions. Several processes may read and write one file; each sees what the others wrote.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.options import OPERATIONAL, Field, FilePath, Options
from rag_app.rows import Row, wrong_dimension
from rag_app.sqlite_files import connect, is_read_only
from rag_app.vector_stores._matrix import Matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.store import Store

APPLICATION_ID: Final = 0x52414756
"""What marks an SQLite file as ours ("RAGV")."""

FORMAT: Final = 1
"""Version of the tables below, kept in the file's `user_version`."""

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL, id TEXT NOT NULL,
    vector BLOB NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (collection, id)
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


class Config(Options):
    """Options of the memory store."""

    path: FilePath | None = Field(
        Path(".rag/vectors.sqlite"),
        description="The SQLite file, made when absent; it can hold several collections. "
        "null keeps everything in memory and forgets it at the end.",
        json_schema_extra=OPERATIONAL,
    )
    wait_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long to wait for another process that is writing to the file.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`.

    Raises:
        StoreError: the path cannot be opened, is no SQLite file, or belongs to another program.
    """
    from rag_app.store import Store

    return Store(MemoryRows(config.path, collection, config.wait_seconds), embeddings)


class MemoryRows:
    """`Rows` on SQLite and a matrix.

    Every write gives its row a new, higher number, so the rows above the highest number seen are
    all there is to read again, and a count tells whether any were removed.
    """

    place = "vector_store.memory"

    def __init__(self, path: Path | None, collection: str, wait_seconds: float = 30.0) -> None:
        self.persistent = path is not None
        self._path = path
        self._name = collection
        self._lock = threading.RLock()
        self._matrix: Matrix | None = None
        self._collection: int | None = None  # number of the collection that the matrix is of
        self._seen = 0  # highest row number in the matrix
        self._version = -1  # SQLite's count of other connections' commits
        self._stale = True  # this connection wrote since
        self._open = False
        with self._explain():
            self._connection = _connect(path, wait_seconds)
        self._open = True

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
                "INSERT OR REPLACE INTO rows (collection, id, vector, metadata, text)"
                " VALUES (?, ?, ?, ?, ?)",
                ((collection, row.id, *_encode(row)) for row in rows),
            )
            self._stale = True

    def query(
        self, vector: NDArray[np.float32], k: int, where: Node | None
    ) -> list[tuple[Row, float]]:
        """See `Rows`. Exact."""
        with self._reading():
            matrix = self._refresh()
            if matrix is None:
                return []
            found = matrix.query(vector, k, where)
            return [(self._read_row(number), cosine) for number, cosine in found]

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        query = "SELECT id, text, vector, metadata FROM rows WHERE collection = ? AND id = ?"
        with self._reading():
            collection = self._find_collection()[0]
            found = (self._connection.execute(query, (collection, id)).fetchone() for id in ids)
            return [_decode(*row) for row in found if row]

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of writing; rows written meanwhile come too."""
        query = (
            "SELECT number, id, text, vector, metadata FROM rows"
            " WHERE collection = ? AND number > ? ORDER BY number LIMIT 500"
        )
        last = 0
        while True:
            with self._reading():
                collection = self._find_collection()[0]
                page = self._connection.execute(query, (collection, last)).fetchall()
            if not page:
                return
            last = page[-1][0]
            for _, *row in page:
                yield _decode(*row)

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
            self._matrix = None
            self._connection.close()

    def _find_collection(self) -> tuple[int | None, int | None]:
        """The collection's number and dimension."""
        found = self._connection.execute(
            "SELECT number, dimension FROM collections WHERE name = ?", (self._name,)
        ).fetchone()
        return found or (None, None)

    def _require_collection(self, dimension: int) -> tuple[int, int]:
        self._connection.execute(
            "INSERT INTO collections (name, dimension) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (self._name, dimension),
        )
        collection, recorded = self._find_collection()
        assert collection is not None
        assert recorded is not None
        return collection, recorded

    def _refresh(self) -> Matrix | None:
        """The matrix as the file is now; None when there is no such collection."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version and not self._stale:
            return self._matrix
        collection, dimension = self._find_collection()
        if collection != self._collection or self._matrix is None:
            self._collection, self._seen = collection, 0
            self._matrix = None if dimension is None else Matrix(dimension)
        if self._matrix is not None:
            self._read_changes(self._matrix)
        self._version, self._stale = version, False
        return self._matrix

    def _read_changes(self, matrix: Matrix) -> None:
        changed = self._connection.execute(
            "SELECT id, number, vector, metadata FROM rows"
            " WHERE collection = ? AND number > ? ORDER BY number",
            (self._collection, self._seen),
        )
        for row in changed:
            matrix.put(*row)
            self._seen = row[1]
        if len(matrix) > self._count(self._collection):
            query = "SELECT number FROM rows WHERE collection = ?"
            kept = self._connection.execute(query, (self._collection,))
            matrix.keep(number for (number,) in kept)

    def _read_row(self, number: int) -> Row:
        query = "SELECT id, text, vector, metadata FROM rows WHERE number = ?"
        return _decode(*self._connection.execute(query, (number,)).fetchone())

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
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

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
            raise StoreError(self.place, f"{self._path}: {error}", _remedy(error)) from error


def _connect(path: Path | None, wait_seconds: float) -> sqlite3.Connection:
    connection = connect(path, wait_seconds)
    try:
        _require_ours(connection, path)
        if is_read_only(path):
            return connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_TABLES)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(connection: sqlite3.Connection, path: Path | None) -> None:
    """Refuse another program's file before anything is written to it."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if tables and application != APPLICATION_ID:
        wrong = f"{str(path)!r} is an SQLite file of another program"
        raise StoreError("vector_store.path", wrong, "Choose another path.")
    if tables and version != FORMAT:
        wrong = f"{str(path)!r} has format {version}, this rag-app reads {FORMAT}"
        raise StoreError("vector_store.path", wrong, "Use the rag-app that wrote it.")


def _remedy(error: Exception) -> str:
    words = str(error)
    if "locked" in words:
        return "Another process is writing: wait for it, or raise vector_store.wait_seconds."
    if "not a database" in words or "malformed" in words:
        return (
            "The file is damaged or no store: choose another path, or remove it and ingest again."
        )
    if "full" in words:
        return "Make room on the disk."
    return "Check that vector_store.path is a file in a folder that you may write to."


def _encode(row: Row) -> tuple[bytes, str, str]:
    return (
        row.vector.astype("<f4").tobytes(),
        json.dumps(dict(row.metadata), ensure_ascii=False, separators=(",", ":")),
        row.text,
    )


def _decode(id: str, text: str, vector: bytes, metadata: str) -> Row:
    return Row(id, text, np.frombuffer(vector, dtype="<f4"), json.loads(metadata))
