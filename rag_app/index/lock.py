"""One writer for each index: the second exits at once, told who the first is.

The lock is the operating system's (`flock`) or the database's (an advisory lock), so that of a
process which died is free again at once.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from rag_app.errors import IndexStateError, LockedError
from rag_app.index.manifest import now, set_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rag_app.index.database import Database

HOLDER = "writer.json"


@contextmanager
def only_writer(place: str, folder: Path) -> Iterator[Callable[[], None]]:
    """Nobody else writes the index inside; the lock lies in `folder`.

    Yields:
        A function that raises when the lock was lost.

    Raises:
        LockedError: another process holds it. IndexStateError: the folder cannot be written.
    """
    holder = folder / HOLDER
    lock = FileLock(folder / "writer.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        holder.write_text(_describe_self(), encoding="utf-8")
    except Timeout as error:
        raise _locked(place, _read(holder)) from error
    except OSError as error:
        lock.release()
        wrong = f"{folder} cannot be written to ({error.strerror or error})"
        raise IndexStateError(
            place, wrong, "Make room there, or set index.path elsewhere."
        ) from error
    try:
        yield lambda: None  # the system takes it away from the dead alone
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def only_writer_of(database: Database) -> Iterator[Callable[[], None]]:
    """As `only_writer`, for a manifest at a server: the lock lives as long as a connection.

    Raises:
        LockedError: another process holds it. IndexStateError: the server cannot be reached.
    """
    with database.holding() as connection:
        taken = connection.execute(text(_TRY_LOCK)).scalar()
        connection.commit()
        if not taken:
            held = connection.execute(text("SELECT value FROM head WHERE key = 'writer'")).scalar()
            raise _locked(database.place, json.loads(held or "{}"))
        set_head(connection, "writer", _describe_self())
        connection.commit()

        def require_held() -> None:
            try:
                connection.execute(text("SELECT 1")).scalar()
                connection.commit()
            except SQLAlchemyError as error:
                wrong = "the connection that held the lock was lost"
                raise LockedError(database.place, wrong, "Run it again: it goes on.") from error

        try:
            yield require_held
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock_all()"))
            connection.commit()


def _describe_self() -> str:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    return json.dumps(
        {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": now()}
    )


def _read(holder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # between the lock and the note
        return {}
    return found


def _locked(place: str, holder: dict[str, Any]) -> LockedError:
    who = "another process"
    if "pid" in holder:
        who = f"process {holder['pid']} on {holder['host']} ({holder['command']})"
        who += f", since {holder['since']},"
    return LockedError(place, f"{who} is writing to it", "Wait until it has ended, or stop it.")


_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtext('rag-app'), hashtext(current_schema()))"
