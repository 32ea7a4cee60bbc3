"""The bytes of a data set's files: a stream that is hashed as it is read, and never held whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rag_app.parsers.parsed import ParseError, UnreadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Buffer

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


class _Hashed(io.RawIOBase):
    """A file that is read once from its begin to its end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._sha = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        count = self._file.readinto(view) or 0
        self._sha.update(view[:count])
        return count

    def hexdigest(self) -> str:
        """The SHA-256 of what was read."""
        return self._sha.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def open_file(path: Path, sha256: str | None = None) -> Iterator[io.BufferedReader[Any]]:
    """The bytes of a file, packed as they are.

    Args:
        sha256: what the file is to hold; checked after the block, what was not read included.

    Raises:
        ParseError: it is empty.
        UnreadError: the disk does not give it, or it held something else in the end.
    """
    try:
        with _Hashed(path) as raw, io.BufferedReader(raw, _PIECE) as stream:
            if not stream.peek(1):
                raise ParseError("is empty")
            try:
                yield stream
            except ParseError:
                _refuse_changed(raw, sha256)
                raise
            _refuse_changed(raw, sha256)
    except OSError as error:
        raise UnreadError(f"cannot be read: {error.strerror or error}") from error


def read_text(path: Path, sha256: str | None = None) -> str:
    """The whole text of a file, plain or gzipped, character by character as it stands there.

    Raises:
        ParseError: it is empty, not UTF-8, or its gzip stream is damaged.
        UnreadError: the disk does not give it, or it held something else in the end.
    """
    with open_file(path, sha256) as stream:
        try:
            packed = stream.peek(len(_GZIP)).startswith(_GZIP)
            data = gzip.GzipFile(fileobj=stream).read() if packed else stream.read()
            return data.decode()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ParseError(f"its gzip stream is damaged: {error}") from error
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8: {error.reason} at byte {error.start}"
            raise ParseError(reason) from error


def _refuse_changed(raw: _Hashed, sha256: str | None) -> None:
    if sha256 is None:
        return
    while raw.read(_PIECE):
        pass
    if raw.hexdigest() != sha256:
        raise UnreadError("was changed while it was being read; ingest again")
