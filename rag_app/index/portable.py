"""The portable form of an index: a folder, or a zip of it, that anybody can read without rag-app.

    index.json       what it is: format, counts, model, splitter, and the SHA-256 of the other files
    documents.jsonl  the documents as they were read, one a line
    chunks.jsonl     their chunks in the same order, one a line
    vectors.npy      row i is the vector of line i of the chunks
    origins.jsonl    what was read, and how: for the next ingest to read only what has changed
    probes.npy       what the model made of the probe sentences of index.json

The guide's page on it is the specification; what changes there raises `VERSION`.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from rag_app.errors import IndexStateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rag_app.types import Metadata

FORMAT: Final = "rag-app index"
VERSION: Final = 1

HEADER: Final = "index.json"
DOCUMENTS: Final = "documents.jsonl"
CHUNKS: Final = "chunks.jsonl"
VECTORS: Final = "vectors.npy"
ORIGINS: Final = "origins.jsonl"
PROBE_VECTORS: Final = "probes.npy"
PARTS: Final = (DOCUMENTS, CHUNKS, VECTORS, ORIGINS, PROBE_VECTORS)

_Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Part(_Strict):
    """One file beside `index.json`."""

    bytes: _Count
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Counts(_Strict):
    """Lines of the three files of lines; `chunks` is the number of vectors, too."""

    documents: _Count
    chunks: _Count
    origins: _Count


class Header(_Strict):
    """`index.json`.

    Attributes:
        name: of the index that was exported; an import gives it the config's.
        embeddings: the identity of the model, `splitter` that of the splitter.
        probes: the sentences whose vectors are in `probes.npy`.
    """

    format: Literal["rag-app index"]
    version: Literal[1]
    made_by: str
    name: str
    created: str
    counts: Counts
    dimension: int = Field(ge=1)
    dtype: Literal["float32"]
    similarity: Literal["cosine"]
    embeddings: dict[str, Any]
    splitter: dict[str, Any]
    probes: list[str]
    files: dict[str, Part]


@dataclass(frozen=True, slots=True)
class ChunkLine:
    """A line of `chunks.jsonl`. `row` counts from 0, in the file and among the vectors."""

    row: int
    id: str
    source: str
    text: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """A line of `documents.jsonl`. `version` changes with the document and how it was read."""

    source: str
    origin: str
    version: str
    chunks: int
    text: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class OriginLine:
    """A line of `origins.jsonl`: a file, a page; and what of it could not be read.

    Attributes:
        fingerprint: of its content; None to have it read again.
        settings: a digest of how it was read and split; `entry` the config's source, as JSON.
        quarantine: sources with the reason.
    """

    origin: str
    fingerprint: str | None
    settings: str
    entry: str
    quarantine: dict[str, str]


def refuse(place: str, wrong: str, cause: BaseException | None = None) -> NoReturn:
    """Say what is wrong with an export.

    Raises:
        IndexStateError: always.
    """
    remedy = "Copy it again from where it was exported, or export it again."
    raise IndexStateError(place, wrong, remedy) from cause


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Put an error of the disk in our words.

    Raises:
        IndexStateError: an OSError was raised inside.
    """
    try:
        yield
    except OSError as error:
        wrong = f"it cannot be read: {error.strerror or error}"
        raise IndexStateError(
            place, wrong, "See to the files and the disk; run it again."
        ) from error


class Sink:
    """A file being written, which knows its size and checksum."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._sha = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._sha.update(data)
        self._size += len(data)

    def write_line(self, value: dict[str, Any]) -> None:
        """Append one JSON object and a line feed."""
        words = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.write(words.encode("utf-8") + b"\n")

    def end(self) -> Part:
        """Close the file; what `index.json` says of it."""
        self._file.close()
        return Part(bytes=self._size, sha256=self._sha.hexdigest())

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()
