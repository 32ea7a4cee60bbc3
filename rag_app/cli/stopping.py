"""How a command is stopped: SIGINT and SIGTERM end it within two seconds, whatever it is doing.

The first signal is raised in the main thread as `Stopped`, so that what is open is closed. What
does not give way (SQLite waiting for a lock, a model within a batch, threads that wait for a
service, a library that swallows interrupts) is waited for no longer than `GRACE`, and a second
signal ends all at once. Neither can harm an index: it survives a kill at any moment.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE: Final = 1.4
"""Seconds between the first signal and the end by force."""

WORDS: Final = "Stopped. What was done is kept; the same command goes on from there."

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR: Final = "\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by the first signal; libraries let a KeyboardInterrupt pass."""


class Stop:
    """Waits for signals inside a `with` block; `number` is the signal that came, or None.

    A command that takes a signal for itself (a server that drains) is left alone. Outside the main
    thread, where no signal can be taken, it does nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._told = threading.Lock()
        self._raised = False
        self._before: dict[signal.Signals, Any] = {}
        self._over = False

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._wakes, asks = socket.socketpair()
        asks.setblocking(False)
        self._asks = asks
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup … &` wants it
                self._before[number] = signal.signal(number, self._raise)
        # Written to in the signal itself: the thread wakes while the main one is deep in C.
        self._waker = signal.set_wakeup_fd(asks.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)
        self._thread.start()
        atexit.register(self._leave)  # the first registered is the last that runs
        return self

    def __exit__(self, *_: object) -> None:
        """Let signals be what they were; a stop that is under way goes on being watched."""
        if not self._before or self.number is not None:
            return
        self._over = True
        signal.set_wakeup_fd(self._waker)
        for number, before in self._before.items():
            signal.signal(number, before)
        self._asks.close()  # ends the thread
        self._thread.join()
        self._wakes.close()
        atexit.unregister(self._leave)

    @property
    def status(self) -> int:
        """The exit status of what was stopped: 130 or 143."""
        return 128 + (self.number or signal.SIGINT)

    def tell(self) -> None:
        """Say on stderr, once, that it was stopped."""
        if self._told.acquire(blocking=False):
            echoed = "\n" if self.number == signal.SIGINT and os.isatty(2) else ""  # after the ^C
            _write(f"{echoed}{WORDS}\n")

    def _raise(self, number: int, _: object) -> None:
        if self.number is not None and self._raised:
            self._end()
        self.number, self._raised = self.number or number, True
        _silence()
        raise Stopped

    def _watch(self) -> None:
        number = self._receive(None)
        if number is None:
            return
        self.number = self.number or number
        self._receive(GRACE)  # the second signal, or the end of waiting
        if not self._over:
            self._end()

    def _receive(self, seconds: float | None) -> int | None:
        """The next signal that is ours; None when time is up or the `with` block has ended."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            self._wakes.settimeout(None if end is None else max(end - time.monotonic(), 0.001))
            try:
                got = self._wakes.recv(1)
            except TimeoutError:
                return None
            if not got:
                return None
            if got[0] in _SIGNALS and signal.getsignal(got[0]) == self._raise:
                return got[0]

    def _end(self) -> None:
        """End the process here and now, with its children."""
        try:
            _kill_parsers()
            if os.isatty(2):
                _write(_SHOW_CURSOR)
            self.tell()
        finally:
            os._exit(self.status)

    def _leave(self) -> None:
        """The last step of a stop: nothing is torn down that might still wait or complain."""
        if self.number is None or self._over:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(self.status)


def _silence() -> None:
    """No traceback of what breaks because it was stopped: in a thread, or in a `__del__`."""
    quiet: Callable[[Any], None] = lambda _: None  # noqa: E731
    threading.excepthook = sys.unraisablehook = quiet


def _write(words: str) -> None:
    """Straight to the descriptor: buffers may be held by others. Not where it would block."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, words.encode())


def _kill_parsers() -> None:
    child = sys.modules.get("rag_app.parsers.child")
    if child is not None:
        child.kill_all()
