"""`Rows` on a Weaviate collection."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.rows import compare, rank
from rag_app.urls import show_url
from rag_app.vector_stores._weaviate_client import (
    Connection,
    UnreachableError,
    connect,
    grpc_url,
)
from rag_app.vector_stores._weaviate_collection import (
    PLACE,
    Made,
    encode_id,
    encode_name,
    find,
    make,
    to_row,
)
from rag_app.vector_stores._weaviate_filter import render
from rag_app.vector_stores._weaviate_search import (
    MOST,
    cut,
    list_metadata,
    read,
    search,
    search_within,
    walk,
)
from rag_app.vector_stores._weaviate_writing import pack, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row
    from rag_app.vector_stores.weaviate import Config

FRESH_SECONDS: Final = 10.0
"""How long a collection is taken for what it was. After an error it is looked at anew."""


class WeaviateRows:
    """`Rows` on a Weaviate collection, which is made at the first upsert."""

    place = PLACE
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._name = collection
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._made: tuple[Made, float] | None = None
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain():
            made = self._find()
            return None if made is None else made.dimension

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. In batches; of each, the rows that Weaviate refuses are an error."""
        with self._explain():
            batches = pack(rows, self._open().message_bytes)
            write(self._require(len(rows[0].vector)).handle, batches)

    def query(self, vector: NDArray[np.float32], k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. Approximate: may miss a neighbour."""
        with self._explain():
            return rank(self._reading(lambda made: self._search(made, vector, k, where), []), k)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        with self._explain():
            rows: list[Row] = self._reading(
                lambda made: [row for page in cut(ids) for row in read(made.handle, page)], []
            )
            return rows

    def scan(self) -> Iterator[Row]:
        """See `Rows`. In the order of Weaviate's ids."""
        with self._explain():
            made = self._find(anew=True)
        if made is None:
            return
        pages = walk(made.handle)
        while True:
            with self._explain():
                page = next(pages, None)
            if page is None:
                return
            yield from map(to_row, page)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        from weaviate.classes.query import Filter

        with self._explain():
            made = self._find(anew=True)
            for page in cut(ids) if made is not None else ():
                assert made is not None
                where = Filter.by_id().contains_any(list(map(encode_id, page)))
                done = made.handle.data.delete_many(where=where)
                if done.failed:
                    wrong = f"Weaviate at {self._where} deleted {done.successful} of {done.matches}"
                    raise StoreError(self.place, wrong, "Try again; see Weaviate's log for why.")

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            count = self._reading(
                lambda made: made.handle.aggregate.over_all(total_count=True).total_count, 0
            )
            return int(count)

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain():
            if self._find(anew=True) is not None:
                self._open().client.collections.delete(encode_name(self._name))
                self._made = None

    def close(self) -> None:
        """See `Rows`."""
        with self._lock:
            connection, self._connection, self._closed = self._connection, None, True
            if connection is not None:
                connection.client.close()

    # Reading.

    def _search(
        self, made: Made, vector: NDArray[np.float32], k: int, node: Node | None
    ) -> list[Neighbour]:
        """At least the `k` nearest rows that match, in any order."""
        where = True if node is None else render(node, self._open().can_negate)
        if where is False:
            return []
        if k > MOST:
            rows = (to_row(each) for page in walk(made.handle) for each in page)
            return compare([row for row in rows if matches(node, row.metadata)], vector)
        found = search(made, vector, k, None if where is True else where)
        matching = [each for each in found if matches(node, each.metadata)]
        if len(matching) == len(found) or len(found) < k:
            return matching
        ids = [id for id, held in list_metadata(made.handle, where) if matches(node, held)]
        return search_within(made, vector, k, ids)

    def _reading(self, use: Callable[[Made], Any], otherwise: Any) -> Any:
        """What `use` makes of the collection; `otherwise` when there is none, or no more."""
        from weaviate.exceptions import WeaviateQueryError

        made = self._find()
        if made is None:
            return otherwise
        try:
            return use(made)
        except WeaviateQueryError:
            if self._find(anew=True) is None:
                return otherwise  # another process has dropped it
            raise

    # The collection and its server.

    def _find(self, *, anew: bool = False) -> Made | None:
        """The collection; None when it was not made yet."""
        connection = self._open()
        held = self._made
        if held is not None and not anew and time.monotonic() - held[1] < FRESH_SECONDS:
            return held[0]
        made = find(connection.client, self._name, self._config)
        self._made = None if made is None else (made, time.monotonic())
        return made

    def _require(self, dimension: int) -> Made:
        """The collection, made for vectors of `dimension` when there is none.

        It is looked for anew: a write to one that is gone would make Weaviate guess a schema.
        """
        if (made := self._find(anew=True)) is None:
            make(self._open().client, self._name, dimension, self._config)
            made = self._find(anew=True)
        assert made is not None
        return made

    def _open(self) -> Connection:
        with self._lock:
            if self._closed:
                raise StoreError(self.place, f"{self._where} is closed", "Open the store again.")
            if self._connection is None:
                self._connection = connect(self._config)
            return self._connection

    @property
    def _where(self) -> str:
        return repr(show_url(self._config.url))

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Weaviate's errors in our words."""
        try:
            yield
        except RagAppError:
            raise
        except UnreachableError as error:
            where = show_url(grpc_url(self._config))
            wrong = f"no gRPC answers at {where!r} (REST at {self._where}): {error}"
            raise StoreError(self.place, wrong, "Check that Weaviate runs there.") from error
        except Exception as error:
            raise StoreError(
                self.place,
                f"Weaviate at {self._where} failed: {self._hide(str(error))}",
                _remedy(str(error)),
            ) from error

    def _hide(self, words: str) -> str:
        key = self._config.api_key
        return words.replace(key.get_secret_value(), "…") if key else words


def _remedy(words: str) -> str:
    lower = words.lower()
    if "deadline" in lower or "timed out" in lower or "timeout" in lower:
        return "Raise vector_store.timeout, or see what keeps the server busy."
    if "maximum results" in lower:
        return f"Set QUERY_MAXIMUM_RESULTS on the server to {MOST:,}, its default, or more."
    if "unauthenticated" in lower or "401" in lower or "forbidden" in lower or "403" in lower:
        return "Check that vector_store.api_key may read and write there."
    return "Check that it runs and is Weaviate's; `rag-app check` tries it."
