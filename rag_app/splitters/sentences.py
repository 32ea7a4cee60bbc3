"""Groups whole sentences up to a size; English and East Asian, prose and Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import Field, Options

if TYPE_CHECKING:
    from rag_app.splitters._sentences import SentenceSplitter
    from rag_app.types import Tokenizer


class Config(Options):
    """Options of the sentence groups."""

    chunk_size: int = Field(
        256,
        ge=8,
        le=1_000_000,
        description="Longest chunk in tokens of the embedding model, special tokens included.",
    )
    overlap: int = Field(
        0, ge=0, le=100, description="Sentences at the end of a chunk that the next one repeats."
    )


def build(config: Config, tokenizer: Tokenizer) -> SentenceSplitter:
    """The splitter, counting by the embedding model's `tokenizer`."""
    from rag_app.splitters._sentences import SentenceSplitter

    return SentenceSplitter(config, tokenizer)
