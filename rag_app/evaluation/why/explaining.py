"""Why a question was answered as it was: the stage that lost each piece of its evidence.

The stages are walked in their order. One is named with proof only when something was seen there
that shows it: figures, a file, a search that was made. Where several would have to be mended, it is
the first whose repair alone brings the evidence back into what the retriever finds, as a trial
showed; a filter that excludes the evidence comes before all that happens to chunks, for nothing but
another filter can bring it back.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rag_app.errors import UsageError
from rag_app.evaluation.results import Case, Evidence
from rag_app.evaluation.verdicts import STAGES, Explanation, Explanations, Verdict
from rag_app.evaluation.why.answer import ask, find_cut, find_dropped, find_unused
from rag_app.evaluation.why.chunks import find_split, find_truncated
from rag_app.evaluation.why.documents import Corpus, explain_lost, explain_missing
from rag_app.evaluation.why.pipeline import Pipeline
from rag_app.evaluation.why.places import Place, describe_sources, find_twins, locate_piece
from rag_app.evaluation.why.ranks import find_below, find_filtered, rank_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rag_app.app import RagApp
    from rag_app.evaluation.results import AnswerResult, Cases
    from rag_app.evaluation.verdicts import Stage
    from rag_app.evaluation.why.pipeline import Run
    from rag_app.index.records import StoredDocument
    from rag_app.index.view import View
    from rag_app.rows import Row
    from rag_app.types import Filter, Hit, Unreadable

_ORDER: Final = {stage: place for place, stage in enumerate(STAGES)}


def make_case(
    question: str,
    source: str | None,
    quote: str | None = None,
    filter: Filter | None = None,
) -> Case:
    """A question with the words of a document that answer it; without a quote, all of them.

    Raises:
        UsageError: no document is named, or the quote is empty.
    """
    if source is None:
        wrong = "nothing tells where the evidence stands"
        raise UsageError("source", wrong, "Name the document that answers, and quote it.")
    if quote is not None and not quote.strip():
        raise UsageError("quote", "it is empty", "Give words of the document, or leave it out.")
    return Case("question", question, (Evidence(source, quote),), filter=filter)


def explain(app: RagApp, case: Case, *, answer: bool = False) -> Explanation:
    """Which stage lost each piece of a case's evidence.

    Args:
        case: the question, asked with the case's own filter.
        answer: ask, too, and tell evidence that the answer passed over.

    Raises:
        IndexStateError, IdentityError: the index cannot answer for this config; as when it is
            empty. FilterError, UsageError: the case's filter or question.
        ModelError: from the embedding model, a reranker or the chat model.
    """
    corpus = Corpus(app)
    try:
        return _Explaining(Pipeline(app), corpus).explain(case, answer=answer)
    finally:
        corpus.close()


def explain_all(
    app: RagApp,
    cases: Cases,
    *,
    answer: bool = False,
    only_failures: bool = True,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Explanations:
    """`explain` of every case that the documents answer.

    Args:
        only_failures: leave the explanations out of cases that lost nothing; they are counted.
        progress: called as (stage, done, total).

    Raises:
        As `explain`.
    """
    begun = time.perf_counter()
    asked = [case for case in cases.cases if case.answerable]
    made: list[Explanation] = []
    corpus = Corpus(app)
    try:
        explaining = _Explaining(Pipeline(app), corpus)
        for done, case in enumerate(asked):
            progress("explaining cases", done, len(asked))
            made.append(explaining.explain(case, answer=answer))
        progress("explaining cases", len(asked), len(asked))
    finally:
        corpus.close()
    counts = Counter(each.stage for each in made)
    kept = [each for each in made if not only_failures or each.stage != "reached"]
    notes = list(cases.notes)
    if unasked := len(cases.cases) - len(asked):
        notes.append(f"{unasked} cases without evidence were left out: none of it can be lost")
    return Explanations(
        app.config.name,
        app.config.describe(),
        cases.origin,
        tuple(kept),
        {stage: counts[stage] for stage in STAGES},  # type: ignore[index]
        time.perf_counter() - begun,
        tuple(notes),
    )


@dataclass(frozen=True)
class _Known:
    """What the index has of the documents of a case."""

    documents: Mapping[str, StoredDocument]
    rows: Mapping[str, Sequence[Row]]
    quarantine: Mapping[str, Sequence[Unreadable]]


class _Explaining:
    """Explains cases of one pipeline."""

    def __init__(self, pipeline: Pipeline, corpus: Corpus) -> None:
        self._pipeline = pipeline
        self._corpus = corpus

    def explain(self, case: Case, *, answer: bool) -> Explanation:
        app, pipeline = self._pipeline.app, self._pipeline
        known = app.index.read(lambda view: _read(app, view, case))
        run = pipeline.run(case.question, case.filter)
        verdicts: dict[int, Verdict] = {}
        places: list[Place] = []
        for number, evidence in enumerate(case.evidence):
            document = known.documents.get(evidence.source)
            if document is None:
                verdicts[number] = explain_missing(self._corpus, number, evidence, known.quarantine)
                continue
            place = locate_piece(number, evidence, document, known.rows[evidence.source])
            if place is None:
                verdicts[number] = explain_lost(
                    self._corpus, number, evidence, document, known.quarantine
                )
                continue
            places.append(place)
        said, context = None, list(run.prompt)
        if answer and (run.context or not run.kept):  # else there is no room for a question
            said, context = ask(pipeline, case, places)
        for place in places:
            verdicts[place.number] = self._judge(case, run, place, context, said)
        listed = tuple(verdicts[number] for number in range(len(case.evidence)))
        stages: list[Stage] = [each.stage for each in listed] or ["reached"]
        stage = min(stages, key=_ORDER.__getitem__)
        return Explanation(case, stage, listed, run.hits, said)

    def _judge(
        self,
        case: Case,
        run: Run,
        place: Place,
        context: Sequence[Hit],
        answer: AnswerResult | None,
    ) -> Verdict:
        verdict = self._find_stage(case, run, place, context, answer)
        twins = {} if verdict.stage == "reached" else find_twins(place, run.hits)
        if not twins:
            return verdict
        told = f"the same words are found in {describe_sources(twins)}"
        return replace(verdict, note="; ".join(filter(None, [verdict.note, told])))

    def _find_stage(
        self,
        case: Case,
        run: Run,
        place: Place,
        context: Sequence[Hit],
        answer: AnswerResult | None,
    ) -> Verdict:
        ranks = _read_ranks(self._pipeline, run, place)
        if place.held_by(context):
            return find_unused(case, place, ranks, context, answer)
        if place.held_by(run.hits):
            return find_cut(self._pipeline, run, place, ranks)
        if place.held_by(run.found):
            return find_dropped(self._pipeline, run, place, ranks)
        return self._judge_unfound(run, place)

    def _judge_unfound(self, run: Run, place: Place) -> Verdict:
        """Evidence that the retriever did not find, whole."""
        pipeline = self._pipeline
        filtered = find_filtered(pipeline, run, place)
        if filtered is not None:
            return filtered
        if not pipeline.ranks:
            ids = tuple(chunk.row.id for chunk in place.touching)
            note = (
                f"the retriever {pipeline.kind!r} returned {len(run.pool)} chunks without it; it "
                "does not tell what it ranked below them, so nothing more can be told"
            )
            return Verdict(place.number, "below_cut_dense", "", (), {}, ids, note)

        def judge(view: View) -> Verdict:
            lists = pipeline.lists(view, run, place, run.filter)
            ranks = rank_lists(pipeline, lists, place)
            return (
                find_split(pipeline, view, run, place, ranks)
                or find_truncated(pipeline, view, run, place, ranks)
                or find_below(pipeline, run, place, lists, view)
            )

        return pipeline.app.index.read(judge)


def _read(app: RagApp, view: View, case: Case) -> _Known:
    journal = app.index.journal(view.generation)
    sources = sorted({evidence.source for evidence in case.evidence})
    stored = (journal.find_stored(source) for source in sources)
    documents = {each.source: each for each in stored if each is not None}
    rows = {source: view.fetch(ids) for source, ids in view.ids_of(sorted(documents)).items()}
    empty: dict[str, Sequence[Row]] = {source: () for source in documents}
    return _Known(documents, {**empty, **rows}, journal.quarantine())


def _read_ranks(pipeline: Pipeline, run: Run, place: Place) -> dict[str, int | None]:
    """The ranks of found evidence, of the chunk that brought it in: by each list, and at last."""
    rank = place.rank_in(run.found)
    if rank is None:
        return {}
    ranks: dict[str, int | None] = {n: r.rank for n, r in run.found[rank - 1].ranks.items()}
    if pipeline.kind == "hybrid":
        ranks["fused"] = rank
    if pipeline.reranking is not None:
        ranks["reranker"] = place.rank_in(run.hits)
    return ranks
