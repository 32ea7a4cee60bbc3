"""What an evaluation has measured so far, on disk: an interrupted one goes on where it stopped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rag_app.errors import UsageError
from rag_app.evaluation.storing import read_line, write_line

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from rag_app.evaluation.results import CaseResult


class EvaluationJournal:
    """Results of cases, each durable when `add` returns. Close it, or use `with`.

    Args:
        path: a file for exactly what is measured: named by a digest of all that decides a result.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, CaseResult] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
            self._file.truncate(self._read())
        except OSError as error:
            raise self._refuse(error) from error

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
            raise self._refuse(error) from error
        self.results[result.case.id] = result

    def close(self) -> None:
        """Release the file; what was added stays."""
        self._file.close()

    def remove(self) -> None:
        """All was measured: the next evaluation begins anew."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _refuse(self, error: OSError) -> UsageError:
        wrong = f"it cannot be written: {error.strerror}"
        return UsageError(str(self.path), wrong, "See that there is room, and whose it is.")

    def _read(self) -> int:
        """Take up what is whole; where the first line that is torn begins."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            try:
                result = read_line(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            self.results[result.case.id] = result
            end += len(line)
        return end
