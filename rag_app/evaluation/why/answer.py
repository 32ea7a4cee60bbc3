"""What became of evidence that was found: the reranker, the room in the prompt, the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rag_app.citations import words
from rag_app.evaluation.answers import has_abstained, measure_answer
from rag_app.evaluation.projection import overlaps
from rag_app.evaluation.results import AnswerResult, Located
from rag_app.evaluation.verdicts import Verdict
from rag_app.retrieval import to_hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.evaluation.results import Case
    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.evaluation.why.places import Place
    from rag_app.types import Citation, Hit

REPEATED: Final = 0.6
"""Share of the words of evidence that an answer has which repeats it."""


def find_dropped(
    pipeline: Pipeline, run: Run, place: Place, ranks: Mapping[str, int | None]
) -> Verdict:
    """The verdict on evidence that the retriever found and the reranker did not keep."""
    assert pipeline.reranking is not None
    before = place.rank_in(run.found)
    deep = [to_hit(d) for d in pipeline.rerank(run.pool, run.question, len(run.pool))]
    after, k = place.rank_in(deep), len(run.hits)
    proof = f"the retriever has it at rank {before} of {len(run.pool)}; the reranker keeps {k}"
    tried = []
    if after is not None and after > k:
        proof += f", and puts it at rank {after}"
        kept = pipeline.rerank(run.pool, run.question, after)
        if place.held_by([to_hit(document) for document in pipeline.fit(kept)]):
            tried.append(f"reranker.k={after} keeps it")
        else:
            tried.append(f"reranker.k={after} keeps it, but chain.context_chars cuts it off")
    else:
        proof += ", and not that"
    plain = pipeline.fit(run.pool)
    if place.held_by([to_hit(document) for document in plain]):
        tried.append(f"without the reranker it stays at rank {before}")
    ids = tuple(chunk.row.id for chunk in place.touching)
    found = {**ranks, "reranker": after}
    return Verdict(place.number, "dropped_by_reranker", proof, tuple(tried), found, ids, place.note)


def find_cut(
    pipeline: Pipeline, run: Run, place: Place, ranks: Mapping[str, int | None]
) -> Verdict:
    """The verdict on evidence that was found and did not fit into the prompt."""
    rank = place.rank_in(run.hits)
    needed = sum(len(hit.text) for hit in run.hits[:rank])
    proof = (
        f"the search has it at rank {rank}, where the chunks so far have {needed:,} characters; "
        f"the prompt takes chain.context_chars={pipeline.context_chars:,}, that is "
        f"{len(run.context)} chunks"
    )
    tried: tuple[str, ...] = ()
    if place.held_by([to_hit(d) for d in pipeline.fit(run.kept, needed)]):
        tried = (f"chain.context_chars={needed} keeps it",)
    ids = tuple(chunk.row.id for chunk in place.touching)
    return Verdict(place.number, "cut_by_context_budget", proof, tried, ranks, ids, place.note)


def find_unused(
    case: Case,
    place: Place,
    ranks: Mapping[str, int | None],
    context: Sequence[Hit],
    answer: AnswerResult | None,
) -> Verdict:
    """The verdict on evidence that is in the prompt: reached, unless an answer passed it over.

    It is used when a citation overlaps it, when the answer has one of the case's right answers, or
    most of its words. That it is not is proved when nothing of its chunks is cited either.
    """
    ids = tuple(chunk.row.id for chunk in place.touching)
    rank = place.rank_in(context)
    proof = f"it is in the prompt, at rank {rank} of {len(context)}"
    if answer is None or _is_used(case, place, answer):
        return Verdict(place.number, "reached", proof, (), ranks, ids, place.note)
    numbers = [n for n, hit in enumerate(context, 1) if hit.id in ids]
    cited = sorted({citation.number for citation in answer.citations})
    told = ", ".join(f"[{n}]" for n in cited) or "nothing"
    seen = f"{proof}, as {', '.join(f'[{n}]' for n in numbers)}; the answer cites {told}"
    if answer.abstained:
        seen += " and says that there is no answer"
    if set(numbers) & set(cited):
        note = f"{seen}, but other sentences of it"
        return Verdict(place.number, "unused_in_answer", "", (), ranks, ids, note)
    return Verdict(place.number, "unused_in_answer", seen, (), ranks, ids, place.note)


def _is_used(case: Case, place: Place, answer: AnswerResult) -> bool:
    if any(_cites(citation, place) for citation in answer.citations):
        return True
    if answer.abstained:
        return False
    said = " ".join(words(answer.answer))
    given = (" ".join(words(right)) for right in case.answers)
    if any(right and re.search(rf"(?<!\S){re.escape(right)}(?!\S)", said) for right in given):
        return True
    spoken = set(said.split())
    for start, end in place.spans:
        meant = {word for word in words(place.document.text[start:end]) if len(word) > 3}
        if meant and len(meant & spoken) >= REPEATED * len(meant):
            return True
    return False


def _cites(citation: Citation, place: Place) -> bool:
    if citation.source != place.source:
        return False
    span = (citation.start, citation.end)
    return not place.spans or any(overlaps(span, each) for each in place.spans)


def ask(pipeline: Pipeline, case: Case, places: Sequence[Place]) -> tuple[AnswerResult, list[Hit]]:
    """The pipeline's answer, measured, and what it was given."""
    made = pipeline.app.ask(case.question, filter=case.filter)
    located = [Located(place.source, place.spans) for place in places]
    abstained = has_abstained(made.answer, made.citations)
    metrics = measure_answer(case, located, made.answer, made.citations, abstained)
    result = AnswerResult(made.answer, made.citations, abstained, metrics, made.usage)
    return result, list(made.context)
