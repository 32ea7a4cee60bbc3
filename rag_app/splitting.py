"""What every splitter shares: chunks are spans of the document, never copies put together.

A splitter says where to cut (`spans`); the class here turns that into LangChain's interface and
into metadata: character span, page and heading path of each chunk.
"""

from __future__ import annotations

import bisect
import copy
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.documents import Document
from langchain_text_splitters import TextSplitter

from rag_app.spans import trim

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rag_app.types import Metadata, Span


class Heading(NamedTuple):
    """A heading of a document: where it begins, its level (1 is highest), its words."""

    start: int
    level: int
    title: str


@dataclass(frozen=True)
class Marks:
    """The structure a loader saw: starts of pages, headings in order, spans of code."""

    pages: Sequence[int] = ()
    headings: Sequence[Heading] = ()
    code: Sequence[Span] = ()

    @classmethod
    def read(cls, metadata: Metadata) -> Marks:
        """The marks among a document's metadata: `_pages`, `_headings` and `_code`."""
        return cls(
            pages=tuple(metadata.get("_pages") or ()),
            headings=tuple(sorted(Heading(*each) for each in metadata.get("_headings") or ())),
            code=tuple(sorted((start, end) for start, end in metadata.get("_code") or ())),
        )

    def page_at(self, place: int) -> int | None:
        """The number of the page, from 1, that the character at `place` is on."""
        return max(1, bisect.bisect_right(self.pages, place)) if self.pages else None

    def heading_path(self, start: int, end: int) -> str | None:
        """The path "A > B" of the headings in force at `start`.

        Before the first heading it is that heading's, when it begins before `end`.
        """
        index = bisect.bisect_right(self._heading_starts, start) - 1
        if index < 0 and self.headings and self.headings[0].start < end:
            index = 0
        return self._paths[index] if index >= 0 else None

    def between(self, start: int, end: int) -> dict[str, list[list[Any]]]:
        """The pages and heading paths that begin inside a span, each after its place.

        A citation of the span's later part needs them; empty when there are none.
        """
        pages = [[at, n] for n, at in enumerate(self.pages, 1) if start < at < end]
        first = self.heading_path(start, end)
        headings = [
            [heading.start, path]
            for heading, path in zip(self.headings, self._paths, strict=True)
            if start < heading.start < end and path != first
        ]
        found: dict[str, list[list[Any]]] = {"pages": pages, "headings": headings}
        return {name: places for name, places in found.items() if places}

    @cached_property
    def _heading_starts(self) -> list[int]:
        return [heading.start for heading in self.headings]

    @cached_property
    def _paths(self) -> list[str]:
        """For each heading the titles of those it lies under, and its own."""
        paths, open_headings = [], list[Heading]()
        for heading in self.headings:
            while open_headings and open_headings[-1].level >= heading.level:
                open_headings.pop()
            open_headings.append(heading)
            paths.append(" > ".join(each.title for each in open_headings))
        return paths


class SpanSplitter(TextSplitter):
    """A LangChain splitter whose chunks are exactly `text[start:end]` of their document.

    A subclass implements `spans`. Chunks lose white space at both ends, those of nothing else are
    dropped; each carries its document's metadata without the marks, and `start`, `end`, `page`
    and `heading` where the marks tell them.
    """

    @abstractmethod
    def spans(self, text: str, marks: Marks) -> Iterable[Span]:
        """Where the chunks of `text` lie, in order of their starts; they may overlap."""

    def read_marks(self, text: str, metadata: Metadata) -> Marks:  # noqa: ARG002
        """The structure of a document: what its loader marked."""
        return Marks.read(metadata)

    def trim(self, text: str, start: int, end: int) -> Span:
        """The span without white space at its ends; empty when there is nothing else in it."""
        return trim(text, start, end)

    def split_text(self, text: str) -> list[str]:
        """The chunks of `text`."""
        return [text[start:end] for start, end in self._cut(text, self.read_marks(text, {}))]

    def create_documents(
        self, texts: list[str], metadatas: list[dict[Any, Any]] | None = None
    ) -> list[Document]:
        """The chunks of several texts, with the metadata given for each text."""
        listed = metadatas or [{}] * len(texts)
        return [
            chunk
            for text, metadata in zip(texts, listed, strict=True)
            for chunk in self._make_chunks(text, metadata)
        ]

    def _make_chunks(self, text: str, metadata: Metadata) -> list[Document]:
        marks = self.read_marks(text, metadata)
        kept = {name: value for name, value in metadata.items() if not name.startswith("_")}
        return [
            Document(
                text[start:end], metadata=copy.deepcopy(kept) | _place(marks, text, start, end)
            )
            for start, end in self._cut(text, marks)
        ]

    def _cut(self, text: str, marks: Marks) -> list[Span]:
        trimmed = [self.trim(text, start, end) for start, end in self.spans(text, marks)]
        return [(start, end) for start, end in trimmed if start < end]


def _place(marks: Marks, text: str, start: int, end: int) -> dict[str, Any]:
    first = trim(text, start, end)[0]
    found = {
        "page": marks.page_at(first),
        "heading": marks.heading_path(first, end),
        "_inside": marks.between(first, end),
    }
    return {"start": start, "end": end} | {n: v for n, v in found.items() if v}
