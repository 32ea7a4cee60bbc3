"""Plain good use of Chroma's client: what the Chroma store's cost is measured against."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import chromadb
from chromadb.config import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class RawChroma:
    """One collection with the cosine as its metric, opened once."""

    def __init__(self, options: dict[str, Any]) -> None:
        settings = Settings(anonymized_telemetry=False)
        if url := options.get("url"):
            at = urlsplit(url)
            self._client = chromadb.HttpClient(
                at.hostname or "", at.port or 8000, at.scheme == "https", settings=settings
            )
        else:
            path = options.get("path", ".rag/raw-chroma")
            self._client = chromadb.PersistentClient(path, settings=settings)
        self._name = f"raw-{uuid.uuid4().hex}"
        hnsw = {
            "space": "cosine",
            "max_neighbors": options.get("max_neighbors", 16),
            "ef_construction": options.get("ef_construction", 100),
            "ef_search": options.get("ef_search", 200),
        }
        self._collection = self._client.create_collection(
            self._name, configuration={"hnsw": hnsw}, embedding_function=None
        )

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Upsert rows in the largest batches that Chroma takes."""
        size = self._client.get_max_batch_size()
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            self._collection.upsert(
                ids=list(ids[part]),
                embeddings=vectors[part],
                documents=list(texts[part]),
                metadatas=list(metadatas[part]),
            )

    def query(
        self, vector: NDArray[np.float32], k: int
    ) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        found = self._collection.query(
            query_embeddings=[vector],
            n_results=k,
            include=["metadatas", "documents", "distances"],
        )
        cosines = [1 - distance for distance in found["distances"][0]]
        columns = (found[name][0] for name in ("ids", "documents", "metadatas"))
        return list(zip(*columns, cosines, strict=True))

    def close(self) -> None:
        """Remove the collection and end the client."""
        self._client.delete_collection(self._name)
        self._client.close()
