"""What the journal records, as values: documents and chunks, known, planned and stored."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.types import Metadata, Unreadable


class Known(NamedTuple):
    """What is known of a document: the version published, the one planned, and the key of that
    one's text."""

    version: str | None
    planned: str | None
    gone: bool
    content: str | None


class OriginRecord(NamedTuple):
    """How an origin was read: under what fingerprint (None: not whole), settings, config entry."""

    fingerprint: str | None
    settings: str
    entry: str


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk on its way to the store. `place` counts from 0 within its document."""

    id: str
    source: str
    place: int
    text: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """A document read and split. `content` is the key of its text, `texts` what it is made of."""

    source: str
    origin: str
    version: str
    content: str
    text: str
    metadata: Metadata
    chunks: Sequence[PlannedChunk]


@dataclass(slots=True)
class Notes:
    """What reading found since the last flush, to be recorded in one transaction.

    Attributes:
        documents: to be planned.
        origins: that were read, each with how.
        gone: documents that their origin, read whole, no longer has.
        kept: documents that were thought gone, or planned otherwise, and are as they were.
        quarantine: of the origins read.
    """

    documents: list[PlannedDocument]
    origins: dict[str, OriginRecord]
    gone: list[str]
    kept: list[str]
    quarantine: dict[str, list[Unreadable]]

    @classmethod
    def none(cls) -> Notes:
        """Nothing yet."""
        return cls([], {}, [], [], {})

    @property
    def weight(self) -> int:
        """About the characters held."""
        return sum(len(document.text) for document in self.documents)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A published document as its loader gave it."""

    source: str
    origin: str
    text: str
    metadata: Metadata


def pack(content: str) -> bytes:
    """A text, compressed."""
    return zlib.compress(content.encode("utf-8"), 1)


def unpack(data: bytes) -> str:
    """What `pack` was given."""
    return zlib.decompress(data).decode("utf-8")
