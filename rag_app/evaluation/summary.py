"""What all cases together say: means, intervals, latency, tokens, money."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np

from rag_app.evaluation.significance import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_app.config import AppConfig
    from rag_app.evaluation.results import CaseResult, Metrics

_NO_SERVICE: Final = ("cross_encoder", "llm")
"""Rerankers that cost nothing, or tokens of the chat model."""

_PERCENTILES: Final = {"p50": 50.0, "p95": 95.0}


def mean_metrics(measured: Iterable[Metrics]) -> dict[str, float]:
    """The mean of each metric over those that have it."""
    return {name: float(np.mean(values)) for name, values in _gather(measured).items()}


def measure_intervals(measured: Iterable[Metrics]) -> dict[str, tuple[float, float]]:
    """The 95 % bootstrap interval of the mean of each metric."""
    return {name: mean_interval(values) for name, values in _gather(measured).items()}


def mean_stages(results: Sequence[CaseResult]) -> dict[str, dict[str, float]]:
    """The means of each stage's metrics."""
    names = {name: None for result in results for name in result.stages}
    return {
        name: mean_metrics(result.stages[name] for result in results if name in result.stages)
        for name in names
    }


def summarise_latency(results: Sequence[CaseResult]) -> dict[str, dict[str, float]]:
    """Median, 95th percentile and mean of each stage's wall time, milliseconds."""
    return {
        stage: {
            **{name: float(np.percentile(times, at)) for name, at in _PERCENTILES.items()},
            "mean": float(np.mean(times)),
        }
        for stage, times in _gather(result.timings_ms for result in results).items()
    }


def count_tokens(results: Iterable[CaseResult]) -> dict[str, int]:
    """Tokens of the chat model and, as `judge_…`, of the judge."""
    total: dict[str, int] = defaultdict(int)
    for result in results:
        for name, count in result.usage.items():
            total[name] += count
        if result.answer is not None:
            for name, count in result.answer.judge_usage.items():
                total[f"judge_{name}"] += count
    return dict(total)


def add_costs(costs: Iterable[float | None]) -> float | None:
    """Their sum; None where one is not known."""
    listed = list(costs)
    return None if None in listed else float(sum(cost for cost in listed if cost is not None))


def find_chat_cost(config: AppConfig, tokens: Mapping[str, int]) -> float | None:
    """US dollars of the chat model's tokens; None without a price, or where a service reranks."""
    if config.reranker is not None and config.reranker.kind not in _NO_SERVICE:
        return None
    if not any(tokens.values()):
        return 0.0
    section = config.chat_model
    price = None if section is None else getattr(section.options, "price", None)
    if price is None:
        return None
    spent = (
        tokens.get("input_tokens", 0) * price.input + tokens.get("output_tokens", 0) * price.output
    )
    return float(spent) / 1e6


def _gather(measured: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    gathered: dict[str, list[float]] = defaultdict(list)
    for metrics in measured:
        for name, value in metrics.items():
            gathered[name].append(value)
    return gathered
