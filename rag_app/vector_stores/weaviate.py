"""Weaviate, a server of one's own or Weaviate Cloud: approximate search (HNSW) that scales out.

Filters run inside Weaviate as far as its index can express them; what it lets pass too much is
found by looking at the metadata of the hits; then the search is narrowed to the rows that match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import field_validator

from rag_app.options import OPERATIONAL, Field, Options, Secret

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.store import Store


class Config(Options):
    """Options of the Weaviate store."""

    url: str = Field(
        "http://localhost:8080",
        description="The server's REST address, or the URL of a Weaviate Cloud cluster.",
        pattern=r"^https?://[^/]+/?$",
        json_schema_extra=OPERATIONAL,
    )
    grpc_url: str | None = Field(
        None,
        description="The server's gRPC address, as http://localhost:50051; https means TLS. By "
        "default port 50051 of the same host, and of Weaviate Cloud the one that belongs to `url`.",
        pattern=r"^https?://[^/]+/?$",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None, description="The API key of the server.", json_schema_extra=OPERATIONAL
    )
    timeout: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="How long one answer may take. Connecting may take 10 seconds at most.",
        json_schema_extra=OPERATIONAL,
    )
    m: int = Field(
        32,
        ge=4,
        le=2047,
        description="HNSW's links per vector, Weaviate's maxConnections; more finds more and takes "
        "more memory. Fixed when the collection is made. Weaviate's default is 32.",
    )
    ef_construction: int = Field(
        128,
        ge=4,
        le=10_000,
        description="HNSW's candidates while building; more finds more and builds slower. "
        "Fixed when the collection is made. Weaviate's default is 128.",
    )
    ef_search: int = Field(
        200,
        ge=-1,
        le=10_000,
        description="HNSW's candidates while searching, Weaviate's ef; more finds more and answers "
        "slower. -1, Weaviate's default, lets it take 8 for each hit, from 100 to 500.",
    )

    @field_validator("url", "grpc_url")
    @classmethod
    def _refuse_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            raise ValueError(
                "a server's URL may not hold a user name or password. Give the key as api_key."
            )
        return url

    @field_validator("ef_search")
    @classmethod
    def _refuse_zero(cls, ef_search: int) -> int:
        if ef_search == 0:
            raise ValueError("0 candidates find nothing: give at least 1, or -1 for Weaviate's own")
        return ef_search


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is connected to before it is first used."""
    import weaviate  # noqa: F401  # a missing package shows here, not at the first use

    from rag_app.store import Store
    from rag_app.vector_stores._weaviate_rows import WeaviateRows

    return Store(WeaviateRows(config, collection), embeddings)
