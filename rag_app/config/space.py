"""All configs that a config with search dimensions stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rag_app.config.dimensions import Choice, Choosing
from rag_app.config.load import Written, gather
from rag_app.config.nodes import Problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rag_app.config.dimensions import Choose, Dimension
    from rag_app.config.model import AppConfig
    from rag_app.config.nodes import Branch

LARGEST: Final = 1_000
"""Configs that may be compared at a time."""


@dataclass(frozen=True, slots=True)
class Picked:
    """One config of a space: nodes without dimensions, and what was chosen."""

    root: Branch
    choices: tuple[Choice, ...]


class Space:
    """A config as written, with its dimensions."""

    def __init__(self, written: Written, problems: Problems) -> None:
        self.written, self._problems = written, problems

    def pick(self, choose: Choose) -> Picked:
        """The config that `choose` decides for; dimensions come in the order of the pipeline."""
        choosing = Choosing(choose, self._problems)
        return Picked(choosing.root(self.written.root), tuple(choosing.choices))

    def every(self) -> list[Picked]:
        """All configs, the last dimension changing fastest; the first of each comes first.

        Raises:
            ConfigError: there are more than `LARGEST`, or no end of them.
        """
        found: list[Picked] = []
        for picked in self._walk():
            found.append(picked)
            if self._refuse_endless(picked) or self._refuse_many(found):
                self._problems.raise_any()
        return found

    def probe(self) -> list[Picked]:
        """Configs that have each candidate at least once, of ranges both ends; the first first.

        What is wrong with a candidate alone is wrong with one of these.
        """
        found: dict[str, Picked] = {}
        waiting: list[dict[str, int | float]] = [{}]
        seen: set[str] = set()
        while waiting:
            fixed = waiting.pop(0)
            picked = self.pick(lambda d, fixed=fixed: fixed.get(d.key, _first(d)))  # type: ignore[misc]
            found[repr(fixed)] = picked
            for choice in picked.choices:
                if (dimension := choice.dimension).key not in seen:
                    seen.add(dimension.key)
                    waiting += [{**fixed, dimension.key: other} for other in _others(dimension)]
        return list(found.values())

    def count(self, most: int) -> int | None:
        """How many configs there are; None for more than `most`, or for no end of them."""
        for number, picked in enumerate(self._walk(), 1):
            if number > most or any(not c.dimension.candidates for c in picked.choices):
                return None
        return number

    def assemble(self, picked: Sequence[Picked]) -> list[AppConfig]:
        """Each as a validated config.

        Raises:
            ConfigError: with every problem of all of them, each told once.
        """
        problems = Problems(list(self._problems.found))
        made = [replace(self.written, root=each.root).assemble(problems) for each in picked]
        problems.raise_any()
        return made

    def _walk(self) -> Iterator[Picked]:
        wanted: list[int] = []
        while True:
            taken: list[tuple[int, int]] = []
            yield self.pick(_follow(wanted, taken))
            while taken and taken[-1][0] + 1 == taken[-1][1]:
                taken.pop()
            if not taken:
                return
            wanted = [place for place, _ in taken]
            wanted[-1] += 1

    def _refuse_endless(self, picked: Picked) -> bool:
        endless = [c.dimension for c in picked.choices if not c.dimension.candidates]
        for dimension in endless:
            steps = (dimension.path,)
            wrong = "a range with no end of numbers, which only tune can search"
            self._problems.add(dimension.place, steps, wrong, "Give it a step, or a list.")
        return bool(endless)

    def _refuse_many(self, found: Sequence[Picked]) -> bool:
        if len(found) <= LARGEST:
            return False
        sizes = {c.dimension.key: len(c.dimension.candidates) for p in found for c in p.choices}
        told = ", ".join(f"{key} ({size})" for key, size in sizes.items() if size > 1)
        wrong = f"the search dimensions make more than {LARGEST:,} configs: {told}"
        remedy = "Shorten the lists, or search them with: rag-app tune"
        self._problems.add(self.written.root.place, (), wrong, remedy)
        return True


def read_space(
    source: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    folder: Path | None = None,
    dotenv: Path | None = None,
) -> Space:
    """Read a config that may have search dimensions; arguments as for `load_config`.

    Raises:
        ConfigError: where there is nothing to check; other problems come with `assemble`.
    """
    problems = Problems()
    return Space(gather(source, overrides, problems, folder=folder, dotenv=dotenv), problems)


def _first(dimension: Dimension) -> int | float:
    return 0 if dimension.range is None or dimension.candidates else dimension.range.low


def _others(dimension: Dimension) -> list[int | float]:
    """The other candidates; of a range, its end."""
    if dimension.range is None:
        return list(range(1, len(dimension.candidates)))
    return [len(dimension.candidates) - 1] if dimension.candidates else [dimension.range.high]


def _follow(wanted: Sequence[int], taken: list[tuple[int, int]]) -> Choose:
    """Takes the candidates at the places `wanted`, first ones after them, and notes them."""

    def choose(dimension: Dimension) -> int | float:
        if not dimension.candidates:
            assert dimension.range is not None
            taken.append((0, 1))
            return dimension.range.low
        place = wanted[len(taken)] if len(taken) < len(wanted) else 0
        taken.append((place, len(dimension.candidates)))
        return place

    return choose
