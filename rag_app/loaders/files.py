"""Files of a folder: text, Markdown, HTML, PDF, Office files, EPUB, e-mail, CSV, JSON lines, RST.

Each file is parsed in a child process with limits; one that cannot be read is reported with the
reason and the rest goes on. What the patterns leave out, hidden files and links out of the folder
are excluded.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from rag_app.errors import MissingPackageError, SourceError
from rag_app.loaders._disk import (
    LFS_POINTER,
    decode_name,
    is_inside,
    rank_name,
    read_hash,
    why_broken,
)
from rag_app.loaders._doubts import doubt_folder, doubt_link, doubt_patterns
from rag_app.loaders._globs import compile_glob
from rag_app.options import OPERATIONAL, Field, FilePath, Options
from rag_app.parsers import FORMATS, find_format
from rag_app.parsers.child import Workers
from rag_app.types import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from langchain_core.documents import Document

    from rag_app.loaders._source import SourceLoader
    from rag_app.parsers import Format
    from rag_app.types import Doubt, Unreadable

_REMEDY = "Mend the file, or leave it out with `exclude`."
_UNMATCHED = "matches no `include` pattern"
_UNWANTED = "matches an `exclude` pattern"


class JsonLines(Options):
    """Which fields of a JSON line are what. The others become metadata."""

    text: list[str] = Field(
        ["title", "text"],
        min_length=1,
        description="Fields that make the text, in this order; those a record lacks are left out.",
    )
    id: str | None = Field(
        None,
        description="Field that identifies a record; by default `_id`, else `id`, else the line.",
    )
    title: str = Field("title", description="Field that is the document's title.")


class Table(Options):
    """How a CSV or TSV file is read. Each row is a document of `column: value` lines."""

    text: list[str] | None = Field(
        None, min_length=1, description="Columns that make the text; by default all of them."
    )
    id: str | None = Field(None, description="Column that identifies a row; by default its number.")
    title: str | None = Field(None, description="Column that is the document's title.")
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="The character between columns; by default told from the file.",
    )


def _check_glob(pattern: str) -> str:
    compile_glob(pattern)
    return pattern


Glob = Annotated[str, AfterValidator(_check_glob)]


class Config(Options):
    """The options of a `files` source."""

    path: FilePath = Field(description="A folder, or one file.", json_schema_extra=OPERATIONAL)
    include: list[Glob] = Field(
        ["**/*"],
        min_length=1,
        description="Globs of the files to read: `*` stays inside a folder, `**/` is any folders.",
        json_schema_extra=OPERATIONAL,
    )
    exclude: list[Glob] = Field(
        [], description="Globs of the files to leave out.", json_schema_extra=OPERATIONAL
    )
    hidden: bool = Field(
        False,
        description="Read files and folders whose name begins with a dot, too.",
        json_schema_extra=OPERATIONAL,
    )
    prefix: str = Field(
        "", description="Put before every source name, for entries whose names would collide."
    )
    jsonl: JsonLines = Field(JsonLines(), description="Which fields of JSON lines are what.")
    csv: Table = Field(Table(), description="How CSV and TSV files are read.")
    max_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest time to parse one file, seconds.",
        json_schema_extra=OPERATIONAL,
    )
    max_memory_mb: int = Field(
        1024,
        ge=128,
        description="Memory to parse one file, MiB; not enforced on Windows.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config) -> SourceLoader:
    """The loader of one folder or file."""
    from rag_app.loaders._source import SourceLoader

    return SourceLoader(Files(config))


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or link of the folder; `excluded` and `broken` say why it is not read."""

    path: Path
    source: str
    excluded: str | None = None
    broken: str | None = None


class Files:
    """The files of one folder, each an `Origin` whose fingerprint is the sha-256 of its bytes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._include = [compile_glob(pattern) for pattern in config.include]
        self._exclude = [compile_glob(pattern) for pattern in config.exclude]
        self._workers = Workers("loaders.files", "files", config.max_seconds, config.max_memory_mb)
        self._doubts: list[Doubt] = []

    def close(self) -> None:
        """End the child processes."""
        self._workers.close()

    def origins(self) -> Iterator[Origin]:
        """The files, sorted by name. The folder is listed whole before the first is given.

        Raises:
            SourceError: it is missing, cannot be listed, or holds nothing the patterns match.
        """
        try:
            listed = self._list()
        except OSError as error:  # a disk that is gone, a folder that may not be searched
            raise self._refuse_listing(error) from error
        if not any(found.excluded is None for found in listed):
            raise self._nothing(len(listed))
        return map(self._to_origin, listed)

    def doubts(self) -> Sequence[Doubt]:
        """Empty folders, what is no longer a folder or file, and patterns that match nothing."""
        return tuple(self._doubts)

    def _list(self) -> list[_Found]:
        path = self.config.path
        self._doubts = []
        if path.is_file():
            return [_Found(path, self._name(path.name, set()))]
        if not path.is_dir():
            raise SourceError(
                "sources.path",
                f"{str(path)!r} {'is no folder' if path.exists() else 'does not exist'}",
                "Give a folder or file; a relative path starts at the config file's folder.",
            )
        taken: set[str] = set()
        found = [self._judge(each, taken) for each in sorted(self._walk(path), key=rank_name)]
        self._doubt(found)
        return sorted(found, key=lambda each: each.source)

    def _doubt(self, listed: Sequence[_Found]) -> None:
        for found in listed:
            reason = found.broken or found.excluded
            if reason is not None and (found.broken or found.path.is_symlink()):
                self._doubts.append(doubt_link(found.source, str(found.path), reason))
        start, patterns = self.config.prefix, self.config.include
        left_out = {found.source for found in listed if found.excluded == _UNMATCHED}
        matched = [found.source for found in listed if found.excluded in (None, _UNWANTED)]
        names = [source.removeprefix(start) for source in matched]
        self._doubts += doubt_patterns(patterns, names, left_out, start)

    def _walk(self, folder: Path) -> Iterator[Path]:
        for place, folders, names in os.walk(folder, onerror=_raise):
            if not any(self.config.hidden or name[0] != "." for name in (*folders, *names)):
                relative = unicodedata.normalize("NFC", self._relate(Path(place)))
                source = self.config.prefix + relative
                self._doubts.append(doubt_folder(source, place))
            yield from (Path(place, name) for name in names)
            left_out = [name for name in folders if self._stays_outside(place, name)]
            yield from (Path(place, name) for name in left_out)
            folders[:] = sorted(set(folders) - set(left_out))

    def _stays_outside(self, place: str, name: str) -> bool:
        return (name.startswith(".") and not self.config.hidden) or Path(place, name).is_symlink()

    def _judge(self, path: Path, taken: set[str]) -> _Found:
        relative = self._relate(path)
        source, link = self._name(relative, taken), path.is_symlink()
        excluded = self._why_excluded(path, unicodedata.normalize("NFC", relative), link)
        broken = None if excluded else why_broken(path, link)
        return _Found(path, source, excluded, broken)

    def _relate(self, path: Path) -> str:
        return decode_name(path.relative_to(self.config.path).as_posix())

    def _name(self, relative: str, taken: set[str]) -> str:
        name = self.config.prefix + unicodedata.normalize("NFC", relative)
        name = self.config.prefix + relative if name in taken else name
        taken.add(name)
        return name

    def _why_excluded(self, path: Path, relative: str, link: bool) -> str | None:
        if path.name.startswith(".") and not self.config.hidden:
            return "hidden: its name begins with a dot"
        if link and path.is_dir():
            return "a link to a folder, which is not followed"
        if link and not is_inside(path, self.config.path):
            return "a link out of the folder, which is not followed"
        if not any(glob.fullmatch(relative) for glob in self._include):
            return _UNMATCHED
        if any(glob.fullmatch(relative) for glob in self._exclude):
            return _UNWANTED
        return None

    def _to_origin(self, found: _Found) -> Origin:
        if found.excluded is not None:
            return Origin(found.source, None, lambda: (), found.excluded)
        if found.broken is not None:
            return Origin(found.source, None, _refuse(found.source, found.broken, _REMEDY))
        parsed_as = find_format(found.path.name)
        try:
            fingerprint, begins = read_hash(found.path)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            return Origin(found.source, None, _refuse(found.source, reason, _REMEDY))
        if begins == LFS_POINTER:
            reason, remedy = "is the pointer of Git LFS, not the file", "Run: git lfs pull"
            return Origin(found.source, None, _refuse(found.source, reason, remedy))
        if parsed_as is None:
            remedy = f"Leave it out with `exclude`; these are read: {', '.join(sorted(FORMATS))}."
            load = _refuse(found.source, _no_format(found), remedy)
            return Origin(found.source, fingerprint, load, read=found.path.read_bytes)
        return Origin(
            found.source,
            fingerprint,
            lambda: self._load(found, fingerprint, parsed_as),
            read=found.path.read_bytes,
        )

    def _load(
        self, found: _Found, fingerprint: str, parsed_as: Format
    ) -> Iterator[Document | Unreadable]:
        from rag_app.loaders._source import to_documents

        try:
            modified = datetime.fromtimestamp(found.path.stat().st_mtime, UTC)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise SourceError(found.source, reason, _REMEDY) from error
        metadata = {
            "modified": modified.isoformat(timespec="seconds"),
            "media_type": parsed_as.media_type,
        }
        pieces = self._workers.parse_file(
            str(found.path), fingerprint, parsed_as.module, self._options_of(parsed_as, found.path)
        )
        try:
            yield from to_documents(found.source, pieces, metadata, _REMEDY)
        except MissingPackageError as error:
            remedy = f"{error.remedy}, or leave such files out with `exclude`."
            raise MissingPackageError(found.source, error.wrong, remedy) from error

    def _options_of(self, parsed_as: Format, path: Path) -> dict[str, Any]:
        return options_of(parsed_as.module, path.suffix, self.config.jsonl, self.config.csv)

    def _refuse_listing(self, error: OSError) -> SourceError:
        place = error.filename or self.config.path
        wrong = f"{str(place)!r} cannot be listed: {error.strerror or type(error).__name__}"
        remedy = "Grant access to it, or mount it; nothing is deleted from the index meanwhile."
        return SourceError("sources.path", wrong, remedy)

    def _nothing(self, seen: int) -> SourceError:
        where = f"{str(self.config.path)!r}"
        if not seen:
            return SourceError("sources.path", f"{where} is an empty folder", "Put files into it.")
        patterns = ", ".join(map(repr, self.config.include))
        return SourceError(
            "sources.include",
            f"{patterns} matches none of the {seen} entries of {where} that are not excluded",
            'Widen `include` ("**/*.md" matches at any depth), or narrow `exclude`.',
        )


def options_of(module: str, ending: str, jsonl: JsonLines, csv: Table) -> dict[str, Any]:
    """What a format's parser is told of a file whose name ends in `ending`."""
    if module == "jsonl":
        return jsonl.model_dump()
    if module == "csv_rows":
        tabs = {"delimiter": "\t"} if ending.lower() == ".tsv" else {}
        return csv.model_dump() | (tabs if csv.delimiter is None else {})
    if module == "eml":  # for its attachments
        return {"jsonl": jsonl.model_dump(), "csv_rows": csv.model_dump()}
    return {}


def _refuse(source: str, reason: str, remedy: str) -> Callable[[], Iterable[Any]]:
    def load() -> Iterable[Any]:
        raise SourceError(source, reason, remedy)

    return load


def _raise(error: OSError) -> None:
    raise error


def _no_format(found: _Found) -> str:
    ending = found.path.suffix
    return f"files ending in {ending!r} cannot be read" if ending else "its name has no ending"
