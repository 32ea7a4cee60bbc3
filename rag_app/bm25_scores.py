"""BM25 scores of postings, in the form that `bm25s` searches and keeps.

Apart, so that importing `rag_app.lexical` stays cheap. bm25s's own building holds every word of
every chunk in memory several times over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bm25s
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rag_app.postings import Postings


def build_scores(postings: Postings, k1: float, b: float) -> bm25s.BM25:
    """Lucene's BM25 over the chunks of `postings`."""
    made = _Scores(method="lucene", k1=k1, b=b, backend="numpy")
    vocabulary = {word: number for number, word in enumerate(postings.words)}
    made.index(_Corpus(postings, vocabulary), show_progress=False)
    return made


@dataclass(frozen=True)
class _Corpus:
    """What bm25s takes for words that are numbers already."""

    ids: Postings
    vocab: dict[str, int]


class _Scores(bm25s.BM25):  # type: ignore[misc]
    """bm25s's index, built from postings."""

    def build_index_from_ids(
        self,
        unique_token_ids: list[int],  # noqa: ARG002
        corpus_token_ids: Postings,
        **_: bool,
    ) -> dict[str, Any]:
        """The matrix of scores, by words. bm25s calls it, which says that it may be overridden."""
        self.nonoccurrence_array = None
        return {
            "data": _score(corpus_token_ids, self.k1, self.b),
            "indices": corpus_token_ids.chunks,
            "indptr": corpus_token_ids.starts,
            "num_docs": len(corpus_token_ids.ids),
        }


def _score(postings: Postings, k1: float, b: float) -> NDArray[np.float32]:
    """What each posting adds to its chunk's score when a query has its word."""
    held = np.diff(postings.starts)
    weights = np.log(1 + (len(postings.ids) - held + 0.5) / (held + 0.5))
    lengths = postings.lengths
    norms = k1 * (1 - b + b * lengths / lengths.mean())
    scores = np.empty(len(postings.chunks), np.float32)
    for first, last, part in postings.parts():
        counts = postings.counts[part].astype(np.float64)
        counts /= counts + norms[postings.chunks[part]]
        scores[part] = counts * np.repeat(weights[first:last], held[first:last])
    return scores
