"""What a parser gives, and how it says that it cannot: plain values that travel as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document.

    Attributes:
        text: the whole text, newlines as `\\n`.
        metadata: JSON values: `title`, `created`, `modified` where known, a record's columns,
            and the structure marks `_pages`, `_headings`, `_code` (character offsets in `text`).
        part: which part of the file it is ("row=2", a record's id); None when it is the file.
    """

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A part of a file that could not be read, while its neighbours could."""

    part: str
    reason: str


class ParseError(Exception):
    """The file cannot be read; the message is the reason, in words for its owner."""


class UnreadError(Exception):
    """The file could not be read now, whatever it holds; the message is the reason."""


Parse: TypeAlias = Callable[[bytes, Mapping[str, Any]], Iterator[Parsed | Broken]]
"""Every format's `parse(data, options)`: the bytes of one file to its documents."""

RESERVED = frozenset(
    ("source", "start", "end", "title", "page", "heading", "modified", "created", "media_type")
)
"""Metadata names with a meaning of our own; a column called so is stored as `column_<name>`."""


def name_column(column: str) -> str:
    """The metadata name for a record's `column`."""
    return f"column_{column}" if column in RESERVED or column.startswith("_") else column


def refuse_empty(text: str) -> str:
    """`text`, unless nothing but white space is in it.

    Raises:
        ParseError: "no text".
    """
    if not text.strip():
        raise ParseError("no text")
    return text
