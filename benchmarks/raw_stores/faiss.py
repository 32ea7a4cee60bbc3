"""FAISS by hand, its texts and metadata in SQLite: what the FAISS store's cost is measured against.

The vectors are in FAISS's file alone, which is written anew after every insert.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class RawFaiss:
    """One index beside one table."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._folder = Path(options.get("path", ".rag/raw-faiss"))
        self._folder.mkdir(parents=True)
        self._connection = sqlite3.connect(self._folder / "rows.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE rows (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
            " metadata TEXT NOT NULL, text TEXT NOT NULL)"
        )
        self._index: Any = None

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows in one transaction, add their unit vectors and save the index."""
        units = vectors.astype(np.float32)
        faiss.normalize_L2(units)
        if self._index is None:
            self._index = self._make(units)
        first = self._index.ntotal
        self._index.add(units)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?)",
            ((first + i, id, json.dumps(metadatas[i]), texts[i]) for i, id in enumerate(ids)),
        )
        self._connection.execute("COMMIT")
        self._save()

    def _make(self, units: NDArray[np.float32]) -> Any:
        """The index of the kind asked for, trained if it needs to be."""
        dimension, options = units.shape[1], self._options
        match options.get("index", "flat"):
            case "hnsw":
                index = faiss.IndexHNSWFlat(
                    dimension, options.get("m", 32), faiss.METRIC_INNER_PRODUCT
                )
                index.hnsw.efConstruction = options.get("ef_construction", 100)
                index.hnsw.efSearch = options.get("ef_search", 200)
            case "ivf":
                lists = options.get("nlist") or round(4 * len(units) ** 0.5)
                index = faiss.index_factory(
                    dimension, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT
                )
                index.train(units)
                index.nprobe = options.get("nprobe") or min(lists, max(64, lists // 2))
            case _:
                index = faiss.IndexFlatIP(dimension)
        return index

    def _save(self) -> None:
        written = self._folder / "index.new"
        faiss.write_index(self._index, str(written))
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(self._folder / "index.faiss")

    def query(
        self, vector: NDArray[np.float32], k: int
    ) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        cosines, numbers = self._index.search(unit[None], k)
        select = "SELECT id, text, metadata FROM rows WHERE number = ?"
        found = [self._connection.execute(select, (n,)).fetchone() for n in numbers[0].tolist()]
        return [
            (id, text, json.loads(metadata), float(cosine))
            for cosine, (id, text, metadata) in zip(cosines[0], found, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
