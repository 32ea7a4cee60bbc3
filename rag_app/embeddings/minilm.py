"""all-MiniLM-L6-v2, shipped with rag-app: English, 384 dimensions, 256 tokens; no key needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rag_app.minilm import MAX_TOKENS, MiniLM, Precision
from rag_app.options import OPERATIONAL, Field, Options

if TYPE_CHECKING:
    from rag_app.embeddings._minilm import MiniLMEmbeddings

CARD: Final = "all-MiniLM-L6-v2"
"""What the table of model cards calls it."""

__all__ = ["CARD", "MAX_TOKENS", "Config", "build"]


class Config(Options):
    """Options of the embedded model."""

    precision: Precision = Field(
        "fp32",
        description="fp32 gives the published quality; int8 is twice as fast or more on CPUs with "
        "VNNI or ARM dot products, with slightly different vectors.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Texts embedded at the same time; one per available CPU when left out.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config) -> MiniLMEmbeddings:
    """The model as LangChain embeddings; weights are read at the first text."""
    from rag_app.embeddings._minilm import MiniLMEmbeddings

    return MiniLMEmbeddings(MiniLM(config.precision, config.threads))
