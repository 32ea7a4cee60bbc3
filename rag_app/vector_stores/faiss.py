"""FAISS over an SQLite file, in a folder or in RAM: one process's fast search, no server.

Texts, metadata and vectors are in `rows.sqlite` before `upsert` returns; FAISS's index is held in
memory, and saved beside it from time to time, so that opening need not build it again. What the
saved index does not know yet is read from the rows, so it is never behind. Nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import model_validator

from rag_app.options import OPERATIONAL, Field, FilePath, Options

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.store import Store

USED: Final = {
    "flat": (),
    "hnsw": ("m", "ef_construction", "ef_search"),
    "ivf": ("nlist", "nprobe"),
}
"""The options that each kind of index takes."""


class Config(Options):
    """Options of the FAISS store."""

    path: FilePath | None = Field(
        Path(".rag/faiss"),
        description="The folder, made when absent; it can hold several collections. "
        "null keeps everything in memory and forgets it at the end.",
        json_schema_extra=OPERATIONAL,
    )
    wait_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long to wait for another process that is writing to the folder.",
        json_schema_extra=OPERATIONAL,
    )
    index: Literal["flat", "hnsw", "ivf"] = Field(
        "flat",
        description="flat compares with every vector and misses nothing; hnsw (a graph) and ivf "
        "(clusters) look at a part of them and may miss a neighbour.",
    )
    m: int = Field(
        32,
        ge=2,
        le=512,
        description="Of hnsw: links per vector; more finds more and takes more memory. "
        "FAISS's default is 32.",
    )
    ef_construction: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Of hnsw: candidates while building; more finds more and builds slower. "
        "FAISS's default is 40.",
    )
    ef_search: int = Field(
        200,
        ge=1,
        le=10_000,
        description="Of hnsw: candidates while searching; more finds more and answers slower. "
        "FAISS's default is 16.",
    )
    nlist: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Of ivf: clusters; null takes 4 times the square root of the rows. Clusters "
        "are made once there are 39 rows for each. FAISS has no default.",
    )
    nprobe: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Of ivf: clusters that a search looks into; null takes half of them, at least "
        "64. FAISS's default is 1.",
    )

    @model_validator(mode="after")
    def _refuse_options_of_other_kinds(self) -> Config:
        for kind, names in USED.items():
            for name in names:
                if kind != self.index and name in self.model_fields_set:
                    wrong = (
                        f"{name} is an option of index: {kind}, the config asks for {self.index}"
                    )
                    raise ValueError(f"{wrong}. Leave it out, or set index: {kind}.")
        return self


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`.

    Raises:
        StoreError: the folder cannot be opened, or holds another program's file.
    """
    from rag_app.store import Store
    from rag_app.vector_stores._faiss_index import load_faiss
    from rag_app.vector_stores._faiss_rows import FaissRows

    load_faiss()  # a missing package shows here, not at the first use
    return Store(FaissRows(config, collection), embeddings)
