"""Hashed words: vectors without a model, close when words are shared; for tests and dry runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import Field, Options

if TYPE_CHECKING:
    from rag_app.embeddings._hashing import HashingEmbeddings


class Config(Options):
    """Options of hashed words."""

    dimension: int = Field(
        256, ge=8, le=65536, description="Length of a vector; fewer words collide in a longer one."
    )


def build(config: Config) -> HashingEmbeddings:
    """Embeddings of `config.dimension` numbers."""
    from rag_app.embeddings._hashing import HashingEmbeddings

    return HashingEmbeddings(config.dimension)
