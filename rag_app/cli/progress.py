"""Progress of long work: a bar with the time left on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rich.progress

LINE_EVERY_S = 5.0


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yields the function to call as (stage, done, total); everything goes to stderr.

    A stage with a colon in its name is a remark: it is written once, on a line that stays.
    """
    shown = _Bars() if sys.stderr.isatty() else _Lines()
    try:
        yield shown
    finally:
        shown.clear()


class Progress:
    """Called as (stage, done, total or None)."""

    def __init__(self) -> None:
        self._remarks: set[str] = set()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if ":" not in stage:
            self.update(stage, done, total)
        elif stage not in self._remarks:
            self._remarks.add(stage)
            self.remark(stage)

    def update(self, stage: str, done: int, total: int | None) -> None:
        """How far a stage is."""
        raise NotImplementedError

    def remark(self, words: str) -> None:
        """A line for people."""
        click.echo(words, err=True)

    def clear(self) -> None:
        """The work is done; what comes next begins anew."""
        self._remarks.clear()


class _Bars(Progress):
    """A bar per stage, gone when the work is done."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def update(self, stage: str, done: int, total: int | None) -> None:
        bars = self._bars or self._start()
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(stage, total=total)
        bars.update(self._tasks[stage], completed=done, total=total)

    def remark(self, words: str) -> None:
        bars = self._bars or self._start()
        bars.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def clear(self) -> None:
        super().clear()
        if self._bars is not None:
            self._bars.stop()
        self._bars = None
        self._tasks.clear()

    def _start(self) -> rich.progress.Progress:
        import rich.console
        import rich.progress

        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        console = rich.console.Console(stderr=True)
        self._bars = rich.progress.Progress(*columns, console=console, transient=True)
        self._bars.start()
        return self._bars


class _Lines(Progress):
    """A line per stage when it starts, then at most one every few seconds, with the time left."""

    def __init__(self) -> None:
        super().__init__()
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

    def clear(self) -> None:
        super().clear()
        self._started.clear()
