"""The BM25 index of a set of chunks: built from their words, kept in a folder, read by memory map.

Scores are Lucene's BM25 as `bm25s` computes it (Lù 2024, "BM25S: Orders of magnitude faster lexical
search via eager sparse scoring"): for every query word,
idf * tf / (tf + k1 * (1 - b + b * length / mean length)) with
idf = ln(1 + (n - df + 0.5) / (df + 0.5)).
Files are JSON and NumPy arrays; no pickle.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    NamedTuple,
    Protocol,
    TypeVar,
)

import numpy as np

from rag_app.errors import IndexStateError
from rag_app.filters import matches, parse
from rag_app.kept_folders import is_whole, save_folder, sweep
from rag_app.postings import Gathering, Postings
from rag_app.words import TokenizerName, cut_chunk, cut_query

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from rag_app.index.view import View
    from rag_app.rows import Row
    from rag_app.types import Filter

FORMAT: Final = 2
"""Raised when the words or the files of an index change their form."""

IDS: Final = "ids.json"
_COUNTS: Final = "counts.npy"
_PAGE: Final = 500


class Scoring(NamedTuple):
    """What decides a BM25 score: how texts become words, and the two constants."""

    tokenizer: TokenizerName
    k1: float
    b: float


@dataclass(frozen=True)
class LexicalIndex:
    """The BM25 index of some chunks.

    Attributes:
        ids: of the chunks, sorted; equal scores come in this order.
        scores: bm25s's index over them, None when no chunk has a word.
        counts: how often a chunk has the word, for each of these scores.
    """

    scoring: Scoring
    ids: Sequence[str]
    scores: Any
    counts: NDArray[np.unsignedinteger] | None = None

    @classmethod
    def build(
        cls,
        texts: Iterable[tuple[str, str]],
        scoring: Scoring,
        earlier: LexicalIndex | None = None,
        kept: Collection[str] = (),
    ) -> LexicalIndex:
        """Index chunks given as (id, text), and those of `earlier` whose ids are in `kept`."""
        gathering = Gathering()
        if earlier is not None:
            gathering.keep(earlier.find_postings(), kept)
        for id, text in texts:
            gathering.add(id, cut_chunk(scoring.tokenizer, text))
        postings = gathering.finish()
        if not postings.words:
            return cls(scoring, postings.ids, None)
        from rag_app.bm25_scores import build_scores

        scores = build_scores(postings, scoring.k1, scoring.b)
        return cls(scoring, postings.ids, scores, postings.counts)

    def find_postings(self) -> Postings:
        """What the scores were made of."""
        if self.scores is None or self.counts is None:
            return Postings.none(self.ids)
        held = self.scores.scores
        words = list(self.scores.vocab_dict)[: len(held["indptr"]) - 1]  # bm25s adds an empty one
        return Postings(self.ids, words, held["indptr"], held["indices"], self.counts)

    def rank(self, query: str) -> Iterator[tuple[str, float]]:
        """Ids of the chunks that share a word with `query`, with their scores, best first."""
        if self.scores is None:
            return
        vocabulary = self.scores.vocab_dict
        words = cut_query(self.scoring.tokenizer, query)
        known = [vocabulary[word] for word in words if word in vocabulary]
        if not known:
            return
        scores: NDArray[np.float32] = self.scores.get_scores_from_ids(known)
        (matching,) = np.nonzero(scores > 0)
        for place in matching[np.argsort(-scores[matching], kind="stable")]:
            yield self.ids[place], float(scores[place])

    def save(self, folder: Path) -> None:
        """Write the index as `folder`: whole or not at all, whoever else writes it too."""

        def write(place: Path) -> None:
            (place / IDS).write_text(json.dumps(list(self.ids)), encoding="utf-8")
            if self.scores is not None:
                self.scores.save(place, show_progress=False, allow_pickle=False)
                np.save(place / _COUNTS, self.find_postings().counts, allow_pickle=False)

        save_folder(folder, write)

    @classmethod
    def load(cls, folder: Path, scoring: Scoring) -> LexicalIndex | None:
        """The index saved as `folder`; None when there is none, or it is damaged."""
        try:
            if not is_whole(folder):
                return None
            ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
            if not (folder / "params.index.json").exists():
                return cls(scoring, ids, None)
            bm25 = _open_bm25s().BM25
            scores = bm25.load(folder, mmap=True, allow_pickle=False, show_progress=False)
            counts = np.load(folder / _COUNTS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None
        return cls(scoring, ids, scores, counts)


class Ranked(Protocol):
    """An index of chunks' words that is kept in a folder."""

    @property
    def ids(self) -> Sequence[str]:
        """Of the chunks."""
        ...

    def save(self, folder: Path) -> None:
        """Write it as `folder`, whole or not at all."""
        ...


Held = TypeVar("Held", bound=Ranked)


class KeptSearch(ABC, Generic[Held]):
    """Search over words of the chunks of an index, brought up to date whenever it has changed.

    What is derived from the chunks is kept in the index's folder, for every process.
    """

    kept_in: ClassVar[str]
    """The name of the folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}  # by revision: what is searched, and what came before it
        self._wrote = False

    @abstractmethod
    def rank(self, held: Held, query: str) -> Iterator[tuple[str, float]]:
        """Ids of the chunks that match, with their scores, best first."""

    @abstractmethod
    def load(self, folder: Path) -> Held | None:
        """What is kept in `folder`; None when nothing is, or it is damaged."""

    @abstractmethod
    def build(self, view: View, folder: Path | None) -> Held:
        """Made anew from the chunks of `view`; what earlier revisions left lies beside `folder`."""

    @abstractmethod
    def describe(self) -> object:
        """What decides the scores, as JSON values."""

    def find(
        self, view: View, query: str, k: int, filter: Filter | None
    ) -> list[tuple[Row, float]]:
        """The `k` chunks of highest score among those that match the filter, best first.

        Only chunks that share a word with the query: fewer than `k`, or none, may be found.
        """
        where = parse(filter)
        ranked = self.rank(self.refresh(view), query)
        found: list[tuple[Row, float]] = []
        batch = k
        while len(found) < k and (scores := dict(islice(ranked, batch))):
            rows = view.fetch(list(scores))
            found += [(row, scores[row.id]) for row in rows if matches(where, row.metadata)]
            batch = min(2 * batch, 1000)
        return found[:k]

    def refresh(self, view: View) -> Held:
        """What belongs to the chunks of `view`: held, read from its folder, or built.

        Raises:
            IndexStateError: its folder cannot be written.
        """
        held = self._held.get(view.revision)
        if held is not None:  # nobody waits for what is built for a later revision
            return held
        with self._lock:
            held = self._held.get(view.revision)
            if held is None:
                held = self._open(view)
                latest = dict([*self._held.items()][-1:])
                self._held = {**latest, view.revision: held}
            return held

    def _open(self, view: View) -> Held:
        folder = self._place(view)
        if folder is None:
            return self.build(view, None)
        opened = self.load(folder)
        if opened is not None and set(opened.ids) != view.ids():  # of a run that was not published
            shutil.rmtree(folder, ignore_errors=True)
            opened = None
        if opened is None:
            opened = self.build(view, folder)
            _save(opened, folder)
            self._wrote = True
        if self._wrote and not view.coming:
            sweep(folder)
            self._wrote = False
        return opened

    def _place(self, view: View) -> Path | None:
        if view.folder is None:
            return None
        return Path(view.folder, self.kept_in, _hash(self.describe()), _hash(view.revision))


class WordSearch(KeptSearch[LexicalIndex]):
    """BM25 over the chunks of an index.

    Args:
        scoring: how to score.
    """

    kept_in = "bm25"

    def __init__(self, scoring: Scoring) -> None:
        super().__init__()
        self._scoring = scoring

    def rank(self, held: LexicalIndex, query: str) -> Iterator[tuple[str, float]]:
        """As `LexicalIndex.rank`."""
        return held.rank(query)

    def load(self, folder: Path) -> LexicalIndex | None:
        """As `LexicalIndex.load`."""
        return LexicalIndex.load(folder, self._scoring)

    def build(self, view: View, folder: Path | None) -> LexicalIndex:
        """From the words of every chunk; those of an earlier revision are cut no second time."""
        earlier = self._find_earlier(folder)
        if earlier is None:
            texts = ((row.id, row.text) for row in view.scan())
            return LexicalIndex.build(texts, self._scoring)
        ids = view.ids()
        new = sorted(ids.difference(earlier.ids))
        texts = (
            (row.id, row.text)
            for start in range(0, len(new), _PAGE)
            for row in view.fetch(new[start : start + _PAGE])
        )
        return LexicalIndex.build(texts, self._scoring, earlier, ids)

    def _find_earlier(self, folder: Path | None) -> LexicalIndex | None:
        """What is known of the words from before: held in this process, or kept by any."""
        if self._held:
            return [*self._held.values()][-1]
        kept = [] if folder is None else folder.parent.glob("[!.]*")
        return next(filter(None, map(self.load, kept)), None)

    def describe(self) -> list[object]:
        """The form of the words and the constants."""
        return [FORMAT, *self._scoring]


def _save(index: Ranked, folder: Path) -> None:
    try:
        index.save(folder)
    except OSError as error:
        raise IndexStateError(
            folder.parent.parent.name,
            f"{folder} cannot be written: {error.strerror or error}",
            "Make room or give this user the right to write there.",
        ) from error


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _open_bm25s() -> Any:
    import bm25s

    return bm25s
