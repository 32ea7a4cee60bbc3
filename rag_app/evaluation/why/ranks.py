"""Which of a search's lists, cuts and filters lost evidence that a chunk holds.

The rank in a list is that in the whole of it, to the depth that `pipeline` reads; the fused rank is
that of what the search fuses. What would have kept it is tried in `values`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rag_app.evaluation.verdicts import Verdict
from rag_app.evaluation.why.pipeline import DEEPEST
from rag_app.evaluation.why.values import (
    WORDS,
    say_cut,
    try_dense_options,
    try_depth,
    try_fusions,
    try_k,
    try_lists,
    try_others,
)
from rag_app.filters import look_up, matches, parse
from rag_app.retrieval import to_hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.evaluation.verdicts import Stage
    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.evaluation.why.places import Place
    from rag_app.index.view import View
    from rag_app.types import Hit


def rank_lists(
    pipeline: Pipeline, lists: Mapping[str, Sequence[Hit]], place: Place
) -> dict[str, int | None]:
    """The rank of evidence in each list, and in what of them the search fuses."""
    ranks = {name: place.rank_in(hits) for name, hits in lists.items()}
    if pipeline.kind == "hybrid":
        ranks["fused"] = place.rank_in(pipeline.fuse(lists))
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
    pool = pipeline.find(run.question, None)
    rank = place.rank_in([to_hit(document) for document in pool])
    tried = "without the filter it is not found either"
    if rank is not None:
        later = say_cut(pipeline.find_cut(pool, run.question, place))
        tried = f"without the filter it is found at rank {rank}{later}"
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
        proof = _prove_fusion(pipeline, lists, ranks)
        tried = [
            *try_lists(pipeline, run, place, within),
            *try_fusions(pipeline, run, place, lists),
            *try_depth(pipeline, run, place, lists),
        ]
    else:
        proof = _prove_cut(pipeline, lists, counting)
        tried = [
            *try_dense_options(pipeline, view, run, place, ranks.get("dense")),
            *try_depth(pipeline, run, place, lists),
            *try_others(pipeline, run, place, lists),
        ]
    tried = [*try_k(pipeline, run, place, lists), *tried]
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
    words = WORDS[name]
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
    ranks: Mapping[str, int | None],
) -> str:
    depth = pipeline.depth
    told = []
    for name in lists:
        rank = ranks[name]
        beyond = " (beyond fetch_k, so it counts nothing)" if rank and rank > depth else ""
        where = "not at all" if rank is None else f"at rank {rank}{beyond}"
        told.append(f"{WORDS[name]} has it {where}")
    last = "not at all" if ranks["fused"] is None else f"at rank {ranks['fused']}"
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
