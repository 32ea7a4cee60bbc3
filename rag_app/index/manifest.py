"""The record of what should be in the store: documents, chunks, and unfinished work.

One SQLite file beside the index (WAL, synchronous=FULL). A document's new chunks are *staged* here,
text included, before the store sees one of them, and the document is *committed* only after the
store has them all: an interrupted ingest finds its unfinished work on the next run.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_app.errors import IndexStateError
from rag_app.sqlite_files import connect, is_read_only

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

FORMAT = "1"
WAIT_SECONDS = 30.0  # for another process that is writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origins (
    origin TEXT PRIMARY KEY, fingerprint TEXT, settings TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    source TEXT PRIMARY KEY, origin TEXT NOT NULL, version TEXT, staged TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_by_origin ON documents (origin);
CREATE TABLE IF NOT EXISTS chunks (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, staged INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_by_source ON chunks (source);
CREATE TABLE IF NOT EXISTS staged (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, place INTEGER NOT NULL,
    text TEXT NOT NULL, metadata TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS staged_by_source ON staged (source, place);
"""


class Known(NamedTuple):
    """The version of a document that is current or, if `staged`, waits to be written."""

    version: str
    staged: bool


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """A chunk on its way to the store."""

    id: str
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StagedDocument:
    """A document read and split, its chunks waiting to be written."""

    source: str
    origin: str
    version: str
    chunks: Sequence[StagedChunk]


class Manifest:
    """The manifest of one index; `path` None keeps it in RAM, for a store that is in RAM too.

    Raises:
        IndexStateError: the file is not a manifest, or of a format this version does not know.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            self._db = connect(path, WAIT_SECONDS)
            if not is_read_only(path):
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            wrong = f"the manifest cannot be opened ({error})"
            raise IndexStateError(f"index {path}", wrong, _RESTORE) from error
        if self.get("format") is None:
            self.put(format=FORMAT, revision=f"{uuid.uuid4().hex}-0")
        if self.get("format") != FORMAT:
            wrong = (
                f"manifest format {self.get('format')} is not {FORMAT}, which this version reads"
            )
            raise IndexStateError(f"index {path}", wrong, _RESTORE)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing.

        Raises:
            IndexStateError: the file cannot be written; nothing of the transaction was.
        """
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = (
                "See that the disk has room and nothing else holds the file; then run it again."
            )
            raise IndexStateError(f"index {self.path}", f"the manifest: {error}", remedy) from error

    def _read(self, query: str, *values: str) -> list[Any]:
        with self._explained():
            return self._db.execute(query, values).fetchall()

    def get(self, key: str) -> str | None:
        """One value of the manifest's head, None when it was never set."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def put(self, **values: str | None) -> None:
        """Set values of the head; None removes one."""
        with self.transaction() as db:
            for key, value in values.items():
                if value is None:
                    db.execute("DELETE FROM meta WHERE key = ?", (key,))
                else:
                    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def advance(self) -> None:
        """Give the content a new revision: whatever was derived from the old one is stale."""
        stem, _, number = (self.get("revision") or "").rpartition("-")
        self.put(revision=f"{stem}-{int(number) + 1}")

    def keep_only_staged(self) -> None:
        """Forget what was written: the store was emptied; what is staged is still to come."""
        with self.transaction() as db:
            db.execute("DELETE FROM documents WHERE staged IS NULL")
            db.execute("UPDATE documents SET version = NULL")
            db.execute("DELETE FROM chunks")
            db.execute("INSERT INTO chunks SELECT id, source, 1 FROM staged")
            db.execute("DELETE FROM origins WHERE origin NOT IN (SELECT origin FROM documents)")
        self.advance()

    # -- what is known -----------------------------------------------------------------------

    def origin(self, origin: str) -> tuple[str | None, str] | None:
        """The fingerprint and settings under which `origin` was last read whole."""
        rows = self._read("SELECT fingerprint, settings FROM origins WHERE origin = ?", origin)
        return (rows[0][0], rows[0][1]) if rows else None

    def versions(self, origin: str) -> dict[str, Known]:
        """What is known of each document of `origin`, by its name."""
        rows = self._read(
            "SELECT source, coalesce(staged, version), staged IS NOT NULL "
            "FROM documents WHERE origin = ?",
            origin,
        )
        return {row[0]: Known(row[1], bool(row[2])) for row in rows}

    def origins(self) -> set[str]:
        """Every origin that has documents."""
        return {row[0] for row in self._read("SELECT DISTINCT origin FROM documents")}

    def chunk_ids(self, source: str) -> set[str]:
        """The chunks of a document that the store may hold, those that are only staged too."""
        return {row[0] for row in self._read("SELECT id FROM chunks WHERE source = ?", source)}

    def written_ids(self, source: str) -> set[str]:
        """The chunks of a document's current version."""
        query = "SELECT id FROM chunks WHERE source = ? AND NOT staged"
        return {row[0] for row in self._read(query, source)}

    def planned_ids(self, source: str) -> set[str]:
        """The chunks of a document's planned version that are not of its current one."""
        query = "SELECT id FROM chunks WHERE source = ? AND staged"
        return {row[0] for row in self._read(query, source)}

    def count_chunks(self) -> int:
        """How many chunks the store should hold once nothing is staged."""
        return int(self._read("SELECT count(*) FROM chunks WHERE NOT staged")[0][0])

    def is_empty(self) -> bool:
        """Whether no chunk was ever planned or written, or all are gone again."""
        return not self._read("SELECT 1 FROM chunks LIMIT 1")

    def count_staged(self) -> int:
        """Chunks waiting to be written."""
        return int(self._read("SELECT count(*) FROM staged")[0][0])

    def staged_sources(self) -> list[str]:
        """Documents that wait to be written, in the order of their names."""
        rows = self._read("SELECT source FROM documents WHERE staged IS NOT NULL")
        return sorted(row[0] for row in rows)

    def staged_texts(self, without: Collection[str] = (), *, held: bool = False) -> list[str]:
        """The texts that wait to be written, but for documents in `without`; those that the store
        has already only if `held`."""
        written = "" if held else " WHERE id NOT IN (SELECT id FROM chunks WHERE NOT staged)"
        rows = self._read(f"SELECT source, text FROM staged{written}")
        return [text for source, text in rows if source not in without]

    def staged_chunks(self, source: str) -> list[StagedChunk]:
        """The chunks of a waiting document, in the order of the text."""
        rows = self._read(
            "SELECT id, text, metadata FROM staged WHERE source = ? ORDER BY place", source
        )
        return [StagedChunk(row[0], row[1], json.loads(row[2])) for row in rows]

    # -- what changes ------------------------------------------------------------------------

    def stage(
        self, documents: Iterable[StagedDocument], origins: Iterable[tuple[str, str | None, str]]
    ) -> None:
        """Plan documents' new chunks: every id is on record before the store sees it.

        `origins` were read: each with its fingerprint, None when not all of it could be read, and
        the settings it was read under.
        """
        with self.transaction() as db:
            for document in documents:
                _stage(db, document)
            db.executemany("INSERT OR REPLACE INTO origins VALUES (?, ?, ?)", origins)

    def commit(self, documents: Mapping[str, Iterable[str]]) -> None:
        """The store holds exactly these chunks of these documents: the new version is current."""
        with self.transaction() as db:
            for source, ids in documents.items():
                db.execute("DELETE FROM chunks WHERE source = ?", (source,))
                db.executemany("INSERT INTO chunks VALUES (?, ?, 0)", ((i, source) for i in ids))
                db.execute("DELETE FROM staged WHERE source = ?", (source,))
                db.execute(
                    "UPDATE documents SET version = staged, staged = NULL WHERE source = ?",
                    (source,),
                )

    def unstage(self, source: str) -> None:
        """The new version of a document will not be written; the next run reads it again."""
        with self.transaction() as db:
            db.execute("DELETE FROM staged WHERE source = ?", (source,))
            db.execute("DELETE FROM chunks WHERE source = ? AND staged", (source,))
            db.execute(
                "UPDATE origins SET fingerprint = NULL WHERE origin IN "
                "(SELECT origin FROM documents WHERE source = ?)",
                (source,),
            )
            db.execute("DELETE FROM documents WHERE source = ? AND version IS NULL", (source,))
            db.execute("UPDATE documents SET staged = NULL WHERE source = ?", (source,))

    def forget(self, sources: Iterable[str]) -> None:
        """These documents and their chunks are gone from the store."""
        named = [(source,) for source in sources]
        with self.transaction() as db:
            for table in ("documents", "chunks", "staged"):
                db.executemany(f"DELETE FROM {table} WHERE source = ?", named)


def _stage(db: sqlite3.Connection, document: StagedDocument) -> None:
    source = document.source
    db.execute("DELETE FROM staged WHERE source = ?", (source,))
    db.execute(
        "INSERT INTO documents VALUES (?, ?, NULL, ?) ON CONFLICT (source) "
        "DO UPDATE SET origin = excluded.origin, staged = excluded.staged",
        (source, document.origin, document.version),
    )
    db.executemany(
        "INSERT OR IGNORE INTO chunks VALUES (?, ?, 1)", ((c.id, source) for c in document.chunks)
    )
    db.executemany(
        "INSERT INTO staged VALUES (?, ?, ?, ?, ?)",
        (
            (c.id, source, place, c.text, json.dumps(c.metadata, ensure_ascii=False))
            for place, c in enumerate(document.chunks)
        ),
    )


_RESTORE = "Restore the file, or delete the index folder and run: rag-app ingest"
