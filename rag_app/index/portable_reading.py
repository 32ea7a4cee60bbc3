"""Reading the portable form: nothing of it is believed before it was checked.

Only files of the known names are read, and no more of each than `index.json` says there is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from rag_app.errors import IndexStateError
from rag_app.index.embed import name_text
from rag_app.index.portable import (
    CHUNKS,
    DOCUMENTS,
    FORMAT,
    HEADER,
    ORIGINS,
    PARTS,
    PROBE_VECTORS,
    VECTORS,
    VERSION,
    ChunkLine,
    DocumentLine,
    Header,
    OriginLine,
    reading,
    refuse,
)
from rag_app.index.portable_vectors import Array
from rag_app.json_values import find_non_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

UNPACKED: Final = "import-"
"""How folders begin that zips are unpacked into."""

_LARGEST_HEADER: Final = 1 << 24
_READ: Final = 1 << 20


@contextmanager
def open_portable(source: Path, folder: Path) -> Iterator[Portable]:
    """An export, its header read; a zip is unpacked into `folder` for as long as it is open.

    Raises:
        IndexStateError: it is none, or of another version of the format.
    """
    header, digest = read_header(source)
    if source.is_dir():
        yield Portable(source, str(source), header, digest)
        return
    with ExitStack() as opened:
        with reading(str(source)):
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"{UNPACKED}*"):  # of a run that was killed: only one writes
                shutil.rmtree(left)
            temporary = TemporaryDirectory(prefix=UNPACKED, dir=folder)
            unpacked = opened.enter_context(temporary)
            _unpack(source, Path(unpacked), header)
        yield Portable(Path(unpacked), str(source), header, digest)


def read_header(source: Path) -> tuple[Header, str]:
    """`index.json` of a folder or zip, and its SHA-256.

    Raises:
        IndexStateError: there is none, or this version cannot read it.
    """
    place = str(source)
    try:
        if source.is_dir():
            with (source / HEADER).open("rb") as file:
                data = file.read(_LARGEST_HEADER)
        else:
            with zipfile.ZipFile(source) as packed, packed.open(HEADER) as member:
                data = member.read(_LARGEST_HEADER)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        wrong = f"no {HEADER} can be read in it"
        if isinstance(error, FileNotFoundError) and not source.exists():
            wrong = "it does not exist"
        remedy = "Give the folder or .zip that `rag-app index export` wrote."
        raise IndexStateError(place, wrong, remedy) from error
    return _parse_header(data, place), hashlib.sha256(data).hexdigest()


def _parse_header(data: bytes, place: str) -> Header:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        refuse(place, f"{HEADER} is not JSON: {error}", error)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        remedy = "Give the folder or .zip that `rag-app index export` wrote."
        raise IndexStateError(place, f"{HEADER} is not that of an index", remedy)
    if value.get("version") != VERSION:
        wrong = f"it has version {value.get('version')!r} of the format; this one reads {VERSION}"
        raise IndexStateError(place, wrong, "Read it with the rag-app that it was made by.")
    try:
        header = Header.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        refuse(place, f"{HEADER}: {field}: {first['msg'].lower()}", error)
    if set(header.files) != set(PARTS):
        refuse(place, f"{HEADER} names the files {', '.join(sorted(header.files))}")
    return header


def _unpack(source: Path, folder: Path, header: Header) -> None:
    needed = sum(part.bytes for part in header.files.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        wrong = f"unpacked it takes {needed:,} bytes; {folder} has room for {free:,}"
        raise IndexStateError(str(source), wrong, "Make room, or unpack it and give the folder.")
    with zipfile.ZipFile(source) as packed:
        for name in PARTS:
            try:
                with packed.open(name) as member, (folder / name).open("wb") as file:
                    _copy(member, file, header.files[name].bytes)
            except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                refuse(str(source), f"{name} cannot be unpacked", error)


def _copy(member: Any, file: BinaryIO, expected: int) -> None:
    """No more than is expected and one byte, which then is seen to be too many."""
    left = expected + 1
    while left and (data := member.read(min(left, _READ))):
        file.write(data)
        left -= len(data)


class Portable:
    """The files of an export, in a folder.

    Args:
        folder: where they are.
        place: what messages call it.
        digest: of `index.json`, and so of everything that was exported.

    Raises, from any method: IndexStateError, saying what is wrong with the export.
    """

    def __init__(self, folder: Path, place: str, header: Header, digest: str) -> None:
        self.place = place
        self.header = header
        self.digest = digest
        self._folder = folder

    def check(self, progress: Callable[[str, int, int | None], None]) -> None:
        """Read all of it: checksums, then every line and vector."""
        for name in PARTS:
            self._check_sum(name)
        self.vectors.check_units()
        self.probes.check_units()
        done = 0
        for _, chunks in self.documents():
            done += len(chunks)
            progress("checking", done, self.header.counts.chunks)
        names = set()
        for line in self.origins():
            if line.origin in names:
                refuse(self.place, f"{ORIGINS} names {line.origin!r} twice")
            names.add(line.origin)
        for document, _ in self._documents():
            if document.origin not in names:
                refuse(self.place, f"{ORIGINS} lacks {document.origin!r}")

    def documents(self) -> Iterator[tuple[DocumentLine, list[ChunkLine]]]:
        """Every document with its chunks, in their order; none twice."""
        sources: set[bytes] = set()
        ids: set[bytes] = set()
        chunks = self._chunks()
        for document, where in self._documents():
            _add(sources, document.source, f"{where}: the document", self.place)
            own = []
            for _ in range(document.chunks):
                chunk = next(chunks, None)
                if chunk is None or chunk.source != document.source:
                    wrong = f"{CHUNKS} does not have its {document.chunks} chunks at their place"
                    refuse(self.place, f"{where}: {wrong}")
                _add(ids, chunk.id, f"{CHUNKS}, line {chunk.row + 1}: the id", self.place)
                own.append(chunk)
            yield document, own
        if next(chunks, None) is not None:
            refuse(self.place, f"{CHUNKS} goes on after the last document")

    def origins(self) -> Iterator[OriginLine]:
        """Every line of `origins.jsonl`."""
        types = {"origin": str, "fingerprint": str | None, "settings": str, "entry": str}
        for where, line in self._lines(ORIGINS, self.header.counts.origins):
            _require_fields(line, {**types, "quarantine": dict}, where, self.place)
            if not all(isinstance(each, str) for each in line["quarantine"].values()):
                refuse(self.place, f"{where}: quarantine: reasons are texts")
            yield OriginLine(**line)

    @cached_property
    def vectors(self) -> Array:
        """Row i is the vector of line i of the chunks."""
        shape = self.header.counts.chunks, self.header.dimension
        return Array(self._folder / VECTORS, shape, self.place)

    @cached_property
    def probes(self) -> Array:
        """The vectors of the probe sentences."""
        shape = len(self.header.probes), self.header.dimension
        return Array(self._folder / PROBE_VECTORS, shape, self.place)

    def find_rows(self) -> dict[bytes, int]:
        """For each text of a chunk, by its SHA-256, the row of a vector of it."""
        rows: dict[bytes, int] = {}
        for chunk in self._chunks():
            row = rows.setdefault(name_text(chunk.text), chunk.row)
            if row != chunk.row and not self.vectors.are_alike(row, chunk.row):
                wrong = f"lines {row + 1} and {chunk.row + 1} of {CHUNKS} have the same text, and "
                refuse(self.place, wrong + f"vectors of different directions in {VECTORS}")
        return rows

    def _documents(self) -> Iterator[tuple[DocumentLine, str]]:
        types = {"source": str, "origin": str, "version": str, "chunks": int, "text": str}
        for where, line in self._lines(DOCUMENTS, self.header.counts.documents):
            _require_fields(line, {**types, "metadata": dict}, where, self.place)
            self._require_source(line, where)
            yield DocumentLine(**line), where

    def _chunks(self) -> Iterator[ChunkLine]:
        types = {"id": str, "source": str, "text": str, "metadata": dict}
        lines = self._lines(CHUNKS, self.header.counts.chunks)
        for row, (where, line) in enumerate(lines):
            _require_fields(line, types, where, self.place)
            self._require_source(line, where)
            yield ChunkLine(row, **line)

    def _require_source(self, line: dict[str, Any], where: str) -> None:
        if line["metadata"].get("source") != line["source"]:
            refuse(self.place, f"{where}: metadata.source is not the source")

    def _lines(self, name: str, expected: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each line's place in words, and its object."""
        count = 0
        with reading(self.place), (self._folder / name).open("rb") as file:
            for count, data in enumerate(file, 1):
                where = f"{name}, line {count}"
                try:
                    line = json.loads(data)
                except (ValueError, RecursionError) as error:
                    refuse(self.place, f"{where} is not JSON", error)
                if not isinstance(line, dict):
                    refuse(self.place, f"{where} is no object")
                if wrong := find_non_json(line):
                    refuse(self.place, f"{where}: {wrong[0]}: {wrong[1]}")
                yield where, line
        if count != expected:
            refuse(self.place, f"{name} has {count} lines, {HEADER} says {expected}")

    def _check_sum(self, name: str) -> None:
        path, part = self._folder / name, self.header.files[name]
        if not path.is_file():
            refuse(self.place, f"{name} is missing")
        if (size := path.stat().st_size) != part.bytes:
            refuse(self.place, f"{name} has {size:,} bytes, {HEADER} says {part.bytes:,}")
        with reading(self.place), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != part.sha256:
            refuse(self.place, f"{name} is damaged: its SHA-256 is not that of {HEADER}")


def _require_fields(line: dict[str, Any], types: dict[str, Any], where: str, place: str) -> None:
    if line.keys() != types.keys():
        refuse(place, f"{where} has the fields {', '.join(line)}, not {', '.join(types)}")
    for name, kind in types.items():
        if not isinstance(line[name], kind) or isinstance(line[name], bool):
            refuse(place, f"{where}: {name} is of type {type(line[name]).__name__}")
        if name in {"id", "source", "origin"} and not line[name]:
            refuse(place, f"{where}: {name} is empty")


def _add(seen: set[bytes], name: str, what: str, place: str) -> None:
    key = name_text(name)[:16]
    if key in seen:
        refuse(place, f"{what} {name!r} is there twice")
    seen.add(key)
