"""A Milvus Lite folder: held by one process, which shares one client among its stores.

Milvus Lite runs inside the process and is asked over a socket; here one that only this user can
open. Its calls are made one at a time: while it moves rows from its log into files, a search on
another thread would miss them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rag_app.errors import StoreError
from rag_app.vector_stores._milvus_server import SECONDS, import_pymilvus

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK: Final = "rag-app.lock"
"""The file in the folder that is locked; it holds the process id."""

FLUSH_AT: Final = 500
"""Rows written one by one that a search bears; from there on they are moved into files first."""


class MilvusFolder:
    """The shared client of one folder. Get it by `open`, give it back by `release`.

    Attributes:
        client: a `MilvusClient`.
        lock: to be held during each call of the client.
        epoch: changes when a collection is made or dropped.
        revision: changes with every write, once it is done.
    """

    _opened: ClassVar[dict[Path, MilvusFolder]] = {}
    _guard: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.epoch = 0
        self.revision = 0
        self._path = path
        self._users = 0
        self._closed = False
        self._failed = False
        self._waiting: dict[str, int] = {}
        with contextlib.ExitStack() as undo:
            self._file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            undo.callback(os.close, self._file)
            self._lock_file()
            self._serve(undo)
            self._undo = undo.pop_all()

    @classmethod
    def open(cls, path: Path) -> MilvusFolder:
        """The folder's client, shared by all stores of this process.

        Raises:
            StoreError: another process has the folder open, or it is a file of Milvus Lite 2.
        """
        if path.is_file():
            raise StoreError(
                "vector_store.path",
                f"{str(path)!r} is a file, and Milvus Lite keeps a folder since version 3",
                "Give another path and ingest again.",
            )
        path.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
        with cls._guard:
            folder = cls._opened.get(path)
            if folder is not None and (folder._failed or not folder._is_there()):
                folder._close()  # deleted and made anew: what is still held is of the old one
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

    def require_there(self) -> None:
        """Refuse to go on when the folder was deleted, which Milvus Lite would not notice, or when
        a write failed, after which it may not find rows that are on the disk.

        Raises:
            StoreError: it is not there any more, or another one is in its place; or a write failed.
        """
        if self._failed:
            raise StoreError(
                "vector_store.milvus",
                f"a write to {str(self._path)!r} failed before",
                "See that the disk has room, and open the store again.",
            )
        if not self._is_there():
            raise StoreError(
                "vector_store.path",
                f"{str(self._path)!r} was deleted or replaced while it was open",
                "Open the store again, and ingest again.",
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write inside. When that fails nothing more is asked until the folder is opened again."""
        try:
            yield
        except Exception:
            self._failed = True
            raise

    def remove_indexes(self, collection: str) -> bool:
        """Remove the saved indexes of a collection, which Milvus Lite makes anew from its rows.

        One that was cut while it was being written keeps the whole collection from being loaded.

        Returns:
            Whether there were any.
        """
        found = list(self._path.glob(f"collections/{collection}/partitions/*/indexes/*.*idx"))
        for file in found:
            file.unlink()
        return bool(found)

    def note_write(self, collection: str, rows: int) -> None:
        """Say that so many rows were written."""
        self.revision += 1
        self._waiting[collection] = self._waiting.get(collection, 0) + rows

    def note_change(self, collection: str) -> None:
        """Say that the collection was made or dropped."""
        self.epoch += 1
        self.revision += 1
        self._waiting[collection] = 0

    def settle(self, collection: str) -> None:
        """Before a search: move rows from the log, which is searched slowly, into files."""
        if self._waiting.get(collection, FLUSH_AT) >= FLUSH_AT:
            with self.writing():
                self.client.flush(collection)
            self._waiting[collection] = 0

    def _serve(self, undo: contextlib.ExitStack) -> None:
        pymilvus = import_pymilvus()
        from milvus_lite.adapter.grpc.server import start_server_in_thread

        # Not in the folder itself: the name of a socket may have 107 bytes.
        private = Path(tempfile.mkdtemp(prefix="rag-app-"))
        undo.callback(shutil.rmtree, private, ignore_errors=True)
        self._link = private / "folder"
        self._link.symlink_to(self._path, target_is_directory=True)
        server, database, port = start_server_in_thread(
            str(self._link), host=f"unix:{private}/milvus", port=0
        )
        undo.callback(database.close)
        undo.callback(lambda: server.stop(grace=None).wait(SECONDS))
        if not port:
            raise OSError(f"no socket could be opened in {private}")
        uri = f"unix:{private}/milvus:0"
        self.client = pymilvus.MilvusClient(uri=uri, timeout=SECONDS, dedicated=True)
        undo.callback(self.client.close)

    def _is_there(self) -> bool:
        if self._closed:
            return False
        try:
            return os.path.samestat(os.stat(self._path / LOCK), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._opened.get(self._path) is self:
            del self._opened[self._path]
            with self.lock:
                if not self._is_there():  # what is still in memory is not to be written there
                    self._link.unlink()
                    self._link.mkdir()
                self._closed = True
                self._undo.close()

    def _lock_file(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._file, 20, 0).decode() or "unknown"
            raise StoreError(
                "vector_store.path",
                f"{str(self._path)!r} is held by process {holder}, and a folder of Milvus Lite "
                "is for one process",
                "Stop it, or run a Milvus server and set vector_store.url.",
            ) from error
        os.truncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)
