"""Ingest after each burst of changes in the folders of `files` sources.

An ingest reads what is there by then, so events only say that it is time for one: none of them is
relied upon to be complete.
"""

from __future__ import annotations

import os
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import LockedError, ModelError, RagAppError, SourceError, StoreError, UsageError
from rag_app.loaders._globs import compile_glob

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from threading import Event

    from rag_app.types import IngestReport

QUIET: Final = 1.0
LONGEST: Final = 10.0
"""Seconds without a change that end a burst, and seconds after which it is not waited for."""

AGAIN: Final = 30.0
"""Seconds after which an ingest is tried again that failed for what may pass."""

_TICK_MS: Final = 100
_PASSING: Final = (LockedError, ModelError, StoreError)


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder, `deep` or without its folders, and which changes in it concern the index."""

    root: Path
    deep: bool
    concerns: Callable[[Path], bool]


def find_watched(sources: Sequence[Any], written: Sequence[Path]) -> list[Watched]:
    """What is to be watched for the config's `sources`.

    Args:
        sources: the sections of the config.
        written: where an ingest itself writes; changes there are none.

    Raises:
        UsageError: some of the sources have no folder on this machine.
        SourceError: a folder does not exist.
    """
    others = [f"sources[{n}] ({s.kind})" for n, s in enumerate(sources) if s.kind != "files"]
    if others:
        raise UsageError(
            "watch",
            f"{', '.join(others)} cannot be watched, but only `files`",
            "Give them a config of their own, ingested from time to time.",
        )
    return [_watch_files(section.options, written) for section in sources]


def _watch_files(options: Any, written: Sequence[Path]) -> Watched:
    path = Path(os.path.realpath(options.path))
    if not path.exists():
        raise SourceError(
            "sources.path",
            f"{str(options.path)!r} does not exist",
            "Give a folder or file; a relative path starts at the config file's folder.",
        )
    if path.is_file():  # often replaced by another and not written: its folder knows
        return Watched(path.parent, False, lambda changed: changed == path)
    include = [compile_glob(pattern) for pattern in options.include]
    exclude = [compile_glob(pattern) for pattern in options.exclude]
    places = [Path(os.path.realpath(place)) for place in written]
    inside = [place for place in places if place != path and place.is_relative_to(path)]

    def concerns(changed: Path) -> bool:
        if not changed.is_relative_to(path) or any(changed.is_relative_to(p) for p in inside):
            return False
        relative = changed.relative_to(path)
        if not options.hidden and any(part.startswith(".") for part in relative.parts):
            return False
        if not changed.is_file():
            return True  # a folder, or gone, and then it may have been one
        name = unicodedata.normalize("NFC", relative.as_posix())
        return any(glob.fullmatch(name) for glob in include) and not any(
            glob.fullmatch(name) for glob in exclude
        )

    return Watched(path, True, concerns)


def watch(
    watched: Sequence[Watched],
    ingest: Callable[[], IngestReport],
    *,
    report: Callable[[IngestReport], None],
    failed: Callable[[RagAppError], None] | None,
    stop: Event,
) -> None:
    """Ingest now, and again after each burst of changes, until `stop` is set.

    Args:
        watched: as `find_watched` found it.
        ingest: makes the index hold what the sources hold now.
        report: called after each ingest.
        failed: called with the error of a later ingest, after which watching goes on; what may
            pass by itself (a lock, a model, a store) is tried again. None to raise it.
        stop: looked at several times a second, but not within an ingest.

    Raises:
        RagAppError: of the first ingest, and of all where `failed` is None.
        SourceError: the system cannot watch the folders.
    """
    eyes = _Eyes(watched, stop)
    try:
        eyes.see_change()  # from here on nothing is missed
        report(ingest())
        burst, again = _Burst(), float("inf")
        while not stop.is_set():
            burst.note(changed=eyes.see_change())
            if not burst.is_over and time.monotonic() < again:
                continue
            burst, again = _Burst(), float("inf")
            try:
                report(ingest())
            except RagAppError as error:
                if failed is None:
                    raise
                failed(error)
                again = time.monotonic() + AGAIN if isinstance(error, _PASSING) else again
    finally:
        eyes.close()


class _Burst:
    """Changes that belong together: those with less than `QUIET` between them."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0

    def note(self, *, changed: bool) -> None:
        if changed:
            self._last = time.monotonic()
            self._first = self._last if self._first is None else self._first

    @property
    def is_over(self) -> bool:
        now = time.monotonic()
        return self._first is not None and (
            now - self._last >= QUIET or now - self._first >= LONGEST
        )


class _Eyes:
    """The system's own notifications; asked for anew when a folder is replaced by another."""

    def __init__(self, watched: Sequence[Watched], stop: Event) -> None:
        self._watched, self._stop = watched, stop
        self._places: list[tuple[Path, tuple[int, int]]] | None = None
        self._seeing: list[Generator[set[Any]]] = []

    def see_change(self) -> bool:
        """Wait for a moment; whether anything changed since the last time that concerns us."""
        places = [(each.root, _identify(each.root)) for each in self._watched]
        present = [(root, place) for root, place in places if place is not None]
        if present != self._places:
            self._open(present)
            return True
        if not self._seeing:
            self._stop.wait(_TICK_MS / 1000)
        changes = [change for seeing in self._seeing for change in self._next(seeing)]
        paths = {Path(path) for _, path in changes}
        return any(each.concerns(path) for path in paths for each in self._watched)

    def close(self) -> None:
        """Watch no more."""
        for seeing in self._seeing:
            seeing.close()
        self._seeing = []

    def _open(self, present: list[tuple[Path, tuple[int, int]]]) -> None:
        from watchfiles import watch as notify

        self.close()
        self._places = present
        roots = {root for root, _ in present}
        deep = {each.root for each in self._watched if each.deep} & roots
        for paths, recursive in ((deep, True), (roots - deep, False)):
            if paths:
                self._seeing.append(
                    notify(
                        *sorted(paths),
                        watch_filter=None,
                        debounce=_TICK_MS,
                        step=_TICK_MS // 2,
                        rust_timeout=_TICK_MS,
                        yield_on_timeout=True,
                        stop_event=self._stop,
                        recursive=recursive,
                    )
                )
        for seeing in self._seeing:
            self._next(seeing)  # it begins to watch only now

    def _next(self, seeing: Generator[set[Any]]) -> set[Any]:
        try:
            return next(seeing, set())
        except (OSError, RuntimeError) as error:
            folders = ", ".join(str(each.root) for each in self._watched)
            raise SourceError(
                "watch",
                f"{folders}: the system cannot watch it ({error})",
                "Raise its limit of watches (fs.inotify.max_user_watches), or set "
                "WATCHFILES_FORCE_POLLING=1.",
            ) from error


def _identify(folder: Path) -> tuple[int, int] | None:
    """Device and number of a folder; None when it is not there."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
