"""A piece of evidence on the chunks that its document was cut into."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rag_app.evaluation.projection import find_spans, overlaps
from rag_app.spans import trim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_app.evaluation.results import Evidence
    from rag_app.index.records import StoredDocument
    from rag_app.rows import Row
    from rag_app.types import Hit, Span

SHORTEST: Final = 8
"""Letters that a quote must have to be looked for in another writing."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk as the store holds it, with the span of its document that it is."""

    row: Row
    span: Span

    @classmethod
    def read(cls, row: Row) -> Chunk:
        """From a row; one stored without a span counts as a whole."""
        start = row.metadata.get("start", 0)
        return cls(row, (start, row.metadata.get("end", start + len(row.text))))


@dataclass(frozen=True)
class Place:
    """Where a piece of evidence stands.

    Attributes:
        number: of the evidence in its case.
        document: as it was indexed.
        spans: of its text, each as good as the others; empty for the whole document.
        chunks: of the document, in order.
        note: how the words were found, where they are written otherwise than in the quote.
    """

    number: int
    document: StoredDocument
    spans: tuple[Span, ...]
    chunks: tuple[Chunk, ...]
    note: str = ""

    @property
    def source(self) -> str:
        """The document's name."""
        return self.document.source

    @cached_property
    def touching(self) -> tuple[Chunk, ...]:
        """The chunks that hold some of it, best covered first."""
        if not self.spans:
            return self.chunks
        shares = [max(_share(chunk.span, span) for span in self.spans) for chunk in self.chunks]
        order = sorted(range(len(shares)), key=lambda place: -shares[place])
        return tuple(self.chunks[place] for place in order if shares[place] > 0)

    @cached_property
    def holding(self) -> tuple[Chunk, ...]:
        """The chunks that hold it whole; of a whole document any chunk counts."""
        if not self.spans:
            return self.chunks
        return tuple(c for c in self.touching if any(self.covers([c.span], s) for s in self.spans))

    def covers(self, chunks: Iterable[Span], span: Span) -> bool:
        """Whether chunks together hold a span, but for white space."""
        at, end = trim(self.document.text, *span)
        for first, last in sorted(chunks):
            if first > at and self.document.text[at : min(first, end)].strip():
                return False
            at = max(at, last)
        return at >= end or not self.document.text[at:end].strip()

    def rank_in(self, hits: Sequence[Hit]) -> int | None:
        """How many of the first hits it takes to hold it whole; None when all do not."""
        found: list[Span] = []
        for rank, hit in enumerate(hits, 1):
            if hit.source != self.source:
                continue
            if not self.spans:
                return rank
            if not any(overlaps((hit.start, hit.end), span) for span in self.spans):
                continue
            found.append((hit.start, hit.end))
            if any(self.covers(found, span) for span in self.spans):
                return rank
        return None

    def held_by(self, hits: Sequence[Hit]) -> bool:
        """Whether hits hold it whole, together."""
        return self.rank_in(hits) is not None

    def only(self, *chunks: Chunk) -> Place:
        """The same with these chunks alone."""
        return replace(self, chunks=chunks)


def locate_piece(
    number: int, evidence: Evidence, document: StoredDocument, rows: Sequence[Row]
) -> Place | None:
    """Where a piece of evidence stands in its document; None when its words are not there.

    White space, ligatures and soft hyphens may differ from the quote's.
    """
    chunks = tuple(sorted(map(Chunk.read, rows), key=lambda chunk: chunk.span))
    try:
        spans, note = find_spans(evidence, {document.source: document.text}), ""
    except LookupError:
        spans = find_squeezed(evidence.quote or "", document.text)
        if not spans:
            return None
        note = "the document writes the quote a little otherwise"
    return Place(number, document, spans, chunks, note)


def find_squeezed(quote: str, text: str) -> tuple[Span, ...]:
    """The places of a quote where only its letters count: no white space, no soft hyphens,
    ligatures and full-width letters as plain ones. A short quote is not looked for like this."""
    wanted, _ = squeeze(quote)
    if len(wanted) < SHORTEST:
        return ()
    letters, places = squeeze(text)
    spans, at = [], letters.find(wanted)
    while at >= 0:
        spans.append((places[at], places[at + len(wanted) - 1] + 1))
        at = letters.find(wanted, at + len(wanted))
    return tuple(spans)


def squeeze(text: str) -> tuple[str, list[int]]:
    """The letters and signs of a text without white space and invisible ones, compatible forms as
    one (NFKC), each with its place in the text."""
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isspace() or unicodedata.category(character) in ("Cf", "Cc"):
            continue
        for letter in unicodedata.normalize("NFKC", character):
            if not letter.isspace():
                letters.append(letter)
                places.append(place)
    return "".join(letters), places


def find_twins(place: Place, hits: Sequence[Hit]) -> dict[str, int]:
    """Other documents whose chunks, among hits, hold the same words; each with its best rank."""
    found: dict[str, int] = {}
    for rank, hit in enumerate(hits, 1):
        if hit.source != place.source and hit.source not in found:
            meant = (place.document.text[start:end] for start, end in place.spans)
            if any(find_squeezed(words, hit.text) for words in meant):
                found[hit.source] = rank
    return found


def describe_sources(places: Mapping[str, int]) -> str:
    """Documents with the rank each was found at, as words."""
    return ", ".join(f"{source!r} at rank {rank}" for source, rank in places.items())


def _share(chunk: Span, span: Span) -> int:
    return min(chunk[1], span[1]) - max(chunk[0], span[0])
