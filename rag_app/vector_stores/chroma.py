"""Chroma, in a folder or on a server: approximate search (HNSW) that scales beyond memory's scan.

In a folder one process writes at a time and nobody reads meanwhile; for more, run a server and give
its `url`. Filters that Chroma can express run inside it; for the others (order of strings,
substrings, lists, null, existence) the metadata is read first, then the matching rows are searched.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import field_validator, model_validator

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.options import OPERATIONAL, Field, FilePath, Options, Secret
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
    from collections.abc import Iterator, Sequence

    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Row
    from rag_app.store import Store

FORMAT: Final = 1
"""Version of what is written, kept in the collection's metadata."""


class Config(Options):
    """Options of the Chroma store."""

    path: FilePath = Field(
        Path(".rag/chroma"),
        description="The folder, made when absent. Not used with `url`.",
        json_schema_extra=OPERATIONAL,
    )
    url: str | None = Field(
        None,
        description="A Chroma server instead of a folder, as http://localhost:8000.",
        pattern=r"^https?://[^/]+/?$",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="Sent to the server in the header `api_key_header`.",
        json_schema_extra=OPERATIONAL,
    )
    api_key_header: str = Field(
        "x-chroma-token",
        description="The header for `api_key`; Chroma Cloud's by default.",
        json_schema_extra=OPERATIONAL,
    )
    tenant: str = Field(
        "default_tenant", description="The server's tenant.", json_schema_extra=OPERATIONAL
    )
    database: str = Field(
        "default_database", description="The server's database.", json_schema_extra=OPERATIONAL
    )
    max_neighbors: int = Field(
        16,
        ge=2,
        le=512,
        description="HNSW's M: links per vector; more finds more and takes more memory. "
        "Fixed when the collection is made. Chroma's default is 16.",
    )
    ef_construction: int = Field(
        100,
        ge=1,
        le=10_000,
        description="HNSW's candidates while building; more finds more and builds slower. "
        "Fixed when the collection is made. Chroma's default is 100.",
    )
    ef_search: int = Field(
        200,
        ge=1,
        le=10_000,
        description="HNSW's candidates while searching; more finds more and answers slower. A "
        "server takes a new value when it next loads the collection. Chroma's default is 100.",
    )

    @field_validator("url")
    @classmethod
    def _refuse_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            wrong = "a server's URL may not hold a user name or password"
            raise ValueError(f"{wrong}. Give the key as api_key, and its header as api_key_header.")
        return url

    @model_validator(mode="after")
    def _choose_one_place(self) -> Config:
        if self.url is not None and "path" in self.model_fields_set:
            raise ValueError("path and url exclude each other: give the one that is meant")
        return self


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is opened before it is first used."""
    import chromadb  # noqa: F401  # a missing package shows here, not at the first use

    from rag_app.store import Store

    return Store(ChromaRows(config, collection), embeddings)


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
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain():
            collection = self._find()
            return None if collection is None else int(collection.metadata["dimension"])

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. In as many batches as Chroma needs; each is written whole or not at all."""
        with self._explain(), self._writing():
            collection = self._require(len(rows[0].vector))
            size = self._open().get_max_batch_size()
            for start in range(0, len(rows), size):
                self._upsert(collection, rows[start : start + size])

    def query(
        self, vector: NDArray[np.float32], k: int, where: Node | None
    ) -> list[tuple[Row, float]]:
        """See `Rows`. Approximate: may miss a neighbour. The cosines are computed here, exactly."""
        with self._explain():
            collection = self._find()
            limit = [] if collection is None else self._restrict(collection, where)
            pages = [search(collection, vector, k, each) for each in limit]
            ranked = [
                (row, float(np.clip(row.vector @ vector, -1.0, 1.0)))
                for page in pages
                for row in page
            ]
            return sorted(ranked, key=lambda pair: (-pair[1], pair[0].id))[:k]

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        with self._explain():
            collection = self._find()
            if collection is None:
                return []
            pages = (list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE))
            return [row for page in pages for row in read(collection, page)]

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of the ids."""
        with self._explain():
            collection = self._find()
            ids = [] if collection is None else sorted(collection.get(include=[])["ids"])
        for start in range(0, len(ids), PAGE):
            yield from sorted(self.fetch(ids[start : start + PAGE]), key=lambda row: row.id)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._explain(), self._writing():
            collection = self._find()
            if collection is not None:
                size = self._open().get_max_batch_size()
                for start in range(0, len(ids), size):
                    collection.delete(ids=list(ids[start : start + size]))

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            collection = self._find()
            return 0 if collection is None else int(collection.count())

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain(), self._writing():
            if self._find() is not None:
                self._open().delete_collection(encode_name(self._name))

    def close(self) -> None:
        """See `Rows`."""
        with self._lock:
            folder, client = self._folder, self._client
            self._closed, self._folder, self._client = True, None, None
            if folder is not None:
                folder.release()
            elif client is not None:
                disconnect(client)

    def _upsert(self, collection: Any, rows: Sequence[Row]) -> None:
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

    def _find(self) -> Any:
        """The collection; None when it was not made yet."""
        import chromadb.errors

        try:
            collection = self._open().get_collection(
                encode_name(self._name), embedding_function=None
            )
        except chromadb.errors.NotFoundError:
            return None
        self._require_ours(collection)
        return collection

    def _require(self, dimension: int) -> Any:
        """The collection, made for vectors of `dimension` when there is none."""
        hnsw = self._config.model_dump(include={"max_neighbors", "ef_construction", "ef_search"})
        collection = self._open().get_or_create_collection(
            encode_name(self._name),
            configuration={"hnsw": {"space": "cosine", **hnsw}},
            metadata={"rag_app": FORMAT, "name": self._name, "dimension": dimension},
            embedding_function=None,
        )
        self._require_ours(collection)
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
            raise StoreError(
                self.place,
                f"Chroma at {self._where} failed: {error}",
                "Check that it is there, is Chroma's and may be written; `rag-app check` tries it.",
            ) from error
