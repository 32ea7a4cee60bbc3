"""Which of a search's lists, cuts and filters lost evidence that a chunk holds.

Ranks are those of whole lists, to the depth that `why_pipeline` reads them; every counterfactual
is a search that was made, or the lists of one that were fused with other values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rag_app import registry
from rag_app.evaluation.verdicts import Verdict
from rag_app.evaluation.why.pipeline import DEEPEST
from rag_app.filters import look_up, matches, parse
from rag_app.hits import fuse
from rag_app.retrieval import to_hit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_app.evaluation.verdicts import Stage
    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.evaluation.why.places import Place
    from rag_app.index.view import View
    from rag_app.types import Hit

WIDEST: Final = 500
"""The largest `k` that is tried."""
_WORDS: Final = {"dense": "dense search", "bm25": "BM25", "sparse": "search by token weights"}
_RATIOS: Final = ((1, 2), (2, 1), (1, 3), (3, 1), (1, 5), (5, 1), (0, 1), (1, 0))
_CONSTANTS: Final = (1, 5, 10, 20, 30, 60, 120)


def rank_lists(
    pipeline: Pipeline, lists: Mapping[str, Sequence[Hit]], place: Place
) -> dict[str, int | None]:
    """The rank of evidence in each list, and in them all fused."""
    ranks = {name: place.rank_in(hits) for name, hits in lists.items()}
    if pipeline.kind == "hybrid":
        fused = fuse(lists, pipeline.weights, pipeline.options.rank_constant)
        ranks["fused"] = place.rank_in(fused)
    return ranks


def find_filtered(pipeline: Pipeline, run: Run, place: Place) -> Verdict | None:
    """The verdict that the filter excludes the chunks of the evidence; None where it does not."""
    where = parse(run.filter)
    passing = [c for c in place.touching if matches(where, c.row.metadata)]
    if where is None or any(place.covers([c.span for c in passing], s) for s in place.spans):
        return None
    if not place.spans and passing:
        return None
    excluded = next(c for c in place.touching if c not in passing)
    fields = _name_fields(run.filter)
    held = {name: look_up(excluded.row.metadata, name) for name in fields}
    told = ", ".join(f"{n} is {_show(v)}" for n, v in held.items())
    proof = f"the filter {_show(run.filter)} excludes its chunk, where {told}"
    pool = [to_hit(document) for document in pipeline.find(run.question, None)]
    rank = place.rank_in(pool)
    tried = "without the filter it is not found either"
    if rank is not None:
        tried = f"without the filter it is found at rank {rank}"
    ids = tuple(chunk.row.id for chunk in place.touching)
    return Verdict(place.number, "excluded_by_filter", proof, (tried,), {}, ids, place.note)


def find_below(
    pipeline: Pipeline,
    run: Run,
    place: Place,
    lists: Mapping[str, Sequence[Hit]],
    view: View,
) -> Verdict:
    """The verdict on evidence that no list, or not the fusion of them, brought within the cut."""
    ranks = rank_lists(pipeline, lists, place)
    counting = {n: ranks[n] for n in lists if pipeline.weights.get(n, 0) > 0}
    best = min(counting, key=lambda name: counting[name] or DEEPEST + 1)
    stage: Stage = "below_cut_dense" if best == "dense" else "below_cut_bm25"
    k = pipeline.k or 0
    within = [name for name, rank in counting.items() if rank is not None and rank <= k]
    if within and len(counting) > 1:
        stage = "lost_in_fusion"
        proof = _prove_fusion(pipeline, lists, place, ranks)
        tried = [*_try_lists(within, ranks), *_try_fusions(pipeline, lists, place)]
    else:
        proof = _prove_cut(pipeline, lists, counting)
        tried = [
            *_try_dense_options(pipeline, view, run, place, ranks),
            *_try_depth(pipeline, lists, place),
            *_try_others(pipeline, view, run, place, lists),
        ]
    tried = [*_try_k(pipeline, run, place, ranks), *tried]
    ids = tuple(chunk.row.id for chunk in place.touching)
    return Verdict(place.number, stage, proof, tuple(tried), ranks, ids, place.note)


# -- what is seen -----------------------------------------------------------------------------


def _prove_cut(
    pipeline: Pipeline,
    lists: Mapping[str, Sequence[Hit]],
    counting: Mapping[str, int | None],
) -> str:
    k = pipeline.k or 0
    if pipeline.kind == "dense":
        hits = lists["dense"]
        rank = counting["dense"]
        if rank is not None and (unusual := _prove_choice(pipeline.options, hits, rank, k)):
            return unusual
    told = [_describe_rank(name, lists[name], rank, k) for name, rank in counting.items()]
    return f"{'; '.join(told)}; retriever.k={k}"


def _prove_choice(options: Any, hits: Sequence[Hit], rank: int, k: int) -> str:
    """Where it is not `k` that cuts dense search off: its least similarity, or MMR."""
    score = hits[rank - 1].score
    least = options.min_similarity
    if rank <= k and least is not None and score < least:
        return (
            f"dense search has it at rank {rank} with similarity {score:.3f}, below "
            f"retriever.min_similarity={least:g}"
        )
    depth = max(k, options.fetch_k)
    if options.mmr_lambda is not None and rank <= depth:
        return (
            f"dense search has it at rank {rank} with similarity {score:.3f}; of the first "
            f"{depth} MMR (retriever.mmr_lambda={options.mmr_lambda:g}) chose {k} others"
        )
    if rank <= k:
        return (
            f"its similarity {score:.3f} is enough for rank {rank} of retriever.k={k}, but the "
            "vector store's approximate search passed it over"
        )
    return ""


def _describe_rank(name: str, hits: Sequence[Hit], rank: int | None, k: int) -> str:
    words = _WORDS[name]
    if rank is None and len(hits) >= DEEPEST:
        return f"{words} does not have it among its first {len(hits):,}"
    if rank is None:
        return f"{words} does not find it: it shares no word with the question"
    score = f"{hits[rank - 1].score:.3f}"
    cut = f", rank {k} has {hits[k - 1].score:.3f}" if rank > k else ""
    unit = "similarity" if name == "dense" else "score"
    return f"{words} has it at rank {rank} with {unit} {score}{cut}"


def _prove_fusion(
    pipeline: Pipeline,
    lists: Mapping[str, Sequence[Hit]],
    place: Place,
    ranks: Mapping[str, int | None],
) -> str:
    depth = max(pipeline.k or 0, pipeline.options.fetch_k)
    told = []
    for name in lists:
        rank = ranks[name]
        beyond = " (beyond fetch_k, so it counts nothing)" if rank and rank > depth else ""
        where = "not at all" if rank is None else f"at rank {rank}{beyond}"
        told.append(f"{_WORDS[name]} has it {where}")
    cut = {name: hits[:depth] for name, hits in lists.items()}
    fused = place.rank_in(fuse(cut, pipeline.weights, pipeline.options.rank_constant))
    last = "not at all" if fused is None else f"at rank {fused}"
    return f"{', '.join(told)}; fused from fetch_k={depth} it is {last}, below k={pipeline.k}"


def _name_fields(filter: Any) -> list[str]:
    """The fields that a filter has conditions on."""
    found: dict[str, None] = {}
    if isinstance(filter, dict):
        for name, value in filter.items():
            if not name.startswith("$"):
                found[name] = None
            for each in value if isinstance(value, list) else [value]:
                found.update(dict.fromkeys(_name_fields(each) if name.startswith("$") else ()))
    return list(found)


def _show(value: Any) -> str:
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except TypeError:
        return "not there"
    return shown if len(shown) <= 200 else f"{shown[:199]}…"


# -- what was tried ---------------------------------------------------------------------------


def _try_k(
    pipeline: Pipeline, run: Run, place: Place, ranks: Mapping[str, int | None]
) -> Iterator[str]:
    """A larger `k`, and what the later stages do with what it finds."""
    rank = ranks.get("fused") if pipeline.kind == "hybrid" else ranks[pipeline.kind]
    k = pipeline.k or 0
    if rank is None:
        return
    for wanted in sorted({max(_round(rank), _round(k + 1)), _round(2 * max(rank, k))}):
        if wanted > WIDEST:
            return
        pool = pipeline.find(run.question, run.filter, wanted)
        if place.held_by([to_hit(document) for document in pool]):
            if place.held_by(pipeline.finish(pool, run.question)):
                yield f"retriever.k={wanted} keeps it"
            else:
                later = "the reranker" if pipeline.reranking is not None else "chain.context_chars"
                yield f"retriever.k={wanted} finds it, but {later} cuts it off again"
            return


def _round(rank: int) -> int:
    """The next number that somebody would set."""
    step = 1 if rank <= 10 else 5 if rank <= 50 else 10 if rank <= 100 else 50
    return -(-rank // step) * step


def _try_lists(within: Sequence[str], ranks: Mapping[str, int | None]) -> Iterator[str]:
    for name in within:
        yield f"{_WORDS[name]} alone finds it at rank {ranks[name]}"


def _try_fusions(
    pipeline: Pipeline, lists: Mapping[str, Sequence[Hit]], place: Place
) -> Iterator[str]:
    """Other weights and constants over the same lists: the first of each kind that keeps it."""
    options, k = pipeline.options, pipeline.k or 0
    depth = max(k, options.fetch_k)
    cut = {name: hits[:depth] for name, hits in lists.items()}
    words = next(name for name in lists if name != "dense")
    for dense, other in _RATIOS:
        fused = fuse(cut, {"dense": dense, words: other}, options.rank_constant)
        if place.held_by(fused[:k]):
            yield f"retriever.weights={{dense: {dense}, bm25: {other}}} keeps it"
            break
    for constant in _CONSTANTS:
        if place.held_by(fuse(cut, pipeline.weights, constant)[:k]):
            yield f"retriever.rank_constant={constant} keeps it"
            break
    yield from _try_depth(pipeline, lists, place)


def _try_depth(
    pipeline: Pipeline, lists: Mapping[str, Sequence[Hit]], place: Place
) -> Iterator[str]:
    """A larger `fetch_k`, of hybrid search."""
    if pipeline.kind != "hybrid":
        return
    options, k = pipeline.options, pipeline.k or 0
    reached = [rank for hits in lists.values() if (rank := place.rank_in(hits)) is not None]
    for wanted in sorted({_round(rank) for rank in reached if rank > max(k, options.fetch_k)}):
        cut = {name: hits[:wanted] for name, hits in lists.items()}
        if place.held_by(fuse(cut, pipeline.weights, options.rank_constant)[:k]):
            yield f"retriever.fetch_k={wanted} keeps it"
            return


def _try_dense_options(
    pipeline: Pipeline, view: View, run: Run, place: Place, ranks: Mapping[str, int | None]
) -> Iterator[str]:
    """Dense search without MMR, and with a lower bound of similarity."""
    if pipeline.kind != "dense":
        return
    options, k = pipeline.options, pipeline.k or 0

    def search(**changes: Any) -> int | None:
        changed = options.model_copy(update=changes)
        made = registry.build("retrievers", "dense", changed, index=pipeline.app.index)
        return place.rank_in(made.search.search(view, run.question, k, run.filter))

    if options.mmr_lambda is not None and (rank := search(mmr_lambda=None)) is not None:
        yield f"without MMR it is found at rank {rank}"
    at = ranks["dense"]
    if options.min_similarity is not None and at is not None:
        score = pipeline.first.search.lists(view, run.question, at, run.filter)["dense"][-1].score
        least = int(score * 100 - (score < 0)) / 100  # rounded down, so that it is let in
        if least < options.min_similarity and search(min_similarity=max(-1.0, least)) is not None:
            yield f"retriever.min_similarity={least:g} keeps it"


def _try_others(
    pipeline: Pipeline,
    view: View,
    run: Run,
    place: Place,
    lists: Mapping[str, Sequence[Hit]],
) -> Iterator[str]:
    """The retrievers that the config does not use, with as many hits."""
    if pipeline.kind == "hybrid":
        ranks = {name: place.rank_in(hits) for name, hits in lists.items()}
        unused = [name for name in lists if not pipeline.weights[name]]
        k = pipeline.k or 0
        yield from _try_lists([n for n in unused if (r := ranks[n]) and r <= k], ranks)
        return
    options = registry.config_class("retrievers", "hybrid")()
    k = pipeline.k or 0
    depth = max(k, options.fetch_k)  # type: ignore[attr-defined]
    words = pipeline.find_words(view, run, depth, run.filter)
    dense = registry.build(
        "retrievers",
        "dense",
        registry.config_class("retrievers", "dense")(),
        index=pipeline.app.index,
    ).search.lists(view, run.question, depth, run.filter)["dense"]
    other, hits = ("BM25", words) if pipeline.kind == "dense" else ("dense search", dense)
    if rank := place.rank_in(hits[:k]):
        yield f"{other} alone finds it at rank {rank}"
    if rank := place.rank_in(fuse({"dense": dense, "bm25": words}, {"dense": 1, "bm25": 1})[:k]):
        yield f"hybrid search finds it at rank {rank}"
