"""What every embedding service takes beside its own options."""

from __future__ import annotations

from rag_app.options import OPERATIONAL, Field
from rag_app.remote import RemoteOptions


class RemoteEmbeddingOptions(RemoteOptions):
    """How texts are sent to an embedding service."""

    query_prefix: str | None = Field(
        None,
        description="What stands before a question; the model card's when left out.",
    )
    document_prefix: str | None = Field(
        None,
        description="What stands before a chunk; the model card's when left out.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens that the model reads of a text; the model card's when left out.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Texts in one request, at most; the service's own limit when left out.",
        json_schema_extra=OPERATIONAL,
    )
    price: float | None = Field(
        None,
        ge=0,
        description="US dollars per million tokens, for costs; the model card's when left out.",
        json_schema_extra=OPERATIONAL,
    )
