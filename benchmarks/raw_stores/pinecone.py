"""Plain good use of Pinecone's client: what the Pinecone store's cost is measured against."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from pinecone import NotFoundError, Pinecone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIMENSION = 384


class RawPinecone:
    """A namespace of a serverless index; text and metadata as JSON lie in the metadata."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._client = Pinecone(options.get("api_key", "none"), host=options.get("url"))
        name = f"{options.get('index_name', 'rag-app')}-raw"
        try:
            model = self._client.indexes.describe(name)
        except NotFoundError:
            field = {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}
            model = self._client.indexes.create(
                name=name,
                schema={"fields": {"_values": field}},
                deployment={
                    "deployment_type": "managed",
                    "cloud": options.get("cloud", "aws"),
                    "region": options.get("region", "us-east-1"),
                },
            )
        self._index = self._client.index(host=model.host)
        self._namespace = uuid.uuid4().hex

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[Any],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows in the largest batches that Pinecone takes, and wait until they are seen."""
        records = [
            {
                "id": id,
                "values": vector.tolist(),
                "metadata": {**metadata, "text": text, "whole": json.dumps(metadata)},
            }
            for id, text, vector, metadata in zip(ids, texts, vectors, metadatas, strict=True)
        ]
        answer = self._index.upsert(
            vectors=records, namespace=self._namespace, batch_size=150, show_progress=False
        )
        if answer.has_errors:
            raise RuntimeError(f"{answer.failed_item_count} rows were not written")
        position = answer.response_info.lsn_committed
        while not self._seen(vectors[0]).is_reconciled(position):
            time.sleep(0.02)

    def _seen(self, vector: NDArray[Any]) -> Any:
        answer = self._index.query(vector=vector.tolist(), top_k=1, namespace=self._namespace)
        return answer.response_info

    def query(self, vector: NDArray[Any], k: int) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        found = self._index.query(
            vector=vector.tolist(), top_k=k, namespace=self._namespace, include_metadata=True
        )
        return [
            (each.id, each.metadata["text"], json.loads(each.metadata["whole"]), each.score)
            for each in found.matches
        ]

    def close(self) -> None:
        """Remove the namespace and close the connections."""
        self._index.delete_namespace(name=self._namespace)
        self._index.close()
        self._client.close()
