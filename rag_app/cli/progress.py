"""Progress of long work: a bar with the time left on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE_EVERY_S = 5.0


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yields the function to call as (stage, done, total); everything goes to stderr."""
    if not sys.stderr.isatty():
        yield _Lines().update
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def update(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


class _Lines:
    """A line per stage when it starts, then at most one every few seconds, with the time left."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._last = 0.0

    def update(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        new = stage not in self._started
        start = self._started.setdefault(stage, now)
        if not new and now - self._last < LINE_EVERY_S:
            return
        self._last = now
        words = stage if total is None else f"{stage} {done:,} of {total:,}"
        if total is None and done:
            words += f" {done:,}"
        if total and done and now > start:
            left = (now - start) * (total - done) / done
            words += f", about {left:.0f} s left"
        click.echo(words, err=True)
