"""Tries configs of a space one after the other; optuna says which, and keeps what came of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rag_app.config.nodes import to_written
from rag_app.errors import ConfigError, UsageError
from rag_app.evaluation.conditions import digest_config
from rag_app.evaluation.grid import Variant
from rag_app.evaluation.results import LOWER_IS_BETTER
from rag_app.evaluation.trials import open_trials
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import optuna

    from rag_app.config.dimensions import Choice, Dimension
    from rag_app.config.load import Written
    from rag_app.config.space import Picked, Space
    from rag_app.evaluation.results import Cases, Evaluation
    from rag_app.evaluation.run import Plan

_FORMAT: Final = 2
_EQUAL: Final = 1e-12
_KEPT: Final = ("score", "p50", "questions", "digest", "corpus")
NOISE_MS: Final = 5.0
"""Medians no further apart, or by no more than a quarter, may be equal."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A config that was measured on the questions for searching.

    Attributes:
        p50: median milliseconds of a question.
        questions: how many have the metric.
        digest: of all that the config is made of; `corpus`, of the texts that it was measured on.
    """

    variant: Variant
    picked: Picked
    score: float
    p50: float
    questions: int
    digest: str
    corpus: str | None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What was chosen."""
        return self.picked.choices


class Search:
    """Measures configs of `space` on `cases` by `plan`, and remembers them.

    Attributes:
        metric: what is searched for; `sign`, -1 where lower is better.
        tried: what was measured, in order; `first` has the first value of each dimension.
        resumed: how many of them an earlier run had measured.
        notes: what a reader must know.
    """

    def __init__(
        self,
        space: Space,
        cases: Cases,
        measure: Callable[[Variant, Cases, Plan], Evaluation],
        plan: Plan,
        metric: str,
        seed: int,
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        self._space, self._cases, self._measure, self._plan = space, cases, measure, plan
        self.metric, self._seed, self._progress = metric, seed, progress
        self.sign = -1 if metric in LOWER_IS_BETTER else 1
        self.tried: dict[str, Tried] = {}
        self._first = ""
        self.resumed = self._invalid = 0
        self.notes: list[str] = []

    @property
    def first(self) -> Tried:
        """The config with the first value of each dimension."""
        return self.tried[self._first]

    def rank(self) -> list[Tried]:
        """Best first; of equal ones the clearly quicker first, else the one tried first."""
        best_first = sorted(self.tried.values(), key=lambda t: -t.score * self.sign)
        ranked: list[Tried] = []
        while best_first:
            score = best_first[0].score
            equal = [t for t in best_first if abs(t.score - score) <= _EQUAL]
            limit = min(t.p50 for t in equal) * 1.25 + NOISE_MS
            ranked += sorted(equal, key=lambda t: t.p50 if t.p50 > limit else 0.0)
            best_first = best_first[len(equal) :]
        return ranked

    def write(self, tried: Tried) -> Written:
        """The config as written, with what was chosen."""
        return replace(self._space.written, root=tried.picked.root)

    def run(self, trials: int, storage: Path | None, about: str) -> bool:
        """Try so many configs; whether that was all of them.

        Args:
            about: what else decides the scores: trials in `storage` of anything else do not count.
        """
        whole = self._space.count(trials)
        if whole == 1:
            wrong = "no search dimension: nothing has a list or a range where one value belongs"
            remedy = "Write one, as in `splitter.chunk_size: [128, 256]`."
            raise UsageError(_name_source(self._space.written), wrong, remedy)
        trials = whole or trials
        every = None if whole is None else self._space.every()
        probe = self._space.probe() if every is None else every
        first = self._space.assemble(probe)[0]
        key = f"{_FORMAT}/{about}/{self.metric}/{self._seed}/{_digest(self._space, first)}"
        self._first = _name(probe[0])
        with open_trials(storage) as opened:
            study = self._take_up(lambda *, anew=False: opened(key, self.sign, anew=anew))
            self._enqueue(study, every or probe[:1], trials)
            if every is None:
                self._sample(study, trials)
            else:
                self.tried = {name: self.tried[name] for name in map(_name, every)}
        if self._invalid:
            self.notes.append(f"{self._invalid} combinations of values are no valid config")
        return every is not None

    def _take_up(self, opened: Callable[..., optuna.Study]) -> optuna.Study:
        """The study of earlier trials, without those that were made of something else."""
        study = opened()
        _end_interrupted(study)
        done = _count(study)
        kept = [trial for trial in done if self._holds(trial)]
        if len(kept) < len(done):
            self.notes.append(
                f"{len(done) - len(kept)} earlier trials do not count: what their configs are made "
                "of has changed, as a variable or a model's files"
            )
            study = opened(anew=True)
            study.add_trials(kept)
        if self._is_stale(study):
            study = opened(anew=True)
        self._restore_all(study)
        return study

    def _holds(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the config of a trial is made of what it was made of then."""
        try:
            config = self._variant(self._pick(trial)).config
        except ConfigError:
            return "invalid" in trial.user_attrs
        return bool(trial.user_attrs.get("digest") == digest_config(config))

    def _is_stale(self, study: optuna.Study) -> bool:
        """Whether the config tried first reads or scores otherwise now than it did before."""
        before = next((t for t in _count(study) if "name" in t.user_attrs), None)
        if before is None:
            return False
        now = self._take(self._pick(before))
        same = abs(before.user_attrs["score"] - now.score) <= _EQUAL
        if same and before.user_attrs["corpus"] == now.corpus:
            return False
        words = "its documents read" if same else "the first config scores"
        self.notes.append(
            f"earlier trials do not count: {words} otherwise now, so documents or models have "
            "changed"
        )
        return True

    def _restore_all(self, study: optuna.Study) -> None:
        """Take over what an earlier run measured."""
        done = _count(study)
        for trial in done:
            if "name" in trial.user_attrs:
                self._restore(trial)
        self._invalid = sum("invalid" in trial.user_attrs for trial in done)
        self.resumed = len(done)

    def _restore(self, trial: optuna.trial.FrozenTrial) -> None:
        attrs = dict(trial.user_attrs)
        if (name := attrs.pop("name")) not in self.tried:
            picked = self._pick(trial)
            self.tried[name] = Tried(self._variant(picked), picked, **attrs)

    def _pick(self, trial: optuna.trial.FrozenTrial) -> Picked:
        return self._space.pick(lambda dimension: trial.params[dimension.key])

    def _enqueue(self, study: optuna.Study, wanted: Sequence[Picked], trials: int) -> None:
        """Try these, unless an earlier run did; one that it only put into the queue is there."""
        from optuna.trial import TrialState

        told = {trial.user_attrs.get("name") for trial in _count(study)}
        waiting = [
            trial.system_attrs["fixed_params"]
            for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        ]
        for picked in wanted:
            if _name(picked) not in told:
                if _params(picked) not in waiting:
                    study.enqueue_trial(_params(picked))
                self._try(study, trials)

    def _sample(self, study: optuna.Study, trials: int) -> None:
        from optuna.samplers import TPESampler

        while (done := len(_count(study))) < trials:
            # Seeded by its number, a trial is the same whether or not the search was interrupted.
            study.sampler = TPESampler(seed=self._seed * 1_000_003 + done)
            self._try(study, trials)

    def _try(self, study: optuna.Study, trials: int) -> None:
        """Ask for a config, measure it unless it was, and tell the score."""
        from optuna.trial import TrialState

        self._progress("trials", len(_count(study)), trials)
        trial = study.ask()
        picked = self._space.pick(lambda dimension: _suggest(trial, dimension))
        try:
            tried = self._take(picked)
        except ConfigError:  # each value alone was valid: these do not go together
            trial.set_user_attr("invalid", True)
            study.tell(trial, state=TrialState.FAIL)
            self._invalid += 1
            return
        for attr in _KEPT:
            trial.set_user_attr(attr, getattr(tried, attr))
        trial.set_user_attr("name", _name(picked))  # the last: with it a trial is whole
        study.tell(trial, tried.score)
        self._progress("trials", len(_count(study)), trials)

    def _take(self, picked: Picked) -> Tried:
        name = _name(picked)
        if name not in self.tried:
            variant = self._variant(picked)
            digest = digest_config(variant.config)
            measured = self._measure(variant, self._cases, self._plan)
            score = measure_score(measured, self.metric)
            p50 = measured.latency_ms.get("total", {}).get("p50", 0.0)
            questions = len(measured.scores(self.metric))
            corpus = measured.index.get("corpus")
            self.tried[name] = Tried(variant, picked, score, p50, questions, digest, corpus)
        return self.tried[name]

    def _variant(self, picked: Picked) -> Variant:
        values = {c.dimension.path: c.value for c in picked.choices}
        return Variant(_name(picked), values, self._space.assemble([picked])[0])


def measure_score(evaluation: Evaluation, metric: str) -> float:
    """The mean of the metric.

    Raises:
        UsageError: it was not measured.
    """
    if (score := evaluation.metrics.get(metric)) is not None:
        return score
    known = sorted(evaluation.metrics)
    remedy = f"There are: {', '.join(known)}. {did_you_mean(metric, known)}".strip()
    raise UsageError("metric", f"{metric!r} was not measured", remedy)


def _count(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that were measured or cannot be; not those that were interrupted."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and trial.user_attrs.keys() & {"name", "invalid"}
    ]


def _end_interrupted(study: optuna.Study) -> None:
    """Tell what an earlier run measured and could not tell any more; what it did not, has failed.

    A trial that waits in the queue is not begun, and stays there.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "name" in trial.user_attrs:
            study.tell(trial.number, trial.user_attrs["score"])
        else:
            study.tell(trial.number, state=TrialState.FAIL)


def _suggest(trial: optuna.Trial, dimension: Dimension) -> int | float:
    found = dimension.range
    if found is not None and not dimension.candidates:
        if found.whole:
            return trial.suggest_int(dimension.key, int(found.low), int(found.high), log=found.log)
        return trial.suggest_float(dimension.key, found.low, found.high, log=found.log)
    last = len(dimension.candidates) - 1
    if dimension.numbers:
        return trial.suggest_int(dimension.key, 0, last)
    return int(trial.suggest_categorical(dimension.key, tuple(range(last + 1))))


def _params(picked: Picked) -> dict[str, int | float]:
    """What makes `_suggest` choose the same."""
    found: dict[str, int | float] = {}
    for choice in picked.choices:
        labels = choice.dimension.labels
        found[choice.dimension.key] = labels.index(choice.label) if labels else choice.value
    return found


def _name(picked: Picked) -> str:
    """What was chosen, by the options' full paths, whatever else was tried."""
    return " ".join(f"{c.dimension.path.removesuffix('.kind')}={c.label}" for c in picked.choices)


def _digest(space: Space, first: Any) -> str:
    """Of the config: its dimensions, its other values, and what they are made of."""
    written = to_written(space.written.root)
    said = json.dumps([written, first.describe()], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()


def _name_source(written: Written) -> str:
    return "config" if written.file is None else str(written.file)
