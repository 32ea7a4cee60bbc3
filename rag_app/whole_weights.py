"""A model with holes is refused: transformers fills them with random numbers and a log line."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MISSING: Final = re.compile(r"^(\S+)\s*\|[^\n]*\bMISSING\b", re.MULTILINE)
"""A row of the table that transformers logs of weights it did not find."""
_ANSI: Final = re.compile("\x1b\\[[0-9;]*m")


@contextmanager
def require_all_weights(
    fail: Callable[[str, str], Exception], unused: str | None = None
) -> Iterator[None]:
    """Load a model inside; `fail` makes the error of what is wrong and its remedy.

    Raises:
        Exception: what `fail` makes, when weights are missing whose names do not hold `unused`.
    """
    with _listen() as heard:
        yield
    missing = [name for words in heard for name in _MISSING.findall(_ANSI.sub("", words))]
    if missing := [name for name in missing if unused is None or unused not in name]:
        wrong = f"lacks weights: {', '.join(missing[:3])}"
        raise fail(wrong, "Download the model again, whole.")


@contextmanager
def _listen() -> Iterator[list[str]]:
    """What transformers logs inside, whatever it is told to keep to itself."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    speaker, ear = logging.getLogger("transformers"), Ear(logging.WARNING)
    level = speaker.level
    speaker.addHandler(ear)
    speaker.setLevel(min(level or logging.WARNING, logging.WARNING))
    try:
        yield heard
    finally:
        speaker.setLevel(level)
        speaker.removeHandler(ear)
