"""A Milvus collection: its name, fields and index, and the reading and writing of its rows."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_app.vector_stores._milvus_entities import LONGEST, METADATA, PIECES, decode_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rag_app.types import Metadata

FORMAT: Final = "1"
"""Version of what is written, kept in the collection's properties."""

NOT_FOUND: Final = 100
"""Milvus's code for a collection that is not there."""

PAGE: Final = 2000
"""Rows that are read at a time."""

MOST: Final = 16_384
"""Hits of one search: what a Milvus server allows."""

CALL_SECONDS: Final = 30
BUILD_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Index:
    """An index as Milvus is told: its type, what is fixed with it, and what each search may say."""

    type: str
    build: Mapping[str, int]
    search: Mapping[str, int]

    def describe(self) -> str:
        """What is fixed with it, as JSON."""
        return json.dumps({"index": self.type.lower(), **self.build})

    def search_params(self, k: int) -> dict[str, Any]:
        """Milvus wants `ef` to be no less than `k`."""
        return {name: max(v, k) if name == "ef" else v for name, v in self.search.items()}


def encode_name(name: str) -> str:
    """A name that Milvus takes: `name` itself, or a digest where it has other characters."""
    if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,254}", name) and not name.startswith("rag_app_"):
        return name
    return f"rag_app_{hashlib.sha256(name.encode()).hexdigest()[:40]}"


class MilvusCollection:
    """One collection through a `MilvusClient`. Whether it is there and ours is asked elsewhere.

    Args:
        told: whether rows carry what filters are judged by inside Milvus.
        consistency: the level of each reading.
    """

    def __init__(
        self, client: Any, name: str, index: Index, *, told: bool, consistency: str
    ) -> None:
        self.name = name
        self._client = client
        self._index = index
        self._told = told
        self._reading = {"consistency_level": consistency, "timeout": CALL_SECONDS}

    def describe(self) -> dict[str, Any] | None:
        """What Milvus says of it; None when it is not there."""
        import pymilvus

        try:
            told: dict[str, Any] = self._client.describe_collection(self.name, timeout=CALL_SECONDS)
        except pymilvus.MilvusException as error:
            if error.code != NOT_FOUND:
                raise
            return None
        return told

    def make(self, title: str, dimension: int) -> None:
        """Make it, with its index, where it is not there yet."""
        import pymilvus

        schema = _make_schema(dimension, self._told)
        # Milvus Lite does not tell how an index was built.
        properties = {"rag_app": FORMAT, "name": title, "index": self._index.describe()}
        try:
            self._client.create_collection(
                self.name, schema=schema, properties=properties, num_shards=1, timeout=BUILD_SECONDS
            )
        except pymilvus.MilvusException:
            if not self._client.has_collection(self.name, timeout=CALL_SECONDS):
                raise  # it is not that another process has just made it

    def prepare(self) -> None:
        """Index and load it where that was not done yet."""
        if not self._client.list_indexes(self.name, timeout=CALL_SECONDS):
            params = self._client.prepare_index_params()
            build = dict(self._index.build)
            params.add_index(
                "vector", index_type=self._index.type, metric_type="COSINE", params=build
            )
            self._client.create_index(self.name, params, sync=False, timeout=BUILD_SECONDS)
        self._client.load_collection(self.name, timeout=BUILD_SECONDS)

    def upsert(self, entities: list[dict[str, Any]]) -> None:
        self._client.upsert(self.name, entities, timeout=2 * CALL_SECONDS)

    def delete(self, keys: Sequence[str]) -> None:
        self._client.delete(self.name, filter=one_of(keys), timeout=2 * CALL_SECONDS)

    def drop(self) -> None:
        self._client.drop_collection(self.name, timeout=CALL_SECONDS)

    def await_writes(self) -> None:
        """Return once all that was written so far can be read by everybody."""
        self._client.query(
            self.name,
            filter=one_of([""]),
            output_fields=["pk"],
            consistency_level="Strong",
            timeout=CALL_SECONDS,
        )

    def count(self, expression: str = "") -> int:
        """How many rows the expression lets pass."""
        found = self._client.query(
            self.name, filter=expression, output_fields=["count(*)"], **self._reading
        )
        return int(found[0]["count(*)"])

    def search(
        self, vector: NDArray[np.float32], k: int, expression: str, fields: list[str]
    ) -> list[dict[str, Any]]:
        """The `k` nearest entities as Milvus finds them, each with its cosine."""
        (hits,) = self._client.search(
            self.name,
            data=[vector],
            anns_field="vector",
            limit=k,
            filter=expression,
            output_fields=fields,
            search_params={"metric_type": "COSINE", "params": self._index.search_params(k)},
            **self._reading,
        )
        return [{**hit["entity"], "pk": hit.id, "cosine": hit["distance"]} for hit in hits]

    def read(self, keys: Sequence[str], fields: list[str]) -> list[dict[str, Any]]:
        """The entities of these keys that are there; in halves where Milvus cannot send all."""
        if not keys:
            return []
        try:
            return list(self._query(one_of(keys), fields))
        except Exception as error:
            if len(keys) == 1 or not is_too_large(error):
                raise
        half = len(keys) // 2
        return self.read(keys[:half], fields) + self.read(keys[half:], fields)

    def cut_ranges(self, expression: str) -> list[tuple[str, str]]:
        """Ranges of keys that together hold all that the expression lets pass, a page in each."""
        pages = -(-self.count(expression) // PAGE)
        bounds = [*(_key_at(place / pages) for place in range(pages)), "g"]
        return list(zip(bounds, bounds[1:], strict=False))

    def read_range(
        self, bounds: tuple[str, str], expression: str, fields: list[str]
    ) -> list[dict[str, Any]]:
        """The entities of a range that the expression lets pass."""
        within = f'pk >= "{bounds[0]}" and pk < "{bounds[1]}"'
        both = f"{within} and {expression}" if expression else within
        try:
            return self._query(both, fields)
        except Exception as error:
            if not is_too_large(error) or not fields:
                raise
        return self.read([each["pk"] for each in self._query(both, [])], fields)

    def read_all(self, expression: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """All entities that the expression lets pass."""
        for bounds in self.cut_ranges(expression):
            yield from self.read_range(bounds, expression, fields)

    def list_metadata(self, expression: str) -> list[tuple[str, Metadata]]:
        """Key and metadata of all rows that the expression lets pass."""
        found = self.read_all(expression, METADATA)
        return [(entity["pk"], decode_metadata(entity)) for entity in found]

    def _query(self, expression: str, fields: list[str]) -> list[dict[str, Any]]:
        fields = ["pk", *fields]
        found: list[dict[str, Any]] = self._client.query(
            self.name, filter=expression, output_fields=fields, **self._reading
        )
        return found


def get_dimension(described: Mapping[str, Any]) -> int:
    """The length of the vectors of a collection, from what Milvus says of it."""
    fields = {field["name"]: field for field in described["fields"]}
    return int(fields["vector"]["params"]["dim"])


def is_too_large(error: Exception) -> bool:
    """Whether Milvus found more than it can send in one answer."""
    return bool(re.search(r"larger than max|exceed.* size|RESOURCE_EXHAUSTED", str(error)))


def one_of(keys: Sequence[str]) -> str:
    """The expression that lets the entities of these keys pass."""
    return f"pk in {json.dumps(list(keys))}"


def _key_at(share: float) -> str:
    """The key below which this share of all keys lies."""
    return f"{int(share * 16**8):08x}"


def _make_schema(dimension: int, told: bool) -> Any:
    import pymilvus

    types = pymilvus.DataType
    schema = pymilvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", types.VARCHAR, max_length=40, is_primary=True)
    schema.add_field("id", types.VARCHAR, max_length=LONGEST)
    for name in ("text", "metadata"):
        schema.add_field(name, types.VARCHAR, max_length=LONGEST)
    pieces = {"element_type": types.VARCHAR, "max_length": LONGEST, "max_capacity": PIECES}
    schema.add_field("rest", types.ARRAY, **pieces)
    if told:
        schema.add_field("facts", types.ARRAY, element_type=types.INT64, max_capacity=PIECES)
        schema.add_field("ordered", types.JSON)
    schema.add_field("vector", types.FLOAT_VECTOR, dim=dimension)
    return schema
