"""What the loaders of data sets share: each file an origin, its documents read one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.documents import Document

from rag_app.errors import SourceError
from rag_app.loaders._disk import LFS_POINTER, read_hash, why_broken
from rag_app.parsers.parsed import Broken, Parsed, ParseError, UnreadError
from rag_app.types import Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rag_app.types import Doubt

_REMEDY = "Mend the file; what the index holds of it stays meanwhile."


class DataSet:
    """The files of one data set, each an `Origin` whose fingerprint is the sha-256 of its bytes.

    Args:
        prefix: before every name.
        files: lists the names and paths, sorted by name; ParseError where there is none.
        read: the documents of a file, which must hold that sha-256; `part` is the name.
        doubt: why files may be absent that were there before.
    """

    def __init__(
        self,
        prefix: str,
        files: Callable[[], Sequence[tuple[str, Path]]],
        read: Callable[[Path, str], Iterator[Parsed | Broken]],
        doubt: Callable[[], Iterable[Doubt]] = tuple,
    ) -> None:
        self._prefix, self._files, self._read, self._doubt = prefix, files, read, doubt

    def close(self) -> None:
        """Nothing stays open between two loads."""

    def origins(self) -> Iterator[Origin]:
        """The files.

        Raises:
            SourceError: there are none, or they cannot be listed.
        """
        try:
            listed = self._files()
        except ParseError as error:
            raise SourceError("sources.path", str(error), "Give the data set's path.") from error
        except OSError as error:
            wrong = f"{str(error.filename)!r} cannot be listed: {error.strerror}"
            remedy = "Grant access to it, or mount it; nothing is deleted from the index meanwhile."
            raise SourceError("sources.path", wrong, remedy) from error
        return (self._to_origin(self._prefix + name, path) for name, path in listed)

    def doubts(self) -> Sequence[Doubt]:
        """What the data set itself says should be there, and is not."""
        return tuple(self._doubt())

    def _to_origin(self, source: str, path: Path) -> Origin:
        if broken := why_broken(path, path.is_symlink()):
            return Origin(source, None, lambda: _refuse(source, broken, _REMEDY))
        try:
            sha256, begins = read_hash(path)
        except OSError as error:
            reason, remedy = f"cannot be read: {error.strerror}", _REMEDY
            return Origin(source, None, lambda: _refuse(source, reason, remedy))
        if begins == LFS_POINTER:
            reason, remedy = "is the pointer of Git LFS, not the file", "Run: git lfs pull"
            return Origin(source, None, lambda: _refuse(source, reason, remedy))
        return Origin(source, sha256, lambda: self._load(source, path, sha256))

    def _load(self, source: str, path: Path, sha256: str) -> Iterator[Document | Unreadable]:
        try:
            for piece in self._read(path, sha256):
                name = f"{self._prefix}{piece.part}"
                if isinstance(piece, Broken):
                    yield Unreadable(name, piece.reason)
                else:
                    yield Document(piece.text, metadata={**piece.metadata, "source": name})
        except (ParseError, UnreadError) as error:
            raise SourceError(source, str(error), _REMEDY) from error


def require_folder(path: Path) -> None:
    """Refuse what is no folder.

    Raises:
        ParseError: saying so.
    """
    if not path.is_dir():
        wrong = "is no folder" if path.exists() else "does not exist"
        raise ParseError(f"{str(path)!r} {wrong}")


def _refuse(source: str, reason: str, remedy: str) -> Iterator[Document]:
    raise SourceError(source, reason, remedy)
