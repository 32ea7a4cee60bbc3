"""Plain good use of `qdrant-client` and `qdrant-edge-py`, to measure the Qdrant store against."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qdrant_edge
from qdrant_client import QdrantClient, models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PAGE = 500
FACTORY = {"m": 16, "ef_construction": 100, "full_scan_threshold": 10_000}


class RawQdrant:
    """A collection of points: the id, the text and the metadata as payload, cosine as distance."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._side = RawServer(options) if "url" in options else RawFolder(options)
        self.insert = self._side.insert
        self.query = self._side.query
        self.close = self._side.close


class RawServer:
    """The client's own calls on a server."""

    def __init__(self, options: dict[str, Any]) -> None:
        key = options.get("api_key")
        headers = {"api-key": key} if key else {}
        self._client = QdrantClient(options["url"], headers=headers, check_compatibility=False)
        self._name = f"raw-{uuid.uuid4().hex}"
        self._params = models.SearchParams(hnsw_ef=options.get("ef_search", 200))
        graph = {**FACTORY, **{name: options[name] for name in FACTORY if name in options}}
        self._client.create_collection(
            self._name,
            models.VectorParams(size=384, distance=models.Distance.COSINE),
            hnsw_config=models.HnswConfigDiff(
                m=graph["m"],
                ef_construct=graph["ef_construction"],
                full_scan_threshold=graph["full_scan_threshold"],
            ),
        )

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[Any],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows, five hundred to a request."""
        for start in range(0, len(ids), PAGE):
            part = slice(start, start + PAGE)
            columns = models.Batch(
                ids=[str(uuid.uuid5(uuid.NAMESPACE_URL, id)) for id in ids[part]],
                vectors=vectors[part].tolist(),
                payloads=_payloads(ids[part], texts[part], metadatas[part]),
            )
            self._client.upsert(self._name, columns, wait=True)

    def query(self, vector: NDArray[Any], k: int) -> list[tuple[str, str, dict[str, Any], float]]:
        """The `k` nearest rows: id, text, metadata, cosine."""
        found = self._client.query_points(
            self._name, vector.tolist(), limit=k, search_params=self._params, with_payload=True
        )
        return [_row(point) for point in found.points]

    def close(self) -> None:
        """Remove the collection and close the client."""
        self._client.delete_collection(self._name)
        self._client.close()


class RawFolder:
    """The engine's own calls, in a folder, or in a temporary one that goes at the end."""

    def __init__(self, options: dict[str, Any]) -> None:
        folder = options.get("path")
        self._temporary = tempfile.mkdtemp() if folder is None else None
        self._path = Path(self._temporary or folder) / f"raw-{uuid.uuid4().hex}"
        self._path.mkdir(parents=True)
        self._lasting = folder is not None
        self._params = qdrant_edge.SearchParams(hnsw_ef=options.get("ef_search", 200))
        graph = {**FACTORY, **{name: options[name] for name in FACTORY if name in options}}
        self._shard = qdrant_edge.EdgeShard.create(
            str(self._path),
            qdrant_edge.EdgeConfig(
                vectors=qdrant_edge.EdgeVectorParams(384, qdrant_edge.Distance.Cosine),
                hnsw_config=qdrant_edge.HnswIndexConfig(*graph.values()),
                wal_enabled=self._lasting,
            ),
        )

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[Any],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows, five hundred at a time, and wait for the disk."""
        for start in range(0, len(ids), PAGE):
            part = slice(start, start + PAGE)
            points = [
                qdrant_edge.Point(uuid.uuid5(uuid.NAMESPACE_URL, payload["id"]), vector, payload)
                for vector, payload in zip(
                    vectors[part], _payloads(ids[part], texts[part], metadatas[part]), strict=True
                )
            ]
            self._shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
        if self._lasting:
            self._shard.flush()

    def query(self, vector: NDArray[Any], k: int) -> list[tuple[str, str, dict[str, Any], float]]:
        """The `k` nearest rows: id, text, metadata, cosine."""
        found = self._shard.search(
            qdrant_edge.SearchRequest(
                qdrant_edge.Query.Nearest(vector), limit=k, params=self._params, with_payload=True
            )
        )
        return [_row(point) for point in found]

    def optimize(self) -> None:
        """Build the graph, as one does after a large insert."""
        self._shard.optimize()

    def close(self) -> None:
        """Close the engine and remove its folder."""
        self._shard.close()
        shutil.rmtree(self._temporary or self._path)


def _payloads(
    ids: Sequence[str], texts: Sequence[str], metadatas: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {"id": id, "text": text, "metadata": metadata}
        for id, text, metadata in zip(ids, texts, metadatas, strict=True)
    ]


def _row(point: Any) -> tuple[str, str, dict[str, Any], float]:
    payload = point.payload
    return payload["id"], payload["text"], payload["metadata"], point.score
