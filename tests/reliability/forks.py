"""Work in processes of its own: forked from this one, which has imported all and opened nothing."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tell = Callable[[str], None]
    """Says which stage the work is at."""

_LONGEST: Final = 180.0
"""Seconds after which work that nobody kills has hung."""
_SUBREAPER: Final = 36  # prctl's PR_SET_CHILD_SUBREAPER


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        killed: by us, before it had ended by itself.
        seconds: from the moment it began its work.
        stage: the last it told.
        result: what its work returned, as JSON; None where it was killed or failed.
        error: the traceback of its failure, else "".
    """

    killed: bool
    seconds: float
    stage: str
    result: Any
    error: str


def adopt_orphans() -> None:
    """Let children of killed processes become ours, so that `run` can wait for them (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def run(
    work: Callable[[Tell], Any],
    temporary: Path,
    kill_after: float | None = None,
    prepare: Callable[[], object] = lambda: None,
) -> Ended:
    """Do `work` in a new process; SIGKILL it so many seconds after it began.

    Args:
        work: is given a function that says which stage it is at.
        temporary: its folder for temporary files.
        prepare: what is to be done in the process before its time begins to count.
    """
    stage = mmap.mmap(-1, 64)
    reading, writing = os.pipe()
    before = _list_children()
    process = os.fork()
    if process == 0:
        os.close(reading)
        prepare()
        _work(work, temporary, stage, writing)
    os.close(writing)
    with os.fdopen(reading, "rb", 0) as pipe:
        pipe.read(1)  # it begins
        began = time.monotonic()
        limit = _LONGEST if kill_after is None else kill_after
        told = _read_until(pipe.fileno(), began + limit)
        seconds = time.monotonic() - began
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    _reap(before)
    last = stage[:].rstrip(b"\0").decode()
    stage.close()
    return _conclude(told, seconds, last, hung=kill_after is None)


def _conclude(told: bytes | None, seconds: float, stage: str, *, hung: bool) -> Ended:
    if told is None:
        error = f"it had not ended after {seconds:.0f} s" if hung else ""
        return Ended(not hung, seconds, stage, None, error)
    try:
        answer = json.loads(told)
    except ValueError:
        return Ended(False, seconds, stage, None, "the process died by itself")
    return Ended(False, seconds, stage, answer["result"], answer["error"])


def _work(work: Callable[[Tell], Any], temporary: Path, stage: mmap.mmap, pipe: int) -> NoReturn:
    def tell(name: str) -> None:
        stage[:] = name.encode()[:64].ljust(64, b"\0")

    try:
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1, 2):
            os.dup2(nowhere, each)
        os.write(pipe, b".")
        answer = {"result": work(tell), "error": ""}
    except BaseException:
        answer = {"result": None, "error": traceback.format_exc()[-3000:]}
    with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as whole:
        whole.write(json.dumps(answer).encode())
    os._exit(0)


def _read_until(pipe: int, deadline: float) -> bytes | None:
    """All that is written, to the end; None when there is none by then."""
    told = b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not (piece := os.read(pipe, 1 << 20)):
            return told
        told += piece
    return None


def _list_children() -> set[int]:
    try:
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as listed:
            return set(map(int, listed.read().split()))
    except FileNotFoundError:
        return set()  # not Linux: nobody is adopted


def _reap(before: set[int]) -> None:
    """Wait for what the process had started itself; it ends when it notices."""
    deadline = time.monotonic() + 5
    while (adopted := _list_children() - before) and time.monotonic() < deadline:
        for child in adopted:
            with suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
