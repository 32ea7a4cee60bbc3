"""`Rows` of the FAISS store: SQLite holds the rows, FAISS searches them, files save its work.

A saved index is a file of its own name that a line of SQLite points to, with the highest row number
in it. The line changes in one transaction after the new file is on the disk: a process that is
killed at any moment leaves a line with its whole file, and what came later is read from the rows.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.filters import matches
from rag_app.sqlite_files import is_read_only
from rag_app.vector_stores._faiss_index import FaissIndex
from rag_app.vector_stores._sqlite_file import require_whole
from rag_app.vector_stores._sqlite_rows import SqliteRows
from rag_app.vector_stores.faiss import USED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Row
    from rag_app.vector_stores.faiss import Config

    Described = tuple[int, str, str, int]  # number, id, metadata and its checksum
    Numbers = NDArray[np.int64]

FILE: Final = "rows.sqlite"
"""The SQLite file in the folder."""

WORTH_SAVING: Final = 1_000
"""Changes that are not read again at the next opening but saved when the store is closed."""

WORTH_A_PAUSE: Final = 10_000
"""Changes, a quarter of the rows at least, that are saved while rows are still being written."""

REMEMBERED: Final = 8
"""Filters whose rows are remembered until something changes."""


class FaissRows(SqliteRows[FaissIndex]):
    """`Rows` on SQLite and FAISS."""

    place = "vector_store.faiss"
    tables = """
    CREATE TABLE IF NOT EXISTS indexes (
        collection INTEGER PRIMARY KEY, file TEXT NOT NULL, digest TEXT NOT NULL,
        seen INTEGER NOT NULL, made TEXT NOT NULL, trained_on INTEGER NOT NULL
    );
    """

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._written: Sequence[Row] = ()  # rows that are new and need not be read from the file
        self._matching = _Matching()
        path = None if config.path is None else config.path / FILE
        super().__init__(path, collection, config.wait_seconds)

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. One transaction: all rows are written or none."""
        with self._lock:
            with self._reading():
                self._refresh()
            super().upsert(rows)
            with self._reading():
                if self._read_version() == self._version:  # nobody else wrote meanwhile
                    self._written = rows
                try:
                    searched = self._refresh()
                finally:
                    self._written = ()
            if searched is not None:
                self._save(max(WORTH_A_PAUSE, len(searched) // 4))

    def drop(self) -> None:
        """See `Rows`."""
        super().drop()
        if self.persistent:
            with self._writing():
                self._sweep()

    def close(self) -> None:
        """See `Rows`. Saves the index when much has changed."""
        with self._lock:
            try:
                if self._open:
                    self._save(WORTH_SAVING)
            finally:
                self._matching = _Matching()
                super().close()

    def _search(
        self, searched: FaissIndex, vector: NDArray[np.float32], k: int, where: Node | None
    ) -> list[tuple[int, float]]:
        allowed = None if where is None else self._list_matching(searched, where)
        return searched.search(vector, k, allowed)

    def _list_matching(self, searched: FaissIndex, where: Node) -> Numbers:
        new = self._connection.execute(
            "SELECT number, id, metadata, metadata_sum FROM rows NOT INDEXED"
            " WHERE collection = ? AND number > ? ORDER BY number",
            (self._collection, self._matching.seen),
        )
        return self._matching.list(where, new, searched)

    def _read_changes(self, searched: FaissIndex) -> None:
        self._matching.forget_found()
        if self._written:
            query = "SELECT seq FROM sqlite_sequence WHERE name = 'rows'"
            (last,) = self._connection.execute(query).fetchone()
            numbers = np.arange(last - len(self._written) + 1, last + 1, dtype=np.int64)
            searched.add(numbers, np.stack([row.vector for row in self._written]))
            self._seen = last
        super()._read_changes(searched)

    # The saved index.

    def _make(self, collection: int, dimension: int) -> tuple[FaissIndex, int]:
        self._matching = _Matching()
        found = self._connection.execute(
            "SELECT file, digest, trained_on, seen FROM indexes WHERE collection = ? AND made = ?",
            (collection, self._describe()),
        ).fetchone()
        if found is not None and self._config.path is not None:
            file, digest, trained_on, seen = found
            saved = FaissIndex.read(self._config.path / file, digest, self._config, trained_on)
            if saved is not None:
                return saved, seen
        return FaissIndex(self._config, dimension), 0

    def _describe(self) -> str:
        """What decides how an index is made; one made otherwise is not used."""
        fixed = [n for n in USED[self._config.index] if n not in ("ef_search", "nprobe")]
        made = {"index": self._config.index, **{n: getattr(self._config, n) for n in fixed}}
        return json.dumps(made, sort_keys=True)

    def _save(self, least: int) -> None:
        """Save the index when at least so many rows changed since it was saved."""
        searched = self._searched
        folder = self._config.path
        if searched is None or searched.changed < least or folder is None:
            return
        if is_read_only(self._path):
            return
        with self._writing():
            searched = self._refresh()
            if searched is None:  # dropped by another process meanwhile
                return
            self._sweep()
            file = f"index-{self._collection}-{uuid.uuid4().hex}.faiss"
            before = self._point_to(file, self._write(searched, folder / file), searched)
        searched.changed = 0
        if before is not None:
            (folder / before).unlink(missing_ok=True)

    def _point_to(self, file: str, digest: str, searched: FaissIndex) -> str | None:
        """Make `file` the saved index; the one before is returned."""
        before = self._connection.execute(
            "SELECT file FROM indexes WHERE collection = ?", (self._collection,)
        ).fetchone()
        line = (self._collection, file, digest, self._seen, self._describe(), searched.trained_on)
        self._connection.execute("INSERT OR REPLACE INTO indexes VALUES (?, ?, ?, ?, ?, ?)", line)
        return None if before is None else str(before[0])

    def _write(self, searched: FaissIndex, path: Path) -> str:
        try:
            digest = searched.write(path)
        except RuntimeError as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                self.place,
                f"the index could not be saved as {str(path)!r}: {error}",
                f"Make room there, or let it be written to. All rows are safe in {FILE}.",
            ) from error
        for each in (path, path.parent):
            opened = os.open(each, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        return digest

    def _sweep(self) -> None:
        """Remove the files that no line points to; nobody else writes one, this is a write lock."""
        assert self._config.path is not None
        self._connection.execute(
            "DELETE FROM indexes WHERE collection NOT IN (SELECT number FROM collections)"
        )
        kept = {file for (file,) in self._connection.execute("SELECT file FROM indexes")}
        for path in self._config.path.glob("index-*.faiss"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


class _Matching:
    """Which rows match a filter. Each row's metadata is read once, when a filter first asks.

    Attributes:
        seen: the highest row number whose metadata is known.
    """

    def __init__(self) -> None:
        self._metadata: dict[int, dict[str, Any]] = {}
        self._found: dict[str, Numbers] = {}
        self.seen = 0

    def forget_found(self) -> None:
        """Rows were written or removed."""
        self._found.clear()

    def list(self, where: Node, new: Iterable[Described], index: FaissIndex) -> Numbers:
        """The numbers of the rows that match, ascending."""
        key = repr(where)
        if key not in self._found:
            self._read(new, index)
            numbers = [n for n, metadata in self._metadata.items() if matches(where, metadata)]
            while len(self._found) >= REMEMBERED:
                del self._found[next(iter(self._found))]
            self._found[key] = np.array(numbers, dtype=np.int64)
        return self._found[key]

    def _read(self, new: Iterable[Described], index: FaissIndex) -> None:
        for number, id, metadata, expected in new:
            require_whole(id, (metadata, expected))
            self._metadata[number] = json.loads(metadata)
            self.seen = number
        if len(self._metadata) > len(index):
            kept = set(index.list_numbers().tolist())
            self._metadata = {n: held for n, held in self._metadata.items() if n in kept}
