"""Measures one case after the other with one pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app.errors import UsageError
from rag_app.evaluation.metrics import measure_ranking
from rag_app.evaluation.projection import overlapped, overlaps, read_chunks
from rag_app.evaluation.recording import MOST, RecordingRetriever
from rag_app.evaluation.results import AnswerResult, CaseResult, Retrieved
from rag_app.evaluation.spans import measure_spans
from rag_app.retrieval import RerankingRetriever, to_hit
from rag_app.timing import collect, timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel

    from rag_app.app import RagApp
    from rag_app.evaluation.results import Case, Located
    from rag_app.types import Filter, Hit, Span


class Measuring:
    """One pipeline, and how it is measured. `prepare` it for the cases, then `measure` each.

    Args:
        ks: the cutoffs.
        answers: ask, too; without it only the search is measured.
        judge: a chat model that judges answers; None for none.
    """

    def __init__(
        self, app: RagApp, ks: Sequence[int], *, answers: bool, judge: BaseChatModel | None
    ) -> None:
        self._app, self._ks, self._judge = app, ks, judge
        whole = app.retriever
        reranking = whole if isinstance(whole, RerankingRetriever) else None
        first = whole if reranking is None else reranking.retriever
        self._retriever = RecordingRetriever(first=first, reranking=reranking, depth=max(ks))
        self._chain = app.build_chain(lambda: self._retriever) if answers else None
        self._chunks: dict[str, list[Span]] = {}

    def prepare(self, located: Mapping[str, Sequence[Located]]) -> None:
        """Look up the chunks of the documents in which spans of these cases stand."""
        spanned = [each for places in located.values() if not _are_whole(places) for each in places]
        chunks = read_chunks(self._app, {each.source for each in spanned})
        self._chunks = {source: [span for _, span in listed] for source, listed in chunks.items()}

    def warm_up(self, question: str) -> None:
        """Load what the first search loads, so that no case pays for it; a model that is a service
        is not asked."""
        self._app.refresh()
        if getattr(self._app.embeddings, "usage", None) is None and not self._reranks_remotely():
            self._retriever.invoke(question)

    def _reranks_remotely(self) -> bool:
        section = self._app.config.reranker
        return section is not None and section.kind != "cross_encoder"

    def measure(
        self, case: Case, located: tuple[Located, ...], filter: Filter | None
    ) -> CaseResult:
        """What the pipeline makes of a case, asked with this filter."""
        given: dict[str, Any] = {} if filter is None else {"filter": filter}
        made: dict[str, Any] | None = None
        self._retriever.rankings = {}
        with collect() as timings, timed("total"):
            if self._chain is None:
                self._retriever.invoke(case.question, **given)
            else:
                usage, made = self._ask(case.question, given)
        rankings = dict(self._retriever.rankings)
        if not rankings:
            wrong = f"{self._app.config.chain.kind!r} answers without a search"
            raise UsageError("chain", wrong, "Measure one that takes its passages from the index.")
        if located and _are_whole(located):
            rankings["retriever"] = self._find_documents(filter, rankings["retriever"])
        stages = {name: self._rank(hits, located) for name, hits in rankings.items() if located}
        metrics = dict(next(reversed(stages.values()), {}))
        answer = None
        if made is not None:
            answer = self._judge_answer(case, located, made, usage)
            metrics |= answer.metrics
        return CaseResult(
            case=case,
            located=located,
            rankings={
                name: tuple(Retrieved(hit, overlapped(hit, located)) for hit in hits)
                for name, hits in rankings.items()
            },
            metrics=metrics,
            stages=stages,
            timings_ms=dict(timings),
            answer=answer,
        )

    def _ask(self, question: str, given: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
        from langchain_core.callbacks import get_usage_metadata_callback

        from rag_app.app import sum_usage

        assert self._chain is not None
        with get_usage_metadata_callback() as usage:
            made = self._chain.invoke({"question": question, **given})
        return sum_usage(usage.usage_metadata), made

    def _judge_answer(
        self,
        case: Case,
        located: Sequence[Located],
        made: Mapping[str, Any],
        usage: Mapping[str, int],
    ) -> AnswerResult:
        from rag_app.evaluation.answers import has_abstained, measure_answer
        from rag_app.evaluation.judge import judge_answer

        answer, citations = made["answer"], tuple(made["citations"])
        abstained = has_abstained(answer, citations)
        metrics = measure_answer(case, located, answer, citations, abstained)
        result = AnswerResult(answer, citations, abstained, metrics, usage)
        if self._judge is None or abstained:
            return result
        context: Sequence[Document] = made["context"]
        return judge_answer(self._judge, case, result, [each.page_content for each in context])

    def _find_documents(self, filter: Filter | None, hits: list[Hit]) -> list[Hit]:
        """More hits where the first ones are chunks of fewer documents than the deepest cutoff."""
        deepest, asked = max(self._ks), len(hits)
        while len({hit.source for hit in hits}) < deepest and asked < MOST:
            asked = min(max(asked, deepest) * 2, MOST)
            found = self._retriever.search(self._retriever.query, asked, filter)
            more = list(map(to_hit, found))
            if len(more) <= len(hits):
                break
            hits = more
        return hits

    def _rank(self, hits: Sequence[Hit], located: Sequence[Located]) -> dict[str, float]:
        relevance = [each.relevance for each in located]
        if _are_whole(located):
            documents = {hit.source: hit for hit in reversed(hits)}  # the first hit of each
            firsts = [hit for hit in hits if documents[hit.source] is hit]
            found = [overlapped(hit, located) for hit in firsts]
            return measure_ranking(found, relevance, self._ks)
        found = [overlapped(hit, located) for hit in hits]
        units = list(self._units(located))
        measured = measure_ranking(found, relevance, self._ks, units)
        spans = [(hit.source, hit.start, hit.end) for hit in hits]
        return measured | measure_spans(spans, located, self._ks, self._chunks)

    def _units(self, located: Sequence[Located]) -> Iterator[list[int]]:
        """The evidence that each chunk of its documents holds; of those that hold some."""
        for source in {each.source for each in located}:
            for chunk in self._chunks.get(source, []):
                held = [
                    place
                    for place, each in enumerate(located)
                    if each.source == source
                    and (not each.spans or any(overlaps(chunk, span) for span in each.spans))
                ]
                if held:
                    yield held


def _are_whole(located: Sequence[Located]) -> bool:
    """Whether the evidence is whole documents, so that a ranking is one of documents."""
    return all(not each.spans for each in located)
