"""Parsing in child processes with limits: no file can hang an ingest, or end it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import IO, TYPE_CHECKING, Any, Final

from rag_app.parsers.frames import read_frame, write_bytes, write_frame
from rag_app.parsers.parsed import Broken, Parsed, ParseError, UnreadError
from rag_app.registry import missing_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_START: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; from rag_app.parsers.worker import main; main()"
)
_START_SECONDS: Final = 60.0
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_AHEAD: Final = 8
"""Frames read before anybody asks for them; the pipe then holds the child back."""

_LIVE: Final[weakref.WeakSet[_Worker]] = weakref.WeakSet()


def kill_all() -> None:
    """Kill every child of this process, waiting for none: it is about to end itself."""
    for worker in list(_LIVE):
        worker.kill()


class Workers:
    """Child processes that parse: as many as files at one time, started when needed and kept.

    Args:
        where: the loader, for messages ("loaders.files").
        extra: the extra that installs its packages.
        max_seconds: longest time to wait for one file; its reader's own time is not counted.
        max_memory_mb: memory the child may use, MiB; not enforced on Windows.
    """

    def __init__(self, where: str, extra: str, max_seconds: float, max_memory_mb: int) -> None:
        self.where, self.extra = where, extra
        self.max_seconds, self.max_memory_mb = max_seconds, max_memory_mb
        self._idle: list[_Worker] = []
        self._end = weakref.finalize(self, _stop_all, self._idle)

    def parse_file(
        self, path: str, sha256: str, module: str, options: Mapping[str, Any]
    ) -> Iterator[Parsed | Broken]:
        """The documents of the file at `path`, read and checked against `sha256` by the child.

        Raises:
            ParseError: it is damaged, took too long or too much memory, or crashed its parser.
            UnreadError: the disk did not give it, or another version than asked for.
            MissingPackageError: the parser's package is not installed.
        """
        name = os.fsencode(path).decode("latin-1")  # file names need not be text
        request = {"path": name, "sha256": sha256, "module": module, "options": dict(options)}
        return self._run(request, None)

    def parse_bytes(
        self, data: bytes, module: str, options: Mapping[str, Any]
    ) -> Iterator[Parsed | Broken]:
        """As `parse_file`, for bytes at hand."""
        return self._run({"path": None, "module": module, "options": dict(options)}, data)

    def close(self) -> None:
        """End the idle children. Parsing again starts new ones."""
        _stop_all(self._idle)

    def _run(self, request: dict[str, Any], body: bytes | None) -> Iterator[Parsed | Broken]:
        worker = self._idle.pop() if self._idle else self._start()
        try:
            worker.ask(request, body)
            yield from self._receive(worker)
        finally:
            if not worker.settled:
                worker.stop()
            if not worker.gone:
                self._idle.append(worker)

    def _start(self) -> _Worker:
        return _Worker(self.max_seconds, self.max_memory_mb)

    def _receive(self, worker: _Worker) -> Iterator[Parsed | Broken]:
        pieces: list[str] = []
        for message in worker.answers():
            if "piece" in message:
                pieces.append(message["piece"])
            elif "end" in message:
                self._judge(message)
            elif "reason" in message:
                yield Broken(message["part"], message["reason"])
            else:
                text = "".join([*pieces, message["text"]])
                pieces.clear()
                yield Parsed(text, message["metadata"], message["part"])

    def _judge(self, message: dict[str, Any]) -> None:
        if message["end"] == "memory":
            raise ParseError(_too_big(self.max_memory_mb))
        if message["end"] == "unreadable":
            raise ParseError(message["reason"])
        if message["end"] == "unread":
            raise UnreadError(message["reason"])
        if message["end"] == "import":
            error = ImportError(message["reason"], name=message["package"])
            raise missing_package(self.where, self.extra, error)


class _Worker:
    """One child. `settled`: it has answered its last request; `gone`: it is dead or dying."""

    def __init__(self, max_seconds: float, max_memory_mb: int) -> None:
        self.max_seconds, self.max_memory_mb = max_seconds, max_memory_mb
        self.settled, self.gone, self._ready = True, False, False
        self._inherited = _peak_memory()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", _START, *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the child
        )
        _LIVE.add(self)
        self._frames: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        threading.Thread(
            target=_pump, args=(self._process.stdout, self._frames), daemon=True
        ).start()
        self._write({"max_seconds": max_seconds, "max_memory_mb": max_memory_mb}, None)

    def ask(self, request: dict[str, Any], body: bytes | None) -> None:
        """Send one request; a child that dies of it shows in `answers`.

        Raises:
            ParseError: the child could not start.
        """
        self.settled = False
        if not self._ready:
            self._next(_START_SECONDS)  # no file is charged for the start
            self._ready = True
        self._write(request, body)

    def answers(self) -> Iterator[dict[str, Any]]:
        """Its messages, up to the one with "end".

        Raises:
            ParseError: it took too long, or died.
        """
        left = self.max_seconds
        while not self.settled:
            began = time.monotonic()
            frame = self._next(left)
            left -= time.monotonic() - began
            message = json.loads(frame)
            self.settled = "end" in message
            self.gone = message.get("end") == "memory"
            if self.gone:
                self.stop()
            yield message

    def stop(self) -> None:
        """Kill it and wait until it is gone."""
        self.gone = True
        self.kill()
        self._drain()
        self._process.wait()
        self._close()

    def kill(self) -> None:
        """Kill it, without waiting."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _next(self, left: float) -> bytes:
        try:
            frame = self._frames.get(timeout=max(left, 0.001))
        except queue.Empty:
            self.stop()
            raise ParseError(f"took over {self.max_seconds:g} s to parse") from None
        if frame is None:
            raise ParseError(self._say_how_it_died())
        return frame

    def _say_how_it_died(self) -> str:
        self.gone = self.settled = True
        status, peak = _reap(self._process)
        self._close()
        if peak > max(0.75 * (self.max_memory_mb << 20), self._inherited):
            return _too_big(self.max_memory_mb)
        if status == -getattr(signal, "SIGPROF", 0):
            return f"took over {self.max_seconds:g} s to parse"
        return f"the parser crashed ({'signal' if status < 0 else 'exit status'} {abs(status)})"

    def _write(self, request: dict[str, Any], body: bytes | None) -> None:
        pipe = self._process.stdin
        if pipe is None:
            return
        with contextlib.suppress(OSError):
            write_frame(pipe, request)
            if body is not None:
                write_bytes(pipe, body)
            pipe.flush()

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # what it was not told any more
            if self._process.stdin:
                self._process.stdin.close()

    def _drain(self) -> None:
        while self._frames.get() is not None:
            pass
        self._frames.put(None)


def _pump(pipe: IO[bytes], frames: queue.Queue[bytes | None]) -> None:
    with pipe:
        while (frame := read_frame(pipe)) is not None:
            frames.put(frame)
    frames.put(None)


def _reap(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """How a dead child ended (negative: by that signal) and the most memory it held, bytes."""
    if not hasattr(os, "wait4") or process.returncode is not None:
        return process.wait(), 0
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_maxrss * _RSS_UNIT


def _peak_memory() -> int:
    """The most memory this process held, bytes: Linux starts a child's own peak there."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _too_big(megabytes: int) -> str:
    size = f"{megabytes // 1024} GiB" if megabytes % 1024 == 0 else f"{megabytes} MiB"
    return f"needed over {size} to parse"


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()
