"""What is left out on reading a data set, counted and told in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rag_app.errors import UsageError
from rag_app.evaluation.cases import make_cases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_app.evaluation.results import Case, Cases

_MANY: Final = 5
"""Names that a note tells."""


class Notes:
    """Names by what is to be said of them, in the order in which it came up."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, *names: str) -> None:
        """Note `names` under `what`, which a count and the names will follow."""
        if names:
            self._found.setdefault(what, []).extend(names)

    def tell(self) -> tuple[str, ...]:
        """A sentence each: `questions left out, none has a positive judgment: 2 (12, 15)`."""
        return tuple(
            f"{what}: {len(names)} ({', '.join(names[:_MANY])}{', …' if names[_MANY:] else ''})"
            for what, names in self._found.items()
        )


def close_cases(cases: Iterable[Case], origin: str, notes: Notes) -> Cases:
    """The cases with their notes.

    Raises:
        UsageError: there are none left, or two have the same id.
    """
    whole = tuple(cases)
    if not whole:
        wrong = "; ".join(["there are no cases in it", *notes.tell()])
        raise UsageError(origin, wrong, "See that the data set is whole.")
    return make_cases(whole, origin, notes.tell())
