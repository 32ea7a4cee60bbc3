"""What the journal records, as values: documents and chunks, known, planned and stored."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.types import Doubt, Metadata, Unreadable

MANY_DOCUMENTS: Final = 256
MANY_CHARACTERS: Final = 4_000_000
"""Documents, and characters of them, that are held before they are planned."""


class Known(NamedTuple):
    """What is known of a document: the version published, the one planned, and the key of that
    one's text."""

    version: str | None
    planned: str | None
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
        kept: documents that were planned otherwise, and are as they were.
        quarantine: of the origins read.
    """

    documents: list[PlannedDocument]
    origins: dict[str, OriginRecord]
    kept: list[str]
    quarantine: dict[str, list[Unreadable]]

    @classmethod
    def none(cls) -> Notes:
        """Nothing yet."""
        return cls([], {}, [], {})

    def are_many(self) -> bool:
        """Whether so much is held that it is time to record it."""
        characters = sum(len(document.text) for document in self.documents)
        return len(self.documents) >= MANY_DOCUMENTS or characters >= MANY_CHARACTERS


@dataclass(slots=True)
class Findings:
    """What reading found. `gone` may be acted on only when reading ended without an error.

    Attributes:
        added: documents that are new; `changed` those that are to be written anew.
        entries: of the config, all of which were listed; `doubts` what their loaders doubt.
        contents: of each document that is planned, the key of its text.
        emptied: entries of which every origin with a published document is gone.
        doubtful: documents of `gone` that a loader's doubt covers.
        abandoned: documents that an interrupted run left waiting, and that cannot be read now.
        settled: origins that lost documents; only a published run records them as read.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    excluded: int = 0
    quarantine: list[Unreadable] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    contents: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    doubtful: list[tuple[Doubt, set[str]]] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    entries: set[str] = field(default_factory=set)
    doubts: list[Doubt] = field(default_factory=list)
    settled: dict[str, OriginRecord] = field(default_factory=dict)

    @property
    def indexed(self) -> int:
        """Documents to be written."""
        return len(self.added) + len(self.changed)


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


def bind_document(document: PlannedDocument) -> dict[str, Any]:
    """A document as the values of its statement."""
    return {
        "s": document.source,
        "origin": document.origin,
        "planned": document.version,
        "content": document.content,
        "metadata": encode(document.metadata),
    }


def bind_chunk(chunk: PlannedChunk) -> dict[str, Any]:
    """A chunk as the values of its statement."""
    metadata = encode(chunk.metadata)
    return {
        "id": chunk.id,
        "s": chunk.source,
        "p": chunk.place,
        "t": encode(chunk.text),
        "m": metadata,
    }


def encode(value: object) -> str:
    """As JSON, in which no NUL stands: PostgreSQL takes none in a text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
