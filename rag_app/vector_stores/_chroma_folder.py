"""A Chroma folder: one client per process, and no other process that changes it meanwhile.

Chroma in a folder is not made for several processes: a second one searches vectors as they were
when it opened them, and says nothing. So any number of processes may read a folder, or one write.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from rag_app.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "rag-app.lock"
"""The file in the folder that is locked; it holds the writer's process id."""


class ChromaFolder:
    """The shared client of one folder. Get it by `open`, give it back by `release`.

    Attributes:
        revision: changes with every write, once it is done.
        made: changes whenever a collection is made or dropped.
    """

    _opened: ClassVar[dict[Path, ChromaFolder]] = {}
    _guard: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users = 0
        self._writing = False
        self.revision = 0
        self.made = 0
        self._file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(exclusive=False)
            self.client = _connect(path)
        except BaseException:
            os.close(self._file)
            raise

    @classmethod
    def open(cls, path: Path) -> ChromaFolder:
        """The folder's client, shared by all stores of this process.

        Raises:
            StoreError: another process is writing to the folder.
        """
        path.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
        with cls._guard:
            folder = cls._opened.get(path)
            if folder is not None and not folder._is_there():
                folder._close()  # deleted and made anew: what Chroma still holds is of the old one
                folder = None
            if folder is None:
                folder = cls._opened[path] = cls(path)
            folder._users += 1
            return folder

    def release(self) -> None:
        """Give it back; the last user's release frees the folder."""
        with self._guard:
            self._users -= 1
            if self._users == 0:
                self._close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write inside; other processes are kept out from now until the folder is released.

        Raises:
            StoreError: another process has it open.
        """
        self._keep_others_out()
        try:
            yield
        finally:
            with self._guard:
                self.revision += 1

    def _keep_others_out(self) -> None:
        with self._guard:
            if not self._writing:
                self._lock(exclusive=True)
                self._writing = True
                os.truncate(self._file, 0)
                os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path / LOCK), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._opened.get(self._path) is self:
            del self._opened[self._path]
            self.client.close()
            os.close(self._file)

    def _lock(self, *, exclusive: bool) -> None:
        import fcntl

        try:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if exclusive:  # a failed upgrade may have lost the shared lock
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            raise self._held(exclusive) from error

    def _held(self, exclusive: bool) -> StoreError:
        writer = os.pread(self._file, 20, 0).decode() or "unknown"
        holder = "open in another process" if exclusive else f"held by process {writer}"
        return StoreError(
            "vector_store.path",
            f"{str(self._path)!r} is {holder}, and Chroma's folders cannot be shared with a writer",
            "Stop it, or run `chroma run --path …` and set vector_store.url.",
        )


def _connect(path: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    return chromadb.PersistentClient(path=str(path), settings=settings)
