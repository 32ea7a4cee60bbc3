"""Results as pandas frames: a row for each case, or for each config of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app.evaluation.results import Comparison
from rag_app.registry import raise_missing

if TYPE_CHECKING:
    from pandas import DataFrame

    from rag_app.evaluation.results import CaseResult, Evaluation


def frame(value: Evaluation | Comparison) -> DataFrame:
    """A table to look into with pandas.

    Of an evaluation: a row for each case, by its `id`, with `question`, `tags`, `answerable`, each
    metric, `<stage>_ms`, and `answer` and `abstained` where it was asked. Of a comparison: a row
    for each config, best first, by `name`, with the settings that differ, each metric, `low` and
    `high` of the comparison's metric, `tied`, `front`, `p50_ms` and `p95_ms` of a question, `cost`
    in US dollars per 1,000 questions. What a row lacks is NaN.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise_missing("frame", "evaluation", error)
        raise
    if isinstance(value, Comparison):
        configs = [_describe_config(value, evaluation) for evaluation in value.evaluations]
        return DataFrame(configs).set_index("name")
    cases = [_describe_case(result) for result in value.results]
    return DataFrame(cases, columns=None if cases else ["id"]).set_index("id")


def cost_per_thousand(evaluation: Evaluation) -> float | None:
    """US dollars for 1,000 questions; None where no price is known, or nothing was asked."""
    if evaluation.cost is None or not evaluation.results:
        return None
    return evaluation.cost / len(evaluation.results) * 1000


def _describe_case(result: CaseResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": result.case.id,
        "question": result.case.question,
        "tags": ", ".join(result.case.tags),
        "answerable": result.case.answerable,
        **result.metrics,
        **{f"{stage}_ms": value for stage, value in result.timings_ms.items()},
    }
    if result.answer is not None:
        row |= {"answer": result.answer.answer, "abstained": result.answer.abstained}
    return row


def _describe_config(comparison: Comparison, evaluation: Evaluation) -> dict[str, Any]:
    low, high = evaluation.intervals.get(comparison.metric, (None, None))
    total = evaluation.latency_ms.get("total", {})
    return {
        "name": evaluation.name,
        **comparison.settings.get(evaluation.name, {}),
        **evaluation.metrics,
        "low": low,
        "high": high,
        "tied": evaluation.name in comparison.tied,
        "front": evaluation.name in comparison.front,
        "p50_ms": total.get("p50"),
        "p95_ms": total.get("p95"),
        "cost": cost_per_thousand(evaluation),
    }
