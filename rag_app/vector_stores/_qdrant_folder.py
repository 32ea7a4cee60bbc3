"""Points in a folder: Qdrant's engine in this process. A write that returned is on the disk."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.vector_stores._qdrant_edge import package, to_filter
from rag_app.vector_stores._qdrant_points import CONTENT, Found, check_mark, make_mark, to_neighbour
from rag_app.vector_stores._qdrant_shard import Shard

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from rag_app.rows import Neighbour
    from rag_app.vector_stores._qdrant_points import Point, Vector

BATCH: Final = 1000
"""Points in one write: each is in the shard whole or not at all."""


class FolderPoints:
    """`Points` in a folder; without one, in a temporary folder that goes with it."""

    def __init__(self, folder: Path | None, name: str, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._name = name
        self._options = options
        self._shard: Shard | None = None
        self._forget_temporary: Any = None
        self._closed = False
        self._lock = threading.RLock()
        self.where = "memory" if folder is None else repr(str(folder))

    @property
    def dimension(self) -> int | None:
        """See `Points`."""
        with self._using() as shard:
            return None if shard.mark is None else int(shard.mark["dimension"])

    def require(self, dimension: int) -> None:
        """See `Points`."""
        with self._using() as shard:
            if shard.mark is None:
                shard.make(make_mark(self._name, dimension, self._options))

    def upsert(self, points: Iterable[Point]) -> None:
        """See `Points`."""
        edge = package()
        rest = iter(points)
        with self._using() as shard:
            while batch := list(islice(rest, BATCH)):
                operation = edge.UpdateOperation.upsert_points(_convert(batch))
                shard.write(operation, len(batch))
            shard.flush()

    def search(
        self, vector: Vector, k: int, where: dict[str, Any] | None, *, exact: bool
    ) -> list[Neighbour]:
        """See `Points`."""
        edge = package()
        request = edge.SearchRequest(
            edge.Query.Nearest(vector.tolist()),
            limit=k,
            filter=to_filter(where),
            params=edge.SearchParams(hnsw_ef=self._options["ef_search"], exact=exact),
            with_payload=CONTENT,
        )
        with self._using() as shard:
            found = [] if shard.engine is None else shard.engine.search(request)
        return [to_neighbour(point.payload, point.score) for point in found]

    def read(self, uuids: Sequence[str]) -> list[Found]:
        """See `Points`."""
        with self._using() as shard:
            engine = shard.engine
            found = [] if engine is None else engine.retrieve(list(uuids), CONTENT, True)
        return [Found(point.payload, point.vector) for point in found]

    def list_page(
        self,
        where: dict[str, Any] | None,
        start: Any,
        limit: int,
        *,
        names: Collection[str],
        vectors: bool,
    ) -> tuple[list[Found], Any]:
        """See `Points`."""
        edge = package()
        request = edge.ScrollRequest(
            start, limit, to_filter(where), with_payload=list(names), with_vector=vectors
        )
        with self._using() as shard:
            found, after = ([], None) if shard.engine is None else shard.engine.scroll(request)
        return [Found(point.payload, point.vector) for point in found], after

    def index(self, names: Collection[str]) -> None:
        """See `Points`."""
        with self._using() as shard:
            if shard.engine is not None:
                shard.index(names)

    def count(self, where: dict[str, Any] | None) -> int:
        """See `Points`."""
        edge = package()
        request = edge.CountRequest(exact=True, filter=to_filter(where))
        with self._using() as shard:
            return 0 if shard.engine is None else int(shard.engine.count(request))

    def delete(self, uuids: Sequence[str]) -> None:
        """See `Points`."""
        edge = package()
        with self._using() as shard:
            if shard.engine is not None:
                operation = edge.UpdateOperation.delete_points(list(uuids))
                shard.write(operation, len(uuids))
                shard.flush()

    def drop(self) -> None:
        """See `Points`."""
        with self._using() as shard:
            if shard.mark is not None:
                shard.drop()

    def close(self) -> None:
        """See `Points`."""
        with self._lock:
            self._closed = True
            shard, self._shard = self._shard, None
            if shard is not None:
                shard.release()
            if self._forget_temporary is not None:
                self._forget_temporary()

    @contextmanager
    def _using(self) -> Iterator[Shard]:
        """The shard, for this thread alone: the engine lets no other thread run anyway."""
        with self._lock:
            if self._closed:
                wrong = f"the store in {self.where} is closed"
                raise StoreError("vector_store.qdrant", wrong, "Open the store again.")
            if self._shard is None:
                self._shard = self._open()
            shard = self._shard
        with shard.lock:
            shard.require_there()
            if shard.mark is not None:
                check_mark(shard.mark, self._options, f"the collection in {self.where}")
            yield shard

    def _open(self) -> Shard:
        if self._folder is not None:
            return Shard.open(self._folder, self._name, lasting=True)
        temporary = tempfile.mkdtemp(prefix="rag-app-qdrant-")
        self._forget_temporary = weakref.finalize(self, shutil.rmtree, temporary)
        return Shard.open(Path(temporary), self._name, lasting=False)


def _convert(points: Sequence[Point]) -> list[Any]:
    """In the engine's own class, which takes lists of numbers sooner than arrays."""
    uuids, vectors, payloads = zip(*points, strict=True)
    return list(map(package().Point, uuids, np.stack(vectors).tolist(), payloads))
