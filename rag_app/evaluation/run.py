"""Measures a pipeline on cases: what its search finds, and what it answers."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from rag_app.errors import BudgetError, IndexStateError, UsageError
from rag_app.evaluation.conditions import digest_conditions
from rag_app.evaluation.filtering import find_filtered_out, join_filters
from rag_app.evaluation.journal import EvaluationJournal
from rag_app.evaluation.measuring import Measuring
from rag_app.evaluation.projection import StaleCasesError, locate_all
from rag_app.evaluation.queries import remember_questions
from rag_app.evaluation.recording import MOST
from rag_app.evaluation.results import CUTOFFS, CaseResult, Evaluation, Located
from rag_app.evaluation.summary import (
    add_costs,
    count_tokens,
    find_chat_cost,
    mean_metrics,
    mean_stages,
    measure_intervals,
    summarise_latency,
)
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel

    from rag_app.app import RagApp
    from rag_app.evaluation.results import Case, Cases
    from rag_app.types import Filter

    Progress: TypeAlias = Callable[[str, int, int | None], None]

WhenStale: TypeAlias = Literal["error", "skip", "miss"]
"""What becomes of cases whose evidence is not in the index."""

_WAY_OUT: Final = (
    "To measure all the same: --stale skip leaves them out, --stale miss counts them as not found."
)

DRAFT: Final = "draft"
"""Tag of a case that a model wrote and nobody has confirmed."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how.

    Attributes:
        ks: the cutoffs of rankings.
        answers: ask, too; without it only the search is measured.
        judge: a chat model that judges answers; None for none.
        filter: that every question is asked with, besides a case's own.
        stale: what becomes of cases whose evidence is not in the index.
        max_cost: US dollars that measuring may cost; None for no limit.
    """

    ks: tuple[int, ...] = CUTOFFS
    answers: bool = False
    judge: BaseChatModel | None = None
    filter: Filter | None = None
    stale: WhenStale = "error"
    max_cost: float | None = None

    def describe(self) -> dict[str, Any]:
        """What decides the figures besides config, index, cases and cutoffs, as JSON values."""
        judge = None
        if self.judge is not None:
            named = [
                getattr(self.judge, name, None) for name in ("model_name", "model", "model_id")
            ]
            model = next((str(name) for name in named if name), None)
            judge = {"class": type(self.judge).__name__, "model": model}
        asked = None if self.filter is None else json.loads(json.dumps(self.filter, default=str))
        return {"filter": asked, "stale": self.stale, "answers": self.answers, "judge": judge}


def evaluate(
    app: RagApp,
    cases: Cases,
    plan: Plan,
    *,
    name: str | None = None,
    resume: bool = True,
    kept: Callable[[Path], None] | None = None,
    paid: Callable[[float | None], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Measure a pipeline on cases; interrupted, the same call goes on where it stopped.

    Args:
        name: what it is called in reports; the config's name by default.
        resume: take up what an interrupted one measured; without it, that is removed.
        kept: what was measured stays on disk at the end, and this is told of each file: for a
            comparison that goes on.
        paid: told at the end what this call cost, US dollars; None where that is not known.
        progress: called as (stage, done, total).

    Raises:
        StaleCasesError: evidence does not stand in what is indexed.
        IndexStateError: the index was written to meanwhile.
        Others as `RagApp.search` and `RagApp.ask`.
    """
    begun = time.perf_counter()
    _check_cutoffs(plan.ks)
    app.index.check_ready()
    revision = app.index.revision
    located, skipped = _locate(app, cases, plan.stale)
    listed = [case for case in cases.cases if case.id in located]
    if not listed:
        wrong = f"no case is left: the evidence of all {len(skipped)} is not in the index"
        raise UsageError(cases.origin, wrong, "Ingest the documents that they name.")
    before = _read_usage(app)
    with remember_questions(app.index) as queries:
        measuring = Measuring(app, plan.ks, queries, answers=plan.answers, judge=plan.judge)
        measuring.prepare({case.id: located[case.id] for case in listed})
        fresh, ordered = _measure_all(app, cases, plan, measuring, located, resume, kept, progress)
    if app.index.revision != revision:
        wrong = "it was written to while it was measured, so cases saw different states of it"
        raise IndexStateError(app.index.place, wrong, "Run it again when nobody writes.")
    made = _summarise(app, cases, plan, ordered, name or app.config.name)
    paid(_find_spent(app, before, plan, fresh))
    cost = None if plan.judge is not None else add_costs(each.cost for each in ordered)
    notes = [*cases.notes, *_notes(app, listed, skipped)]
    if ids := find_filtered_out(app, listed, located, plan.filter):
        notes.append(
            f"the filter excludes all evidence of {len(ids)} cases, so it cannot be found: "
            + ", ".join(ids[:5])
            + (", …" if len(ids) > 5 else "")
        )
    if resumed := len(ordered) - len(fresh):
        notes.append(f"{resumed} cases were measured before an interruption")
    return replace(made, cost=cost, seconds=time.perf_counter() - begun, notes=tuple(notes))


def _measure_all(
    app: RagApp,
    cases: Cases,
    plan: Plan,
    measuring: Measuring,
    located: Mapping[str, tuple[Located, ...]],
    resume: bool,
    kept: Callable[[Path], None] | None,
    progress: Progress,
) -> tuple[list[CaseResult], tuple[CaseResult, ...]]:
    """The results that no interrupted evaluation had, and those of all cases."""
    listed = [case for case in cases.cases if case.id in located]
    before = _read_usage(app)
    fresh: list[CaseResult] = []
    journal = None
    if not app.index.in_memory:
        journal = EvaluationJournal(_place_journal(app, cases, plan), resume=resume)
    try:
        known = {} if journal is None else journal.results
        results = {case.id: known[case.id] for case in listed if case.id in known}
        if len(results) < len(listed):
            measuring.warm_up(listed[0].question)
        for case in listed:
            progress("measuring cases", len(results), len(listed))
            if case.id not in results:
                results[case.id] = _measure(measuring, case, located[case.id], plan.filter)
                fresh.append(results[case.id])
                if journal is not None:
                    journal.add(results[case.id])
                _check_budget(app, before, plan, fresh)
        progress("measuring cases", len(listed), len(listed))
    finally:
        if journal is not None:
            journal.close()
    _end(journal, kept)
    return fresh, tuple(results[case.id] for case in listed)


def _end(journal: EvaluationJournal | None, kept: Callable[[Path], None] | None) -> None:
    if journal is not None and kept is None:
        journal.remove()
    elif journal is not None and kept is not None:
        for file in journal.files:
            kept(file)


def _measure(
    measuring: Measuring, case: Case, located: Sequence[Located], filter: Filter | None
) -> CaseResult:
    whole = join_filters(filter, case)
    return measuring.measure(case, tuple(located), whole)


def _locate(
    app: RagApp, cases: Cases, stale: WhenStale
) -> tuple[dict[str, tuple[Located, ...]], list[str]]:
    """Where the evidence of each case stands, by id; and the cases that are left out."""
    found, wrong = locate_all(app, cases)
    if wrong and stale == "error":
        raise StaleCasesError(cases.origin, wrong, _WAY_OUT)
    skipped = sorted({each.case.id for each in wrong}) if stale == "skip" else []
    return {id: places for id, places in found.items() if id not in set(skipped)}, skipped


def _place_journal(app: RagApp, cases: Cases, plan: Plan) -> Path:
    """The journal of exactly this: config, models, index, cases and ways of measuring."""
    name = f"{app.config.name}-{digest_conditions(app, cases, plan)[:16]}.jsonl"
    return app.config.index.path / "evaluations" / name


def _summarise(
    app: RagApp, cases: Cases, plan: Plan, results: tuple[CaseResult, ...], name: str
) -> Evaluation:
    served = next(each for each in app.generations() if each.state == "served")
    return Evaluation(
        name=name,
        config=app.config.describe(),
        origin=cases.origin,
        digest=cases.digest,
        ks=plan.ks,
        results=results,
        metrics=mean_metrics([result.metrics for result in results]),
        intervals=measure_intervals([result.metrics for result in results]),
        stages=mean_stages(results),
        latency_ms=summarise_latency(results),
        tokens=count_tokens(results),
        cost=None,
        index={
            "documents": served.documents,
            "chunks": served.chunks,
            "revision": app.index.revision,
            "corpus": _digest_corpus(app),
        },
        seconds=0.0,
        plan=plan.describe(),
    )


def _digest_corpus(app: RagApp) -> str:
    """Changes whenever the text of a document does, or which there are."""
    texts = app.index.read(lambda view: app.index.journal(view.generation).contents())
    return hashlib.sha256(json.dumps(sorted(texts.items())).encode()).hexdigest()


def _check_cutoffs(ks: Sequence[int]) -> None:
    """Refuse what no ranking can be measured at, before anything is."""
    if not ks or not all(type(k) is int and 1 <= k <= MOST for k in ks):
        remedy = f"Give whole numbers from 1 to {MOST:,}."
        raise UsageError("ks", f"{list(ks)} are no cutoffs", remedy)


def _read_usage(app: RagApp) -> float | None:
    """US dollars that the embedding model has cost so far; None where that is not known."""
    usage = getattr(app.embeddings, "usage", None)
    return 0.0 if usage is None else usage.cost


def _check_budget(
    app: RagApp, before: float | None, plan: Plan, results: Sequence[CaseResult]
) -> None:
    if plan.max_cost is None:
        return
    spent = _find_spent(app, before, plan, results)
    if spent is None:
        wrong = "what it costs is not known, so no limit can be kept"
        remedy = "Set embeddings.price and chat_model.price, and leave out a judge."
        raise UsageError("max_cost", wrong, remedy)
    if spent > plan.max_cost:
        wrong = f"measuring has cost {show_dollars(spent)}, over {show_dollars(plan.max_cost)}"
        raise BudgetError("max_cost", wrong, "Raise it, and run again: what is measured is kept.")


def _find_spent(
    app: RagApp, before: float | None, plan: Plan, results: Sequence[CaseResult]
) -> float | None:
    """US dollars: what the embedding model has cost since, and the chat model for these."""
    if before is None or plan.judge is not None:
        return None
    chat = find_chat_cost(app.config, count_tokens(results))
    return add_costs((_read_usage(app), -before, chat))


def _notes(app: RagApp, cases: Sequence[Case], skipped: Sequence[str]) -> list[str]:
    notes = []
    if skipped:
        named = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
        notes.append(f"{len(skipped)} cases left out, whose evidence is not in the index: {named}")
    if drafts := sum(DRAFT in case.tags for case in cases):
        notes.append(f"{drafts} of {len(cases)} cases are drafts that nobody has confirmed")
    unread = app.index.read(lambda view: app.index.journal(view.generation).quarantine())
    if unread:
        notes.append(f"{len(unread)} files or pages could not be read and are not in the index")
    return notes
