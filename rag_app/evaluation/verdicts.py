"""Which stage lost the evidence of a question: what `why` returns."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (read when written as JSON)
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from rag_app.evaluation.results import AnswerResult, Case  # noqa: TC001
from rag_app.types import Hit  # noqa: TC001

Stage: TypeAlias = Literal[
    "not_in_corpus",
    "lost_by_loader",
    "split_by_splitter",
    "truncated_by_embedder",
    "excluded_by_filter",
    "below_cut_dense",
    "below_cut_bm25",
    "lost_in_fusion",
    "dropped_by_reranker",
    "cut_by_context_budget",
    "unused_in_answer",
    "reached",
]
"""Where a piece of evidence was lost, in the order of the pipeline; `reached`: it was not."""

STAGES: Final[Mapping[str, str]] = {
    "not_in_corpus": "not in the corpus",
    "lost_by_loader": "lost by the loader",
    "split_by_splitter": "split by the splitter",
    "truncated_by_embedder": "truncated by the embedder",
    "excluded_by_filter": "excluded by a filter",
    "below_cut_dense": "below the cut in dense search",
    "below_cut_bm25": "below the cut in BM25",
    "lost_in_fusion": "lost in fusion",
    "dropped_by_reranker": "dropped by the reranker",
    "cut_by_context_budget": "cut by the context budget",
    "unused_in_answer": "in the prompt but unused",
    "reached": "reached the answer",
}
"""The stages in the order of the pipeline, in words."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which stage lost a piece of evidence.

    Attributes:
        place: of the evidence in its case.
        proof: what was seen that shows it, in a sentence with figures; empty when the stage is the
            likeliest and nothing proves it.
        counterfactuals: what would have kept it, each tried: "k=20 keeps it".
        ranks: of the best chunk that holds it, by list: `dense`, `bm25`, `fused`, `reranker`; None
            where a list does not hold it.
        chunks: ids of the chunks that hold it, best covered first.
        note: what was seen that tells more, or points at the stage without proving it.
    """

    place: int
    stage: Stage
    proof: str
    counterfactuals: tuple[str, ...] = ()
    ranks: Mapping[str, int | None] = field(default_factory=dict)
    chunks: tuple[str, ...] = ()
    note: str = ""

    @property
    def proved(self) -> bool:
        """Whether something was seen that shows it."""
        return bool(self.proof)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a question was answered as it was.

    Attributes:
        stage: the earliest that lost a piece of evidence; `reached` when none did.
        verdicts: one for each piece of evidence.
        hits: what the search returns, best first.
        answer: None where only the search was looked at.
    """

    case: Case
    stage: Stage
    verdicts: tuple[Verdict, ...]
    hits: tuple[Hit, ...]
    answer: AnswerResult | None = None


@dataclass(frozen=True, slots=True)
class Explanations:
    """The failures of a pipeline on cases.

    Attributes:
        lost: cases by the stage that lost them, in the order of the pipeline, `reached` last.
    """

    name: str
    config: Mapping[str, Any]
    origin: str
    explanations: tuple[Explanation, ...]
    lost: Mapping[str, int]
    seconds: float
    notes: tuple[str, ...] = ()
