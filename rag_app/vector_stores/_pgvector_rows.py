"""`Rows` on PostgreSQL with pgvector."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from pgvector import Vector
from psycopg import errors

from rag_app.errors import StoreError
from rag_app.rows import rank, wrong_dimension
from rag_app.urls import show_url
from rag_app.vector_stores._pgvector_collection import Collections
from rag_app.vector_stores._pgvector_connections import Connections, hide_secrets
from rag_app.vector_stores._pgvector_filter import Condition
from rag_app.vector_stores._pgvector_statements import (
    COLUMNS,
    PAGE,
    cut,
    encode_keys,
    read,
    search,
    write,
)
from rag_app.vector_stores._pgvector_wire import Encoded, make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row
    from rag_app.vector_stores._pgvector_collection import Collection
    from rag_app.vector_stores._pgvector_connections import Connection
    from rag_app.vector_stores.pgvector import Config

MOST_SCANNED: Final = 20_000
"""Rows that the index may visit for one query before all are read instead; pgvector's default."""

SECONDS_KNOWN: Final = 1.0
"""How long what is known of a collection counts without asking again."""

T = TypeVar("T")


class PgvectorRows:
    """`Rows` on one collection, whose table is made at the first upsert."""

    place = "vector_store.pgvector"
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._name = collection
        self._url = config.url.get_secret_value()
        own = {"hnsw": ("m", "ef_construction"), "ivfflat": ("lists",), "none": ()}[config.index]
        self._fixed = {"index": config.index, **{name: getattr(config, name) for name in own}}
        self._collections = Collections(config.schema_name)
        self._connections = Connections(
            self._url, config.connections, config.timeout, _list_settings(config)
        )
        self._known: tuple[Collection, float] | None = None  # and when it was read

    @property
    def dimension(self) -> int | None:
        """See `Rows`. May be `SECONDS_KNOWN` old when another opening dropped the collection."""
        known = self._known
        if known is not None and time.monotonic() - known[1] < SECONDS_KNOWN:
            return known[0].dimension
        with self._explain(), self._connections.lend() as connection:
            collection = self._find(connection)
            return None if collection is None else collection.dimension

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. One transaction: all rows are written or none."""
        ordered = sorted(((make_key(row.id), row) for row in rows), key=lambda pair: pair[0])
        pages = list(cut(ordered))

        def put(connection: Connection, collection: Collection | None) -> bool:
            with connection.transaction():
                if collection is None:
                    collection = self._make(connection, len(rows[0].vector))
                self._require_dimension(rows, collection)
                for page in pages:
                    write(connection, collection, page)
            return self._is_index_due(connection, collection)

        with self._explain():
            if self._run(put, reads=False):
                with self._connections.lend() as connection:
                    self._collections.build_index(connection, self._name)
                self._known = None

    def query(self, vector: NDArray[np.float32], k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. The index may miss a neighbour."""
        condition = None if where is None else Condition(where)
        bound = Encoded(Vector(vector).to_binary())

        def find(connection: Connection, collection: Collection | None) -> list[Neighbour]:
            if collection is None:
                return []
            all_is_less = where is not None and collection.size <= MOST_SCANNED
            if collection.indexed and k < MOST_SCANNED and not all_is_less:
                found = search(connection, collection, bound, k, condition, exact=False)
                if len(found) >= k:
                    return found
            # The index gives up when it saw too many that do not match; reading all does not.
            return search(connection, collection, bound, k, condition, exact=True)

        with self._explain():
            return rank(self._run(find, reads=True), k)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""

        def get(connection: Connection, collection: Collection | None) -> list[Row]:
            if collection is None:
                return []
            query = f"SELECT {COLUMNS} FROM {collection.table} WHERE key = ANY(%s::uuid[])"
            return [
                row
                for start in range(0, len(ids), PAGE)
                for row in read(connection, query, [encode_keys(ids[start : start + PAGE])])
            ]

        with self._explain():
            return self._run(get, reads=True)

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of the keys; rows written meanwhile may come too."""
        last = bytes(16)
        while page := self._read_page(last):
            yield from page
            last = make_key(page[-1].id)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`. One transaction."""

        def remove(connection: Connection, collection: Collection | None) -> None:
            if collection is None:
                return
            # Locked in one order, so that two who remove the same rows never wait for each other.
            query = (
                f"DELETE FROM {collection.table} WHERE key IN (SELECT key FROM {collection.table}"
                " WHERE key = ANY(%s::uuid[]) ORDER BY key FOR UPDATE)"
            )
            with connection.transaction():
                for start in range(0, len(ids), PAGE):
                    connection.execute(query.encode(), [encode_keys(ids[start : start + PAGE])])

        with self._explain():
            self._run(remove, reads=False)

    def count(self) -> int:
        """See `Rows`."""

        def measure(connection: Connection, collection: Collection | None) -> int:
            if collection is None:
                return 0
            query = f"SELECT count(*) FROM {collection.table}"
            return int(connection.execute(query.encode()).fetchall()[0][0])

        with self._explain():
            return self._run(measure, reads=True)

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain(), self._connections.lend() as connection, connection.transaction():
            self._collections.drop(connection, self._name)
        self._known = None

    def close(self) -> None:
        """See `Rows`."""
        self._connections.close()

    def _run(self, work: Callable[[Connection, Collection | None], T], *, reads: bool) -> T:
        """What `work` makes of the collection, which others may drop and make anew meanwhile.

        What only reads is done again when its connection broke; whether a write was done before
        that is unknown, so it is an error.
        """
        broken = False
        for _ in range(4):
            with self._connections.lend() as connection:
                try:
                    known = self._known
                    collection = self._find(connection) if known is None else known[0]
                    return work(connection, collection)
                except errors.UndefinedTable:
                    self._known = None
                except psycopg.OperationalError:
                    if broken or not reads or not connection.broken:
                        raise
                    broken = True
        raise StoreError(
            self.place, f"the collection {self._name!r} is dropped again and again", "Try later."
        )

    def _find(self, connection: Connection) -> Collection | None:
        collection = self._collections.find(connection, self._name)
        if collection is not None:
            self._require_fixed(collection)
        self._known = None if collection is None else (collection, time.monotonic())
        return collection

    def _make(self, connection: Connection, dimension: int) -> Collection:
        collection = self._collections.make(connection, self._name, dimension, self._fixed)
        self._require_fixed(collection)  # somebody else may have made it just now
        return collection

    def _require_fixed(self, collection: Collection) -> None:
        """Refuse a collection that was made with another index."""
        for option in {**collection.fixed, **self._fixed}:
            made, asked = collection.fixed.get(option), getattr(self._config, option)
            if made is not None and made != asked:
                raise StoreError(
                    f"vector_store.{option}",
                    f"the collection was made with {made}, the config asks for {asked}",
                    f"Set it to {made}, or ingest into a new index.",
                )

    def _require_dimension(self, rows: Sequence[Row], collection: Collection) -> None:
        for row in rows:
            if len(row.vector) != collection.dimension:
                what = f"the vector of {row.id!r}"
                raise wrong_dimension(what, len(row.vector), collection.dimension, self.place)

    def _is_index_due(self, connection: Connection, collection: Collection) -> bool:
        if collection.indexed or self._config.index == "none":
            return False
        least = self._config.exact_below
        query = f"SELECT count(*) FROM (SELECT FROM {collection.table} LIMIT {least}) AS first"
        return int(connection.execute(query.encode()).fetchall()[0][0]) >= least

    def _read_page(self, last: bytes) -> list[Row]:
        def get(connection: Connection, collection: Collection | None) -> list[Row]:
            if collection is None:
                return []
            query = (
                f"SELECT {COLUMNS} FROM {collection.table} WHERE key > %s::uuid"
                f" ORDER BY key LIMIT {PAGE}"
            )
            return read(connection, query, [Encoded(last)])

        with self._explain():
            return self._run(get, reads=True)

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """PostgreSQL's errors in our words."""
        try:
            yield
        except psycopg.Error as error:
            said = error.diag.message_primary or str(error).strip() or type(error).__name__
            said = hide_secrets(" ".join(said.split()), self._url)
            where = f"PostgreSQL at {show_url(self._url)!r}"
            raise StoreError(
                self.place, f"{where} failed: {said}", _find_remedy(error, said)
            ) from error


def _list_settings(config: Config) -> dict[str, str]:
    """What each session is set to, so that a search with a filter goes on until it has enough.

    In relaxed order it finds more than in strict order, and the rows are sorted here anyway.
    """
    return {
        "hnsw.ef_search": str(config.ef_search),
        "hnsw.iterative_scan": "relaxed_order",
        "hnsw.max_scan_tuples": str(MOST_SCANNED),
        "ivfflat.probes": str(config.probes),
        "ivfflat.iterative_scan": "relaxed_order",
    }


def _find_remedy(error: psycopg.Error, said: str) -> str:
    match error:
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return "Raise vector_store.timeout, or see who holds it up (pg_stat_activity)."
        case errors.InsufficientPrivilege():
            return (
                "Grant the role that right, or set vector_store.schema_name to a schema of its own."
            )
        case errors.ReadOnlySqlTransaction():
            return "Give the URL of the primary server; this one is for reading only."
        case errors.DiskFull() | errors.OutOfMemory():
            return "Make room on the server."
    if "authentication failed" in said or "role" in said or "no password" in said:
        return "Check the user and the password in vector_store.url."
    if isinstance(error, psycopg.OperationalError):
        return "Check that the server runs and that vector_store.url leads to it."
    return "Check the database with psql; `rag-app check` tries the store."
