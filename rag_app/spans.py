"""Spans of a text: pairs of character positions, the end left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_app.types import Span


def trim(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends; empty when there is nothing else in it."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return start + left, start + max(left, len(piece.rstrip()))
