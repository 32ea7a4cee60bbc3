"""LangChain's own store classes behind the same few calls, opened as their documentation says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from tests.reliability.damage import Held

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.documents import Document

DIMENSION: Final = 256


class Peer(Protocol):
    """One of LangChain's stores."""

    store: Any

    def __init__(self, folder: Path, embeddings: Any) -> None: ...
    def save(self) -> None: ...
    def rows(self) -> list[Held]: ...
    def search(self, vector: list[float], k: int) -> list[tuple[Document, float]]: ...
    def close(self) -> None: ...


class Faiss:
    def __init__(self, folder: Path, embeddings: Any) -> None:
        import faiss
        from langchain_community.docstore.in_memory import InMemoryDocstore
        from langchain_community.vectorstores import FAISS
        from langchain_community.vectorstores.utils import DistanceStrategy

        self._folder = folder
        strategy = DistanceStrategy.MAX_INNER_PRODUCT
        if folder.exists():
            self.store = FAISS.load_local(
                str(folder), embeddings, allow_dangerous_deserialization=True,
                distance_strategy=strategy,
            )  # fmt: skip
        else:
            self.store = FAISS(
                embeddings, faiss.IndexFlatIP(DIMENSION), InMemoryDocstore(), {},
                distance_strategy=strategy,
            )  # fmt: skip

    def save(self) -> None:
        self.store.save_local(str(self._folder))

    def rows(self) -> list[Held]:
        found = []
        for place, id in self.store.index_to_docstore_id.items():
            document = self.store.docstore.search(id)
            vector = self.store.index.reconstruct(place)
            found.append(Held(document.metadata["source"], document.page_content, vector))
        return found

    def search(self, vector: list[float], k: int) -> list[tuple[Document, float]]:
        found = self.store.similarity_search_with_score_by_vector(vector, k)
        return [(document, float(score)) for document, score in found]

    def close(self) -> None:
        """Nothing is open."""


class Chroma:
    def __init__(self, folder: Path, embeddings: Any) -> None:
        from langchain_chroma import Chroma

        self.store = Chroma(
            "crash", embeddings, str(folder), collection_metadata={"hnsw:space": "cosine"}
        )

    def save(self) -> None:
        """It writes by itself."""

    def rows(self) -> list[Held]:
        got = self.store.get(include=["documents", "metadatas", "embeddings"])
        each = zip(got["metadatas"], got["documents"], got["embeddings"], strict=True)
        return [Held(m["source"], text, np.array(v, np.float32)) for m, text, v in each]

    def search(self, vector: list[float], k: int) -> list[tuple[Document, float]]:
        if not self.store._collection.count():
            return []
        found = self.store.similarity_search_by_vector_with_relevance_scores(vector, k)
        return [(document, 1 - distance) for document, distance in found]

    def close(self) -> None:
        self.store._client.close()


class Qdrant:
    def __init__(self, folder: Path, embeddings: Any) -> None:
        from langchain_qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient, models

        self._client = QdrantClient(path=str(folder))
        if not self._client.collection_exists("crash"):
            size = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
            self._client.create_collection("crash", size)
        self.store = QdrantVectorStore(self._client, "crash", embeddings)

    def save(self) -> None:
        """It writes by itself."""

    def rows(self) -> list[Held]:
        points, _ = self._client.scroll("crash", limit=100_000, with_vectors=True)
        return [
            Held(
                point.payload["metadata"]["source"],
                point.payload["page_content"],
                np.array(point.vector, np.float32),
            )
            for point in points
        ]

    def search(self, vector: list[float], k: int) -> list[tuple[Document, float]]:
        return self.store.similarity_search_with_score_by_vector(vector, k)

    def close(self) -> None:
        self._client.close()


STORES: Final[dict[str, type[Peer]]] = {"faiss": Faiss, "chroma": Chroma, "qdrant": Qdrant}
