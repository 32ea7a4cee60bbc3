"""The SQLite file of a store: its tables, its mark, and what to do when it cannot be used.

SQLite finds out when its own structures are damaged, not when a value is: so each value of a row is
kept with a checksum, which is compared when the value is read.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import TYPE_CHECKING, Final

from rag_app.errors import StoreError
from rag_app.sqlite_files import connect, is_read_only

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID: Final = 0x52414756
"""What marks an SQLite file as ours ("RAGV")."""

FORMAT: Final = 2
"""Version of the tables below, kept in the file's `user_version`."""

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL,
    sum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL, id TEXT NOT NULL,
    vector BLOB NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL, vector_sum INTEGER NOT NULL,
    metadata_sum INTEGER NOT NULL, text_sum INTEGER NOT NULL, UNIQUE (collection, id)
);
%s
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


def open_file(path: Path | None, wait_seconds: float, tables: str = "") -> sqlite3.Connection:
    """A connection to the file, made when absent; `tables` is SQL of further tables.

    Raises:
        StoreError: it belongs to another program or another version of this one.
        sqlite3.Error, OSError: it cannot be opened.
    """
    connection = connect(path, wait_seconds)
    try:
        _require_ours(connection, path)
        if is_read_only(path):
            return connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_TABLES % tables)
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
        remedy = "Use the rag-app that wrote it, or remove it and run: rag-app ingest --rebuild"
        raise StoreError("vector_store.path", wrong, remedy)


def checksum(owner: str, value: str | bytes) -> int:
    """CRC-32 of a value and of whose it is."""
    data = value if isinstance(value, bytes) else value.encode()
    return zlib.crc32(data, zlib.crc32(owner.encode()))


def require_whole(owner: str, *values: tuple[str | bytes, int]) -> None:
    """Refuse values that are not what was written, each given with its checksum.

    Raises:
        sqlite3.DatabaseError: one is not.
    """
    try:
        whole = all(checksum(owner, value) == expected for value, expected in values)
    except (AttributeError, TypeError):  # damage made it a value of another type
        whole = False
    if not whole:
        raise damaged(f"what it holds of {owner!r} is not what was written")


def damaged(wrong: str) -> sqlite3.DatabaseError:
    """The error for what SQLite has not noticed."""
    return sqlite3.DatabaseError(f"the file is malformed: {wrong}")


def remedy(error: Exception) -> str:
    """What to do about an error of SQLite or of the file system."""
    words = str(error)
    if "locked" in words:
        return "Another process is writing: wait for it, or raise vector_store.wait_seconds."
    if any(each in words for each in ("not a database", "malformed", "decode")):
        return (
            "The file is damaged or no store: choose another path, restore it from a copy, or "
            "remove it and run: rag-app ingest --rebuild"
        )
    if "I/O" in words:
        return "The disk failed: see the system's log, then run it again. What was there is kept."
    if "full" in words or "No space" in words:
        return "Make room on the disk."
    return "Check vector_store.path, and that you may write to its folder."
