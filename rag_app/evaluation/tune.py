"""Searches the dimensions of a config for the best values, and judges what it found by others.

The questions are halved: one part is searched on, and the best config and the first one are then
measured on the other. A config chosen on the questions it is judged by would look better than it
is; how much, is told.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from rag_app.config.space import read_space
from rag_app.config.writing import write_plain
from rag_app.errors import UsageError
from rag_app.evaluation.baseline import list_metrics
from rag_app.evaluation.cases import make_cases
from rag_app.evaluation.conditions import digest_plan
from rag_app.evaluation.grid import find_void
from rag_app.evaluation.search import Search, measure_score
from rag_app.evaluation.significance import compare_paired, describe
from rag_app.evaluation.tuning import Finding, Trial, Tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rag_app.evaluation.grid import Variant
    from rag_app.evaluation.results import Case, Cases, Evaluation
    from rag_app.evaluation.run import Plan
    from rag_app.evaluation.search import Tried

FEWEST: Final = 2
"""Questions with evidence that either part needs."""
FEW: Final = 30
"""Questions held out below which a note says that they are few."""


def tune(
    source: str | Path | Mapping[str, Any],
    cases: Cases,
    measure: Callable[[Variant, Cases, Plan], Evaluation],
    plan: Plan,
    *,
    trials: int = 50,
    metric: str = "ndcg@10",
    holdout: float = 0.5,
    seed: int = 0,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    storage: Path | None = None,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Tuning:
    """The best config of a space: every one where they are no more than `trials`, else by TPE.

    TPE: J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, "Algorithms for Hyper-Parameter
    Optimization", NeurIPS 2011; as optuna has it.

    Args:
        source: a config with lists or ranges where one value belongs.
        measure: measures a config on cases by a plan, as `Workbench.measure` does.
        plan: how configs are measured; earlier trials by another plan do not count.
        trials: how many configs to try, the first value of each dimension among them.
        metric: what is searched for; of equal configs the one that is clearly quicker, else the
            one that comes first.
        holdout: share of the questions to judge by, which are not searched on.
        storage: an SQLite file of trials, from which an interrupted search goes on.
        progress: called as (stage, done, total).

    Raises:
        ConfigError: the config is wrong. MissingPackageError: optuna is not installed.
        UsageError: nothing to search, too few questions, or no such metric.
        LockedError: another process searches with the same `storage`.
    """
    begun = time.perf_counter()
    if trials < 1:
        raise UsageError("trials", f"{trials} is no number of trials", "Allowed: at least 1.")
    space = read_space(source, overrides)
    train, held = split_cases(cases, holdout, seed)
    search = Search(space, train, measure, plan, metric, seed, progress)
    complete = search.run(trials, storage, f"{cases.digest}/{holdout}/{digest_plan(plan)}")
    made = _conclude(search, held, lambda variant: measure(variant, held, plan), progress)
    return replace(
        made,
        complete=complete,
        seed=seed,
        origin=cases.origin,
        digest=cases.digest,
        notes=(*cases.notes, *made.notes, *_note_void(search, plan)),
        seconds=time.perf_counter() - begun,
    )


def _conclude(
    search: Search,
    held: Cases,
    measure: Callable[[Variant], Evaluation],
    progress: Callable[[str, int, int | None], None],
) -> Tuning:
    """The best of the search and the first config, both measured on the cases held out."""
    ranked, metric = search.rank(), search.metric
    best, first = ranked[0], search.first
    progress("held out", 0, 2)
    on_held = measure(best.variant)
    on_held_first = on_held if best is first else measure(first.variant)
    progress("held out", 2, 2)
    score = measure_score(on_held, metric)
    measure_score(on_held_first, metric)
    a, b = _pair(on_held_first, on_held, metric)
    paired = compare_paired(a, b).judged_by(metric)
    config, paths = write_plain(search.write(best), best.variant.config)
    return Tuning(
        metric=metric,
        trials=tuple(Trial(t.variant.name, t.variant.values, t.score, t.p50) for t in ranked),
        best=on_held,
        baseline=on_held_first,
        paired=paired,
        verdict=_judge(best, first, metric, paired),
        optimism=(best.score - score) * search.sign,
        complete=False,
        train=best.questions,
        held_out=len(b),
        seed=0,
        origin=held.origin,
        digest=held.digest,
        findings=tuple(_find(ranked, best)),
        config=config,
        paths=paths,
        resumed=search.resumed,
        seconds=0.0,
        notes=(*search.notes, *_note_few(len(b))),
    )


def find_storage(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Sequence[str] = ()
) -> Path:
    """The file in which the trials of a config are kept: `tune.sqlite` beside its index.

    Raises:
        ConfigError: the config is wrong.
    """
    space = read_space(source, overrides)
    return space.assemble(space.probe())[0].index.path / "tune.sqlite"


def split_cases(cases: Cases, holdout: float, seed: int) -> tuple[Cases, Cases]:
    """The cases to search on and those to judge by, drawn by `seed`.

    Each part has its share of those without evidence. Which part a case is in depends on its id and
    on how many there are, not on the order in the file.

    Raises:
        UsageError: `holdout` is no share, or a part would have too few cases with evidence.
    """
    if not 0 < holdout < 1:
        raise UsageError("holdout", f"{holdout} is no share", "Allowed: between 0 and 1, as 0.5.")
    train: list[Case] = []
    held: list[Case] = []
    for answerable in (True, False):
        group = [case for case in cases.cases if case.answerable is answerable]
        drawn = sorted(group, key=lambda case: _draw(seed, case.id))
        count = round(holdout * len(group))
        held += drawn[:count]
        train += drawn[count:]
        if answerable and min(count, len(group) - count) < FEWEST:
            wrong = (
                f"{len(group)} questions with evidence, of which {count} would be held out; "
                f"either part needs {FEWEST}"
            )
            raise UsageError(cases.origin, wrong, "Write more, or give another share to hold out.")
    order = {case.id: place for place, case in enumerate(cases.cases)}
    parts = [sorted(part, key=lambda case: order[case.id]) for part in (train, held)]
    return make_cases(parts[0], cases.origin), make_cases(parts[1], cases.origin)


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _pair(a: Evaluation, b: Evaluation, metric: str) -> tuple[list[float], list[float]]:
    """The scores of the cases that both have one for, in the same order."""
    first, second = a.scores(metric), b.scores(metric)
    shared = [name for name in first if name in second]
    return [first[name] for name in shared], [second[name] for name in shared]


def _judge(best: Tried, first: Tried, metric: str, paired: Any) -> str:
    if best is first:
        return f"the first value of each dimension is the best found: {first.variant.name}"
    return describe(first.variant.name, best.variant.name, metric, paired)


def _find(ranked: Sequence[Tried], best: Tried) -> list[Finding]:
    """For each value that the best config chose, the best score that each other value came to."""
    found = []
    for choice in best.choices:
        scores: dict[str, float] = {}
        for tried in ranked:
            for other in tried.choices:
                if other.dimension.key == choice.dimension.key:
                    scores.setdefault(other.label, tried.score)
        listed = [label for label in choice.dimension.labels if label in scores] or sorted(
            scores, key=float
        )
        tried_ = {label: scores[label] for label in listed}
        left = tuple(label for label in choice.dimension.labels if label not in scores)
        found.append(
            Finding(choice.dimension.path, choice.label, tried_, left if len(left) < 9 else ())
        )
    return found


def _note_few(held: int) -> list[str]:
    if held >= FEW:
        return []
    return [f"{held} questions were held out: only large differences show with so few"]


def _note_void(search: Search, plan: Plan) -> list[str]:
    """Options that were searched, and that the metric does not depend on."""
    ranked = search.metric in list_metrics(plan.ks, answers=False, judged=False)
    variants = [tried.variant for tried in search.tried.values()]
    return [
        f"{path} decides nothing that {search.metric} measures: add --answers, and search for a "
        "metric of the answers"
        for path in find_void(variants, answers=not ranked)
    ]
