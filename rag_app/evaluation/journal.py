"""What an evaluation has measured so far, on disk: an interrupted one goes on where it stopped."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from rag_app.errors import UsageError
from rag_app.evaluation.storing import read_line, write_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from rag_app.evaluation.results import CaseResult


class EvaluationJournal:
    """Results of cases, each durable when `add` returns. Close it, or use `with`.

    Each journal writes a file of its own, `<stem>.<any>.jsonl` beside `path`, so that two processes
    that measure the same at once never write into each other's lines; it takes up the whole lines
    of those that are there.

    Args:
        path: a name for exactly what is measured: with a digest of all that decides a result.
        resume: take up what is there; without it, that is removed.

    Attributes:
        results: by the case's id.
        files: what was taken up, and its own.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = True) -> None:
        self.results: dict[str, CaseResult] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*.jsonl"))
            for file in found:
                if resume:
                    self.results |= {result.case.id: result for result in _read(file)}
                else:
                    file.unlink(missing_ok=True)
            self._own = path.with_name(f"{path.stem}.{uuid4().hex[:12]}.jsonl")
            self._file: BinaryIO = self._own.open("xb")
        except OSError as error:
            raise _refuse(path, error) from error
        self.files = [*(found if resume else []), self._own]

    def add(self, result: CaseResult) -> None:
        """Keep the result of one more case.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            self._file.write(write_line(result))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _refuse(self._own, error) from error
        self.results[result.case.id] = result

    def close(self) -> None:
        """Release the file; what was added stays, and nothing where nothing was."""
        if not self._file.closed:
            with suppress(OSError):  # of a full disk, which `add` told of
                self._file.close()
            with suppress(FileNotFoundError):  # another process measured all of it, too
                if not self._own.stat().st_size:
                    self._own.unlink()

    def remove(self) -> None:
        """All was measured: the next evaluation begins anew."""
        self.close()
        for file in self.files:
            file.unlink(missing_ok=True)


def _refuse(path: Path, error: OSError) -> UsageError:
    wrong = f"it cannot be written: {error.strerror}"
    return UsageError(str(path), wrong, "See that there is room, and whose it is.")


def _read(file: Path) -> Iterator[CaseResult]:
    """What stands on its whole lines; one that was torn, or is still being written, is none."""
    with suppress(FileNotFoundError), file.open("rb") as lines:  # its process has just ended
        for line in lines:
            with suppress(ValueError):
                if line.endswith(b"\n"):
                    yield read_line(line)
