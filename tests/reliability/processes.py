"""Work in processes forked from a server that has imported all, opened nothing, has one thread.

A process with threads (pytest with a server beside it) must not fork: a lock that one of them
holds is never released in the child.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from rag_app.index.failpoints import VARIABLE
from tests.reliability.systems import RagAppIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_LONGEST: Final = 120.0
"""Seconds after which work that nobody kills has hung."""

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [*RagAppIndex.common, *(name for names in RagAppIndex.modules.values() for name in names)]
)


def in_process(work: Callable[[], Any], failpoint: str = "") -> Any:
    """What `work` returns in a process of its own; None when it was killed at `failpoint` there.

    Args:
        work: can be pickled, and so can what it returns.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_answer, args=(theirs, work, failpoint), daemon=False)
    process.start()
    theirs.close()
    try:
        assert ours.poll(_LONGEST), f"it had not ended after {_LONGEST:.0f} s"
        made, failed = ours.recv()
    except EOFError:
        process.join()
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        return None
    finally:
        ours.close()
        process.kill()
        process.join()
    assert not failed, failed
    return made


def _answer(pipe: Connection, work: Callable[[], Any], failpoint: str) -> None:
    os.environ[VARIABLE] = failpoint
    try:
        answer = (work(), "")
    except BaseException:  # told through the pipe
        answer = (None, traceback.format_exc()[-3000:])
    pipe.send(answer)
    sys.stdout.flush()
    os._exit(0)
