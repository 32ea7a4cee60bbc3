"""Qdrant, in a folder, in memory or on a server: approximate search (HNSW) with filters inside it.

In a folder its engine runs in this process (`qdrant-edge-py`), for one process at a time; a server
or Qdrant Cloud (`url`) serves many. Both keep the same points, and nearly all filters run inside;
for substrings and the few others the metadata is read first, then the matching rows are searched.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import field_validator, model_validator

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.options import OPERATIONAL, Field, FilePath, Options, Secret
from rag_app.rows import rank
from rag_app.vector_stores._qdrant_filter import list_ordered, render
from rag_app.vector_stores._qdrant_points import (
    CONTENT,
    decode,
    encode,
    to_uuid,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row
    from rag_app.store import Store
    from rag_app.vector_stores._qdrant_points import Found, Points

PAGE: Final = 250
"""Rows that are read at a time."""

MOST: Final = 10_000
"""Ids in one question to Qdrant."""


class Config(Options):
    """Options of the Qdrant store."""

    path: FilePath | None = Field(
        Path(".rag/qdrant"),
        description="The folder, made when absent; it can hold several collections. null keeps "
        "everything for this process and forgets it at the end. Not used with `url`.",
        json_schema_extra=OPERATIONAL,
    )
    url: str | None = Field(
        None,
        description="A Qdrant server instead of a folder, as http://localhost:6333; without a "
        "port it is 6333.",
        pattern=r"^https?://[^/?#]+(/[^?#]*)?$",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The server's key, or Qdrant Cloud's.",
        json_schema_extra=OPERATIONAL,
    )
    timeout: int = Field(
        30,
        ge=1,
        le=3600,
        description="How long a server may take to answer a request; to connect it has 10 at most.",
        json_schema_extra=OPERATIONAL,
    )
    m: int = Field(
        16,
        ge=4,
        le=512,
        description="HNSW's M: links per vector; more finds more and takes more memory. "
        "Fixed when the collection is made. Qdrant's default is 16.",
    )
    ef_construction: int = Field(
        100,
        ge=4,
        le=10_000,
        description="HNSW's candidates while building; more finds more and builds slower. "
        "Fixed when the collection is made. Qdrant's default (`ef_construct`) is 100.",
    )
    ef_search: int = Field(
        200,
        ge=1,
        le=10_000,
        description="HNSW's candidates while searching; more finds more and answers slower. "
        "Qdrant's default (`hnsw_ef`) is `ef_construct`'s value.",
    )
    full_scan_threshold: int = Field(
        10_000,
        ge=10,
        le=100_000_000,
        description="Kilobytes of vectors below which all of them, or all that pass a filter, are "
        "compared without the graph. Fixed when the collection is made. Qdrant's default is 10000.",
    )

    @field_validator("url")
    @classmethod
    def _refuse_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            wrong = "a server's URL may not hold a user name or password"
            raise ValueError(f"{wrong}. Give the key as api_key.")
        return url

    @model_validator(mode="after")
    def _choose_one_place(self) -> Config:
        if self.url is not None and "path" in self.model_fields_set:
            raise ValueError("path and url exclude each other: give the one that is meant")
        if self.url is None and self.api_key is not None:
            raise ValueError("api_key is a server's: give its url too, or leave the key out")
        return self


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is opened before it is first used."""
    from rag_app.store import Store

    return Store(QdrantRows(_choose(config, collection), config), embeddings)


def _choose(config: Config, collection: str) -> Points:
    """Where the points are. A missing package shows here, not at the first use."""
    options = config.model_dump(exclude={"path", "url", "api_key"})
    if config.url is not None:
        import qdrant_client  # noqa: F401

        from rag_app.vector_stores._qdrant_server import ServerPoints

        key = config.api_key.get_secret_value() if config.api_key else None
        return ServerPoints(config.url, key, collection, options)
    import qdrant_edge  # noqa: F401

    from rag_app.vector_stores._qdrant_folder import FolderPoints

    return FolderPoints(config.path, collection, options)


class QdrantRows:
    """`Rows` on Qdrant's points; the collection is made at the first upsert."""

    place = "vector_store.qdrant"

    def __init__(self, points: Points, config: Config) -> None:
        self._points = points
        self.persistent = config.url is not None or config.path is not None

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain():
            return self._points.dimension

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. In batches, each of which is written whole or not at all."""
        with self._explain():
            self._points.require(len(rows[0].vector))
            self._points.upsert(map(encode, rows))

    def query(self, vector: NDArray[np.float32], k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. Approximate: may miss a neighbour."""
        with self._explain():
            limits = self._restrict(where)
            return rank((each for limit in limits for each in self._search(vector, k, limit)), k)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        with self._explain():
            uuids = [to_uuid(id) for id in ids]
            pages = (uuids[start : start + PAGE] for start in range(0, len(uuids), PAGE))
            return [row for page in pages for row in decode(self._points.read(page))]

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of their UUIDs; rows written meanwhile may come too."""
        for page in self._list_pages(None, CONTENT, vectors=True):
            yield from decode(page)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._explain():
            self._points.delete([to_uuid(id) for id in ids])

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            return self._points.count(None)

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain():
            self._points.drop()

    def close(self) -> None:
        """See `Rows`."""
        with self._explain():
            self._points.close()

    def _search(
        self, vector: NDArray[np.float32], k: int, where: dict[str, Any] | None
    ) -> list[Neighbour]:
        """The graph may lead to fewer than `k` although there are more: then all are compared."""
        found = self._points.search(vector, k, where, exact=False)
        return found if len(found) >= k else self._points.search(vector, k, where, exact=True)

    def _restrict(self, node: Node | None) -> Iterator[dict[str, Any] | None]:
        """What limits searches to the rows that match: the filter of each search needed."""
        rendered = render(node)
        self._make_indexes(rendered.where)
        if rendered.where is False:
            return
        where = None if rendered.where is True else {"must": [rendered.where]}
        if rendered.exact:
            yield where
            return
        pages = self._list_pages(where, ("id", "metadata"), vectors=False)
        ids = [
            found.payload["id"]
            for page in pages
            for found in page
            if matches(node, json.loads(found.payload["metadata"]))
        ]
        for start in range(0, len(ids), MOST):
            yield {"must": [{"has_id": [to_uuid(id) for id in ids[start : start + MOST]]}]}

    def _make_indexes(self, where: Any) -> None:
        """Order is asked of an index, which the first filter on a field that is there makes."""
        if ordered := list_ordered(where):
            self._points.index(ordered)

    def _list_pages(
        self, where: dict[str, Any] | None, names: Sequence[str], *, vectors: bool
    ) -> Iterator[list[Found]]:
        start = None
        while True:
            with self._explain():
                page, start = self._points.list_page(
                    where, start, PAGE, names=names, vectors=vectors
                )
            yield page
            if start is None:
                return

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Qdrant's errors in our words."""
        try:
            yield
        except RagAppError:
            raise
        except Exception as error:
            raise StoreError(
                self.place,
                f"Qdrant at {self._points.where} failed: {error}",
                "Check that it is there, is Qdrant's and may be written; `rag-app check` tries it.",
            ) from error
