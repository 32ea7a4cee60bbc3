"""Pinecone's service: its indexes, the mark of each collection, and waiting until a write is seen.

An index of Pinecone has one dimension, so there is one for each: `rag-app-384`. A collection is a
namespace in it. The namespace `MARKS` of each index holds one record for each collection, which
says that it is ours, and in what format.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import StoreError
from rag_app.vector_stores._pinecone_records import encode_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rag_app.vector_stores.pinecone import Config

PLACE: Final = "vector_store.pinecone"

FORMAT: Final = 1
"""Version of what is written, kept in each mark."""

MARKS: Final = "rag-app.collections"
"""The namespace of the marks."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection that is there: its index's client, its namespaces, what its mark says."""

    index: Any
    dimension: int
    rows: str
    parts: str
    has_parts: bool


class PineconeProject:
    """The project that a key opens. Connects at the first use."""

    def __init__(self, config: Config) -> None:
        import pinecone

        self._config = config
        self._lock = threading.Lock()
        self._indexes: dict[str, Any] = {}
        self._client = pinecone.Pinecone(
            api_key=config.api_key.get_secret_value() if config.api_key else "none",
            host=config.url,
            timeout=config.timeout,
            # Given, so that the client takes none from PINECONE_ADDITIONAL_HEADERS.
            additional_headers={"Accept": "application/json"},
            retry_config=pinecone.RetryConfig(max_retries=1),
        )

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for index in self._indexes.values():
                index.close()
            self._indexes.clear()
            self._client.close()

    def find(self, name: str) -> Collection | None:
        """The collection of that name; None when it was not made yet.

        Raises:
            StoreError: it is in two indexes, or in a format that this version does not read.
        """
        found = [self._read_mark(model, name) for model in self._list_indexes()]
        there = [each for each in found if each is not None]
        if len(there) > 1:
            dimensions = " and ".join(str(each.dimension) for each in there)
            raise StoreError(
                PLACE,
                f"the collection {name!r} is there with {dimensions} dimensions",
                "Ingest into a new index, and delete one of the two namespaces at Pinecone.",
            )
        return there[0] if there else None

    def refresh(self, held: Collection, name: str) -> Collection | None:
        """The collection as it is now."""
        mark = _fetch_one(held.index, encode_id(name), MARKS)
        return self.find(name) if mark is None else self._to_collection(held.index, mark, name)

    def make(self, name: str, dimension: int) -> Collection:
        """Make the collection, and its index where there is none yet.

        Raises:
            StoreError: the index or the namespace belongs to something else.
        """
        model = self._require_index(dimension)
        index = self._connect(model)
        made = Collection(index, dimension, *_name_spaces(name), has_parts=False)
        if count_records(index, made.rows):
            if mark := _fetch_one(index, encode_id(name), MARKS):  # another process was faster
                return self._to_collection(index, mark, name)
            raise StoreError(
                PLACE,
                f"the namespace {made.rows!r} of {model.name!r} was not written by this rag-app",
                "Choose another name, or another index_name.",
            )
        self.write_mark(made, name)
        return made

    def write_mark(self, collection: Collection, name: str) -> None:
        """Write what `collection` is, and wait until it is seen."""
        metadata = {
            "rag_app": FORMAT,
            "name": json.dumps(name),
            "dimension": collection.dimension,
            "parts": collection.has_parts,
        }
        id = encode_id(name)
        vector = (id, _any_vector(collection.dimension), metadata)
        collection.index.upsert(vectors=[vector], namespace=MARKS)
        self.wait_until(
            lambda: (
                (_fetch_one(collection.index, id, MARKS) or {}).get("parts") == collection.has_parts
            ),
            f"the mark of {name!r}",
        )

    def prepare_parts(self, collection: Collection, name: str) -> Collection:
        """The collection with the mark that it has parts."""
        if collection.has_parts:
            return collection
        changed = replace(collection, has_parts=True)
        self.write_mark(changed, name)
        return changed

    def drop(self, collection: Collection, name: str) -> None:
        """Remove the namespaces of the collection, then its mark. The index stays."""
        for namespace in (collection.rows, collection.parts):
            self._drop_namespace(collection.index, namespace)
        id = encode_id(name)
        collection.index.delete(ids=[id], namespace=MARKS)
        self.wait_until(
            lambda: _fetch_one(collection.index, id, MARKS) is None, f"the end of {name!r}"
        )

    def _drop_namespace(self, index: Any, namespace: str) -> None:
        from pinecone.errors import NotFoundError

        try:
            index.delete_namespace(name=namespace)
        except NotFoundError:
            return
        self.wait_until(
            lambda: count_records(index, namespace) is None, f"the end of {namespace!r}"
        )

    # Waiting: a write is not seen at once.

    def wait_for_write(
        self, collection: Collection, namespace: str, positions: Sequence[int | None]
    ) -> None:
        """Return when searches of `namespace` see the writes at these positions of its log.

        Source: https://docs.pinecone.io/guides/index-data/check-data-freshness

        Raises:
            StoreError: they do not within `wait_seconds`, or Pinecone did not tell the positions.
        """
        if not self._config.wait_for_writes or not positions:
            return
        known = [position for position in positions if position is not None]
        if len(known) < len(positions):
            raise StoreError(
                PLACE,
                "Pinecone did not say at which position of its log the write stands",
                "The rows are written. Set wait_for_writes: false to go on without waiting.",
            )
        probe = _any_vector(collection.dimension)

        def is_seen() -> bool:
            seen = collection.index.query(vector=probe, top_k=1, namespace=namespace)
            reached: bool = seen.response_info.is_reconciled(max(known))
            return reached

        self.wait_until(is_seen, "a write")

    def wait_for_removal(self, collection: Collection, rows: Sequence[str]) -> None:
        """Return when no search sees these record ids any longer."""
        if not self._config.wait_for_writes:
            return
        probe = _any_vector(collection.dimension)
        among = {"row": {"$in": list(rows)}}

        def is_gone() -> bool:
            seen = collection.index.query(
                vector=probe, top_k=1, namespace=collection.rows, filter=among
            )
            return not seen.matches

        self.wait_until(is_gone, "a removal")

    def wait_until(self, is_true: Callable[[], bool], what: str) -> None:
        """Ask until it is so.

        Raises:
            StoreError: it is not within `wait_seconds`.
        """
        end = time.monotonic() + self._config.wait_seconds
        pause = 0.01
        while not is_true():
            if time.monotonic() > end:
                raise StoreError(
                    PLACE,
                    f"{what} was not seen within {self._config.wait_seconds:g} seconds",
                    "Pinecone is behind: raise vector_store.wait_seconds.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    # Indexes.

    def _list_indexes(self) -> list[Any]:
        pattern = re.compile(re.escape(self._config.index_name) + r"-[1-9][0-9]*")
        return [model for model in self._client.indexes.list() if pattern.fullmatch(model.name)]

    def _read_mark(self, model: Any, name: str) -> Collection | None:
        if model.status.state == "Initializing":
            return None  # nothing can be in it yet
        if model.host is None or not model.status.ready:
            raise StoreError(
                PLACE,
                f"the index {model.name!r} is in the state {model.status.state!r}, not ready",
                "See Pinecone's console; wait, or choose another index_name.",
            )
        index = self._connect(model)
        mark = _fetch_one(index, encode_id(name), MARKS)
        return None if mark is None else self._to_collection(index, mark, name)

    def _to_collection(self, index: Any, mark: dict[str, Any], name: str) -> Collection:
        if mark.get("rag_app") != FORMAT:
            wrong = f"the collection {name!r} has format {mark.get('rag_app')}, this rag-app reads"
            raise StoreError(PLACE, f"{wrong} {FORMAT}", "Use the rag-app that wrote it.")
        dimension = int(mark["dimension"])
        return Collection(index, dimension, *_name_spaces(name), has_parts=bool(mark["parts"]))

    def _connect(self, model: Any) -> Any:
        """The client of an index, which is checked first."""
        with self._lock:
            if model.host not in self._indexes:
                self._require_fit(model)
                self._indexes[model.host] = self._client.index(host=model.host)
            return self._indexes[model.host]

    def _require_index(self, dimension: int) -> Any:
        """The index for vectors of `dimension`, made when there is none, and ready."""
        from pinecone.errors import ConflictError, NotFoundError

        name = f"{self._config.index_name}-{dimension}"
        try:
            self._client.indexes.describe(name)
        except NotFoundError:
            try:
                self._create(name, dimension)
            except ConflictError:  # another process was faster
                self._client.indexes.describe(name)
        models: list[Any] = []

        def is_ready() -> bool:
            models[:] = [self._client.indexes.describe(name)]
            return bool(models[0].status.ready) and models[0].host is not None

        self.wait_until(is_ready, f"the index {name!r}, ready for use,")
        return models[0]

    def _create(self, name: str, dimension: int) -> None:
        # `_values` is the field's name that the requests for vectors work on.
        field = {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}
        self._client.indexes.create(
            name=name,
            schema={"fields": {"_values": field}},
            deployment={
                "deployment_type": "managed",
                "cloud": self._config.cloud,
                "region": self._config.region,
            },
            timeout=-1,
        )

    def _require_fit(self, model: Any) -> None:
        """Refuse an index of another shape, or one that is elsewhere than the config says."""
        dimension = int(model.name.rpartition("-")[2])
        fields = list(model.schema.fields.values())
        shapes = [(getattr(f, "dimension", None), getattr(f, "metric", None)) for f in fields]
        if shapes != [(dimension, "cosine")]:
            told = "; ".join(f"dimension {size}, metric {metric}" for size, metric in shapes)
            raise StoreError(
                "vector_store.index_name",
                f"the index {model.name!r} has other vectors ({told or 'none'}) than {dimension} "
                "dimensions with metric cosine",
                "Choose another index_name.",
            )
        for option in ("cloud", "region"):
            made, asked = getattr(model.deployment, option, None), getattr(self._config, option)
            if made != asked:
                raise StoreError(
                    f"vector_store.{option}",
                    f"the index {model.name!r} is in {made or 'pods'}, the config asks for {asked}",
                    f"Set it to {made}, or choose another index_name."
                    if made
                    else "Choose another index_name.",
                )


def count_records(index: Any, namespace: str) -> int | None:
    """How many records a namespace has; None when there is no such namespace."""
    from pinecone.errors import NotFoundError

    try:
        return int(index.describe_namespace(name=namespace).record_count)
    except NotFoundError:
        return None


def _fetch_one(index: Any, id: str, namespace: str) -> dict[str, Any] | None:
    """The metadata of one record."""
    from pinecone.errors import NotFoundError

    try:
        found = index.fetch(ids=[id], namespace=namespace).vectors
    except NotFoundError:
        return None
    return (found[id].metadata or {}) if id in found else None


def _name_spaces(name: str) -> tuple[str, str]:
    """The namespaces of rows and of parts: `name` itself, or a digest for other characters."""
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name)
    own = name if plain and not name.startswith("rag-app.") else f"rag-app.c-{encode_id(name)}"
    return own, f"rag-app.parts-{encode_id(name)}"


def _any_vector(dimension: int) -> list[float]:
    return [1.0, *[0.0] * (dimension - 1)]
