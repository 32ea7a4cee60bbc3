"""Milvus, in a folder (Milvus Lite) or on a server: from a laptop to billions of vectors.

A folder is for one process; for more, run a server and give its `url`. On a server, filters run
inside Milvus, and a write returns once everybody can read it, so that searches need not wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator, model_validator

from rag_app.options import OPERATIONAL, Field, FilePath, Options, Secret

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.store import Store


class Config(Options):
    """Options of the Milvus store."""

    path: FilePath = Field(
        Path(".rag/milvus"),
        description="The folder of Milvus Lite, made when absent. Not used with `url`.",
        json_schema_extra=OPERATIONAL,
    )
    url: str | None = Field(
        None,
        description="A Milvus server instead of a folder, as http://localhost:19530.",
        pattern=r"^https?://[^/]+/?$",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The server's token: an API key, or `user:password`.",
        json_schema_extra=OPERATIONAL,
    )
    database: str = Field(
        "default", description="The server's database.", json_schema_extra=OPERATIONAL
    )
    consistency: Literal["bounded", "strong"] = Field(
        "bounded",
        description="What a search on a server waits for: `bounded` for nothing, since a write "
        "returns once searches see it; `strong` for all writes even with several replicas, which "
        "takes 0.2 to 0.4 seconds.",
        json_schema_extra=OPERATIONAL,
    )
    index: Literal["hnsw", "ivf_flat", "flat"] | None = Field(
        None,
        description="The vector index: `hnsw` on a server and `flat`, which is exact, in a folder. "
        "Fixed when the collection is made. Milvus's default is AUTOINDEX.",
    )
    m: int = Field(
        16,
        ge=2,
        le=2048,
        description="HNSW's M: links per vector; more finds more and takes more memory. "
        "Fixed when the collection is made. Milvus's default is 30.",
    )
    ef_construction: int = Field(
        200,
        ge=1,
        le=32_768,
        description="HNSW's candidates while building; more finds more and builds slower. "
        "Fixed when the collection is made. Milvus's default is 360.",
    )
    ef_search: int = Field(
        200,
        ge=1,
        le=32_768,
        description="HNSW's candidates while searching, at least `k`; more finds more and answers "
        "slower. Milvus's default is `k`.",
    )
    nlist: int = Field(
        128,
        ge=1,
        le=65_536,
        description="Clusters of `ivf_flat`. Fixed when the collection is made. Milvus's default "
        "is 128.",
    )
    nprobe: int = Field(
        32,
        ge=1,
        le=65_536,
        description="Clusters of `ivf_flat` that a search looks into; more finds more and answers "
        "slower. Milvus's default is 8.",
    )

    @field_validator("url")
    @classmethod
    def _refuse_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            wrong = "a server's URL may not hold a user name or password"
            raise ValueError(f"{wrong}. Give them as api_key, as user:password.")
        return url

    @model_validator(mode="after")
    def _choose_one_place(self) -> Config:
        if self.url is not None and "path" in self.model_fields_set:
            raise ValueError("path and url exclude each other: give the one that is meant")
        if self.url is None and self.model_fields_set & {"api_key", "database", "consistency"}:
            raise ValueError("api_key, database and consistency are a server's: give its url, too")
        return self


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is opened before it is first used."""
    from rag_app.store import Store
    from rag_app.vector_stores._milvus_rows import MilvusRows
    from rag_app.vector_stores._milvus_server import import_pymilvus

    import_pymilvus()  # a missing package shows here, not at the first use
    if config.url is None:
        import milvus_lite  # noqa: F401

    return Store(MilvusRows(config, collection), embeddings)
