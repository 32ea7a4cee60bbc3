"""How long each stage took, gathered without handing a stopwatch through every call."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_timings: ContextVar[dict[str, float] | None] = ContextVar("rag_app_timings", default=None)


@contextmanager
def collect() -> Iterator[dict[str, float]]:
    """Gather the stages timed inside, in milliseconds by name. Nested uses gather separately."""
    timings: dict[str, float] = {}
    token = _timings.set(timings)
    try:
        yield timings
    finally:
        _timings.reset(token)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Add the wall time inside to `stage` of the innermost `collect`; free when nobody collects."""
    timings = _timings.get()
    start = time.perf_counter()
    try:
        yield
    finally:
        if timings is not None:
            timings[stage] = timings.get(stage, 0.0) + (time.perf_counter() - start) * 1000


def add_time(stage: str, milliseconds: float) -> None:
    """Add time that something took earlier, and would take again were it not remembered."""
    timings = _timings.get()
    if timings is not None:
        timings[stage] = timings.get(stage, 0.0) + milliseconds
