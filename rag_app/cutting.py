"""Cutting a text recursively at ever smaller separators, as spans.

The algorithm, and so the chunks, are those of LangChain's `RecursiveCharacterTextSplitter`; a test
holds the two together. Cut at the first separator that occurs; pieces that are still too long
are cut at the next ones; neighbouring small pieces are merged up to the size. What it adds: the
position of every chunk is known, and every piece is counted once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from rag_app.spans import trim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rag_app.types import Span

KeepSeparator: TypeAlias = Literal["start", "end"]

SEPARATORS: Final = (
    *("\n\n", "\n"),
    *("。", "！", "？", ". ", "? ", "! "),
    *("；", "; ", "，", ", ", " ", ""),
)
"""Paragraphs, lines, sentences, clauses, words, characters; Western and East Asian."""

_SHORT: Final = 32
"""Characters up to which a piece's length is remembered: words come again, sentences do not."""


class _Piece(NamedTuple):
    start: int
    end: int
    length: int


@dataclass(frozen=True)
class Cutter:
    """How to cut.

    Attributes:
        size: the longest chunk, by `count`; only what no separator can divide is longer.
        overlap: how much of a chunk its follower may repeat, by `count`.
        count: the length of a text. It is applied to pieces and added up, as LangChain does, so
            that special tokens of a model, when counted, count for every piece.
        separators: tried in order; "" is between any two characters.
        keep_separator: a separator stays with the piece it ends, or with the one it starts.
    """

    size: int
    overlap: int
    count: Callable[[str], int]
    separators: Sequence[str] = SEPARATORS
    keep_separator: KeepSeparator = "end"
    _measure: Callable[[str], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        remembered = lru_cache(maxsize=1 << 16)(self.count)
        count = self.count
        object.__setattr__(
            self, "_measure", lambda text: (remembered if len(text) <= _SHORT else count)(text)
        )

    def cut(self, text: str, start: int, end: int) -> Iterator[Span]:
        """The chunks of `text[start:end]`, as spans of `text`."""
        return self._cut(text, start, end, self.separators)

    def _cut(self, text: str, start: int, end: int, separators: Sequence[str]) -> Iterator[Span]:
        separator, finer = _choose(text, start, end, separators)
        small: list[_Piece] = []
        for first, last in _pieces(text, start, end, separator, self.keep_separator):
            length = self._measure(text[first:last])
            if length < self.size:
                small.append(_Piece(first, last, length))
                continue
            yield from self._merge(text, small)
            small = []
            if finer:
                yield from self._cut(text, first, last, finer)
            else:
                yield first, last
        yield from self._merge(text, small)

    def _merge(self, text: str, pieces: Sequence[_Piece]) -> Iterator[Span]:
        """Join neighbours up to the size; a chunk begins with what it may repeat of the last."""
        joint = self._measure("")
        held: deque[_Piece] = deque()
        total = 0
        for piece in pieces:
            if held and total + piece.length + joint > self.size:
                yield from _join(text, held)
                while self._must_drop(total, piece.length + joint * (len(held) > 0)):
                    total -= held.popleft().length + joint * (len(held) > 0)
            total += piece.length + joint * (len(held) > 0)
            held.append(piece)
        yield from _join(text, held)

    def _must_drop(self, total: int, added: int) -> bool:
        return total > self.overlap or (total > 0 and total + added > self.size)


def _choose(
    text: str, start: int, end: int, separators: Sequence[str]
) -> tuple[str, Sequence[str]]:
    """The first separator that occurs, and those after it; the last one when none does."""
    for index, separator in enumerate(separators):
        if not separator:
            return separator, ()
        if text.find(separator, start, end) >= 0:
            return separator, separators[index + 1 :]
    return separators[-1], ()


def _pieces(text: str, start: int, end: int, separator: str, keep: KeepSeparator) -> Iterator[Span]:
    if not separator:
        yield from ((place, place + 1) for place in range(start, end))
        return
    first, found = start, text.find(separator, start, end)
    while found >= 0:
        border = found if keep == "start" else found + len(separator)
        if border > first:
            yield first, border
            first = border
        found = text.find(separator, found + len(separator), end)
    if end > first:
        yield first, end


def _join(text: str, pieces: Sequence[_Piece] | deque[_Piece]) -> Iterator[Span]:
    if pieces:
        start, end = trim(text, pieces[0].start, pieces[-1].end)
        if start < end:
            yield start, end
