"""Points on a Qdrant server or in Qdrant Cloud, by the vendor's client (REST).

What a collection is is asked for once in `REMEMBER` seconds, and again after every failure.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from rag_app.errors import StoreError
from rag_app.urls import show_url
from rag_app.vector_stores._qdrant_filter import find_owners
from rag_app.vector_stores._qdrant_points import (
    CONTENT,
    Found,
    check_mark,
    encode_name,
    make_mark,
    to_neighbour,
)
from rag_app.vector_stores._qdrant_requests import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from rag_app.rows import Neighbour
    from rag_app.vector_stores._qdrant_points import Point, Vector

CONNECT_SECONDS: Final = 10.0
"""How long a server may take to accept a connection."""

REMEMBER: Final = 2.0
"""Seconds for which a collection is taken to be as it was; one that is gone is noticed at once."""


class Known(NamedTuple):
    """What is known of the collection, and since when."""

    dimension: int
    indexed: set[str]
    since: float


class ServerPoints:
    """`Points` on a server. Nothing is connected to before it is first used."""

    def __init__(self, url: str, key: str | None, name: str, options: Mapping[str, Any]) -> None:
        self._url = url
        self._key = key
        self._name = name
        self._collection = encode_name(name)
        self._options = options
        self._client: Any = None
        self._known: Known | None = None
        self._closed = False
        self._lock = threading.RLock()
        self.where = show_url(url)

    @property
    def dimension(self) -> int | None:
        """See `Points`."""
        with self._asking():
            known = self._find()
            return None if known is None else known.dimension

    def require(self, dimension: int) -> None:
        """See `Points`."""
        with self._asking():
            if self._find() is None:
                self._make(dimension)
            known = self._find()
            if known is not None and "facts" not in known.indexed:
                self._make_index("facts", "uuid", known)

    def upsert(self, points: Iterable[Point]) -> None:
        """See `Points`. What is larger than a request may be is refused before any is written."""
        from qdrant_client import models

        for batch in list(cut(points)):
            columns = models.Batch(
                ids=[point.uuid for point in batch],
                vectors=np.stack([point.vector for point in batch]).tolist(),
                payloads=[point.payload for point in batch],
            )
            with self._asking():
                self._open().upsert(self._collection, columns, wait=True)

    def search(
        self, vector: Vector, k: int, where: dict[str, Any] | None, *, exact: bool
    ) -> list[Neighbour]:
        """See `Points`. Where the server's owner compresses vectors, the score is not of those."""
        from qdrant_client import models

        found = self._ask(
            lambda client: (
                client.query_points(
                    self._collection,
                    vector.tolist(),
                    query_filter=_to_filter(where),
                    search_params=models.SearchParams(
                        hnsw_ef=self._options["ef_search"],
                        exact=exact,
                        quantization=models.QuantizationSearchParams(rescore=True),
                    ),
                    limit=k,
                    with_payload=CONTENT,
                ).points
            )
        )
        return [to_neighbour(point.payload, point.score) for point in found or ()]

    def read(self, uuids: Sequence[str]) -> list[Found]:
        """See `Points`."""
        found = self._ask(
            lambda client: client.retrieve(
                self._collection, list(uuids), with_payload=CONTENT, with_vectors=True
            )
        )
        return [Found(point.payload, point.vector) for point in found or ()]

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
        found, after = self._ask(
            lambda client: client.scroll(
                self._collection,
                scroll_filter=_to_filter(where),
                limit=limit,
                offset=start,
                with_payload=list(names),
                with_vectors=vectors,
            )
        ) or ([], None)
        return [Found(point.payload, point.vector) for point in found], after

    def index(self, names: Collection[str]) -> None:
        """See `Points`. A key that may only read makes none, and the server checks each point."""
        with self._asking():
            known = self._find()
            if known is not None:
                for name in set(names) - known.indexed:
                    if self._is_held(name):
                        self._make_index(name, "float", known)

    def count(self, where: dict[str, Any] | None) -> int:
        """See `Points`."""
        answer = self._ask(
            lambda client: client.count(self._collection, _to_filter(where), exact=True)
        )
        return 0 if answer is None else int(answer.count)

    def delete(self, uuids: Sequence[str]) -> None:
        """See `Points`."""
        from qdrant_client import models

        for start in range(0, len(uuids), 10_000):
            chosen = models.PointIdsList(points=list(uuids[start : start + 10_000]))
            self._ask(partial(self._delete, chosen))

    def drop(self) -> None:
        """See `Points`."""
        self._ask(lambda client: client.delete_collection(self._collection))
        self._known = None

    def close(self) -> None:
        """See `Points`."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    def _delete(self, chosen: Any, client: Any) -> Any:
        return client.delete(self._collection, chosen, wait=True)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """The client's answer; None when there is no collection."""
        with self._asking():
            if self._find() is None:
                return None
            try:
                return question(self._open())
            except Exception as error:
                if _status(error) != 404:
                    raise
                self._known = None
                return None

    def _find(self) -> Known | None:
        known = self._known
        if known is not None and time.monotonic() - known.since < REMEMBER:
            return known
        try:
            found = self._open().get_collection(self._collection)
        except Exception as error:
            if _status(error) != 404:
                raise
            return None
        mark = found.config.metadata
        check_mark(mark, self._options, f"the collection {self._collection!r} at {self.where}")
        indexed = set(found.payload_schema)
        self._known = Known(mark["dimension"], indexed, time.monotonic())
        return self._known

    def _make(self, dimension: int) -> None:
        from qdrant_client import models

        options = self._options
        try:
            self._open().create_collection(
                self._collection,
                models.VectorParams(size=dimension, distance=models.Distance.COSINE),
                hnsw_config=models.HnswConfigDiff(
                    m=options["m"],
                    ef_construct=options["ef_construction"],
                    full_scan_threshold=options["full_scan_threshold"],
                ),
                metadata=make_mark(self._name, dimension, options),
            )
        except Exception as error:
            if _status(error) != 409:  # another writer was first
                raise

    def _is_held(self, name: str) -> bool:
        """Whether some point has the field that `name` is a part of; so, when it is not told."""
        try:
            found, _ = self._open().scroll(
                self._collection, _to_filter(find_owners(name)), limit=1, with_payload=False
            )
        except Exception as error:
            if _status(error) not in (400, 403):  # one in strict mode asks for an index first
                raise
            return True
        return bool(found)

    def _make_index(self, name: str, kind: str, known: Known) -> None:
        try:
            self._open().create_payload_index(self._collection, name, kind, wait=True)
        except Exception as error:
            if _status(error) != 403:
                raise
        known.indexed.add(name)

    def _open(self) -> Any:
        with self._lock:
            if self._closed:
                wrong = f"the store at {self.where} is closed"
                raise StoreError("vector_store.qdrant", wrong, "Open the store again.")
            if self._client is None:
                self._client = _connect(self._url, self._key, self._options["timeout"])
            return self._client

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The client's errors in our words."""
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

        try:
            yield
        except ResponseHandlingException as error:
            self._known = None
            raise self._unreachable(error.source) from error
        except (ApiException, QdrantException) as error:
            self._known = None
            raise self._refused(error) from error

    def _unreachable(self, cause: Exception) -> StoreError:
        words = str(cause) or type(cause).__name__
        return StoreError(
            "vector_store.url",
            f"no Qdrant server answers at {self.where!r} ({words})",
            "Start one: docker run -p 6333:6333 qdrant/qdrant, or correct the url.",
        )

    def _refused(self, error: Exception) -> StoreError:
        status = _status(error)
        words = f"Qdrant at {self.where!r} refused: {self._hide(_message(error))}"
        if status in (401, 403):
            remedy = "Check the key and what it may do."
            return StoreError("vector_store.api_key", f"{words} (status {status})", remedy)
        remedy = "Check that it is a Qdrant server of version 1.16 or later; see its log."
        return StoreError("vector_store.qdrant", f"{words} (status {status})", remedy)

    def _hide(self, words: str) -> str:
        return words.replace(self._key, "…") if self._key else words


def _connect(url: str, key: str | None, seconds: int) -> Any:
    from qdrant_client import QdrantClient

    return QdrantClient(
        url=url,
        headers={} if key is None else {"api-key": key},
        timeout=seconds,
        check_compatibility=False,  # a request of its own, in a thread of its own
        event_hooks={"request": [_hurry_connecting]},
    )


def _hurry_connecting(request: Any) -> None:
    timeout = request.extensions["timeout"]
    timeout["connect"] = min(timeout["connect"], CONNECT_SECONDS)


def _to_filter(where: dict[str, Any] | None) -> Any:
    from qdrant_client import models

    return None if where is None else models.Filter.model_validate(where)


def _status(error: Exception) -> int | None:
    status: int | None = getattr(error, "status_code", None)
    return status


def _message(error: Exception) -> str:
    """What the server said: `{"status": {"error": …}}`, or the beginning of anything else."""
    content = getattr(error, "content", None)
    if content is None:
        return str(error)
    try:
        return str(json.loads(content)["status"]["error"])
    except (ValueError, TypeError, KeyError):
        return repr(content[:200].decode(errors="replace"))
