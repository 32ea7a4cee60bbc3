"""Measures one case after the other with one pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import get_usage_metadata_callback

from rag_app.answering import sum_usage
from rag_app.errors import UsageError
from rag_app.evaluation.metrics import measure_ranking, rank_documents
from rag_app.evaluation.projection import find_held, overlapped, read_chunks
from rag_app.evaluation.recording import MOST, RecordingRetriever
from rag_app.evaluation.results import AnswerResult, CaseResult, Retrieved
from rag_app.evaluation.spans import measure_spans
from rag_app.evaluation.summary import add_costs, find_chat_cost
from rag_app.retrieval import RerankingRetriever, to_hit
from rag_app.timing import collect, timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel

    from rag_app.app import RagApp
    from rag_app.evaluation.queries import RememberedQueries
    from rag_app.evaluation.results import Case, Located
    from rag_app.options import Options
    from rag_app.types import Filter, Hit, Span


class Measuring:
    """One pipeline, and how it is measured. `prepare` it for the cases, then `measure` each.

    Args:
        ks: the cutoffs.
        queries: what the index embeds questions with.
        answers: ask, too; without it only the search is measured.
        judge: a chat model that judges answers; None for none.
    """

    def __init__(
        self,
        app: RagApp,
        ks: Sequence[int],
        queries: RememberedQueries,
        *,
        answers: bool,
        judge: BaseChatModel | None,
    ) -> None:
        self._app, self._ks, self._queries, self._judge = app, ks, queries, judge
        whole = app.retriever
        reranking = whole if isinstance(whole, RerankingRetriever) else None
        first = whole if reranking is None else reranking.retriever
        self._pool = _find_pool(app.config.retriever.options)
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
        self._retriever.searches, before = [], self._queries.cost
        with collect() as timings, get_usage_metadata_callback() as counted, timed("total"):
            if self._chain is None:
                self._retriever.invoke(case.question, **given)
            else:
                made = self._chain.invoke({"question": case.question, **given})
        usage = sum_usage(counted.usage_metadata)
        embedding = add_costs((self._queries.cost, None if before is None else -before))
        rankings = self._read_rankings(case)
        rankings["retriever"] = self._find_more(filter, rankings["retriever"], located)
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
            usage=usage,
            cost=add_costs((embedding, find_chat_cost(self._app.config, usage))),
        )

    def _read_rankings(self, case: Case) -> dict[str, list[Hit]]:
        """What the stages of the one search for this case found."""
        kind, searches = self._app.config.chain.kind, self._retriever.searches
        if not searches:
            wrong = f"{kind!r} answers without a search"
            raise UsageError("chain", wrong, "Measure one that takes its passages from the index.")
        if len(searches) > 1:
            wrong = (
                f"{kind!r} searches {len(searches)} times to answer the case {case.id!r}, and no "
                "one of these rankings is what it found"
            )
            remedy = "Measure one that searches once, or without answers, the retriever alone."
            raise UsageError("chain", wrong, remedy)
        return dict(searches[0])

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
        if self._judge is None:
            return result
        context: Sequence[Document] = made["context"]
        return judge_answer(self._judge, case, result, [each.page_content for each in context])

    def _find_more(
        self, filter: Filter | None, hits: list[Hit], located: Sequence[Located]
    ) -> list[Hit]:
        """More hits, below these, where they are fewer than the deepest cutoff; or, where the
        evidence is whole documents, chunks of fewer documents.

        These stay the first, whatever a deeper search puts there: an approximate one finds better
        the more it is asked for, and chooses otherwise among equals.
        """
        deepest, first = max(self._ks), len(hits)
        near = deepest if self._pool is None else min(deepest, self._pool)
        asked, whole = first, bool(located) and _are_whole(located)
        while asked < MOST and deepest > len({hit.source for hit in hits} if whole else hits):
            further = near if asked < near else deepest
            asked = further if asked < further else min(asked * 2, MOST)
            found = self._retriever.search(self._retriever.query, asked, filter)
            known = {hit.id for hit in hits}
            more = [hit for hit in map(to_hit, found) if hit.id not in known]
            if not more and asked >= deepest:
                break
            hits = [*hits, *more]
        return hits if whole else hits[: max(deepest, first)]

    def _rank(self, hits: Sequence[Hit], located: Sequence[Located]) -> dict[str, float]:
        relevance = [each.relevance for each in located]
        if _are_whole(located):
            documents = rank_documents(hit.source for hit in hits)
            found = [find_held(source, (0, 0), located) for source in documents]
            return measure_ranking(found, relevance, self._ks)
        found = [overlapped(hit, located) for hit in hits]
        units = list(self._units(located))
        measured = measure_ranking(found, relevance, self._ks, units)
        spans = [(hit.source, hit.start, hit.end) for hit in hits]
        return measured | measure_spans(spans, located, self._ks, self._chunks)

    def _units(self, located: Sequence[Located]) -> Iterator[tuple[int, ...]]:
        """The evidence that each chunk of its documents holds; of those that hold some."""
        for source in {each.source for each in located}:
            for chunk in self._chunks.get(source, []):
                if held := find_held(source, chunk, located):
                    yield held


def _find_pool(options: Options) -> int | None:
    """How many candidates a search chooses from, when more of them would change its choice."""
    if getattr(options, "mmr_lambda", 0) is None:
        return None
    return getattr(options, "fetch_k", None)


def _are_whole(located: Sequence[Located]) -> bool:
    """Whether the evidence is whole documents, so that a ranking is one of documents."""
    return all(not each.spans for each in located)
