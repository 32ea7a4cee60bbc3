"""Cuts at headings and keeps code whole; for Markdown and every format with headings.

A chunk is the largest section (a heading with everything under it) that fits. Where one does not
fit, its own text and its subsections are chunks of their own, so that a chunk never crosses a
heading of the same or a higher level; a heading without text of its own goes with what follows.
Text that is still too long is cut between paragraphs, and code only where it does not fit a chunk,
then between lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import Field, Options

if TYPE_CHECKING:
    from rag_app.splitters._markdown import MarkdownSplitter
    from rag_app.types import Tokenizer


class Config(Options):
    """Options of the cut at headings."""

    chunk_size: int = Field(
        256,
        ge=8,
        le=1_000_000,
        description="Longest chunk in tokens of the embedding model, special tokens included.",
    )


def build(config: Config, tokenizer: Tokenizer) -> MarkdownSplitter:
    """The splitter, counting by the embedding model's `tokenizer`."""
    from rag_app.splitters._markdown import MarkdownSplitter

    return MarkdownSplitter(config, tokenizer)
