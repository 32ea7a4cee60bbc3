"""A Weaviate collection of ours: its name and mark, its properties, and what its objects hold."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.rows import Neighbour, Row, clip
from rag_app.vector_stores._weaviate_filter import PLACES, encode

if TYPE_CHECKING:
    from rag_app.types import Metadata
    from rag_app.vector_stores.weaviate import Config

FORMAT: Final = 1
"""Version of what is written, kept in the collection's description."""

CONTENT: Final = ["chunk_id", "text", "metadata"]
"""The properties that are read; the others are there to be searched."""

SHORT: Final = 200
"""Characters of a value that is likely to come again."""

FEW: Final = 100
"""Fields of a row that surely has not too many tokens."""

PLACE: Final = "vector_store.weaviate"


@dataclass(frozen=True, slots=True)
class Made:
    """A collection that is there: its handle, what it was made for, and what became of it."""

    handle: Any
    dimension: int
    compressed: bool


def encode_name(name: str) -> str:
    """A name that Weaviate takes. It keeps files by lower-case names, so only those stay plain."""
    if re.fullmatch(r"[a-z0-9_]{1,200}", name):
        return f"RagApp_{name}"
    readable = re.sub(r"[^a-z0-9]+", "_", name.lower())[:100].strip("_")
    return f"RagApp_{readable}_{hashlib.sha256(name.encode()).hexdigest()[:24]}"


def encode_id(id: str) -> uuid.UUID:
    """The UUID of a row; Weaviate takes no other ids."""
    return uuid.UUID(bytes=hashlib.sha256(id.encode()).digest()[:16], version=5)


def find(client: Any, name: str, config: Config) -> Made | None:
    """The collection; None when it was not made yet.

    Raises:
        StoreError: it is not ours, or was made with another graph.
    """
    from weaviate.exceptions import UnexpectedStatusCodeError

    handle = client.collections.use(encode_name(name), skip_argument_validation=True)
    try:
        made = handle.config.get()
    except UnexpectedStatusCodeError as error:
        if error.status_code == 404:
            return None
        raise
    mark = _read_mark(made.description)
    if mark.get("rag_app") != FORMAT or mark.get("name") != name:
        raise StoreError(
            PLACE,
            f"the collection {made.name!r} was not written by this rag-app",
            "Choose another name or server, or delete that collection.",
        )
    graph = made.vector_config["default"].vector_index_config
    _require_graph(handle, graph, config)
    return Made(handle, int(mark["dimension"]), compressed=graph.quantizer is not None)


def make(client: Any, name: str, dimension: int, config: Config) -> None:
    """Make the collection; one that another process made meanwhile is left as it is."""
    from weaviate.classes.config import Configure, VectorDistances
    from weaviate.exceptions import UnexpectedStatusCodeError

    mark = {"rag_app": FORMAT, "name": name, "dimension": dimension}
    graph = Configure.VectorIndex.hnsw(
        distance_metric=VectorDistances.COSINE,
        max_connections=config.m,
        ef_construction=config.ef_construction,
        ef=config.ef_search,
    )
    try:
        client.collections.create(
            encode_name(name),
            description=json.dumps(mark),
            properties=_list_properties(),
            vector_config=Configure.Vectors.self_provided(
                vector_index_config=graph,
                # Servers compress vectors by default since 1.33, and then find less.
                quantizer=Configure.VectorIndex.Quantizer.none(),
            ),
        )
    except UnexpectedStatusCodeError as error:
        if "already exists" not in str(error):
            raise


def _list_properties() -> list[Any]:
    from weaviate.classes.config import DataType, Property, Tokenization

    held = [
        Property(name=name, data_type=DataType.TEXT, index_filterable=False, index_searchable=False)
        for name in CONTENT
    ]
    tokens = Property(
        name="tokens",
        data_type=DataType.TEXT_ARRAY,
        tokenization=Tokenization.FIELD,
        index_filterable=True,
        index_searchable=False,
    )
    numbers = [
        Property(
            name=f"numbers_{place}",
            data_type=DataType.NUMBER_ARRAY,
            index_filterable=True,
            index_searchable=False,
        )
        for place in range(PLACES)
    ]
    return [*held, tokens, *numbers]


def _read_mark(description: str | None) -> dict[str, Any]:
    try:
        mark = json.loads(description or "")
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) else {}


def _require_graph(handle: Any, made: Any, config: Config) -> None:
    """Refuse a graph made otherwise; `ef_search` may change."""
    from weaviate.classes.config import Reconfigure

    for option, held in (("m", made.max_connections), ("ef_construction", made.ef_construction)):
        if held != (asked := getattr(config, option)):
            raise StoreError(
                f"vector_store.{option}",
                f"the collection was made with {held}, the config asks for {asked}",
                f"Set it to {held}, or ingest into a new index.",
            )
    if made.ef != config.ef_search:
        handle.config.update(
            vector_config=Reconfigure.Vectors.update(
                name="default",
                vector_index_config=Reconfigure.VectorIndex.hnsw(ef=config.ef_search),
            )
        )


def to_object(row: Row, metadata: str) -> Any:
    """The row as the client takes it; `metadata` is its metadata as JSON."""
    from weaviate.classes.data import DataObject

    held = {"chunk_id": row.id, "text": row.text, "metadata": metadata}
    return DataObject(
        properties={**held, **_list_findable(row.metadata)},
        uuid=encode_id(row.id),
        vector=row.vector.tolist(),
    )


def _list_findable(metadata: Metadata) -> dict[str, list[Any]]:
    """As `encode`, field by field where that is the same: fields come again and again."""
    if len(metadata) > FEW or not all(map(_is_plain, metadata.values())):
        return encode(metadata)
    held: dict[str, list[Any]] = {}
    for name, value in metadata.items():
        for found, values in _encode_field(name, value).items():
            held.setdefault(found, []).extend(values)
    return held


def _is_plain(value: Any) -> bool:
    return len(value) <= SHORT if isinstance(value, str) else not isinstance(value, (dict, list))


@lru_cache(20_000, typed=True)
def _encode_field(name: str, value: Any) -> dict[str, list[Any]]:
    return encode({name: value})


def to_row(found: Any) -> Row:
    """What an object holds, with its vector."""
    held = found.properties
    vector = np.array(found.vector["default"], dtype=np.float32)
    return Row(held["chunk_id"], held["text"], vector, json.loads(held["metadata"]))


def to_neighbour(found: Any) -> Neighbour:
    """What an object holds, with its distance."""
    held = found.properties
    cosine = clip(1.0 - found.metadata.distance)
    return Neighbour(held["chunk_id"], held["text"], json.loads(held["metadata"]), cosine)
