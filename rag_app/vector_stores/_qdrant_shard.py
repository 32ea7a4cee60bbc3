"""One collection's engine in this process: its files, its lock, and when its graph is built.

A shard belongs to one process at a time, which shares it among its stores. The graph (HNSW) is not
built while rows come in: a search compares what is not in it yet. It is built when that is as much
as the graph holds, and on closing.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rag_app.errors import StoreError
from rag_app.vector_stores._qdrant_edge import create, load, package, to_filter
from rag_app.vector_stores._qdrant_filter import find_owners
from rag_app.vector_stores._qdrant_points import check_mark, encode_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

MARK: Final = "rag-app.json"
"""The file that says whose collection it is and how it was made."""

INDEX_FROM: Final = 20_000
"""Vectors outside the graph from which it is built; fewer are compared in about 2 ms."""


class Shard:
    """The engine of one collection and its lock. Get it by `open`, give it back by `release`."""

    _opened: ClassVar[dict[Path, Shard]] = {}
    _guard: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, path: Path, *, lasting: bool) -> None:
        self._path = path
        self._lasting = lasting
        self._users = 0
        self._written = False
        self._loose = 0  # rows written since the graph was built
        self._indexed: set[str] = set()
        self.lock = threading.RLock()
        self.mark: dict[str, Any] | None = None
        self.engine: Any = None
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._keep_others_out()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    @classmethod
    def open(cls, folder: Path, name: str, *, lasting: bool) -> Shard:
        """The shard of a collection, shared by all stores of this process.

        Raises:
            StoreError: another process has it, or it is not ours.
        """
        _refuse_foreign(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder.resolve() / encode_name(name)
        with cls._guard:
            shard = cls._opened.get(path)
            if shard is not None and not shard._is_there():
                shard._close()  # deleted and made anew: what the engine still holds is of the old
                shard = None
            if shard is None:
                shard = cls._opened[path] = cls(path, lasting=lasting)
            shard._users += 1
            return shard

    def release(self) -> None:
        """Give it back; the last user's release builds the graph and frees the folder."""
        with self._guard, self.lock:
            self._users -= 1
            if self._users == 0 and self._opened.get(self._path) is self:
                if self._lasting and self._written and self._loose >= INDEX_FROM:
                    self._build_graph()
                self._close()

    def make(self, mark: Mapping[str, Any]) -> None:
        """Make the collection: complete, then at its place."""
        new = self._path.with_name(f"{self._path.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        create(new / "shard", mark, lasting=self._lasting)
        (new / MARK).write_text(json.dumps(mark, ensure_ascii=False), encoding="utf-8")
        new.rename(self._path)
        self._load()

    def drop(self) -> None:
        """Remove the collection: from its place at once, then from the disk."""
        self._unload()
        gone = self._path.with_name(f"{self._path.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        self._path.rename(gone)
        shutil.rmtree(gone)

    def write(self, operation: Any, rows: int) -> None:
        """Apply an operation that changes this many rows; build the graph when it has doubled."""
        self.engine.update(operation)
        self._written = True
        self._loose += rows
        if self._loose >= max(INDEX_FROM, self.engine.info().indexed_vectors_count):
            self._build_graph()

    def flush(self) -> None:
        """Wait until the disk has what was written."""
        if self._lasting:
            self.engine.flush()

    def index(self, names: Collection[str]) -> None:
        """Make payload indexes of numbers, where there are none and some point has the field."""
        edge = package()
        for name in set(names) - self._indexed:
            if not self.engine.scroll(edge.ScrollRequest(None, 1, to_filter(find_owners(name))))[0]:
                continue
            operation = edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Float)
            self.engine.update(operation)
            self.flush()
            self._indexed.add(name)

    def require_there(self) -> None:
        """Refuse to write to files that were deleted: what is written would be lost."""
        if not self._is_there():
            wrong = f"{str(self._path)!r} was removed while it was open"
            raise StoreError("vector_store.qdrant", wrong, "Open the store again.")

    def _load(self) -> None:
        if not self._path.exists():
            return
        mark = _read_mark(self._path)
        self.engine = load(self._path / "shard")
        self.mark = mark
        info = self.engine.info()
        self._loose = info.points_count - info.indexed_vectors_count
        self._indexed = set(info.payload_schema)

    def _unload(self) -> None:
        engine, self.engine, self.mark = self.engine, None, None
        if engine is not None:
            engine.close()

    def _build_graph(self) -> None:
        self.engine.optimize()
        self.flush()
        self._loose = 0

    def _is_there(self) -> bool:
        try:
            return self._file >= 0 and os.path.samestat(
                os.stat(f"{self._path}.lock"), os.fstat(self._file)
            )
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        self._opened.pop(self._path, None)
        try:
            self._unload()
        finally:
            file, self._file = self._file, -1
            os.close(file)

    def _keep_others_out(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._file, 20, 0).decode() or "unknown"
            raise StoreError(
                "vector_store.path",
                f"{str(self._path)!r} is open in process {holder}, and Qdrant's folders belong to"
                " one process at a time",
                "Stop it, or run a Qdrant server and set vector_store.url.",
            ) from error
        os.truncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)


def _read_mark(path: Path) -> dict[str, Any]:
    """What the collection in this folder says of itself; nothing when it is not ours."""
    file = path / MARK
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    mark: dict[str, Any] = held if isinstance(held, dict) else {}
    check_mark(mark, mark, repr(str(path)))
    return mark


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which another program keeps its points."""
    for file in ("edge_config.json", "meta.json", "raft_state.json"):
        if (folder / file).exists():
            wrong = f"{str(folder)!r} is a Qdrant folder of another program (it holds {file})"
            raise StoreError("vector_store.path", wrong, "Choose another path.")
