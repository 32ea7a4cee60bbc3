"""`Rows` on a Milvus collection, in a folder or on a server."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.rows import rank
from rag_app.urls import show_url
from rag_app.vector_stores._milvus_collection import (
    FORMAT,
    NOT_FOUND,
    PAGE,
    Index,
    MilvusCollection,
    encode_name,
    get_dimension,
)
from rag_app.vector_stores._milvus_entities import CONTENT, cut_batches, decode, encode, encode_id
from rag_app.vector_stores._milvus_filter import render
from rag_app.vector_stores._milvus_folder import MilvusFolder
from rag_app.vector_stores._milvus_search import find_among, find_nearest, read_rows
from rag_app.vector_stores._milvus_server import connect, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row
    from rag_app.types import Metadata
    from rag_app.vector_stores.milvus import Config

Found = TypeVar("Found")

FRESH_SECONDS: Final = 1.0
"""How long a server's description of the collection is taken for true; a drop is noticed anyway."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was last seen of the collection: its number of dimensions, which one it is, and when."""

    dimension: int
    identity: tuple[Any, ...]
    when: float


OPTIONS: Final = {"M": "m", "efConstruction": "ef_construction"}
"""Our names of Milvus's index parameters, where they differ."""


def choose_index(config: Config) -> Index:
    """The index that the config asks for."""
    match config.index or ("flat" if config.url is None else "hnsw"):
        case "hnsw":
            build = {"M": config.m, "efConstruction": config.ef_construction}
            return Index("HNSW", build, {"ef": config.ef_search})
        case "ivf_flat":
            return Index("IVF_FLAT", {"nlist": config.nlist}, {"nprobe": config.nprobe})
    return Index("FLAT", {}, {})


class MilvusRows:
    """`Rows` on a Milvus collection, which is made at the first upsert."""

    place = "vector_store.milvus"
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._title = collection
        self._lock = threading.RLock()
        self._folder: MilvusFolder | None = None
        self._client: Any = None
        self._index = choose_index(config)
        self._seen: _Seen | None = None
        self._metadata: tuple[int, list[tuple[str, Metadata]]] | None = None
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain(), self._turn():
            seen = self._find()
            return None if seen is None else seen.dimension

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. In as many batches as Milvus needs; each is written whole or not at all."""
        told = self._config.url is not None
        with self._explain():
            batches = cut_batches([encode(row, told) for row in rows], self.place)
            with self._turn() as collection, self._writing(len(rows)):
                self._require(len(rows[0].vector))
                for batch in batches:
                    collection.upsert(batch)

    def query(self, vector: NDArray[np.float32], k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. Exact in a folder by default, else approximate: may miss a neighbour."""
        nothing: list[Neighbour] = []
        with self._explain():
            return rank(self._ask(lambda c: self._find_near(c, vector, k, where), nothing), k)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        keys = list(map(encode_id, ids))
        with self._explain():
            return self._ask(lambda collection: read_rows(collection, keys), [])

    def scan(self) -> Iterator[Row]:
        """See `Rows`."""
        nowhere: list[tuple[str, str]] = []
        with self._explain():
            ranges = self._ask(lambda collection: collection.cut_ranges(""), nowhere)
        for bounds in ranges:
            yield from self._read_range(bounds)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        keys = list(map(encode_id, ids))
        with self._explain(), self._turn() as collection:
            if self._find(now=True) is not None:
                with self._writing(len(keys)):
                    for start in range(0, len(keys), PAGE):
                        collection.delete(keys[start : start + PAGE])

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            return self._ask(lambda collection: collection.count(), 0)

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain(), self._turn() as collection:
            if self._find(now=True) is not None:
                collection.drop()
                self._note_change()

    def close(self) -> None:
        """See `Rows`."""
        with self._lock:
            folder, client = self._folder, self._client
            self._closed, self._folder, self._client = True, None, None
            if folder is not None:
                folder.release()
            elif client is not None:
                client.close()

    def _read_range(self, bounds: tuple[str, str]) -> list[Row]:
        nothing: list[dict[str, Any]] = []
        with self._explain():
            page = self._ask(lambda c: c.read_range(bounds, "", CONTENT), nothing)
        return list(map(decode, page))

    def _find_near(
        self, collection: MilvusCollection, vector: NDArray[np.float32], k: int, where: Node | None
    ) -> list[Neighbour]:
        """The `k` nearest rows that match; perhaps more of them."""
        if self._folder is not None:
            self._folder.settle(collection.name)
        if where is None:
            return find_nearest(collection, vector, k, "")
        if self._folder is not None:
            return find_among(collection, vector, k, self._list_matching(collection, where))
        rendered = render(where)
        if rendered.where is False:
            return []
        limit = rendered.where if isinstance(rendered.where, str) else ""
        if rendered.exact:
            found = find_nearest(collection, vector, k, limit)
            if all(matches(where, each.metadata) for each in found):
                return found
        pairs = collection.list_metadata(limit)
        keys = [key for key, metadata in pairs if matches(where, metadata)]
        return find_among(collection, vector, k, keys)

    def _list_matching(self, collection: MilvusCollection, where: Node) -> list[str]:
        """The keys of the rows that match. In a folder, where all writers are known, the metadata
        is read once and kept until the next write."""
        assert self._folder is not None
        revision = self._folder.revision
        if self._metadata is None or self._metadata[0] != revision:
            self._metadata = revision, collection.list_metadata("")
        return [key for key, metadata in self._metadata[1] if matches(where, metadata)]

    def _ask(self, ask: Callable[[MilvusCollection], Found], nothing: Found) -> Found:
        """What `ask` finds in the collection; `nothing` when there is no collection."""
        import pymilvus

        with self._turn() as collection:
            if self._find() is None:
                return nothing
            try:
                return ask(collection)
            except pymilvus.MilvusException as error:
                if error.code != NOT_FOUND:
                    raise
            return nothing if self._find(now=True) is None else ask(collection)

    def _find(self, *, now: bool = False) -> _Seen | None:
        """The collection as it was lately, or is `now`; None when it was not made yet."""
        folder, seen = self._folder, self._seen
        when = time.monotonic() if folder is None else folder.epoch
        good_for = FRESH_SECONDS if folder is None else 0
        if seen is not None and not now and when - seen.when <= good_for:
            return seen
        described = self._collection.describe()
        if described is None:
            self._seen = None
            return None
        self._require_ours(described)
        identity = (described.get("collection_id"), described.get("created_timestamp"))
        if seen is None or seen.identity != identity or folder is not None:
            self._require_index(described)
            self._prepare()
        self._seen = _Seen(get_dimension(described), identity, when)
        return self._seen

    def _prepare(self) -> None:
        """Load the collection; in a folder also when its index was cut while it was written."""
        import pymilvus

        try:
            self._collection.prepare()
        except pymilvus.MilvusException:
            if self._folder is None or not self._folder.remove_indexes(self._collection.name):
                raise
            self._collection.prepare()

    def _require(self, dimension: int) -> None:
        """Make the collection for vectors of `dimension` when there is none."""
        if self._find(now=True) is None:
            self._collection.make(self._title, dimension)
            self._note_change()
            self._find(now=True)

    def _require_ours(self, described: dict[str, Any]) -> None:
        if (described.get("properties") or {}).get("rag_app") != FORMAT:
            raise StoreError(
                self.place,
                f"the collection {self._collection.name!r} was not written by this rag-app",
                "Choose another name, path or database.",
            )

    def _require_index(self, described: dict[str, Any]) -> None:
        """Refuse a collection whose index was made with other parameters."""
        known = json.loads(described["properties"]["index"])
        for name, asked in json.loads(self._index.describe()).items():
            if known.get(name) != asked:
                raise StoreError(
                    f"vector_store.{OPTIONS.get(name, name)}",
                    f"the collection was made with {known[name]}, the config asks for {asked}",
                    f"Set it to {known[name]}, or ingest into a new index.",
                )

    @contextmanager
    def _turn(self) -> Iterator[MilvusCollection]:
        """The collection, in a folder for this thread alone."""
        self._open()
        folder = self._folder
        with contextlib.nullcontext() if folder is None else folder.lock:
            if folder is not None:
                folder.require_there()
            yield self._collection

    @contextmanager
    def _writing(self, rows: int) -> Iterator[None]:
        """Write inside; afterwards everybody can read what was written."""
        if self._folder is None:
            yield
            self._collection.await_writes()
            return
        try:
            with self._folder.writing():
                yield
        finally:
            self._folder.note_write(self._collection.name, rows)

    def _note_change(self) -> None:
        self._seen = None
        if self._folder is not None:
            self._folder.note_change(self._collection.name)

    def _open(self) -> None:
        with self._lock:
            if self._closed:
                raise StoreError(self.place, f"{self._where} is closed", "Open the store again.")
            if self._client is not None:
                return
            config = self._config
            if config.url is None:
                self._folder = MilvusFolder.open(config.path)
                self._client = self._folder.client
            else:
                token = config.api_key.get_secret_value() if config.api_key else ""
                self._client = connect(config.url, token, config.database)
            self._collection = MilvusCollection(
                self._client,
                encode_name(self._title),
                self._index,
                told=config.url is not None,
                consistency=config.consistency.title(),
            )

    @property
    def _where(self) -> str:
        url = self._config.url
        return repr(str(self._config.path) if url is None else show_url(url))

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Milvus's errors in our words."""
        try:
            yield
        except RagAppError:
            raise
        except Exception as error:
            raise StoreError(
                self.place,
                f"Milvus at {self._where} failed: {tell(error)}",
                "Check that it is there, is Milvus's, may be written and has room; "
                "`rag-app check` tries it.",
            ) from error
