"""Every error a user of rag-app can meet.

    RagAppError
    ├── UsageError                you asked for something that cannot be: exit status 2
    │   ├── ConfigError           the YAML file or an override is wrong (all its problems at once)
    │   ├── FilterError           a metadata filter is malformed, or the store cannot express it
    │   └── MissingPackageError   the backend's package is not installed
    └── FailureError              it went wrong out there: exit status 1
        ├── SourceError           a source cannot be listed or read
        ├── IndexStateError       the index is empty, unfinished, damaged or not this config's
        │   ├── LockedError       another process is writing it: exit status 4
        │   └── IdentityError     made with another embedding model or splitter: exit status 5
        ├── BudgetError           to go on would cost more than was allowed: exit status 6
        ├── StoreError            a vector store refused or cannot be reached
        └── ModelError            an embedding, reranking or chat model refused or cannot be reached
            └── IncompleteError   of several texts some could be embedded and others not

    TruncationWarning             a Python warning: texts were longer than the model's window

A result that is not as good as was asked for is no error, but has an exit status of its own: 3 for
an ingest that quarantined something, 7 for damage that the doctor found, 10 for an evaluation that
is worse than its baseline or under a floor.

Each message reads `where: given, wrong. Allowed, or the command that fixes it.`
None holds a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RagAppError(Exception):
    """The root: `where` it is, what was given and is `wrong`, and the `remedy`.

    Args:
        where: the option, file, source or backend concerned, as its owner would write it.
        wrong: the value given and what is wrong with it; no trailing full stop.
        remedy: what is allowed, or the command that mends it; a sentence, with its full stop.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, where: str, wrong: str, remedy: str) -> None:
        self.where = where
        self.wrong = wrong
        self.remedy = remedy
        super().__init__(f"{where}: {wrong}. {remedy}".rstrip())


class UsageError(RagAppError):
    """You asked for something that cannot be."""

    code = "usage"
    exit_status = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config: where in the file, at which option, what, and what to do."""

    place: str  # "rag-app.yaml:4:11", "--set retriever.k", or "overrides"
    path: str  # "retriever.k", as written
    wrong: str
    remedy: str

    def __str__(self) -> str:
        told = not self.path or self.place == f"--set {self.path}"
        where = self.place if told else f"{self.place}: {self.path}"
        return f"{where}: {self.wrong}. {self.remedy}".rstrip()


class ConfigError(UsageError):
    """A config is wrong. `problems` holds every one found, in the order of the file."""

    code = "config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.place, first.wrong, first.remedy)
        self.args = ("\n".join(map(str, self.problems)),)


class FilterError(UsageError):
    """A metadata filter is malformed, or the store at hand cannot express it."""

    code = "filter"


class MissingPackageError(UsageError):
    """A backend was chosen whose package is not installed."""

    code = "missing_package"


class FailureError(RagAppError):
    """It went wrong out there."""

    code = "failure"


class SourceError(FailureError):
    """A source cannot be listed or read; nothing is deleted because of it."""

    code = "source"


class IndexStateError(FailureError):
    """The index cannot answer for this config: empty, unfinished, damaged or built for another."""

    code = "index"


class LockedError(IndexStateError):
    """Another process is writing the index; the one asked for it did not wait and did nothing."""

    code = "locked"
    exit_status = 4


class IdentityError(IndexStateError):
    """The index was made with another embedding model or splitter than the config names."""

    code = "identity"
    exit_status = 5


class BudgetError(FailureError):
    """To go on would cost more than was allowed."""

    code = "budget"
    exit_status = 6


class StoreError(FailureError):
    """A vector store refused the work or cannot be reached."""

    code = "store"


class ModelError(FailureError):
    """An embedding, reranking or chat model refused the work or cannot be reached."""

    code = "model"


class IncompleteError(ModelError):
    """Of several texts some were embedded, and others not; what was paid for is not lost.

    Attributes:
        vectors: the vectors there are, by the text's place.
        refused: why the model will never take a text, by its place.
        stopped: whether the service failed, so that texts in neither may be tried again.
    """

    def __init__(
        self,
        where: str,
        wrong: str,
        remedy: str,
        *,
        vectors: Mapping[int, Sequence[float]],
        refused: Mapping[int, str],
        stopped: bool,
    ) -> None:
        super().__init__(where, wrong, remedy)
        self.vectors, self.refused, self.stopped = vectors, refused, stopped


class TruncationWarning(UserWarning):
    """Texts were longer than the embedding model's window; their ends are not in the vectors."""
