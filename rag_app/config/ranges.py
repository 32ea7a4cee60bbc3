"""Ranges of numbers: `{from: 4, to: 20, step: 4}`, or `{from: 0.1, to: 10, log: true}`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_app.config.nodes import Branch, show, to_python

if TYPE_CHECKING:
    from rag_app.config.nodes import Node, Problems, Steps

MOST_NUMBERS: Final = 10_000
_KEYS: Final = frozenset(["from", "to", "step", "log"])
_EXAMPLE: Final = "A range reads {from: 4, to: 20, step: 4}, or {from: 1, to: 100, log: true}."


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both among them where the step leads there.

    Attributes:
        step: None where there is no end of numbers between the two.
        log: numbers are spread evenly by their logarithms.
        whole: of whole numbers.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    @property
    def numbers(self) -> tuple[int | float, ...]:
        """All of them, ascending; none where there is no end of them."""
        if self.step is None:
            return ()
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(_round(self.low + place * self.step) for place in range(count))

    def clip(self, number: float) -> int | float:
        """The number in few digits, so that what is shown and written is what was tried."""
        if self.whole:
            return int(number)
        return min(max(float(f"{number:.4g}"), self.low), self.high)


def is_range(node: Node) -> bool:
    """Whether a mapping is meant as a range."""
    return isinstance(node, Branch) and {"from", "to"} <= node.entries.keys()


def read_range(node: Branch, at: Steps, *, whole: bool, problems: Problems) -> Range | None:
    """The range that `node` describes; None with its problems noted."""
    before = len(problems.found)
    for key in node.entries.keys() - _KEYS:
        problems.add(node.keys[key], (*at, key), "not a part of a range", _EXAMPLE)
    for key, given in node.entries.items():
        fits = _is_truth if key == "log" else _is_whole if whole else _is_finite
        if key in _KEYS and not fits(to_python(given)):
            number = "true or false" if key == "log" else f"a {'whole ' * whole}number"
            problems.add(given.place, (*at, key), f"{show(given)} is not {number}", _EXAMPLE)
    if len(problems.found) == before:
        _check(node, at, whole, problems)
    if len(problems.found) > before:
        return None
    given_ = {key: to_python(each) for key, each in node.entries.items()}
    log, step = given_.get("log", False), given_.get("step")
    if step is None and whole and not log:
        step = 1
    return Range(given_["from"], given_["to"], step, log, whole)


def _check(node: Branch, at: Steps, whole: bool, problems: Problems) -> None:
    given: dict[str, Any] = {key: to_python(each) for key, each in node.entries.items()}
    low, high, step, log = given["from"], given["to"], given.get("step"), given.get("log", False)
    if low >= high:
        wrong = f"from {low} to {high} is no range"
        problems.add(node.place, at, wrong, "Let `to` be more than `from`.")
    elif step is not None and step <= 0:
        problems.add(node.entries["step"].place, (*at, "step"), f"{step} is no step", _EXAMPLE)
    elif log and step is not None:
        wrong = "a range with `log` has no step"
        problems.add(node.entries["step"].place, (*at, "step"), wrong, "Leave one of them out.")
    elif log and low <= 0:
        wrong = f"{low} has no logarithm"
        remedy = "Let `from` be more than 0, or leave log out."
        problems.add(node.entries["from"].place, (*at, "from"), wrong, remedy)
    elif not log and (step or whole) and (high - low) / (step or 1) > MOST_NUMBERS:
        wrong = f"more than {MOST_NUMBERS:,} numbers"
        problems.add(node.place, at, wrong, "Give a larger step.")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _round(number: float) -> int | float:
    """Without the dust of binary fractions: 0.1 + 2 * 0.1 is 0.3."""
    return number if isinstance(number, int) else float(f"{number:.12g}")
