"""The child process that parses: requests on its standard input, answers on its standard output.

Whatever a C library prints goes nowhere. It dies with its parent: its standard input ends then, and
a limit on processor time, set anew for each file, ends a parser that lets nothing else run.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rag_app.parsers.frames import read_frame, write_frame
from rag_app.parsers.parsed import Broken, Parse, Parsed, ParseError, UnreadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PIECE = 1 << 20
"""Characters of a long text sent in one frame."""


def main() -> None:
    """Answer requests until the parent is gone. The first frame holds the limits."""
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    pipe, answers = _take_pipes()
    limits = json.loads(read_frame(pipe) or b"{}")
    if not limits:
        return
    _limit_memory(limits["max_memory_mb"] << 20)
    requests: queue.Queue[bytes] = queue.Queue(1)
    threading.Thread(target=_listen, args=(pipe, requests), daemon=True).start()
    write_frame(answers, {"ready": True})
    answers.flush()
    while True:
        request = json.loads(requests.get())
        body = None if request["path"] else requests.get()
        _limit_time(limits["max_seconds"])
        if not _answer(answers, request, body):
            return


def _listen(pipe: IO[bytes], requests: queue.Queue[bytes]) -> None:
    while (frame := read_frame(pipe)) is not None:
        requests.put(frame)
    os._exit(0)  # the parent is gone, and with it whoever wanted the answer


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", 1 << 16)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return requests, answers


def _limit_memory(size: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    # Address space also counts the code of shared libraries, which is not the file's doing.
    for kind, limit in ((resource.RLIMIT_DATA, size), (resource.RLIMIT_AS, size + (256 << 20))):
        hard = resource.getrlimit(kind)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (allowed, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds + 5)


def _answer(out: IO[bytes], request: dict[str, Any], body: bytes | None) -> bool:
    """Send the documents, then how it ended. False when this process should not go on."""
    try:
        for document in _parse(request, body):
            _send(out, document)
        last: dict[str, Any] = {"end": "done"}
    except MemoryError:
        last = {"end": "memory"}
    except ParseError as error:
        last = {"end": "unreadable", "reason": str(error)}
    except UnreadError as error:
        last = {"end": "unread", "reason": str(error)}
    except ImportError as error:
        last = {"end": "import", "reason": str(error), "package": _absent(error)}
    except BrokenPipeError:
        return False
    except Exception as error:  # a parser meeting a damaged file may raise anything
        last = {"end": "unreadable", "reason": _describe(request["module"], error)}
    write_frame(out, last)
    out.flush()
    return bool(last["end"] != "memory")


def _parse(request: Mapping[str, Any], body: bytes | None) -> Iterator[Parsed | Broken]:
    parse: Parse = importlib.import_module(f"rag_app.parsers.{request['module']}").parse
    data = _read(request["path"], request["sha256"]) if body is None else body
    if not data:
        raise ParseError("is empty")
    yield from parse(data, request["options"])


def _read(path: str, sha256: str) -> bytes:
    try:
        data = Path(os.fsdecode(path.encode("latin-1"))).read_bytes()
    except OSError as error:
        raise UnreadError(f"cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UnreadError("was changed while it was being read; ingest again")
    return data


def _send(out: IO[bytes], document: Parsed | Broken) -> None:
    if isinstance(document, Broken):
        write_frame(out, {"part": document.part, "reason": document.reason})
        return
    text, sent = document.text, 0
    while len(text) - sent > PIECE:
        write_frame(out, {"piece": text[sent : sent + PIECE]})
        sent += PIECE
    whole = {"text": text[sent:], "metadata": document.metadata, "part": document.part}
    write_frame(out, whole)


def _absent(error: ImportError) -> str | None:
    cause = error
    while isinstance(cause.__cause__, ImportError):
        cause = cause.__cause__
    return cause.name


def _describe(module: str, error: Exception) -> str:
    first = str(error).strip().partition("\n")[0][:200]
    return f"cannot be parsed as {module}: {type(error).__name__}{': ' if first else ''}{first}"


if __name__ == "__main__":
    main()
