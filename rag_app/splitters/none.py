"""Cuts nothing: a document is a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import Options

if TYPE_CHECKING:
    from rag_app.splitters._none import WholeSplitter


class Config(Options):
    """There is nothing to choose."""


def build(config: Config) -> WholeSplitter:  # noqa: ARG001
    """The splitter that leaves documents whole."""
    from rag_app.splitters._none import WholeSplitter

    return WholeSplitter()
