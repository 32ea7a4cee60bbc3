"""Cuts at paragraphs, then lines, sentences, words; chunks as long as the size allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationInfo, field_validator

from rag_app.cutting import SEPARATORS, KeepSeparator
from rag_app.options import Field, Options

if TYPE_CHECKING:
    from rag_app.splitters._recursive import RecursiveSplitter
    from rag_app.types import Tokenizer


class Config(Options):
    """Options of the recursive splitter. Lengths are tokens of the embedding model."""

    chunk_size: int = Field(
        256,
        ge=8,
        le=1_000_000,
        description="Longest chunk in tokens of the embedding model, special tokens included.",
    )
    chunk_overlap: int = Field(
        32,
        ge=0,
        validate_default=True,
        description="Tokens at the end of a chunk that the next one may repeat.",
    )
    separators: tuple[str, ...] = Field(
        SEPARATORS,
        min_length=1,
        description='Where to cut, best place first; "" is between any two characters.',
    )
    keep_separator: KeepSeparator = Field(
        "end",
        description="Whether a separator stays with the piece it ends or with the one it starts.",
    )

    @field_validator("chunk_overlap")
    @classmethod
    def _check_overlap(cls, overlap: int, info: ValidationInfo) -> int:
        size = info.data.get("chunk_size")
        if size is not None and overlap >= size:
            raise ValueError(f"{overlap} must be smaller than chunk_size, which is {size}")
        return overlap


def build(config: Config, tokenizer: Tokenizer) -> RecursiveSplitter:
    """The splitter, counting by the embedding model's `tokenizer`."""
    from rag_app.splitters._recursive import RecursiveSplitter

    return RecursiveSplitter(config, tokenizer)
