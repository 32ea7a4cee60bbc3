"""Pinecone, a service: approximate search in a serverless index, on the vendor's own client (REST).

Protocol: https://docs.pinecone.io/reference/api/2026-07. The config alone says where a key goes:
`PINECONE_CONTROLLER_HOST` and `PINECONE_ADDITIONAL_HEADERS` have no effect, and `PINECONE_API_KEY`
is sent to Pinecone only.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from rag_app.errors import RagAppError, StoreError
from rag_app.options import OPERATIONAL, Field, Options, Secret
from rag_app.rows import wrong_dimension
from rag_app.urls import show_url
from rag_app.vector_stores._pinecone_namespace import (
    delete_records,
    fetch_rows,
    scan_rows,
    search,
    write_rows,
)
from rag_app.vector_stores._pinecone_project import (
    PLACE,
    Collection,
    PineconeProject,
    count_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_core.embeddings import Embeddings

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row, Vector
    from rag_app.store import Store

_KEY_VARIABLE: Final = "PINECONE_API_KEY"
_ADDRESS: Final = "https://api.pinecone.io"


class Config(Options):
    """Options of the Pinecone store."""

    api_key: Secret | None = Field(
        None,
        description="The project's key, as ${VARIABLE}. Left out, it is the variable "
        "PINECONE_API_KEY for Pinecone itself, and none for any other url.",
        json_schema_extra=OPERATIONAL,
    )
    index_name: str = Field(
        "rag-app",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,35}[a-z0-9])?$",
        description="What the names of the indexes begin with. Each dimension has an index of its "
        "own, made when it is first needed: rag-app-384.",
        json_schema_extra=OPERATIONAL,
    )
    cloud: Literal["aws", "gcp", "azure"] = Field(
        "aws",
        description="The cloud of the index. Fixed when the index is made.",
        json_schema_extra=OPERATIONAL,
    )
    region: str = Field(
        "us-east-1",
        min_length=1,
        description="The region of the index. Fixed when the index is made.",
        json_schema_extra=OPERATIONAL,
    )
    url: str = Field(
        _ADDRESS,
        pattern=r"^https?://[^/]+/?$",
        description="Where Pinecone's control plane is: a gateway or a server of its protocol.",
        json_schema_extra=OPERATIONAL,
    )
    timeout: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Seconds that the service may be silent.",
        json_schema_extra=OPERATIONAL,
    )
    wait_for_writes: bool = Field(
        True,
        description="Return from a write when searches see it. False returns earlier; what was "
        "written is then found after some seconds.",
        json_schema_extra=OPERATIONAL,
    )
    wait_seconds: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="How long to wait for a new index to be ready, and for a write to be seen.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        """So that the variable may stand in a `.env` file, which only the config's reader knows."""
        key = (info.context or {}).get("environment", {}).get(_KEY_VARIABLE)
        if not key or not isinstance(given, dict) or given.get("api_key"):
            return given
        return {**given, "api_key": key} if _is_pinecone(given.get("url")) else given

    @field_validator("url")
    @classmethod
    def _refuse_password(cls, url: str) -> str:
        if "@" in url:
            wrong = "a server's URL may not hold a user name or password"
            raise ValueError(f"{wrong}. Give the key as api_key.")
        return url


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is sent before it is first used.

    Raises:
        StoreError: Pinecone itself is meant, and there is no key.
    """
    import pinecone  # noqa: F401  # a missing package shows here, not at the first use

    from rag_app.store import Store

    return Store(PineconeRows(_with_key(config), collection), embeddings)


class PineconeRows:
    """`Rows` in a namespace of a Pinecone index, which is made at the first upsert."""

    place = PLACE
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._name = collection
        self._lock = threading.RLock()
        self._project: PineconeProject | None = None
        self._held: Collection | None = None
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain():
            held = self._find()
            return None if held is None else held.dimension

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. In as many requests as Pinecone needs, each written whole or not at all."""
        with self._explain():
            held = self._require(rows[0])
            self._held = write_rows(self._open(), held, self._name, rows)

    def query(self, vector: Vector, k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. Approximate: may miss a neighbour. The cosines are computed here, exactly."""

        def read(held: Collection) -> list[Neighbour]:
            if held.dimension != len(vector):
                raise wrong_dimension("the query vector", len(vector), held.dimension, self.place)
            return search(held, vector, k, where)

        return self._read(read) or []

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        return self._read(lambda held: list(fetch_rows(held, ids))) or []

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of the records' ids."""
        with self._explain():
            held = self._refresh()
            if held is not None:
                yield from scan_rows(held)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._explain():
            if held := self._refresh():
                delete_records(self._open(), held, ids)

    def count(self) -> int:
        """See `Rows`. As Pinecone's own statistics say."""
        return self._read(lambda held: count_records(held.index, held.rows)) or 0

    def drop(self) -> None:
        """See `Rows`. The index stays, for other collections of its dimension."""
        with self._explain():
            if held := self._refresh():
                self._open().drop(held, self._name)
            self._held = None

    def close(self) -> None:
        """See `Rows`."""
        with self._lock:
            project, self._project, self._held = self._project, None, None
            self._closed = True
            if project is not None:
                project.close()

    def _read(self, read: Callable[[Collection], Any]) -> Any:
        """What `read` finds in the collection, None without one. When it finds nothing, the
        collection may have been dropped or made anew elsewhere: it is looked up again."""
        with self._explain():
            held = self._find()
            if held is None:
                return None
            if found := read(held):
                return found
            current = self._refresh()
            moved = current is not None and current.dimension != held.dimension
            return read(current) if current is not None and moved else found

    def _find(self) -> Collection | None:
        """The collection as last seen; looked up when it was not."""
        project = self._open()
        if self._held is None:
            self._held = project.find(self._name)
        return self._held

    def _refresh(self) -> Collection | None:
        """The collection as it is now."""
        project, held = self._open(), self._held
        self._held = project.refresh(held, self._name) if held else project.find(self._name)
        return self._held

    def _require(self, row: Row) -> Collection:
        """The collection, made for vectors like that of `row` when there is none."""
        dimension = len(row.vector)
        with self._lock:
            held = self._refresh() or self._open().make(self._name, dimension)
            self._held = held
        if held.dimension != dimension:
            what = f"the vector of {row.id!r}"
            raise wrong_dimension(what, dimension, held.dimension, self.place)
        return held

    def _open(self) -> PineconeProject:
        with self._lock:
            if self._closed:
                wrong = f"Pinecone at {show_url(self._config.url)!r} is closed"
                raise StoreError(self.place, wrong, "Open the store again.")
            if self._project is None:
                self._project = PineconeProject(self._config)
            return self._project

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Pinecone's errors in our words."""
        try:
            yield
        except RagAppError:
            raise
        except Exception as error:
            wrong = f"Pinecone at {show_url(self._config.url)!r} failed: {self._tell(error)}"
            raise StoreError(self.place, wrong, _remedy(error)) from error

    def _tell(self, error: Exception) -> str:
        """The error's words, without the key that a server may repeat in them."""
        words = " ".join(str(error).split())
        key = self._config.api_key.get_secret_value() if self._config.api_key else ""
        return (words.replace(key, "…") if key else words)[:500].rstrip(".")


def _with_key(config: Config) -> Config:
    import os

    if config.api_key or not _is_pinecone(config.url):
        return config
    if key := os.environ.get(_KEY_VARIABLE):
        return config.model_copy(update={"api_key": Secret(key)})
    raise StoreError(
        "vector_store.api_key",
        f"environment variable {_KEY_VARIABLE} is not set",
        "Set it, or choose a store on this machine: vector_store: memory.",
    )


def _is_pinecone(address: Any) -> bool:
    return address is None or (
        isinstance(address, str)
        and re.fullmatch(r"https://([\w-]+\.)*pinecone\.io(:443)?/?", address, re.I) is not None
    )


def _remedy(error: Exception) -> str:
    from pinecone import errors

    match error:
        case errors.UnauthorizedError():
            return "Check vector_store.api_key: the key of the project, as its console shows it."
        case errors.ForbiddenError() | errors.PaymentRequiredError():
            return "See what the project's plan and the key's role allow, in Pinecone's console."
        case errors.RateLimitError():
            return "Wait, send less at a time, or raise the project's limits."
        case errors.PineconeTimeoutError():
            return "Check the network, or raise vector_store.timeout."
        case errors.PineconeConnectionError():
            return "Check the network and vector_store.url; `rag-app check` tries it."
    return "See https://status.pinecone.io; `rag-app check` tries it."
