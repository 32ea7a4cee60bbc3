"""What would be found, were a chunk other than it is: it is embedded, scored and ranked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import TruncationWarning
from rag_app.evaluation.why.pipeline import DEEPEST, FIRST
from rag_app.hits import fuse, make_hit
from rag_app.lexical import LexicalIndex
from rag_app.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.index.view import View
    from rag_app.types import Hit

_NEW: Final = "a chunk that is tried"


@dataclass(frozen=True)
class Trial:
    """A chunk to be tried.

    Attributes:
        text: what its vector is made of.
        instead_of: ids of the chunks that it stands in place of.
        words: whether its words are those of `text`, too; else those of the chunk it stands for,
            of which `text` is what the model is shown.
    """

    text: str
    instead_of: frozenset[str]
    words: bool = True

    @property
    def id(self) -> str:
        """What it is called in lists."""
        return _NEW if self.words else next(iter(self.instead_of))


@dataclass(frozen=True)
class Outcome:
    """The rank a tried chunk would have among what the retriever returns, None for none; its
    cosine similarity, None where no vector counts; whether it is within the cut."""

    rank: int | None
    similarity: float | None
    kept: bool

    def describe(self, k: int | None) -> str:
        """As words: "at rank 2 of k=8 (similarity 0.613)"."""
        near = "" if self.similarity is None else f" (similarity {self.similarity:.3f})"
        if self.rank is None:
            return f"at no rank that was looked at{near}"
        return f"at rank {self.rank}, where k={k}{near}"


def try_chunk(pipeline: Pipeline, view: View, run: Run, trial: Trial) -> Outcome:
    """Where the retriever would rank a chunk, all others being as they are."""
    fetch_k = getattr(pipeline.options, "fetch_k", 0)
    k = pipeline.k or 0
    depth = min(max(FIRST, 4 * k, fetch_k), view.count(), DEEPEST)
    lists = pipeline.first.search.lists(view, run.question, depth, run.filter)
    vector = _embed(pipeline, trial.text) if "dense" in lists else None
    similarity = None
    for name, hits in lists.items():
        others = [hit for hit in hits if hit.id not in trial.instead_of]
        whole = len(hits) < depth or depth >= view.count()
        if vector is not None and name == "dense":
            similarity = _compare(view.embed(run.question), vector)
            at = sum(hit.score > similarity for hit in others)
            rank = at + 1 if whole or at < len(others) else None
        else:
            rank = _rank_words(pipeline, view, run, trial, name, hits, others)
        lists[name] = _insert(others, trial, rank, similarity)
    return _choose(pipeline, view, trial, lists, vector, similarity)


def _embed(pipeline: Pipeline, text: str) -> NDArray[np.float32]:
    with warnings.catch_warnings():  # a chunk that is longer than the window would be cut as well
        warnings.simplefilter("ignore", TruncationWarning)
        vector = np.asarray(pipeline.app.embeddings.embed_documents([text])[0], np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def _compare(question: Sequence[float], vector: NDArray[np.float32]) -> float:
    asked = np.asarray(question, np.float32)
    return float(np.clip(asked @ vector / np.linalg.norm(asked), -1, 1))


def _rank_words(
    pipeline: Pipeline,
    view: View,
    run: Run,
    trial: Trial,
    name: str,
    hits: Sequence[Hit],
    others: Sequence[Hit],
) -> int | None:
    """Its rank among the others by words; None where it has none, or that cannot be told."""
    if not trial.words:
        return next((n for n, hit in enumerate(hits, 1) if hit.id == trial.id), None)
    if name != "bm25":
        return None
    held = pipeline.words.refresh(view)
    kept = set(held.ids) - trial.instead_of
    made = LexicalIndex.build([(trial.id, trial.text)], held.scoring, held, kept)
    listed = {hit.id for hit in others}
    rank = 1
    for id, _ in made.rank(run.question):
        if id == trial.id:
            return rank
        rank += id in listed
    return None


def _insert(
    others: list[Hit], trial: Trial, rank: int | None, similarity: float | None
) -> list[Hit]:
    if rank is None:
        return others
    score = similarity or 0.0
    new = make_hit(trial.id, trial.text, {}, similarity=similarity, score=score, ranks={})
    return [*others[: rank - 1], new, *others[rank - 1 :]]


def _choose(
    pipeline: Pipeline,
    view: View,
    trial: Trial,
    lists: dict[str, list[Hit]],
    vector: NDArray[np.float32] | None,
    similarity: float | None,
) -> Outcome:
    """What the retriever makes of its lists."""
    options, k = pipeline.options, pipeline.k or 0
    if pipeline.kind == "hybrid":
        depth = max(k, options.fetch_k)
        cut = {name: hits[:depth] for name, hits in lists.items()}
        ranked = fuse(cut, pipeline.weights, options.rank_constant)
    else:
        (ranked,) = lists.values()
    rank = next((n for n, hit in enumerate(ranked, 1) if hit.id == trial.id), None)
    kept = rank is not None and rank <= k
    if pipeline.kind == "dense" and similarity is not None:
        kept = _pass_dense(options, view, trial, ranked, vector, k, kept)
    return Outcome(rank, similarity, kept)


def _pass_dense(
    options: Any,
    view: View,
    trial: Trial,
    ranked: Sequence[Hit],
    vector: NDArray[np.float32] | None,
    k: int,
    kept: bool,
) -> bool:
    """Whether it is found for all that dense search asks of it: similarity, and MMR."""
    least = options.min_similarity
    near = [hit for hit in ranked if least is None or hit.score >= least]
    if options.mmr_lambda is None:
        return kept and any(hit.id == trial.id for hit in near)
    from rag_app.store import select_diverse

    candidates = near[: max(k, options.fetch_k)]
    rows = {row.id: row for row in view.fetch([hit.id for hit in candidates])}
    assert vector is not None
    rows[trial.id] = Row(trial.id, trial.text, vector, {})
    found = [(rows[hit.id], hit.score) for hit in candidates]
    return any(
        found[place][0].id == trial.id for place in select_diverse(found, k, options.mmr_lambda)
    )
