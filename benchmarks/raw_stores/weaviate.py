"""Plain good use of `weaviate-client` (v4): what the Weaviate store's cost is measured against."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import weaviate
from weaviate.classes.config import Configure, DataType, Property, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.init import Auth
from weaviate.classes.query import MetadataQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PAGE = 1000


class RawWeaviate:
    """A collection whose objects have the text, the id and each metadata field as a property."""

    def __init__(self, options: dict[str, Any]) -> None:
        rest = urlsplit(options.get("url", "http://localhost:8080"))
        grpc = urlsplit(options.get("grpc_url", f"{rest.scheme}://{rest.hostname}:50051"))
        key = options.get("api_key")
        self._client = weaviate.connect_to_custom(
            http_host=rest.hostname or "",
            http_port=rest.port or 80,
            http_secure=rest.scheme == "https",
            grpc_host=grpc.hostname or "",
            grpc_port=grpc.port or 50051,
            grpc_secure=grpc.scheme == "https",
            auth_credentials=Auth.api_key(key) if key else None,
            skip_init_checks=True,
        )
        self._collection = self._client.collections.create(
            f"Raw{uuid.uuid4().hex}",
            properties=[
                Property(name="chunk_id", data_type=DataType.TEXT, index_searchable=False),
                Property(
                    name="text",
                    data_type=DataType.TEXT,
                    index_filterable=False,
                    index_searchable=False,
                ),
            ],
            vector_config=Configure.Vectors.self_provided(
                quantizer=Configure.VectorIndex.Quantizer.none(),
                vector_index_config=Configure.VectorIndex.hnsw(
                    distance_metric=VectorDistances.COSINE,
                    max_connections=options.get("m", 32),
                    ef_construction=options.get("ef_construction", 128),
                    ef=options.get("ef_search", 200),
                ),
            ),
        )

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[Any],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows, a thousand to a call."""
        objects = [
            DataObject(
                properties={"chunk_id": id, "text": text, **metadata},
                uuid=uuid.uuid5(uuid.NAMESPACE_URL, id),
                vector=vector,
            )
            for id, text, vector, metadata in zip(
                ids, texts, vectors.tolist(), metadatas, strict=True
            )
        ]
        for start in range(0, len(objects), PAGE):
            done = self._collection.data.insert_many(objects[start : start + PAGE])
            if done.has_errors:
                raise RuntimeError(f"{len(done.errors)} objects failed")

    def query(self, vector: NDArray[Any], k: int) -> list[tuple[str, str, dict[str, Any], float]]:
        """The `k` nearest rows: id, text, metadata, cosine."""
        found = self._collection.query.near_vector(
            vector.tolist(), limit=k, return_metadata=MetadataQuery(distance=True)
        )
        rows = []
        for each in found.objects:
            held: dict[str, Any] = dict(each.properties)
            id, text = held.pop("chunk_id"), held.pop("text")
            rows.append((id, text, held, 1.0 - (each.metadata.distance or 0.0)))
        return rows

    def close(self) -> None:
        """Remove the collection and close the client."""
        self._client.collections.delete(self._collection.name)
        self._client.close()
