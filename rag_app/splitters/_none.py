"""The class behind `splitters/none.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.splitting import Marks, SpanSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_app.types import Span


class WholeSplitter(SpanSplitter):
    """One chunk for each document, without the white space around it."""

    def __init__(self) -> None:
        super().__init__(chunk_overlap=0)

    def spans(self, text: str, marks: Marks) -> Iterable[Span]:  # noqa: ARG002
        """All of `text`."""
        return [(0, len(text))]
