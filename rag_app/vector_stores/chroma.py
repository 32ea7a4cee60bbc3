"""Chroma, in a folder or on a server: approximate search (HNSW) that scales beyond memory's scan.

In a folder one process writes at a time and nobody reads meanwhile; for more, run a server and give
its `url`. Filters that Chroma can express run inside it; for the others (order of strings,
substrings, lists, null, existence) the metadata is read first, then the matching rows are searched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import field_validator, model_validator

from rag_app.options import OPERATIONAL, Field, FilePath, Options, Secret

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.store import Store


class Config(Options):
    """Options of the Chroma store."""

    path: FilePath = Field(
        Path(".rag/chroma"),
        description="The folder, made when absent. Not used with `url`.",
        json_schema_extra=OPERATIONAL,
    )
    url: str | None = Field(
        None,
        description="A Chroma server instead of a folder, as http://localhost:8000.",
        pattern=r"^https?://[^/]+/?$",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="Sent to the server in the header `api_key_header`.",
        json_schema_extra=OPERATIONAL,
    )
    api_key_header: str = Field(
        "x-chroma-token",
        description="The header for `api_key`; Chroma Cloud's by default.",
        json_schema_extra=OPERATIONAL,
    )
    tenant: str = Field(
        "default_tenant", description="The server's tenant.", json_schema_extra=OPERATIONAL
    )
    database: str = Field(
        "default_database", description="The server's database.", json_schema_extra=OPERATIONAL
    )
    max_neighbors: int = Field(
        16,
        ge=2,
        le=512,
        description="HNSW's M: links per vector; more finds more and takes more memory. "
        "Fixed when the collection is made. Chroma's default is 16.",
    )
    ef_construction: int = Field(
        100,
        ge=1,
        le=10_000,
        description="HNSW's candidates while building; more finds more and builds slower. "
        "Fixed when the collection is made. Chroma's default is 100.",
    )
    ef_search: int = Field(
        200,
        ge=1,
        le=10_000,
        description="HNSW's candidates while searching; more finds more and answers slower. A "
        "server takes a new value when it next loads the collection. Chroma's default is 100.",
    )

    @field_validator("url")
    @classmethod
    def _refuse_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            wrong = "a server's URL may not hold a user name or password"
            raise ValueError(f"{wrong}. Give the key as api_key, and its header as api_key_header.")
        return url

    @model_validator(mode="after")
    def _choose_one_place(self) -> Config:
        if self.url is not None and "path" in self.model_fields_set:
            raise ValueError("path and url exclude each other: give the one that is meant")
        return self


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is opened before it is first used."""
    import chromadb  # noqa: F401  # a missing package shows here, not at the first use

    from rag_app.store import Store
    from rag_app.vector_stores._chroma_rows import ChromaRows

    return Store(ChromaRows(config, collection), embeddings)
