"""Plain good use of Milvus's client: what the Milvus store's cost is measured against."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from pymilvus import DataType, MilvusClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BATCH = 5000


class RawMilvus:
    """One collection with the cosine as its metric, in a folder (flushed) or on a server."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._url = options.get("url")
        if self._url:
            self._client = MilvusClient(self._url, token=options.get("api_key", ""))
        else:
            self._path = f"{options.get('path', '.rag/raw-milvus')}.db"
            self._client = MilvusClient(self._path)
        self._name = f"raw_{uuid.uuid4().hex}"
        self._ef = options.get("ef_search", 200)
        self._index = options.get("index") or ("hnsw" if self._url else "flat")
        self._nprobe = options.get("nprobe", 32)
        self._build = {
            "hnsw": {
                "M": options.get("m", 16),
                "efConstruction": options.get("ef_construction", 200),
            },
            "ivf_flat": {"nlist": options.get("nlist", 128)},
            "flat": {},
        }[self._index]
        self._made = False

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Upsert rows in batches that a server takes; they can be read afterwards."""
        if not self._made:
            self._make(vectors.shape[1])
        rows = [
            {"id": id, "text": text, "metadata": metadata, "vector": vector}
            for id, text, metadata, vector in zip(ids, texts, metadatas, vectors, strict=True)
        ]
        for start in range(0, len(rows), BATCH):
            self._client.upsert(self._name, rows[start : start + BATCH])
        if not self._url:
            self._client.flush(self._name)  # the log is searched slowly

    def query(
        self, vector: NDArray[np.float32], k: int
    ) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        (hits,) = self._client.search(
            self._name,
            data=[vector],
            limit=k,
            output_fields=["text", "metadata"],
            search_params={"params": {"ef": max(self._ef, k), "nprobe": self._nprobe}},
        )
        return [
            (hit["id"], hit["entity"]["text"], hit["entity"]["metadata"], hit["distance"])
            for hit in hits
        ]

    def close(self) -> None:
        """Drop the collection and free the folder or the connection."""
        if self._made:
            self._client.drop_collection(self._name)
        self._client.close()
        if not self._url:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self._path)

    def _make(self, dimension: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, max_length=65_535, is_primary=True)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535)
        schema.add_field("metadata", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        params = self._client.prepare_index_params()
        params.add_index(
            "vector", index_type=self._index.upper(), metric_type="COSINE", params=self._build
        )
        self._client.create_collection(
            self._name, schema=schema, index_params=params, consistency_level="Bounded"
        )
        self._made = True
