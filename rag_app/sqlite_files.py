"""Opening SQLite files that may lie where nothing can be written: a shipped or mounted index."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


ATTEMPTS: Final = 5
PAUSE_SECONDS: Final = 0.02


def is_read_only(path: Path | None) -> bool:
    """Whether `path` is a file that this process may read but not write, nor its folder."""
    if path is None or not path.is_file():
        return False
    return not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def connect(path: Path | None, wait_seconds: float) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from several threads; None is a database in RAM.

    A file that cannot be written is opened for reading only (`is_read_only`), with its write-ahead
    log, so that what others write is seen. Where there is no log that can be used, the file is read
    alone: what is written to it afterwards is not seen (`has_changed`), and a file with a log left
    over is refused.

    Raises:
        sqlite3.Error: it cannot be opened. OSError: its folder cannot be made.
    """
    if is_read_only(path):
        return _connect_read_only(path, wait_seconds)  # type: ignore[arg-type]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(
        path or ":memory:", timeout=wait_seconds, isolation_level=None, check_same_thread=False
    )


class _Frozen(sqlite3.Connection):
    """A connection to a file that is taken to change no more."""

    path: Path
    stamp: tuple[int, int, int]


def has_changed(connection: object) -> bool:
    """Whether a connection for reading only cannot see what was written since it was opened."""
    if not isinstance(connection, _Frozen):
        return False
    return was_rewritten(connection) or _log(connection.path).exists()


def was_rewritten(connection: object) -> bool:
    """Whether what such a connection reads may be of several states of its file."""
    return isinstance(connection, _Frozen) and _stamp(connection.path) != connection.stamp


def _connect_read_only(path: Path, wait_seconds: float) -> sqlite3.Connection:
    for _ in range(ATTEMPTS):  # a writer that is opening it makes its log at this moment
        if (opened := _connect_with_log(path, wait_seconds)) is not None:
            return opened
        if not _is_logged(path):
            return _connect_frozen(path)
        time.sleep(PAUSE_SECONDS)
    raise sqlite3.OperationalError(f"{_log(path).name} holds changes that need a writable folder")


def _connect_with_log(path: Path, wait_seconds: float) -> sqlite3.Connection | None:
    """None where it has no log that can be used; none is made, for it would be ours, and who may
    write the file could not write it."""
    if not (_log(path).exists() and path.with_name(f"{path.name}-shm").exists()):
        return None
    name = f"file:{quote(str(path.resolve()))}?mode=ro"
    opened = sqlite3.connect(
        name, uri=True, timeout=wait_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        opened.close()
        return None
    except BaseException:
        opened.close()
        raise
    return opened


def _connect_frozen(path: Path) -> sqlite3.Connection:
    stamp = _stamp(path)
    name = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    opened = sqlite3.connect(
        name, uri=True, isolation_level=None, check_same_thread=False, factory=_Frozen
    )
    opened.path, opened.stamp = path, stamp
    return opened


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _is_logged(path: Path) -> bool:
    return _log(path).is_file() and _log(path).stat().st_size > 0


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
