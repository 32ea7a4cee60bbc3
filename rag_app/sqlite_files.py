"""Opening SQLite files that may lie where nothing can be written: a shipped or mounted index."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


def is_read_only(path: Path | None) -> bool:
    """Whether `path` is a file that this process may read but not write, nor its folder."""
    if path is None or not path.is_file():
        return False
    return not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def connect(path: Path | None, wait_seconds: float) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from several threads; None is a database in RAM.

    A file that cannot be written is opened for reading only (`is_read_only`). SQLite then skips
    its write-ahead log, so a file with one left over is refused.

    Raises:
        sqlite3.Error: it cannot be opened. OSError: its folder cannot be made.
    """
    if is_read_only(path):
        return _connect_read_only(path)  # type: ignore[arg-type]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(
        path or ":memory:", timeout=wait_seconds, isolation_level=None, check_same_thread=False
    )


def _connect_read_only(path: Path) -> sqlite3.Connection:
    log = path.with_name(f"{path.name}-wal")
    if log.is_file() and log.stat().st_size:
        raise sqlite3.OperationalError(f"{log.name} holds changes that need a writable folder")
    name = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
