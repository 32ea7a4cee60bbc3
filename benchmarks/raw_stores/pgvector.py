"""Plain good use of psycopg 3 and pgvector: what the PostgreSQL store is measured against."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb, set_json_loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class RawPgvector:
    """One table with an HNSW index that is built once the rows are in, as pgvector advises."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._m = options.get("m", 16)
        self._ef_construction = options.get("ef_construction", 128)
        self._connection = psycopg.connect(options["url"], autocommit=True)
        set_json_loads(json.loads, self._connection)
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(self._connection)
        self._connection.execute(f"SET hnsw.ef_search = {int(options.get('ef_search', 200))}")
        self._connection.execute("SET hnsw.iterative_scan = relaxed_order")
        self._table = f"raw_{uuid.uuid4().hex}"
        self._connection.execute(
            f"CREATE TABLE {self._table} (id text PRIMARY KEY, text text NOT NULL,"
            " metadata jsonb NOT NULL, embedding vector(384) NOT NULL)"
        )
        self._query = (
            "SELECT id, text, metadata, 1 - (embedding <=> %(vector)s)"
            f" FROM {self._table} ORDER BY embedding <=> %(vector)s LIMIT %(k)s"
        )
        self._cursor = self._connection.cursor(binary=True)

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[Any],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Write rows by COPY, then index them."""
        copy = f"COPY {self._table} (id, text, metadata, embedding) FROM STDIN (FORMAT binary)"
        with self._connection.transaction():
            with self._cursor.copy(copy) as into:
                into.set_types(["text", "text", "jsonb", "vector"])
                for id, text, vector, metadata in zip(ids, texts, vectors, metadatas, strict=True):
                    into.write_row((id, text, Jsonb(metadata), vector))
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {self._table}_vectors ON {self._table}"
                " USING hnsw (embedding vector_cosine_ops)"
                f" WITH (m = {self._m}, ef_construction = {self._ef_construction})"
            )

    def query(self, vector: NDArray[Any], k: int) -> list[tuple[str, str, dict[str, Any], float]]:
        """Id, text, metadata and cosine of the nearest rows."""
        return self._cursor.execute(self._query, {"vector": vector, "k": k}).fetchall()

    def close(self) -> None:
        """Remove the table and end the connection."""
        self._connection.execute(f"DROP TABLE {self._table}")
        self._connection.close()
