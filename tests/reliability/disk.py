"""A disk that fails: a process's own writes to a folder answered with an error of our choice.

Linux asks a supervisor about chosen system calls of a process (seccomp's user notification, see
seccomp_unotify(2)): those that change something below one folder are counted, and from the chosen
one on they fail with ENOSPC or EIO, as a full or broken disk lets them fail. All threads and all
libraries are seen, whatever language they are of; what is written through memory maps is not.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

FULL: Final = errno.ENOSPC
BROKEN: Final = errno.EIO

_SYNCS: Final = ("fsync", "fdatasync", "sync_file_range", "msync")


class _Call(NamedTuple):
    """A system call: its number on x86-64 and on arm64, and which argument tells the place."""

    x86: int | None
    arm: int | None
    fd: int | None = 0
    """The argument that is a file descriptor; None where a path alone tells."""
    path: int | None = None


_CALLS: Final = {
    "write": _Call(1, 64),
    "pwrite64": _Call(18, 68),
    "writev": _Call(20, 66),
    "pwritev": _Call(296, 70),
    "pwritev2": _Call(328, 287),
    "copy_file_range": _Call(326, 285, fd=2),
    "sendfile": _Call(40, 71),
    "fsync": _Call(74, 82),
    "fdatasync": _Call(75, 83),
    "ftruncate": _Call(77, 46),
    "fallocate": _Call(285, 47),
    "open": _Call(2, None, fd=None, path=0),
    "openat": _Call(257, 56, path=1),
    "mkdir": _Call(83, None, fd=None, path=0),
    "mkdirat": _Call(258, 34, path=1),
    "rename": _Call(82, None, fd=None, path=1),
    "renameat": _Call(264, 38, fd=2, path=3),
    "renameat2": _Call(316, 276, fd=2, path=3),
    "link": _Call(86, None, fd=None, path=1),
    "linkat": _Call(265, 37, fd=2, path=3),
}
_MACHINES: Final = {"x86_64": (317, 0), "aarch64": (277, 1)}
"""The number of seccomp(2), and which of a call's numbers counts."""

_O_CREAT: Final = os.O_CREAT
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_PROCEED: Final = 1
_LONGEST: Final = 60
"""Seconds that a run may take."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong: from the `first` change below a folder on, `error`; once or for good."""

    folder: Path
    first: int | None
    error: int = FULL
    once: bool = False
    syncs_only: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit status (below 0: killed by that signal), and how often it
    changed, or wanted to change, something below the folder."""

    status: int
    changes: int
    failed: int


def why_not() -> str | None:
    """Why this machine cannot supervise a process; None when it can."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return f"no seccomp supervision on {platform.system()} {platform.machine()}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = run(lambda: _touch(Path(folder, "x")), Fault(Path(folder), 1))
        except OSError as error:
            return f"this machine does not let a process be supervised: {error}"
    return None if done.failed else "this machine does not let a process be supervised"


def run(work: Callable[[], int], fault: Fault | None = None) -> Outcome:
    """`work` in a child process, whose changes below the fault's folder are supervised.

    Returns:
        what `work` returned as the status; 99 when it raised.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _work(work, theirs if fault else None)
        theirs.close()
        changes = failed = 0
        if fault is not None:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            if fds:
                changes, failed = _supervise(fds[0], fault)
                os.close(fds[0])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if fault is not None and not fds:
            raise OSError(status, os.strerror(status))
        return Outcome(status, changes, failed)


def _work(work: Callable[[], int], supervisor: socket.socket | None) -> None:
    status = 99
    signal.alarm(_LONGEST)  # whoever hangs is killed
    try:
        if supervisor is not None:
            try:
                socket.send_fds(supervisor, [b"x"], [_install()])
            except OSError as error:
                os._exit(error.errno or 1)
        status = work()
    finally:
        os._exit(status)


def _install() -> int:
    """Have all chosen calls of this process and its children asked about, from now on."""
    seccomp, column = _MACHINES[platform.machine()]
    numbers = [n for call in _CALLS.values() if (n := call[column]) is not None]
    jumps = [(0x15, len(numbers) - i, 0, n) for i, n in enumerate(numbers)]
    program = [(0x20, 0, 0, 0), *jumps, (0x06, 0, 0, _ALLOW), (0x06, 0, 0, _ASK)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)), 16
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges: what seccomp asks of whoever is not root
    listener = int(libc.syscall(seccomp, 1, 8, head))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _supervise(listener: int, fault: Fault) -> tuple[int, int]:
    _, column = _MACHINES[platform.machine()]
    names = {call[column]: name for name, call in _CALLS.items()}
    changes = failed = 0
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        asked = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, asked)
        except FileNotFoundError:  # the thread was killed meanwhile
            continue
        id, thread, _, number, _, _, *arguments = struct.unpack("QIIiIQ6Q", asked)
        fails = False
        if _concerns(names[number], thread, arguments, fault):
            changes += 1
            due = fault.first is not None and changes >= fault.first
            fails = due and not (fault.once and failed)
            failed += fails
        answer = (id, 0, -fault.error, 0) if fails else (id, 0, 0, _PROCEED)
        try:
            fcntl.ioctl(listener, _SEND, struct.pack("QqiI", *answer))
        except FileNotFoundError:
            continue
    return changes, failed


def _concerns(name: str, thread: int, arguments: list[int], fault: Fault) -> bool:
    """Whether a call changes something below the folder."""
    if fault.syncs_only and name not in _SYNCS:
        return False
    call = _CALLS[name]
    if name in ("open", "openat"):
        flags = arguments[1 if name == "open" else 2]
        path = _read_path(thread, arguments, call)
        return bool(flags & _O_CREAT) and _below(path, fault.folder) and not os.path.exists(path)
    return _below(_read_path(thread, arguments, call), fault.folder)


def _read_path(thread: int, arguments: list[int], call: _Call) -> str:
    try:
        start = ""
        if call.fd is not None:
            fd = ctypes.c_int(arguments[call.fd] & 0xFFFFFFFF).value
            at = "cwd" if fd == -100 else f"fd/{fd}"
            start = os.readlink(f"/proc/{thread}/{at}")
        if call.path is None:
            return start
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(arguments[call.path])
            given = memory.read(4096).split(b"\0")[0].decode(errors="replace")
        return os.path.join(start or os.readlink(f"/proc/{thread}/cwd"), given)
    except OSError:
        return ""


def _below(path: str, folder: Path) -> bool:
    return path.startswith(f"{folder}/") or os.path.realpath(path).startswith(f"{folder}/")


def _touch(path: Path) -> int:
    path.write_text("x")
    return 0
