"""Cuts nothing: a document is a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import Options
from rag_app.splitting import Marks, SpanSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_app.types import Span


class Config(Options):
    """There is nothing to choose."""


def build(config: Config) -> WholeSplitter:  # noqa: ARG001
    """The splitter that leaves documents whole."""
    return WholeSplitter()


class WholeSplitter(SpanSplitter):
    """One chunk for each document, without the white space around it."""

    def __init__(self) -> None:
        super().__init__(chunk_overlap=0)

    def spans(self, text: str, marks: Marks) -> Iterable[Span]:  # noqa: ARG002
        """All of `text`."""
        return [(0, len(text))]
