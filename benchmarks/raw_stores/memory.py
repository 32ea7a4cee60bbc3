"""NumPy by hand over SQLite: what the memory store's cost is measured against."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class RawMemory:
    """One matrix beside one table, as durable as the store: WAL and `synchronous = FULL`."""

    def __init__(self, options: dict[str, Any]) -> None:
        path = options.get("path", ".rag/raw.sqlite")
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE rows (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
            " vector BLOB NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL)"
        )
        self._vectors: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows in one transaction and keep their unit vectors."""
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        first = len(self._vectors)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?)",
            (
                (first + i, id, units[i].tobytes(), json.dumps(metadatas[i]), texts[i])
                for i, id in enumerate(ids)
            ),
        )
        self._connection.execute("COMMIT")
        self._vectors = np.concatenate([self._vectors, units]) if first else units

    def query(
        self, vector: NDArray[np.float32], k: int
    ) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        cosines = self._vectors @ (vector / np.linalg.norm(vector))
        nearest = np.argpartition(-cosines, k)[:k]
        nearest = nearest[np.argsort(-cosines[nearest])]
        select = "SELECT id, text, metadata FROM rows WHERE number = ?"
        found = [self._connection.execute(select, (n,)).fetchone() for n in nearest.tolist()]
        return [
            (id, text, json.loads(metadata), float(cosines[n]))
            for n, (id, text, metadata) in zip(nearest, found, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
