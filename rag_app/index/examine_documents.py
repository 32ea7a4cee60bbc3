"""What the manifest keeps of documents, against itself: texts, and the chunks that follow."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.documents import Document
from sqlalchemy import text

from rag_app.index.database import in_parts, names
from rag_app.index.read import digest, make_document
from rag_app.index.records import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_text_splitters import TextSplitter
    from sqlalchemy.engine import Connection

    from rag_app.index.ledger import Ledger
    from rag_app.index.records import PlannedChunk
    from rag_app.store import Store

READ_AGAIN: Final = ""
"""The version of a document whose origin is to be read again whatever it holds."""


class Kept(NamedTuple):
    """A published document as the manifest keeps it; `text` is None where no readable copy is."""

    source: str
    version: str
    text: str | None
    metadata: dict[str, Any]


class Documents:
    """Goes through the published documents of one generation.

    Args:
        splitter: as the chunks were cut; None when the config's cuts otherwise.
        suspects: ids, by document, of rows whose id is not that of what they hold.
    """

    def __init__(
        self,
        store: Store,
        generation: int,
        splitter: TextSplitter | None,
        suspects: dict[str, set[str]],
        ledger: Ledger,
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        self._store, self._generation, self._splitter = store, generation, splitter
        self._suspects, self._ledger, self._progress = suspects, ledger, progress

    def examine(self, connection: Connection) -> int:
        """Compare; the number of documents."""
        total = connection.execute(text(_COUNT), {"g": self._generation}).scalar()
        count = 0
        for page in read_kept(connection, self._generation):
            held = _find_ids(connection, self._generation, [kept.source for kept in page])
            for kept in page:
                count += 1
                self._judge(kept, held.get(kept.source, set()))
            self._progress("splitting again", count, total)
        self._settle(set(self._suspects), {})
        for id, source in connection.execute(text(_ORPHANS), {"g": self._generation}):
            self._ledger.add("chunks-without-document", source, id)
        return count

    def _judge(self, kept: Kept, held: set[str]) -> None:
        if kept.version == READ_AGAIN:
            self._ledger.add("to-read-again", kept.source)
            return
        if kept.text is None:
            self._ledger.add("damaged-contents", kept.source)
        if not held:
            self._ledger.add("documents-without-chunks", kept.source)
        elif kept.text is not None and self._splitter is not None:
            chunks = split_again(self._splitter, kept)
            if chunks.keys() != held:
                self._ledger.add("splitter-drift", kept.source)
            if kept.source in self._suspects:
                self._settle({kept.source}, chunks)

    def _settle(self, sources: set[str], chunks: dict[str, PlannedChunk]) -> None:
        """Rows are altered unless they hold what the chunk of their id does."""
        for source in sources:
            ids = sorted(self._suspects.pop(source))
            rows = {row.id: row for row in self._store.fetch(ids)} if chunks else {}
            for id in ids:
                row, chunk = rows.get(id), chunks.get(id)
                if (
                    row is None
                    or chunk is None
                    or (row.text, row.metadata)
                    != (
                        chunk.text,
                        chunk.metadata,
                    )
                ):
                    self._ledger.add("altered-rows", source, id)


def split_again(splitter: TextSplitter, kept: Kept) -> dict[str, PlannedChunk]:
    """The chunks of a document whose text is kept, by their ids."""
    document = Document(page_content=kept.text or "", metadata=kept.metadata)
    planned = make_document(splitter, document, "", kept.version)
    return {chunk.id: chunk for chunk in planned.chunks}


def read_kept(
    connection: Connection, generation: int, only: Sequence[str] | None = None
) -> Iterator[list[Kept]]:
    """The published documents, some at a time; `only` those of these names, when given."""
    if only is not None:
        for part in in_parts(only):
            listed = _KEPT + f" AND source IN ({names(part)}) ORDER BY source"
            for kept in connection.execute(text(listed), {"g": generation, **part}):
                yield [_unpack(*kept)]
        return
    statement = text(_KEPT + " AND source > :last ORDER BY source LIMIT 50")
    last = ""
    while rows := connection.execute(statement, {"g": generation, "last": last}).fetchall():
        yield [_unpack(*row) for row in rows]
        last = rows[-1][0]


def _unpack(source: str, version: str, key: str, data: bytes | None, metadata: str) -> Kept:
    try:
        words = None if data is None else unpack(data)
        known = json.loads(metadata)
    except (zlib.error, ValueError, TypeError):
        return Kept(source, version, None, {})
    return Kept(
        source, version, words if words is not None and digest(words) == key else None, known
    )


def _find_ids(
    connection: Connection, generation: int, sources: Sequence[str]
) -> dict[str, set[str]]:
    """The published chunks of these documents."""
    found: dict[str, set[str]] = {}
    for part in in_parts(sources):
        statement = (
            "SELECT source, id FROM chunks WHERE generation = :g AND state % 2 = 1 "
            f"AND source IN ({names(part)})"
        )
        for source, id in connection.execute(text(statement), {"g": generation, **part}):
            found.setdefault(source, set()).add(id)
    return found


_COUNT: Final = "SELECT count(*) FROM documents WHERE generation = :g AND version IS NOT NULL"
_KEPT: Final = (
    "SELECT source, version, content, data, metadata FROM documents "
    "LEFT JOIN contents ON key = content WHERE generation = :g AND version IS NOT NULL"
)
_ORPHANS: Final = (
    "SELECT id, chunks.source FROM chunks LEFT JOIN documents "
    "ON documents.generation = chunks.generation AND documents.source = chunks.source "
    "WHERE chunks.generation = :g AND state % 2 = 1 AND version IS NULL"
)
