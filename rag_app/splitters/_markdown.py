"""The class behind `splitters/markdown.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_app.cutting import Cutter
from rag_app.spans import trim
from rag_app.splitting import Marks, SpanSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag_app.splitters.markdown import Config
    from rag_app.types import Metadata, Span, Tokenizer


@dataclass
class Section:
    """A heading's own text, `start` to `end`, and the sections under it."""

    level: int
    start: int
    end: int
    is_bare: bool  # nothing but the heading itself
    parts: list[Section] = field(default_factory=list)

    def last(self) -> int:
        """Where the section ends, with all that is under it."""
        return self.parts[-1].last() if self.parts else self.end


class MarkdownSplitter(SpanSplitter):
    """Sections as chunks. Headings and code are the loader's; a bare text is read as Markdown."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__(config.chunk_size, 0, tokenizer.count_tokens)
        self._size = config.chunk_size
        self._count = tokenizer.count_tokens
        self._prose = Cutter(config.chunk_size, 0, tokenizer.count_tokens)
        self._code = Cutter(config.chunk_size, 0, tokenizer.count_tokens, ("\n", " ", ""))

    def read_marks(self, text: str, metadata: Metadata) -> Marks:
        """What the loader marked; a text that comes from no loader is read as Markdown."""
        if "media_type" in metadata or "_headings" in metadata or "_code" in metadata:
            return Marks.read(metadata)
        from rag_app.parsers.markdown import read_structure

        return Marks.read(read_structure(text))

    def spans(self, text: str, marks: Marks) -> Iterator[Span]:
        """The largest sections that fit, and pieces of those that do not."""
        for section in _read_sections(text, marks):
            yield from self._cut_section(text, section, marks.code)

    def trim(self, text: str, start: int, end: int) -> Span:
        """The span without white space at its ends, but with the first line's indentation."""
        first, last = trim(text, start, end)
        line = text.rfind("\n", 0, first) + 1
        return (line, last) if first < last and text[line:first].isspace() else (first, last)

    def _cut_section(self, text: str, section: Section, code: Sequence[Span]) -> Iterator[Span]:
        if self._fits(text, section.start, section.last()):
            yield section.start, section.last()
            return
        parts = section.parts
        if parts and section.is_bare:
            parts = [replace(parts[0], start=section.start), *parts[1:]]
        else:
            yield from self._pack(text, self._units(text, section.start, section.end, code))
        for part in parts:
            yield from self._cut_section(text, part, code)

    def _pack(self, text: str, units: Iterable[Span]) -> Iterator[Span]:
        """Neighbouring units joined up to the size."""
        special = self._count("")
        held: Span | None = None
        total = 0
        for start, end in units:
            length = self._count(text[start:end]) - special + 1  # 1: white space between two units
            if held and total + length > self._size - special:
                yield held
                held, total = None, 0
            held, total = (held[0] if held else start, end), total + length
        if held:
            yield held

    def _units(self, text: str, start: int, end: int, code: Sequence[Span]) -> Iterator[Span]:
        place = start
        for first, last in code:
            if first < place or last > end:
                continue
            yield from self._cut_prose(text, place, first)
            yield from self._fit(text, first, last, self._code)
            place = last
        yield from self._cut_prose(text, place, end)

    def _cut_prose(self, text: str, start: int, end: int) -> Iterator[Span]:
        place = start
        while place < end:
            gap = text.find("\n\n", place, end)
            border = end if gap < 0 else gap + 2
            yield from self._fit(text, place, border, self._prose)
            place = border

    def _fit(self, text: str, start: int, end: int, cutter: Cutter) -> Iterable[Span]:
        """The span itself when it fits, else its pieces; nothing when it is blank."""
        if not text[start:end].strip():
            return ()
        return [(start, end)] if self._fits(text, start, end) else cutter.cut(text, start, end)

    def _fits(self, text: str, start: int, end: int) -> bool:
        return self._count(text[start:end]) <= self._size


def _read_sections(text: str, marks: Marks) -> list[Section]:
    """The sections of the highest level, in order; what comes before the first heading is one."""
    borders = [*(heading.start for heading in marks.headings), len(text)]
    preamble = Section(0, 0, borders[0], is_bare=False)
    root = replace(preamble, parts=[])
    open_sections = [root]
    for heading, (start, end) in zip(marks.headings, pairwise(borders), strict=True):
        is_bare = "\n" not in text[start:end].strip()
        section = Section(heading.level, start, end, is_bare)
        while len(open_sections) > 1 and open_sections[-1].level >= heading.level:
            open_sections.pop()
        open_sections[-1].parts.append(section)
        open_sections.append(section)
    return [preamble, *root.parts]
