"""Named places where a run can be made to die, so that tests can show that every state recovers.

Between any two steps of the journal lies one of `NAMES`. With the environment variable
`RAG_APP_FAILPOINT` set to a name, or to `name:3` for the third time it is reached, the process
kills itself there by SIGKILL: nothing is flushed, closed or told.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "RAG_APP_FAILPOINT"

NAMES: Final = (
    "generation-begun",
    "probes-kept",
    "planned",
    "embedded",
    "upserted",
    "confirmed",
    "staged",
    "published",
    "prune-begun",
    "rows-deleted",
    "pruned",
    "contents-swept",
    "generation-served",
    "collection-dropped",
    "generation-forgotten",
)
"""Each just after the step it is named for."""

_reached: dict[str, int] = {}


def reach(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    asked, _, times = wanted.partition(":")
    if asked == name:
        _reached[name] = _reached.get(name, 0) + 1
        if _reached[name] == int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)
