"""What the vector store holds, row by row, against what the manifest says that it holds."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from sqlalchemy import text

from rag_app.errors import StoreError
from rag_app.index.database import in_parts, names
from rag_app.index.read import digest, name_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from rag_app.index.ledger import Ledger
    from rag_app.rows import Row, Vector
    from rag_app.store import Store

PAGE: Final = 500

LENGTH_APART: Final = 0.01
"""How far a vector's length may be from 1; stores that halve their numbers round it."""

COPIES: Final = 50
"""Chunks of one text and place in a document whose ids are told apart without splitting it."""

_SPARE_BYTES: Final = 300
"""More than a model adds to a text, prefixes and special tokens; a token has a byte at least."""


class Known(NamedTuple):
    """What the manifest says of a row."""

    source: str
    state: int


class Rows:
    """Goes through the rows of one generation.

    Args:
        store: the collection; `generation` the number in the manifest.
        dimension: of the vectors; None when it is not known.
        model: the embedding model, for its window.
        take: is given the published rows that are sound so far, with their documents.
    """

    def __init__(
        self,
        store: Store,
        generation: int,
        dimension: int | None,
        model: Any,
        ledger: Ledger,
        take: Callable[[Sequence[tuple[Row, str]]], None],
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        self.count = 0
        self.unknown: dict[str, set[str]] = {}
        """Ids, by document, of rows that the manifest does not know."""
        self.copies: dict[str, set[str]] = {}
        """Of those that it does not know, but that hold what another row does."""
        self.suspects: dict[str, set[str]] = {}
        """Ids, by document, of rows whose id is not the one of what they hold."""
        self._store, self._generation, self._dimension = store, generation, dimension
        self._model, self._ledger, self._take = model, ledger, take
        self._progress = progress
        self._seen: set[str] = set()

    def examine(self, connection: Connection) -> list[tuple[str, str, str]]:
        """Compare with the manifest as `connection` sees it.

        Returns:
            The rows that it does not know, for `note_strange`: they may have become known since.

        Raises:
            StoreError: the rows cannot be read; the ledger says so too.
        """
        strange: list[tuple[str, str, str]] = []
        try:
            total = self._store.count()
            for page in _pages(self._store.scan()):
                known = find_known(connection, self._generation, [row.id for row in page])
                strange += [_describe(row) for row in page if row.id not in known]
                self._judge([(row, known[row.id]) for row in page if row.id in known])
                self.count += len(page)
                self._progress("examining", self.count, max(total, self.count))
        except StoreError as error:
            remedy = f"{error.remedy} When its files are gone, rag-app doctor --fix restores it."
            self._ledger.tell("store-unreadable", f"{error.where}: {error.wrong}", remedy)
            raise
        self._find_missing(connection)
        return strange

    def note_strange(self, connection: Connection, strange: Sequence[tuple[str, str, str]]) -> None:
        """Note the rows that the manifest does not know even now."""
        self._tell_apart(connection, strange)
        count = sum(map(len, self.unknown.values()))
        kind = "foreign-rows" if 2 * count > self.count else "unknown-rows"
        for listed, name in ((self.copies, "copied-rows"), (self.unknown, kind)):
            for document, ids in listed.items():
                for id in ids:
                    self._ledger.add(name, document, id)

    def _tell_apart(self, connection: Connection, strange: Sequence[tuple[str, str, str]]) -> None:
        for start in range(0, len(strange), PAGE):
            part = strange[start : start + PAGE]
            ids = [id for id, _, _ in part]
            now = find_known(connection, self._generation, ids)
            named = find_known(connection, self._generation, [name for _, _, name in part])
            for id, document, name in part:
                if id not in now:
                    copy = name in named and named[name].state % 2 == 1
                    (self.copies if copy else self.unknown).setdefault(document, set()).add(id)

    def _judge(self, rows: Sequence[tuple[Row, Known]]) -> None:
        sound = []
        for row, known in rows:
            if known.state == 0:
                continue
            wrong = self._find_wrong(row)
            if known.state % 2 == 0:
                if wrong is not None or row.id != self._name(row, known.source):
                    self._ledger.add("unconfirmed-chunks", known.source, row.id)
            elif wrong is not None:
                self._ledger.add(wrong, known.source, row.id)
            else:
                if row.id != self._name(row, known.source):
                    self.suspects.setdefault(known.source, set()).add(row.id)
                    continue
                self._measure(row, known.source)
                sound.append((row, known.source))
        self._take(sound)

    def _find_wrong(self, row: Row) -> str | None:
        if row.id in self._seen:
            return "duplicate-rows"
        self._seen.add(row.id)
        if not row.text.strip():
            return "empty-rows"
        if self._dimension is not None and len(row.vector) != self._dimension:
            return "wrong-dimension"
        return None if is_sound(row.vector, self._dimension) else "bad-vectors"

    def _name(self, row: Row, source: str) -> str:
        """The id of what the row holds; of several copies the one that the row has."""
        named = name_chunk(source, row.text, row.metadata)
        if named == row.id:
            return named
        others = (digest(named, str(number))[:32] for number in range(1, COPIES))
        return row.id if row.id in others else named

    def _measure(self, row: Row, source: str) -> None:
        window = getattr(self._model, "max_tokens", None)
        if window is None or len(row.text.encode("utf-8", "replace")) + _SPARE_BYTES <= window:
            return
        if self._model.count_tokens(row.text) > window:
            self._ledger.add("long-chunks", source, row.id)

    def _find_missing(self, connection: Connection) -> None:
        """Chunks that must be in the store and were not seen there."""
        wanted = connection.execute(text(_WANTED), {"g": self._generation})
        for id, source, state in wanted:
            if id not in self._seen:
                kind = "missing-chunks" if state % 2 else "unconfirmed-chunks"
                self._ledger.add(kind, source, id)


def is_sound(vector: Vector, dimension: int | None) -> bool:
    """Whether a vector can be one of an index: of the dimension, finite, of length 1."""
    length = float(np.linalg.norm(vector))
    return dimension in (None, len(vector)) and abs(length - 1) <= LENGTH_APART


def find_known(connection: Connection, generation: int, ids: Sequence[str]) -> dict[str, Known]:
    """What the manifest says of these ids, but for those it does not know."""
    found: dict[str, Known] = {}
    for part in in_parts(ids):
        statement = (
            f"SELECT id, source, state FROM chunks WHERE generation = :g AND id IN ({names(part)})"
        )
        for id, *rest in connection.execute(text(statement), {"g": generation, **part}):
            found[id] = Known(*rest)
    return found


def _pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    walked = iter(rows)
    while page := list(islice(walked, PAGE)):
        yield page


def _describe(row: Row) -> tuple[str, str, str]:
    """Id, document, and the id that the row would have if it were ours."""
    source = row.metadata.get("source")
    if not isinstance(source, str):
        return row.id, f"row {row.id}", ""
    return row.id, source, name_chunk(source, row.text, row.metadata)


_WANTED: Final = """
SELECT id, source, state FROM chunks WHERE generation = :g AND (state % 2 = 1 OR state = 2
    AND id NOT IN (SELECT id FROM staged WHERE generation = :g))
"""
