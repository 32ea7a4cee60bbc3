"""What a search for the best config found, as values; and the best config as a YAML file."""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003  (read when written as JSON)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app.config.writing import dump
from rag_app.evaluation.results import Evaluation, Paired  # noqa: TC001  (the same)
from rag_app.evaluation.writing import write_whole

MOST_NAMED = 8
"""Values of a dimension that a comment names one by one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A config tried on the questions for searching.

    Attributes:
        values: what was chosen, by the option's path.
        score: mean of the metric; `latency_ms`, median of a question.
    """

    name: str
    values: Mapping[str, Any]
    score: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What speaks for a chosen value.

    Attributes:
        chosen: the value's short name.
        tried: by value, the best score of a config that had it, in the order they are written.
        untried: values that no config was tried with.
    """

    path: str
    chosen: str
    tried: Mapping[str, float]
    untried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tuning:
    """The best config that was found, judged by questions it was not chosen on.

    Attributes:
        trials: each config that was tried, best first; of equal ones those clearly quicker first.
        best: measured on the questions held out; `baseline`, the first value of each dimension.
        paired: best against baseline on the questions held out.
        optimism: how much better the best scored on the questions it was chosen on.
        complete: every config of the space was tried.
        train: questions for searching; `held_out` those for judging, with the metric.
        findings: what speaks for each value chosen.
        config: the best config as it is written; `paths`, where its relative paths lead.
        resumed: trials that an earlier, interrupted run had made.
    """

    metric: str
    trials: tuple[Trial, ...]
    best: Evaluation
    baseline: Evaluation
    paired: Paired
    verdict: str
    optimism: float
    complete: bool
    train: int
    held_out: int
    seed: int
    origin: str
    digest: str
    findings: tuple[Finding, ...]
    config: Mapping[str, Any]
    paths: Mapping[str, str]
    resumed: int
    seconds: float
    notes: tuple[str, ...] = ()


def write_best(tuning: Tuning, path: str | Path) -> None:
    """Write the best config as YAML, each value chosen with a comment that tells why.

    Variables are written by their names; comments of the config it was made of are not kept.

    Raises:
        UsageError: it cannot be written.
    """
    target = Path(path)
    comments = {found.path: explain(found, tuning.train) for found in tuning.findings}
    folder = Path(os.path.abspath(target)).parent
    body = dump(tuning.config, comments, tuning.paths, folder)
    head = "".join(f"# {line}\n" for line in _head(tuning))
    write_whole(target, (head + body).encode())


def explain(found: Finding, questions: int) -> str:
    """`best of 256, 128 on 150 questions: 0.691 against 0.672`."""
    chosen = found.tried[found.chosen]
    others = {value: score for value, score in found.tried.items() if value != found.chosen}
    if not others:
        words = "the only value that was tried"
    elif set(others.values()) == {chosen} and len(others) < MOST_NAMED:
        words = f"no worse than {', '.join(others)} on {questions:,} questions: {chosen:.3f} each"
    elif len(others) < MOST_NAMED:
        named, against = ", ".join([found.chosen, *others]), [f"{s:.3f}" for s in others.values()]
        words = f"best of {named} on {questions:,} questions: "
        words += f"{chosen:.3f} against {', '.join(against)}"
    else:
        words = f"best of {len(found.tried)} values on {questions:,} questions: {chosen:.3f}"
        words += f" against {max(others.values()):.3f} at most"
    if found.untried:
        words += f"; not tried: {', '.join(found.untried)}"
    return words


def _head(tuning: Tuning) -> list[str]:
    metric = tuning.metric
    return [
        f"The best of {len(tuning.trials):,} configs by {metric} on {tuning.train:,} questions.",
        f"On {tuning.held_out:,} others: {tuning.best.metrics[metric]:.3f}; "
        f"with the first value of each list: {tuning.baseline.metrics[metric]:.3f}.",
        f"{' '.join(tuning.verdict.split())}.",
    ]
