"""Which words stand in which chunks, and how often: the matter that BM25 scores are made of.

Gathered block by block, so that building takes little more memory than what is built; carried over
from an earlier revision, so that only chunks that are new have to be cut into words.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

BLOCK: Final = 1 << 19
"""Words, or postings, that are worked on at a time."""


@dataclass(frozen=True)
class Postings:
    """For every word the chunks that have it.

    Attributes:
        ids: of the chunks, sorted.
        words: of all chunks, sorted.
        starts: where each word's postings begin, and where the last one's end; (words + 1,).
        chunks: places in `ids`, each chunk once for a word.
        counts: how often the chunk has the word; unsigned, as narrow as the largest allows.
    """

    ids: Sequence[str]
    words: Sequence[str]
    starts: NDArray[np.int64]
    chunks: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger]

    @classmethod
    def none(cls, ids: Sequence[str]) -> Postings:
        """Those of chunks without a word."""
        chunks = np.zeros(0, np.int32)
        return cls(ids, [], np.zeros(1, np.int64), chunks, chunks.astype(np.uint8))

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Words of each chunk."""
        lengths = np.zeros(len(self.ids))
        for _, _, part in self.parts():
            lengths += np.bincount(self.chunks[part], self.counts[part], len(self.ids))
        return lengths

    def parts(self) -> Iterator[tuple[int, int, slice]]:
        """Runs of words as [first, last) and their postings, about `BLOCK` of these at a time."""
        first, ends = 0, self.starts[1:]
        while first < len(self.words):
            last = int(np.searchsorted(ends, self.starts[first] + BLOCK, "right"))
            last = max(last, first + 1)
            yield first, last, slice(int(self.starts[first]), int(self.starts[last]))
            first = last


class _Block(NamedTuple):
    """Some postings, word by word: `words` are numbers, each once; `runs` says how many each has.
    Chunks are counted in the order of their coming."""

    words: NDArray[np.int64]
    runs: NDArray[np.int64]
    chunks: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger]


class Gathering:
    """Collects chunks with their words; each id may come once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []
        self._blocks: list[_Block] = []
        self._cut: array[int] = array("i")  # words of chunks that are in no block yet
        self._lengths: list[int] = []

    def keep(self, earlier: Postings, ids: Collection[str]) -> None:
        """Take over those of `ids` that are in `earlier`. To be called first, and once."""
        wanted = set(ids)
        places = [place for place, id in enumerate(earlier.ids) if id in wanted]
        self._ids = [earlier.ids[place] for place in places]
        self._numbers = {word: number for number, word in enumerate(earlier.words)}
        numbers = np.full(len(earlier.ids), -1, np.int32)
        numbers[places] = np.arange(len(places), dtype=np.int32)
        for first, last, part in earlier.parts():
            chunks = numbers[earlier.chunks[part]]
            kept = chunks >= 0
            before = np.concatenate([[0], np.cumsum(kept)])
            runs = np.diff(before[earlier.starts[first : last + 1] - part.start])
            counts = earlier.counts[part][kept]
            self._blocks.append(_Block(np.arange(first, last), runs, chunks[kept], counts))

    def add(self, id: str, words: Sequence[str]) -> None:
        """Take a chunk that is new."""
        numbers = self._numbers
        self._cut.extend([numbers.setdefault(word, len(numbers)) for word in words])
        self._ids.append(id)
        self._lengths.append(len(words))
        if len(self._cut) >= BLOCK:
            self._close_block()

    def finish(self) -> Postings:
        """What was collected; it is empty afterwards."""
        self._close_block()
        totals = np.zeros(len(self._numbers), np.int64)
        for block in self._blocks:
            totals[block.words] += block.runs
        words = sorted(word for word, number in self._numbers.items() if totals[number])
        order = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
        starts = np.concatenate([[0], np.cumsum(totals[order])])
        heads = np.zeros(len(totals), np.int64)  # where each word's next posting goes
        heads[order] = starts[:-1]
        chunks, counts = self._place(heads, int(starts[-1]))
        ids = sorted(self._ids)
        self._ids, self._numbers = [], {}
        return Postings(ids, words, starts, chunks, counts)

    def _place(
        self, heads: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.int32], NDArray[np.unsignedinteger]]:
        places = np.empty(len(self._ids), np.int32)
        by_id = sorted(range(len(self._ids)), key=self._ids.__getitem__)
        places[by_id] = np.arange(len(by_id), dtype=np.int32)
        widest = max((block.counts.dtype for block in self._blocks), default=np.dtype(np.uint8))
        chunks, counts = np.empty(size, np.int32), np.empty(size, widest)
        while self._blocks:
            block = self._blocks.pop()
            behind = np.cumsum(block.runs) - block.runs
            into = np.repeat(heads[block.words] - behind, block.runs) + np.arange(len(block.chunks))
            chunks[into], counts[into] = places[block.chunks], block.counts
            heads[block.words] += block.runs
        return chunks, counts

    def _close_block(self) -> None:
        if not self._lengths:
            return
        first = len(self._ids) - len(self._lengths)
        chunks = np.repeat(np.arange(first, len(self._ids)), self._lengths)
        pairs = np.frombuffer(self._cut, np.int32).astype(np.int64) << 32 | chunks
        self._cut, self._lengths = array("i"), []
        found, counts = np.unique(pairs, return_counts=True)
        words, runs = np.unique(found >> 32, return_counts=True)
        narrow = counts.astype(np.min_scalar_type(counts.max(initial=0)))
        self._blocks.append(_Block(words, runs, (found & 0xFFFFFFFF).astype(np.int32), narrow))
