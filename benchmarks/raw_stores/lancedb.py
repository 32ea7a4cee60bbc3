"""Plain good use of LanceDB's client: what the LanceDB store's cost is measured against."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import lancedb
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class RawLancedb:
    """One table, opened once, searched without an index."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._connection = lancedb.connect(options.get("path", ".rag/raw-lancedb"))
        self._name = f"raw-{uuid.uuid4().hex}"
        self._table: Any = None

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Add all rows as one Arrow table."""
        dimension = vectors.shape[1]
        given = pa.table(
            {
                "id": pa.array(ids, pa.string()),
                "text": pa.array(texts, pa.large_string()),
                "metadata": pa.array(list(map(json.dumps, metadatas)), pa.large_string()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
            }
        )
        self._table = self._connection.create_table(self._name, given)

    def query(
        self, vector: NDArray[np.float32], k: int
    ) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        search = self._table.search(vector).distance_type("cosine").limit(k)
        found = search.select(["id", "text", "metadata", "_distance"]).to_arrow().to_pylist()
        return [
            (row["id"], row["text"], json.loads(row["metadata"]), 1 - row["_distance"])
            for row in found
        ]

    def close(self) -> None:
        """Remove the table."""
        self._connection.drop_table(self._name)
