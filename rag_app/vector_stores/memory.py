"""Exact search in memory over an SQLite file, or over nothing but memory; needs no extra package.

Every row is in the file before `upsert` returns (WAL, synchronous=FULL, one transaction a batch);
vectors and metadata are held in memory too, and searched whole: about 15 ms a query at 100,000 rows
of 384 dimensions. Several processes may read and write one file; each sees what the others wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rag_app.options import OPERATIONAL, Field, FilePath, Options

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.store import Store


class Config(Options):
    """Options of the memory store."""

    path: FilePath | None = Field(
        Path(".rag/vectors.sqlite"),
        description="The SQLite file, made when absent; it can hold several collections. "
        "null keeps everything in memory and forgets it at the end.",
        json_schema_extra=OPERATIONAL,
    )
    wait_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long to wait for another process that is writing to the file.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`.

    Raises:
        StoreError: the path cannot be opened, is no SQLite file, or belongs to another program.
    """
    from rag_app.store import Store
    from rag_app.vector_stores._matrix import MemoryRows

    return Store(MemoryRows(config.path, collection, config.wait_seconds), embeddings)
