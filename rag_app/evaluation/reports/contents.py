"""What a report shows, as JSON values: each text and chunk once, six digits of a figure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag_app.evaluation.behaviour import PREFERRED, is_right
from rag_app.evaluation.frames import cost_per_thousand
from rag_app.evaluation.results import LOWER_IS_BETTER, Comparison, Evaluation
from rag_app.evaluation.verdicts import STAGES, Explanations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rag_app.evaluation.results import AnswerResult, Case, CaseResult, Located, Paired
    from rag_app.types import Hit, Span


def describe(value: Evaluation | Comparison | Explanations) -> dict[str, Any]:
    """The contents of the report on `value`; `kind` says which of the three it is."""
    shared = _Shared()
    if isinstance(value, Comparison):
        told = _describe_comparison(value, shared)
    elif isinstance(value, Explanations):
        told = _describe_explanations(value, shared)
    else:
        told = {
            "kind": "evaluation",
            "title": value.name,
            "metric": choose_metric(value),
            "runs": [_describe_run(value, shared)],
        }
    return {
        **told,
        "lower_is_better": sorted(LOWER_IS_BETTER),
        "sources": list(shared.sources),
        "texts": list(shared.texts),
        "chunks": shared.described,
        "cases": shared.cases,
    }


def choose_metric(evaluation: Evaluation) -> str:
    """The metric that cases are ordered by; empty where nothing was measured."""
    deepest = max(evaluation.ks, default=1)
    names = (name for each in PREFERRED for name in (f"{each}@{deepest}", each))
    found = next((name for name in names if name in evaluation.metrics), None)
    return found or next(iter(evaluation.metrics), "")


@dataclass
class _Shared:
    """What several rankings hold, each once; they refer to it by its place."""

    sources: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    chunks: dict[tuple[str, int, int, int, int], int] = field(default_factory=dict)
    described: list[list[Any]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add_chunk(self, hit: Hit) -> int:
        source = self.sources.setdefault(hit.source, len(self.sources))
        text = self.texts.setdefault(hit.text, len(self.texts))
        key = (hit.id, source, hit.start, hit.end, text)
        if key not in self.chunks:
            self.chunks[key] = len(self.chunks)
            self.described.append(list(key))
        return self.chunks[key]

    def add_case(self, case: Case, located: tuple[Located, ...]) -> int:
        if case.id not in self.places:
            self.places[case.id] = len(self.cases)
            self.cases.append(_describe_case(case, located))
        return self.places[case.id]


def _describe_case(case: Case, located: tuple[Located, ...]) -> dict[str, Any]:
    return {
        "id": case.id,
        "question": case.question,
        "tags": list(case.tags),
        "answers": list(case.answers),
        "filter": None if case.filter is None else _write_values(case.filter),
        "place": case.place,
        "evidence": [
            {
                "source": each.source,
                "quote": each.quote,
                "relevance": each.relevance,
                "spans": spans,
            }
            for each, spans in zip(case.evidence, _list_spans(case, located), strict=True)
        ],
    }


def _list_spans(case: Case, located: tuple[Located, ...]) -> list[list[Span]]:
    if len(located) == len(case.evidence):
        return [list(each.spans) for each in located]
    return [[] if each.span is None else [each.span] for each in case.evidence]


def _describe_run(evaluation: Evaluation, shared: _Shared) -> dict[str, Any]:
    names = list(dict.fromkeys(name for each in evaluation.results for name in each.metrics))
    return {
        "name": evaluation.name,
        "origin": evaluation.origin,
        "config": _write_values(evaluation.config),
        "ks": list(evaluation.ks),
        "metrics": _round_all(evaluation.metrics),
        "intervals": {k: [_round(x) for x in v] for k, v in evaluation.intervals.items()},
        "stages": {stage: _round_all(means) for stage, means in evaluation.stages.items()},
        "latency": {stage: _round_all(times) for stage, times in evaluation.latency_ms.items()},
        "tokens": dict(evaluation.tokens),
        "cost": _round(evaluation.cost),
        "cost_per_thousand": _round(cost_per_thousand(evaluation)),
        "index": _write_values(evaluation.index),
        "answerable": evaluation.answerable,
        "seconds": _round(evaluation.seconds),
        "notes": list(evaluation.notes),
        "names": names,
        "results": [_describe_result(each, names, shared) for each in evaluation.results],
    }


def _describe_result(result: CaseResult, names: list[str], shared: _Shared) -> dict[str, Any]:
    return {
        "case": shared.add_case(result.case, result.located),
        "metrics": [_round(result.metrics.get(name)) for name in names],
        "rankings": {
            stage: [_describe_hit(each.hit, each.evidence, shared) for each in ranking]
            for stage, ranking in result.rankings.items()
        },
        "ms": _round_all(result.timings_ms),
        "right": is_right(result),
        "answer": _describe_answer(result.answer),
    }


def _describe_hit(hit: Hit, evidence: Iterable[int], shared: _Shared) -> list[Any]:
    ranks = {name: rank.rank for name, rank in hit.ranks.items()}
    return [
        shared.add_chunk(hit), _round(hit.score), _round(hit.similarity), list(evidence), ranks
    ]  # fmt: skip


def _describe_answer(answer: AnswerResult | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "text": answer.answer,
        "abstained": answer.abstained,
        "citations": [
            {
                "number": each.number,
                "source": each.source,
                "span": [each.start, each.end],
                "quote": each.quote,
                "page": each.page,
                "heading": each.heading,
            }
            for each in answer.citations
        ],
        "usage": {**answer.usage, **{f"judge_{k}": v for k, v in answer.judge_usage.items()}},
        "remarks": dict(answer.remarks),
    }


def _describe_comparison(comparison: Comparison, shared: _Shared) -> dict[str, Any]:
    names = [each.name for each in comparison.evaluations]
    place = {name: number for number, name in enumerate(names)}
    return {
        "kind": "comparison",
        "title": f"{len(names)} configs compared by {comparison.metric}",
        "metric": comparison.metric,
        "runs": [_describe_run(each, shared) for each in comparison.evaluations],
        "settings": [_write_values(comparison.settings.get(name, {})) for name in names],
        "tied": [place[name] for name in comparison.tied],
        "front": [place[name] for name in comparison.front],
        "pairs": [
            {
                "a": place[pair.a],
                "b": place[pair.b],
                "verdict": pair.verdict,
                **_describe_paired(pair.paired),
            }
            for pair in comparison.pairs
        ],
        "ablations": [
            {
                "stage": each.stage,
                "value": each.value,
                "without": each.without,
                "with": each.with_it,
                "ms": _round(each.latency_ms),
                "cost": _round(each.cost),
                "verdict": each.verdict,
                **_describe_paired(each.paired),
            }
            for each in comparison.ablations
        ],
        "embedded": comparison.embedded,
        "cached": comparison.cached,
        "seconds": _round(comparison.seconds),
        "notes": list(comparison.notes),
    }


def _describe_paired(paired: Paired) -> dict[str, Any]:
    return {
        "n": paired.n,
        "difference": _round(paired.difference),
        "interval": [_round(bound) for bound in paired.interval],
        "p": _round(paired.adjusted),
        "wins": paired.wins,
        "ties": paired.ties,
        "losses": paired.losses,
        "distinguishable": paired.distinguishable,
    }


def _describe_explanations(value: Explanations, shared: _Shared) -> dict[str, Any]:
    return {
        "kind": "explanations",
        "title": f"Why {value.name} answered as it did",
        "origin": value.origin,
        "config": _write_values(value.config),
        "stages": dict(STAGES),
        "lost": dict(value.lost),
        "seconds": _round(value.seconds),
        "notes": list(value.notes),
        "explanations": [
            {
                "case": shared.add_case(each.case, ()),
                "stage": each.stage,
                "verdicts": [
                    {
                        "place": verdict.place,
                        "stage": verdict.stage,
                        "proof": verdict.proof,
                        "note": verdict.note,
                        "counterfactuals": list(verdict.counterfactuals),
                        "ranks": dict(verdict.ranks),
                        "chunks": list(verdict.chunks),
                    }
                    for verdict in each.verdicts
                ],
                "hits": [_describe_hit(hit, (), shared) for hit in each.hits],
                "answer": _describe_answer(each.answer),
            }
            for each in value.explanations
        ],
    }


def _round_all(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _round(value) for name, value in values.items()}


def _round(value: float | None) -> float | None:
    """Six digits; None for what is no number in JSON."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _write_values(value: Any) -> Any:
    """JSON values of whatever a config or a filter holds."""
    if isinstance(value, dict):
        return {str(key): _write_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_write_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
