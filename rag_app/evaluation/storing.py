"""Results as JSON: written whole or not at all, and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from rag_app.errors import UsageError
from rag_app.evaluation.results import CaseResult, Evaluation
from rag_app.evaluation.writing import write_whole

FORMAT: Final = 1
"""Version of what is written."""


_RESULT: Final = TypeAdapter(CaseResult)
_EVALUATION: Final = TypeAdapter(Evaluation)
_SAVED: Final = TypeAdapter(dict[str, Any])


def to_json(value: Any) -> Any:
    """A result as JSON values."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def write_line(result: CaseResult) -> bytes:
    """A case's result as a line of a journal."""
    return _RESULT.dump_json(result) + b"\n"


def read_line(line: bytes) -> CaseResult:
    """What `write_line` was given.

    Raises:
        ValueError: it is no such line, as when it was torn.
    """
    return _RESULT.validate_json(line)


def save(evaluation: Evaluation, path: str | Path) -> None:
    """Write an evaluation, with what was found for every case.

    Raises:
        UsageError: it cannot be written.
    """
    head = b'{"rag_app_evaluation": %d, "evaluation": ' % FORMAT
    write_whole(path, head + _EVALUATION.dump_json(evaluation) + b"}\n")


def load_evaluation(path: str | Path) -> Evaluation:
    """What `save` wrote.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    remedy = "Write one with: rag-app evaluate --save FILE"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(str(path), f"it cannot be read: {error.strerror}", remedy) from error
    try:
        made = _SAVED.validate_json(data)
        if made.get("rag_app_evaluation") != FORMAT:
            raise UsageError(str(path), "it is no saved evaluation of this version", remedy)
        return _EVALUATION.validate_python(made.get("evaluation"))
    except ValidationError as error:
        raise UsageError(str(path), "it is no saved evaluation", remedy) from error
