"""What a row is as a point of Qdrant, and what both places that points lie in can do."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from rag_app.errors import StoreError
from rag_app.rows import Neighbour, Row, clip
from rag_app.vector_stores._qdrant_filter import encode_facts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rag_app.types import Metadata

FORMAT: Final = 1
"""Version of what is written, kept in the mark of each collection."""

FIXED: Final = ("m", "ef_construction", "full_scan_threshold")
"""Options that a collection keeps from when it was made."""

REPEATING: Final = 200
"""Characters up to which a value is likely to come again."""

CONTENT: Final = ["id", "text", "metadata"]
"""The payload that makes a row; the rest of it is there for filters."""

Vector: TypeAlias = "NDArray[np.float32]"


class Point(NamedTuple):
    """A row in Qdrant's terms: a UUID, float32 of shape (d,), and JSON."""

    uuid: str
    vector: Vector
    payload: dict[str, Any]


class Found(NamedTuple):
    """What came back of a point; `vector` is a list of numbers, None when it was not asked for."""

    payload: Mapping[str, Any]
    vector: Any


class Points(Protocol):
    """One collection of points, in a folder or on a server. It may not be there yet.

    `where` is a filter as Qdrant's REST interface writes it; None lets everything pass.
    """

    where: str

    @property
    def dimension(self) -> int | None:
        """Numbers per vector; None when there is no collection."""
        ...

    def require(self, dimension: int) -> None:
        """Make the collection for vectors of `dimension`, when there is none."""
        ...

    def upsert(self, points: Iterable[Point]) -> None:
        """Write points, each replaced whole."""
        ...

    def search(
        self, vector: Vector, k: int, where: dict[str, Any] | None, *, exact: bool
    ) -> list[Neighbour]:
        """The nearest points; all are compared when `exact`."""
        ...

    def read(self, uuids: Sequence[str]) -> list[Found]:
        """The points that are there, with `CONTENT` and vector."""
        ...

    def list_page(
        self,
        where: dict[str, Any] | None,
        start: Any,
        limit: int,
        *,
        names: Collection[str],
        vectors: bool,
    ) -> tuple[list[Found], Any]:
        """Points from `start` on (None: the first), and where the next page starts (None: none)."""
        ...

    def index(self, names: Collection[str]) -> None:
        """Make payload indexes of numbers, where there are none and some point has the field."""
        ...

    def count(self, where: dict[str, Any] | None) -> int:
        """The number of points that match, exactly."""
        ...

    def delete(self, uuids: Sequence[str]) -> None:
        """Remove points; one that is not there is no error."""
        ...

    def drop(self) -> None:
        """Remove the collection."""
        ...

    def close(self) -> None:
        """Free it; a second call does nothing."""
        ...


def to_uuid(id: str) -> str:
    """Qdrant takes numbers and UUIDs only: the first half of the id's SHA-256."""
    return hashlib.sha256(id.encode()).hexdigest()[:32]


def encode(row: Row) -> Point:
    """The point of a row. Its metadata is kept whole, as JSON text."""
    whole = json.dumps(row.metadata, ensure_ascii=False, separators=(",", ":"))
    content = {"id": row.id, "text": row.text, "metadata": whole}
    return Point(to_uuid(row.id), row.vector, {**content, **_list_facts(row.metadata)})


def _list_facts(metadata: Metadata) -> dict[str, Any]:
    """As `encode_facts`, field by field: the same ones come again and again."""
    facts: list[str] = []
    numbers: dict[str, int] = {}
    words: dict[str, int] = {}
    for name, value in metadata.items():
        if isinstance(value, dict):  # it has fields of its own, that another key may hide
            return encode_facts(metadata)
        large = isinstance(value, list) or (isinstance(value, str) and len(value) > REPEATING)
        field = (_encode_field if large else _encode_again)(name, value)
        facts += field.get("facts", ())
        numbers.update(field.get("numbers", ()))
        words.update(field.get("words", ()))
    held = {"facts": facts, "numbers": numbers, "words": words}
    return {part: values for part, values in held.items() if values}


def _encode_field(name: str, value: Any) -> dict[str, Any]:
    return encode_facts({name: value})


_encode_again = lru_cache(20_000, typed=True)(_encode_field)


def decode(found: Sequence[Found]) -> list[Row]:
    """The rows of points."""
    vectors = np.array([point.vector for point in found], dtype=np.float32)
    contents = ([point.payload[name] for name in CONTENT] for point in found)
    return [
        Row(id, text, vector, json.loads(metadata))
        for (id, text, metadata), vector in zip(contents, vectors, strict=True)
    ]


def to_neighbour(payload: Mapping[str, Any], score: float) -> Neighbour:
    """What a search found. Qdrant's score is the product of float32 vectors of norm 1."""
    id, text, metadata = (payload[name] for name in CONTENT)
    return Neighbour(id, text, json.loads(metadata), clip(score))


def encode_name(name: str) -> str:
    """A name that servers and file systems take: `name` itself, or a digest for other characters.

    Capitals are among those, because there are file systems that do not tell them apart.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", name):
        return name
    return f"rag-app-{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def check_mark(mark: Any, options: Mapping[str, Any], what: str) -> None:
    """Refuse a collection that is not ours, or was made with another graph.

    Raises:
        StoreError: it says what was found, and what to set.
    """
    if not isinstance(mark, dict) or mark.get("rag_app") != FORMAT:
        wrong = f"{what} was not written by this rag-app"
        raise StoreError("vector_store.qdrant", wrong, "Choose another name, path or url.")
    for option in FIXED:
        if mark[option] != options[option]:
            raise StoreError(
                f"vector_store.{option}",
                f"the collection was made with {mark[option]}, the config asks for"
                f" {options[option]}",
                f"Set it to {mark[option]}, or ingest into a new index.",
            )


def make_mark(name: str, dimension: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a collection says of itself."""
    fixed = {option: options[option] for option in FIXED}
    return {"rag_app": FORMAT, "name": name, "dimension": dimension, **fixed}
