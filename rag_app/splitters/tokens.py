"""Cuts into windows of a fixed number of tokens, wherever that falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationInfo, field_validator

from rag_app.options import Field, Options

if TYPE_CHECKING:
    from rag_app.splitters._tokens import TokenSplitter
    from rag_app.types import Tokenizer


class Config(Options):
    """Options of the token windows. Lengths are tokens of the embedding model."""

    chunk_size: int = Field(
        256,
        ge=8,
        le=1_000_000,
        description="Tokens in a chunk, special tokens of the embedding model included.",
    )
    chunk_overlap: int = Field(
        32, ge=0, validate_default=True, description="Tokens that neighbouring chunks share."
    )

    @field_validator("chunk_overlap")
    @classmethod
    def _check_overlap(cls, overlap: int, info: ValidationInfo) -> int:
        size = info.data.get("chunk_size")
        if size is not None and overlap >= size - 4:
            raise ValueError(f"{overlap} must be at least 5 less than chunk_size, which is {size}")
        return overlap


def build(config: Config, tokenizer: Tokenizer) -> TokenSplitter:
    """The splitter, counting by the embedding model's `tokenizer`."""
    from rag_app.splitters._tokens import TokenSplitter

    return TokenSplitter(config, tokenizer)
