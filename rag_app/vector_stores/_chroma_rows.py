"""`Rows` on a Chroma collection."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.rows import rank, wrong_dimension
from rag_app.urls import show_url
from rag_app.vector_stores._chroma_collection import (
    PAGE,
    encode_name,
    list_metadata,
    read,
    search,
    set_ef_search,
)
from rag_app.vector_stores._chroma_filter import MOST, encode, render
from rag_app.vector_stores._chroma_folder import ChromaFolder
from rag_app.vector_stores._chroma_server import connect, disconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row
    from rag_app.vector_stores.chroma import Config

T = TypeVar("T")

FORMAT: Final = 1
"""Version of what is written, kept in the collection's metadata."""

SECONDS_KNOWN: Final = 1.0
"""How long a server's word on a collection's dimension is believed."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A collection as it was looked up, when, and at which count of those made and dropped."""

    collection: Any
    made: int
    when: float


class ChromaRows:
    """`Rows` on a Chroma collection, which is made at the first upsert."""

    place = "vector_store.chroma"
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._name = collection
        self._lock = threading.RLock()
        self._folder: ChromaFolder | None = None
        self._client: Any = None
        self._metadata: tuple[int, list[tuple[str, dict[str, Any]]]] | None = None
        self._found: _Found | None = None
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`. Of a server it may be `SECONDS_KNOWN` old, when another client dropped it."""
        with self._explain():
            collection = self._find(SECONDS_KNOWN)
            return None if collection is None else int(collection.metadata["dimension"])

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. In as many batches as Chroma needs; each is written whole or not at all."""
        with self._explain(), self._writing():
            size = self._open().get_max_batch_size()
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                if not self._ask(partial(_upsert, rows=batch), False):
                    _upsert(self._make(len(rows[0].vector)), batch)

    def query(self, vector: NDArray[np.float32], k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. Approximate: may miss a neighbour."""
        with self._explain():
            nothing: list[Neighbour] = []
            found = self._ask(partial(self._query, vector=vector, k=k, where=where), nothing)
            return rank(found, k)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        pages = [list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE)]
        with self._explain():
            return self._ask(lambda held: [row for page in pages for row in read(held, page)], [])

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of the ids."""
        with self._explain():
            ids = self._ask(_list_ids, list[str]())
        for start in range(0, len(ids), PAGE):
            yield from sorted(self.fetch(ids[start : start + PAGE]), key=lambda row: row.id)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._explain(), self._writing():
            size = self._open().get_max_batch_size()
            for start in range(0, len(ids), size):
                part = list(ids[start : start + size])
                self._ask(partial(_delete, ids=part), None)

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            return self._ask(lambda collection: int(collection.count()), 0)

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain(), self._writing():
            if self._find(0) is not None:
                self._open().delete_collection(encode_name(self._name))
                self._forget()

    def close(self) -> None:
        """See `Rows`."""
        with self._lock:
            folder, client = self._folder, self._client
            self._closed, self._folder, self._client, self._found = True, None, None, None
            if folder is not None:
                folder.release()
            elif client is not None:
                disconnect(client)

    def _query(
        self, collection: Any, vector: NDArray[np.float32], k: int, where: Node | None
    ) -> list[Neighbour]:
        if (dimension := collection.metadata["dimension"]) != len(vector):
            raise wrong_dimension("the query vector", len(vector), dimension, self.place)
        limits = self._restrict(collection, where)
        return [each for limit in limits for each in search(collection, vector, k, limit)]

    def _restrict(self, collection: Any, node: Node | None) -> list[dict[str, Any]]:
        """What limits searches to the rows that match: the arguments of each search needed."""
        rendered = render(node)
        if rendered.where is False:
            return []
        where = {} if rendered.where is True else {"where": rendered.where}
        if rendered.exact:
            return [where]
        pairs = self._list_metadata(collection, where)
        ids = [id for id, metadata in pairs if matches(node, metadata)]
        return [{"ids": ids[start : start + MOST]} for start in range(0, len(ids), MOST)]

    def _list_metadata(
        self, collection: Any, limit: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """At least the rows that `limit` lets pass. In a folder, where all writers are known, the
        metadata is read once and kept until the next write."""
        if self._folder is None:
            return list_metadata(collection, limit)
        revision = self._folder.revision
        if self._metadata is None or self._metadata[0] != revision:
            self._metadata = revision, list_metadata(collection, {})
        return self._metadata[1]

    def _ask(self, use: Callable[[Any], T], otherwise: T) -> T:
        """`use` of the collection, or `otherwise` when there is none.

        A collection that another client dropped is looked up again: it may have been made anew.
        """
        import chromadb.errors

        collection = self._find()
        if collection is None:
            return otherwise
        try:
            return use(collection)
        except chromadb.errors.NotFoundError:
            collection = self._find(0)
            return otherwise if collection is None else use(collection)

    def _find(self, seconds: float = math.inf) -> Any:
        """The collection; None when it was not made yet.

        What a server said is believed for `seconds`: a collection that was dropped since answers
        no more. In a folder all writers are known, so that nothing is believed that is not so.
        """
        import chromadb.errors

        client = self._open()
        known, made = self._found, self._folder.made if self._folder else 0
        if known is not None and known.made == made:
            age = -1.0 if self._folder else time.monotonic() - known.when
            if age < seconds:
                return known.collection
        self._found = None
        when = time.monotonic()
        try:
            collection = client.get_collection(encode_name(self._name), embedding_function=None)
        except chromadb.errors.NotFoundError:
            return None
        self._require_ours(collection)
        self._found = _Found(collection, made, when)
        return collection

    def _forget(self) -> None:
        """The collection was made or dropped."""
        self._found = None
        if self._folder is not None:
            self._folder.made += 1

    def _make(self, dimension: int) -> Any:
        """The collection, made for vectors of `dimension` when there is none."""
        hnsw = self._config.model_dump(include={"max_neighbors", "ef_construction", "ef_search"})
        collection = self._open().get_or_create_collection(
            encode_name(self._name),
            configuration={"hnsw": {"space": "cosine", **hnsw}},
            metadata={"rag_app": FORMAT, "name": self._name, "dimension": dimension},
            embedding_function=None,
        )
        self._require_ours(collection)
        self._forget()
        return collection

    def _require_ours(self, collection: Any) -> None:
        """Refuse a collection that is not ours, or was made with another graph."""
        if (collection.metadata or {}).get("rag_app") != FORMAT:
            raise StoreError(
                self.place,
                f"the collection {collection.name!r} was not written by this rag-app",
                "Choose another name, path or database.",
            )
        made = collection.configuration_json["hnsw"]
        for option in ("max_neighbors", "ef_construction"):
            if made[option] != (asked := getattr(self._config, option)):
                raise StoreError(
                    f"vector_store.{option}",
                    f"the collection was made with {made[option]}, the config asks for {asked}",
                    f"Set it to {made[option]}, or ingest into a new index.",
                )
        if made["ef_search"] != self._config.ef_search:
            set_ef_search(collection, self._config.ef_search)

    def _open(self) -> Any:
        with self._lock:
            if self._closed:
                raise StoreError(self.place, f"{self._where} is closed", "Open the store again.")
            if self._client is not None:
                return self._client
            if self._config.url is None:
                self._folder = ChromaFolder.open(self._config.path)
                self._client = self._folder.client
            else:
                self._client = connect(
                    self._config.url, self._headers(), self._config.tenant, self._config.database
                )
            return self._client

    def _headers(self) -> dict[str, str]:
        key = self._config.api_key
        return {self._config.api_key_header: key.get_secret_value()} if key else {}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._open()
        if self._folder is None:
            yield
        else:
            with self._folder.writing():
                yield

    @property
    def _where(self) -> str:
        url = self._config.url
        return repr(str(self._config.path) if url is None else show_url(url))

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Chroma's errors in our words."""
        try:
            yield
        except RagAppError:
            raise
        except Exception as error:
            remedy = (
                "Check that it is there, is Chroma's and may be written; `rag-app check` tries it."
            )
            if "hnsw segment" in str(error):  # its files are not written whole or not at all
                remedy = (
                    "Chroma's own search index is damaged, as by a kill while it was written. To "
                    "make it anew, run: rag-app ingest --rebuild"
                )
            raise StoreError(
                self.place, f"Chroma at {self._where} failed: {error}", remedy
            ) from error


def _list_ids(collection: Any) -> list[str]:
    return sorted(collection.get(include=[])["ids"])


def _delete(collection: Any, ids: list[str]) -> None:
    collection.delete(ids=ids)


def _upsert(collection: Any, rows: Sequence[Row]) -> bool:
    ids = [row.id for row in rows]
    held = collection.get(ids=ids, include=["metadatas"])
    old = dict(zip(held["ids"], held["metadatas"], strict=True))
    collection.upsert(
        ids=ids,
        embeddings=np.stack([row.vector for row in rows]),
        documents=[row.text for row in rows],
        # Chroma merges metadata: a key that is to go must be given as None.
        metadatas=[{**dict.fromkeys(old.get(r.id) or ()), **encode(r.metadata)} for r in rows],
    )
    return True
