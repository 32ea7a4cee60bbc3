"""PostgreSQL with pgvector: rows beside your other data, in a server that many share.

Small collections are searched exactly; from `exact_below` rows on by an index (HNSW by default),
which may miss a neighbour. Filters run inside PostgreSQL, and always find all that match.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, SecretStr, model_validator

from rag_app.options import OPERATIONAL, Field, Options, Secret

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.store import Store

_PASSWORD: Final = re.compile(r"[\w+]+://[^:/]*:([^@]*)@")


def _refuse_second_at(url: SecretStr) -> SecretStr:
    """A password with an `@` would end there, and its rest be taken, and shown, for the host."""
    given = url.get_secret_value()
    password = _PASSWORD.match(given)
    if password and "@" in given[password.end() :]:
        raise ValueError("a password ends at the first @, and another follows. Write it as %40.")
    if not re.match(r"postgres(ql)?://", given):
        raise ValueError("is not a PostgreSQL URL. Write postgresql://user:password@host/database.")
    return url


class Config(Options):
    """Options of the PostgreSQL store."""

    url: Annotated[Secret, AfterValidator(_refuse_second_at)] = Field(
        description="URL of the database, postgresql://user:password@host:5432/database; as "
        "${DATABASE_URL} when it holds a password.",
        json_schema_extra={**OPERATIONAL, "literal": True},
    )
    schema_name: str = Field(
        "public",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        description="The schema of the tables, made when absent.",
        json_schema_extra=OPERATIONAL,
    )
    index: Literal["hnsw", "ivfflat", "none"] = Field(
        "hnsw",
        description="The vector index: hnsw, ivfflat, or none for exact search. "
        "Fixed when the collection is made.",
    )
    exact_below: int = Field(
        10_000,
        ge=0,
        description="Collections with fewer rows have no index yet and are searched exactly.",
    )
    m: int = Field(
        16,
        ge=2,
        le=100,
        description="HNSW's links per vector; more finds more and takes more memory. "
        "Fixed when the collection is made. pgvector's default is 16.",
    )
    ef_construction: int = Field(
        128,
        ge=4,
        le=1000,
        description="HNSW's candidates while building; more finds more and builds slower. "
        "Fixed when the collection is made. pgvector's default is 64.",
    )
    ef_search: int = Field(
        200,
        ge=1,
        le=1000,
        description="HNSW's candidates while searching; more finds more and answers slower. "
        "pgvector's default is 40.",
    )
    lists: int = Field(
        100,
        ge=1,
        le=32_768,
        description="IVFFlat's groups of vectors. Fixed when the collection is made. "
        "pgvector's default is 100.",
    )
    probes: int = Field(
        40,
        ge=1,
        le=32_768,
        description="IVFFlat's groups that a search reads; more finds more and answers slower. "
        "pgvector's default is 1.",
    )
    connections: int = Field(
        4,
        ge=1,
        le=100,
        description="Connections open at a time; more threads than this wait for each other.",
        json_schema_extra=OPERATIONAL,
    )
    timeout: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="How long one statement may take; building the index may take any time.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="after")
    def _fit(self) -> Config:
        """Options that the index does not have, or that contradict each other."""
        own = {"hnsw": {"m", "ef_construction", "ef_search"}, "ivfflat": {"lists", "probes"}}
        for index, options in own.items():
            given = sorted(options & self.model_fields_set)
            if index != self.index and given:
                raise ValueError(f"{given[0]} is an option of index {index}, not of {self.index}")
        if self.ef_construction < 2 * self.m:
            wrong = f"ef_construction {self.ef_construction} is below twice m ({self.m})"
            raise ValueError(f"{wrong}, which pgvector refuses. Set it to {2 * self.m} or more.")
        if self.probes > self.lists:
            raise ValueError(f"probes {self.probes} is above lists {self.lists}")
        return self


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is connected before it is first used."""
    import psycopg  # noqa: F401  # a missing package shows here, not at the first use
    from pgvector import Vector  # noqa: F401

    from rag_app.store import Store
    from rag_app.vector_stores._pgvector_rows import PgvectorRows

    return Store(PgvectorRows(config, collection), embeddings)
