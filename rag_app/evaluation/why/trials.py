"""What would be found, were a chunk other than it is: it is embedded, scored and ranked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import TruncationWarning
from rag_app.evaluation.why.pipeline import DEEPEST, FIRST
from rag_app.evaluation.why.values import say_cut
from rag_app.hits import make_hit
from rag_app.lexical import LexicalIndex
from rag_app.retrieval import to_document
from rag_app.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.documents import Document
    from numpy.typing import NDArray

    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.evaluation.why.places import Place
    from rag_app.index.view import View
    from rag_app.types import Hit

_NEW: Final = "a chunk that is tried"


@dataclass(frozen=True)
class Trial:
    """A chunk to be tried.

    Attributes:
        chunk: as a search would return it.
        instead_of: ids of the chunks that it stands in place of.
        shown: what of it the embedding model is shown, where that is another part of the chunk
            it stands for; None for a chunk that is new, of which it is shown all.
    """

    chunk: Document
    instead_of: frozenset[str]
    shown: str | None = None

    @property
    def text(self) -> str:
        """What its vector is made of."""
        return self.chunk.page_content if self.shown is None else self.shown

    @property
    def words(self) -> bool:
        """Whether its words are other ones than those of the chunk it stands for."""
        return self.shown is None

    @property
    def id(self) -> str:
        """What it is called in lists."""
        return _NEW if self.words else next(iter(self.instead_of))


@dataclass(frozen=True)
class Outcome:
    """What would become of a tried chunk.

    Attributes:
        rank: among what the retriever ranks; None for none that was looked at.
        similarity: cosine; None where no vector counts.
        found: whether the retriever would return it.
        later: what would cut it off again after that; "" for nothing.
    """

    rank: int | None
    similarity: float | None
    found: bool
    later: str = ""

    def describe(self, k: int | None) -> str:
        """As words: "at rank 2, where k=8 (similarity 0.613), but the reranker cuts it off"."""
        near = "" if self.similarity is None else f" (similarity {self.similarity:.3f})"
        if self.rank is None:
            return f"at no rank that was looked at{near}"
        return f"at rank {self.rank}, where k={k}{near}{say_cut(self.later)}"


def try_chunk(pipeline: Pipeline, view: View, run: Run, place: Place, trial: Trial) -> Outcome:
    """What would become of a chunk that holds evidence, all others being as they are."""
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
    ranked = _rank(pipeline, lists)
    rank = next((n for n, hit in enumerate(ranked, 1) if hit.id == trial.id), None)
    if vector is not None and pipeline.kind == "dense":
        chosen = _choose_dense(pipeline.options, view, trial, ranked, vector, k)
    else:
        chosen = ranked[:k]
    if all(hit.id != trial.id for hit in chosen):
        return Outcome(rank, similarity, found=False)
    later = pipeline.find_cut([to_document(hit) for hit in chosen], run.question, place)
    return Outcome(rank, similarity, found=True, later=later)


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
    text, metadata = trial.chunk.page_content, trial.chunk.metadata
    new = make_hit(trial.id, text, metadata, similarity=similarity, score=score, ranks={})
    return [*others[: rank - 1], new, *others[rank - 1 :]]


def _rank(pipeline: Pipeline, lists: dict[str, list[Hit]]) -> list[Hit]:
    """What the retriever makes of its lists."""
    if pipeline.kind == "hybrid":
        return pipeline.fuse(lists)
    (ranked,) = lists.values()
    return ranked


def _choose_dense(
    options: Any,
    view: View,
    trial: Trial,
    ranked: Sequence[Hit],
    vector: NDArray[np.float32],
    k: int,
) -> list[Hit]:
    """What dense search returns, for all that it asks of a chunk: similarity, and MMR."""
    least = options.min_similarity
    near = [hit for hit in ranked if least is None or hit.score >= least]
    if options.mmr_lambda is None:
        return near[:k]
    from rag_app.store import select_diverse

    candidates = near[: max(k, options.fetch_k)]
    rows = {row.id: row for row in view.fetch([hit.id for hit in candidates])}
    rows[trial.id] = Row(trial.id, trial.text, vector, {})
    found = [(rows[hit.id], hit.score) for hit in candidates]
    return [candidates[place] for place in select_diverse(found, k, options.mmr_lambda)]
