"""What evaluation returns: frozen values that can be written as JSON and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from rag_app.types import Citation, Filter, Hit, Span  # noqa: TC001  (read when written as JSON)

Metrics: TypeAlias = Mapping[str, float]
"""Values by name, as `ndcg@10`; higher is better in all of them but `LOWER_IS_BETTER`."""

LOWER_IS_BETTER: Final = frozenset({"false_answer_rate"})

CUTOFFS: Final = (1, 3, 5, 10)
"""The `k` that rankings are measured at unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What answers a question: a span of a source, told by its quote, its place or both.

    Attributes:
        source: the document's name in the index.
        quote: the words, as they stand there.
        span: characters of the document's text as its loader gives it.
        relevance: how well it answers, from 1; only rankings' nDCG weighs it.

    Without quote and span it is the whole document.
    """

    source: str
    quote: str | None = None
    span: Span | None = None
    relevance: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is the whole document."""
        return self.quote is None and self.span is None


@dataclass(frozen=True, slots=True)
class Case:
    """A question with the evidence that answers it.

    Attributes:
        evidence: empty for a question that the documents do not answer.
        answers: each of them is right; empty where none is given.
        filter: on metadata, that the question is asked with.
        place: where it is written, as `cases.jsonl:3`.
    """

    id: str
    question: str
    evidence: tuple[Evidence, ...] = ()
    answers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    filter: Filter | None = None
    place: str = ""

    @property
    def answerable(self) -> bool:
        """Whether the documents answer it."""
        return bool(self.evidence)


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases that belong together.

    Attributes:
        origin: the file or folder they were read from.
        digest: SHA-256 of what they say; changes whenever a case does.
        notes: what was left out on reading, in words.
    """

    cases: tuple[Case, ...]
    origin: str
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """Where a piece of evidence stands in what is indexed.

    Attributes:
        spans: of the document's text, each as good as the others (a quote may stand in several
            places); empty for the whole document.
    """

    source: str
    spans: tuple[Span, ...]
    relevance: int = 1


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A hit of a ranking. `evidence` are the places, in its case, of what it overlaps."""

    hit: Hit
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """An answer, measured.

    Attributes:
        abstained: it says that the documents do not answer.
        metrics: `exact_match`, `token_f1`, `citation_precision`, … where they can be told.
        usage: tokens of the chat model; `judge_usage` of the judge.
        remarks: what the judge said, by metric.
    """

    answer: str
    citations: tuple[Citation, ...]
    abstained: bool
    metrics: Metrics
    usage: Mapping[str, int] = field(default_factory=dict)
    judge_usage: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What a pipeline made of one case.

    Attributes:
        located: its evidence, in order; empty for an unanswerable question.
        rankings: by stage, `retriever` and, where the config has one, `reranker`: hits best first.
        metrics: of the last stage and of the answer; retrieval ones only for answerable cases.
        stages: the retrieval metrics of each stage.
        timings_ms: wall time by stage of the pipeline, with `total`.
        answer: None where only retrieval was measured.
        usage: tokens of the chat model, in the search and in the answer.
        cost: US dollars of those and of the question's vector, whoever paid for it first; None
            where no price is known.
    """

    case: Case
    located: tuple[Located, ...]
    rankings: Mapping[str, tuple[Retrieved, ...]]
    metrics: Metrics
    stages: Mapping[str, Metrics]
    timings_ms: Mapping[str, float]
    answer: AnswerResult | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    cost: float | None = None

    @property
    def ranking(self) -> tuple[Retrieved, ...]:
        """The hits of the last stage."""
        return self.rankings.get("reranker", self.rankings["retriever"])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A pipeline measured on cases.

    Attributes:
        name: the config's, or what tells it from others it is compared with.
        config: all of it as JSON values, without secrets.
        origin: of the cases; `digest`, what they say.
        ks: the cutoffs.
        metrics: means over the cases that have them, of the last stage; `stages`, of each.
        intervals: 95 % bootstrap intervals of those means.
        latency_ms: by stage, `{"p50", "p95", "mean"}` over the cases.
        tokens: of chat model and judge.
        cost: US dollars that asking all cases takes; None where no price is known, or with a judge.
        index: `documents`, `chunks`, `revision` of what is served, `corpus`: a digest of its texts.
        notes: what a reader must know, as cases that were left out.
        plan: how it was measured: `filter`, `stale`, `answers`, and the `judge`'s class and model.
    """

    name: str
    config: Mapping[str, Any]
    origin: str
    digest: str
    ks: tuple[int, ...]
    results: tuple[CaseResult, ...]
    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]]
    stages: Mapping[str, Metrics]
    latency_ms: Mapping[str, Mapping[str, float]]
    tokens: Mapping[str, int]
    cost: float | None
    index: Mapping[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answerable(self) -> int:
        """How many cases have evidence."""
        return sum(bool(result.located) for result in self.results)

    def scores(self, metric: str) -> dict[str, float]:
        """The metric of each case that has it, by the case's id."""
        return {
            result.case.id: result.metrics[metric]
            for result in self.results
            if metric in result.metrics
        }


@dataclass(frozen=True, slots=True)
class Paired:
    """Two systems on the same cases.

    Attributes:
        difference: mean of `b - a`; `interval`, its 95 % paired bootstrap interval.
        p: two-sided, of the paired randomisation test; `adjusted` for all pairs (Holm).
        effect: Cohen's d_z; 0 for no difference, None where all cases differ alike.
        wins: cases where `b` is better; `ties`, `losses`. A test knows no metric and takes higher
            for better, until `judged_by` is told which it is.
        needed: cases that would show a difference of this size with 80 % power at 5 %, two-sided;
            None where there is no difference or only one case.
        detectable: the smallest that these cases show so; None of under 6 or without a spread.
    """

    n: int
    difference: float
    interval: tuple[float, float]
    p: float
    adjusted: float
    effect: float | None
    wins: int
    ties: int
    losses: int
    needed: int | None
    detectable: float | None

    @property
    def distinguishable(self) -> bool:
        """Whether it is a difference: the adjusted p is below 5 %."""
        return self.adjusted < 0.05

    def judged_by(self, metric: str) -> Paired:
        """The same, with wins and losses as they are for that metric."""
        if metric not in LOWER_IS_BETTER:
            return self
        return replace(self, wins=self.losses, losses=self.wins)


@dataclass(frozen=True, slots=True)
class Pair:
    """The verdict on two configs of a comparison: `b` against `a`, by name."""

    a: str
    b: str
    metric: str
    paired: Paired
    verdict: str


@dataclass(frozen=True, slots=True)
class Ablation:
    """An optional stage, on and off, and everything else alike.

    Attributes:
        stage: as `reranker`; `value` names what is on.
        paired: with it against without.
        latency_ms: what it adds to the median of a search.
        cost: US dollars that it adds per 1,000 questions; None where no price is known.
    """

    stage: str
    value: str
    without: str
    with_it: str
    paired: Paired
    latency_ms: float
    cost: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Configs measured on the same cases, best first.

    Attributes:
        evaluations: of the cases that every config was asked, and that have the metric with all of
            them or with none.
        metric: the one they are ordered by.
        settings: by name, the values that tell a config from the others, by path.
        pairs: every pair, best ones first.
        tied: names that cannot be told from the best; the best first.
        front: names that no other is better than in quality and as good in latency and cost.
        embedded: texts sent to embedding models; `cached` those whose vectors were at hand.
    """

    metric: str
    evaluations: tuple[Evaluation, ...]
    settings: Mapping[str, Mapping[str, Any]]
    pairs: tuple[Pair, ...]
    tied: tuple[str, ...]
    front: tuple[str, ...]
    ablations: tuple[Ablation, ...]
    embedded: int
    cached: int
    seconds: float
    notes: tuple[str, ...] = ()
