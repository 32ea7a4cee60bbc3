"""What other values of the config would have kept evidence that the retriever lost.

Each is tried through the whole of the rest: a retriever of that value searches, and what it finds
goes through the reranker and into the prompt. The lists that are there already only tell which
values are worth it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rag_app import registry
from rag_app.evaluation.why.pipeline import DEEPEST
from rag_app.retrieval import to_hit
from rag_app.retrievers.bm25 import BM25Options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.evaluation.why.places import Place
    from rag_app.index.view import View
    from rag_app.types import Hit

WIDEST: Final = 500
"""The largest `k` that is tried."""
WORDS: Final = {"dense": "dense search", "bm25": "BM25", "sparse": "search by token weights"}
_RATIOS: Final = ((1, 2), (2, 1), (1, 3), (3, 1), (1, 5), (5, 1), (0, 1), (1, 0))
_CONSTANTS: Final = (1, 5, 10, 20, 30, 60, 120)


def say_cut(later: str) -> str:
    """What follows "it is found" where a later stage cuts it off; nothing where none does."""
    return f", but {later} cuts it off again" if later else ""


def try_k(
    pipeline: Pipeline, run: Run, place: Place, lists: Mapping[str, Sequence[Hit]]
) -> Iterator[str]:
    """A larger `k`."""
    k = pipeline.k or 0
    if pipeline.kind == "hybrid":  # a larger k than fetch_k is how deep the lists are fused
        rank = place.rank_in(pipeline.fuse(lists, depth=DEEPEST))
    else:
        rank = place.rank_in(lists[pipeline.kind])
    if rank is None:
        return
    for wanted in sorted({max(_round(rank), _round(k + 1)), _round(2 * max(rank, k))}):
        if wanted > WIDEST:
            return
        found = _search(pipeline, run, place, pipeline.first, k=wanted)
        if found is not None:
            yield _say_value(f"retriever.k={wanted}", found)
            return


def try_lists(pipeline: Pipeline, run: Run, place: Place, names: Sequence[str]) -> Iterator[str]:
    """Each of these lists of hybrid search, and no other."""
    for name in names:
        alone = {"dense": int(name == "dense"), "bm25": int(name != "dense")}
        found = _search(pipeline, run, place, pipeline.change(weights=alone))
        if found is not None:
            yield _say_other(f"{WORDS[name]} alone finds it", found)


def try_fusions(
    pipeline: Pipeline, run: Run, place: Place, lists: Mapping[str, Sequence[Hit]]
) -> Iterator[str]:
    """Other weights and constants of hybrid search: the first of each that finds it."""
    k = pipeline.k or 0
    words = next(name for name in lists if name != "dense")
    for dense, other in _RATIOS:
        if place.held_by(pipeline.fuse(lists, {"dense": dense, words: other})[:k]):
            changed = pipeline.change(weights={"dense": dense, "bm25": other})
            if (found := _search(pipeline, run, place, changed)) is not None:
                yield _say_value(f"retriever.weights={{dense: {dense}, bm25: {other}}}", found)
                break
    for constant in _CONSTANTS:
        if place.held_by(pipeline.fuse(lists, constant=constant)[:k]):
            changed = pipeline.change(rank_constant=constant)
            if (found := _search(pipeline, run, place, changed)) is not None:
                yield _say_value(f"retriever.rank_constant={constant}", found)
                break


def try_depth(
    pipeline: Pipeline, run: Run, place: Place, lists: Mapping[str, Sequence[Hit]]
) -> Iterator[str]:
    """A larger `fetch_k`, of hybrid search."""
    if pipeline.kind != "hybrid":
        return
    reached = [rank for hits in lists.values() if (rank := place.rank_in(hits)) is not None]
    for wanted in sorted({_round(rank) for rank in reached if rank > pipeline.depth}):
        if place.held_by(pipeline.fuse(lists, depth=wanted)[: pipeline.k]):
            found = _search(pipeline, run, place, pipeline.change(fetch_k=wanted))
            if found is not None:
                yield _say_value(f"retriever.fetch_k={wanted}", found)
                return


def try_dense_options(
    pipeline: Pipeline, view: View, run: Run, place: Place, at: int | None
) -> Iterator[str]:
    """Dense search without MMR, and with a lower bound of similarity; `at` is the rank in it."""
    if pipeline.kind != "dense":
        return
    options = pipeline.options
    if options.mmr_lambda is not None:
        found = _search(pipeline, run, place, pipeline.change(mmr_lambda=None))
        if found is not None:
            yield _say_other("without MMR it is found", found)
    if options.min_similarity is not None and at is not None:
        score = pipeline.first.search.lists(view, run.question, at, run.filter)["dense"][-1].score
        least = int(score * 100 - (score < 0)) / 100  # rounded down, so that it is let in
        if least < options.min_similarity:
            changed = pipeline.change(min_similarity=max(-1.0, least))
            if (found := _search(pipeline, run, place, changed)) is not None:
                yield _say_value(f"retriever.min_similarity={least:g}", found)


def try_others(
    pipeline: Pipeline, run: Run, place: Place, lists: Mapping[str, Sequence[Hit]]
) -> Iterator[str]:
    """The retrievers that the config does not use, with as many hits."""
    k = pipeline.k or 0
    if pipeline.kind == "hybrid":
        unused = [name for name in lists if not pipeline.weights[name]]
        within = [name for name in unused if place.held_by(lists[name][:k])]
        yield from try_lists(pipeline, run, place, within)
        return
    other = "bm25" if pipeline.kind == "dense" else "dense"
    found = _search(pipeline, run, place, _build(pipeline, other, k=k))
    if found is not None:
        yield _say_other(f"{WORDS[other]} alone finds it", found)
    options: dict[str, Any] = {"k": k}
    if isinstance(pipeline.options, BM25Options):
        options["bm25"] = pipeline.options.model_dump(include=set(BM25Options.model_fields))
    found = _search(pipeline, run, place, _build(pipeline, "hybrid", **options))
    if found is not None:
        yield _say_other("hybrid search finds it", found)


def _build(pipeline: Pipeline, kind: str, **options: Any) -> Any:
    config = registry.config_class("retrievers", kind)(**options)
    return registry.build("retrievers", kind, config, index=pipeline.app.index)


def _search(
    pipeline: Pipeline, run: Run, place: Place, retriever: Any, k: int | None = None
) -> tuple[int, str] | None:
    """The rank that a retriever finds evidence at, and the later stage that cuts it off again
    ("" for none); None where it is not found."""
    pool = pipeline.find(run.question, run.filter, k, retriever)
    rank = place.rank_in([to_hit(document) for document in pool])
    return None if rank is None else (rank, pipeline.find_cut(pool, run.question, place))


def _say_value(value: str, found: tuple[int, str]) -> str:
    return f"{value} finds it{say_cut(found[1])}" if found[1] else f"{value} keeps it"


def _say_other(words: str, found: tuple[int, str]) -> str:
    return f"{words} at rank {found[0]}{say_cut(found[1])}"


def _round(rank: int) -> int:
    """The next number that somebody would set."""
    step = 1 if rank <= 10 else 5 if rank <= 50 else 10 if rank <= 100 else 50
    return -(-rank // step) * step
