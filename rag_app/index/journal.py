"""The journal of one generation: its documents, its chunks, and work that is not finished.

A document goes PLANNED (content, chunk ids and texts on record; none is in the store), STAGED (the
store has its chunks, and they were read back), COMMITTED (published: queries see them, and no
longer those of the version before), PRUNED (what is no longer published is gone from the store).
Or it is QUARANTINED, with the reason.

Every chunk id is on record before the store sees it, so nothing in the store is unknown. An id is
made of everything that its row holds, so a row never changes: a new version of a document is new
rows, and which rows queries may see is decided here alone, for all documents in one transaction.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from rag_app.index import statements as sql
from rag_app.index.database import in_parts, names
from rag_app.index.failpoints import reach
from rag_app.index.manifest import count_prune, now, serve
from rag_app.index.records import (
    Known,
    OriginRecord,
    PlannedChunk,
    StoredDocument,
    bind_chunk,
    bind_document,
    pack,
    unpack,
)
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from rag_app.index.database import Database
    from rag_app.index.records import Notes, PlannedDocument

SERVED: Final = 1
PLANNED: Final = 2
"""Bits of a chunk's state: published; of a planned version. Neither: to be pruned."""


class Journal:
    """Reads and writes the journal of one generation.

    Raises, from any method: IndexStateError when the manifest cannot be read or written.
    """

    def __init__(self, database: Database, generation: int) -> None:
        self.generation = generation
        self._database = database

    # -- what is known -----------------------------------------------------------------------

    def origins(self) -> dict[str, OriginRecord]:
        """Every origin that was read, by its name."""
        rows = self._read("SELECT origin, fingerprint, settings, entry FROM origins WHERE {g}")
        return {origin: OriginRecord(*rest) for origin, *rest in rows}

    def documents(self) -> dict[str, dict[str, Known]]:
        """Every document, by its origin and then by its source."""
        found: dict[str, dict[str, Known]] = {}
        columns = "origin, source, version, planned, planned_content"
        rows = self._read(f"SELECT {columns} FROM documents WHERE {{g}}")
        for origin, source, version, planned, content in rows:
            found.setdefault(origin, {})[source] = Known(version, planned, content)
        return found

    def contents(self) -> dict[str, str]:
        """For each published document the key of its text."""
        query = "SELECT source, content FROM documents WHERE {g} AND version IS NOT NULL"
        return dict(self._read(query))

    def planned_sources(self) -> set[str]:
        """Every document that is published or planned, once what is planned is published."""
        query = "SELECT source FROM documents WHERE {g} AND gone = 0"
        return {row[0] for row in self._read(query)}

    def sample(self, most: int) -> list[str]:
        """Ids of chunks of planned versions, evenly over all of them."""
        query = "SELECT id FROM chunks WHERE {g} AND state >= 2 ORDER BY id"
        ids = [row[0] for row in self._read(query)]
        return ids[:: max(1, len(ids) // most)][:most]

    def quarantine(self) -> dict[str, list[Unreadable]]:
        """What is quarantined, by origin."""
        found: dict[str, list[Unreadable]] = {}
        query = "SELECT origin, source, reason FROM quarantine WHERE {g} ORDER BY source"
        for origin, source, reason in self._read(query):
            found.setdefault(origin, []).append(Unreadable(source, reason))
        return found

    def count(self) -> dict[str, int]:
        """How many chunks are published (`served`), of planned versions (`planned`), of those not
        yet confirmed in the store (`staged`), and to be pruned (`doomed`)."""
        states = dict(self._read("SELECT state, count(*) FROM chunks WHERE {g} GROUP BY state"))
        return {
            "served": states.get(SERVED, 0) + states.get(SERVED | PLANNED, 0),
            "planned": states.get(PLANNED, 0) + states.get(SERVED | PLANNED, 0),
            "doomed": states.get(0, 0),
            "staged": int(self._read("SELECT count(*) FROM staged WHERE {g}")[0][0]),
        }

    def has_changes(self) -> bool:
        """Whether publishing would change what is served."""
        with self._database.reading() as db:
            return bool(self._one(db, sql.CHANGES))

    def served_ids(self, sources: Collection[str]) -> dict[str, set[str]]:
        """The published chunks of these documents."""
        return self._ids(sources, f"state IN ({SERVED}, {SERVED | PLANNED})")

    def staged(self, limit: int) -> list[PlannedChunk]:
        """The next chunks to be written, in the order of documents and of their texts."""
        rows = self._read(
            "SELECT id, source, place, text, metadata FROM staged WHERE {g} "
            "ORDER BY source, place LIMIT :limit",
            limit=limit,
        )
        return [
            PlannedChunk(id, source, place, json.loads(words), json.loads(metadata))
            for id, source, place, words, metadata in rows
        ]

    def staged_texts(self) -> Iterator[list[tuple[str, str]]]:
        """Source and text of what waits to be written, some at a time."""
        query = (
            "SELECT source, place, text FROM staged WHERE {g} AND (source > :source OR "
            "(source = :source AND place > :place)) ORDER BY source, place LIMIT 500"
        )
        source, place = "", -1
        while rows := self._read(query, source=source, place=place):
            yield [(row[0], json.loads(row[2])) for row in rows]
            source, place = rows[-1][:2]

    def staged_texts_of(self, source: str) -> list[str]:
        """The texts of a document that wait to be written."""
        query = "SELECT text FROM staged WHERE {g} AND source = :source ORDER BY place"
        return [json.loads(row[0]) for row in self._read(query, source=source)]

    def doomed(self, limit: int) -> list[str]:
        """Ids that are to be deleted from the store."""
        query = "SELECT id FROM chunks WHERE {g} AND state = 0 ORDER BY id LIMIT :limit"
        return [row[0] for row in self._read(query, limit=limit)]

    def stored(self) -> Iterator[StoredDocument]:
        """Every published document as it was read, in the order of their names."""
        query = (
            "SELECT source, origin, data, metadata FROM documents JOIN contents ON key = content "
            "WHERE {g} AND version IS NOT NULL AND source > :last ORDER BY source LIMIT 50"
        )
        last = ""
        while rows := self._read(query, last=last):
            for source, origin, data, metadata in rows:
                yield StoredDocument(source, origin, unpack(data), json.loads(metadata))
            last = rows[-1][0]

    def find_stored(self, source: str) -> StoredDocument | None:
        """A published document as it was read."""
        query = (
            "SELECT origin, data, metadata FROM documents JOIN contents ON key = content "
            "WHERE {g} AND version IS NOT NULL AND source = :source"
        )
        for origin, data, metadata in self._read(query, source=source):
            return StoredDocument(source, origin, unpack(data), json.loads(metadata))
        return None

    # -- what changes ------------------------------------------------------------------------

    def plan(self, notes: Notes) -> None:
        """PLANNED: every chunk id is on record, with its text, before the store sees it."""
        with self._database.writing() as db:
            self._plan(db, notes.documents)
            for origin, record in notes.origins.items():
                self._record_origin(db, origin, record, notes.quarantine.get(origin, []))
            self._unplan(db, notes.kept)
        reach("planned")

    def abandon(self, sources: Iterable[str], reason: str | None = None) -> None:
        """The planned versions of these documents will not be written; their origin is read again.

        With a reason they are quarantined: read again only when they have changed, or on demand.
        """
        listed = list(sources)
        with self._database.writing() as db:
            if reason is None:
                self._run(db, sql.READ_AGAIN, listed)
            else:
                self._run(db, sql.QUARANTINE, listed, reason=reason)
            self._unplan(db, listed)
            self._run(db, sql.FORGET_UNPUBLISHED, listed)

    def confirm(self, ids: Sequence[str]) -> None:
        """STAGED: the store has these chunks, as was seen by reading them back."""
        with self._database.writing() as db:
            for part in in_parts(ids):
                statement = f"DELETE FROM staged WHERE generation = :g AND id IN ({names(part)})"
                db.execute(text(statement), {"g": self.generation, **part})
        reach("staged")

    def take_away(self, sources: Sequence[str]) -> None:
        """These documents go when the run is published; none of an earlier run's do."""
        with self._database.writing() as db:
            g = {"g": self.generation}
            db.execute(text("UPDATE documents SET gone = 0 WHERE generation = :g AND gone <> 0"), g)
            self._run(db, "UPDATE documents SET gone = 1 WHERE {g} AND source = :s", sources)

    def settle(self, origins: Mapping[str, OriginRecord]) -> None:
        """What these origins lost is published as gone: they need not be read again for it."""
        with self._database.writing() as db:
            for origin, record in origins.items():
                self._run(db, sql.SETTLE, [origin], fingerprint=record.fingerprint)

    def publish(self, described: Mapping[str, str]) -> bool:
        """COMMITTED: what is planned is served from now on, and what was taken away is no longer.

        Args:
            described: columns of the generation that are to change.

        Returns:
            Whether anything changed.

        Raises:
            RuntimeError: not all of it is in the store yet.
        """
        with self._database.writing() as db:
            before = db.execute(text(sql.DESCRIBE), {"g": self.generation}).mappings().one()
            waiting = self._one(db, "SELECT count(*) FROM staged WHERE {g}")
            if waiting:  # a mistake of ours, and not one to serve
                raise RuntimeError(f"{waiting} chunks are not in the store yet")
            changed = self._one(db, sql.CHANGES) or before["revision"] == 0
            for statement in sql.PUBLISH:
                db.execute(text(statement.format(g="generation = :g")), {"g": self.generation})
            chunks = self._one(db, "SELECT count(*) FROM chunks WHERE {g} AND state % 2 = 1")
            values = {
                "revision": before["revision"] + bool(changed),
                "chunks": chunks,
                **described,
            }
            if changed:
                values["stamp"] = before["coming"]
            assigned = ", ".join(f"{name} = :{name}" for name in (*values, "published"))
            at = now() if changed else before["published"]
            statement = f"UPDATE generations SET {assigned} WHERE number = :g"
            db.execute(text(statement), {"g": self.generation, **values, "published": at})
            serve(db, self.generation)
        reach("published")
        return bool(changed)

    def begin_prune(self) -> None:
        """Rows that were served are about to be deleted: searches that overlap look again."""
        with self._database.writing() as db:
            count_prune(db)
        reach("prune-begun")

    def prune(self, ids: Sequence[str]) -> None:
        """PRUNED: the store no longer has these."""
        with self._database.writing() as db:
            for part in in_parts(ids):
                statement = (
                    "DELETE FROM chunks WHERE generation = :g AND state = 0 "
                    f"AND id IN ({names(part)})"
                )
                db.execute(text(statement), {"g": self.generation, **part})
        reach("pruned")

    def sweep(self) -> None:
        """Forget texts of documents that no generation has any more."""
        with self._database.writing() as db:
            db.execute(text(sql.SWEEP))
        reach("contents-swept")

    # -- statements --------------------------------------------------------------------------

    def _plan(self, db: Connection, documents: Sequence[PlannedDocument]) -> None:
        if not documents:
            return
        g = {"g": self.generation}
        sources = [document.source for document in documents]
        self._unplan(db, sources)
        contents = [{"key": each.content, "data": pack(each.text)} for each in documents]
        db.execute(
            text("INSERT INTO contents VALUES (:key, :data) ON CONFLICT DO NOTHING"), contents
        )
        db.execute(text(sql.PLAN_DOCUMENT), [{**g, **bind_document(each)} for each in documents])
        chunks = [chunk for document in documents for chunk in document.chunks]
        if chunks:
            planned = [{**g, "id": c.id, "s": c.source, "state": PLANNED} for c in chunks]
            db.execute(text(sql.PLAN_CHUNK), planned)
        kept = self._ids_in(db, sources, f"state = {SERVED | PLANNED}")
        new = [{**g, **bind_chunk(c)} for c in chunks if c.id not in kept.get(c.source, ())]
        if new:
            db.execute(text("INSERT INTO staged VALUES (:g, :id, :s, :p, :t, :m)"), new)

    def _unplan(self, db: Connection, sources: Sequence[str]) -> None:
        for statement in sql.UNPLAN:
            self._run(db, statement, sources)

    def _record_origin(
        self, db: Connection, origin: str, record: OriginRecord, broken: Sequence[Unreadable]
    ) -> None:
        values = {"g": self.generation, "o": origin}
        db.execute(text(sql.RECORD_ORIGIN), {**values, **record._asdict()})
        db.execute(text("DELETE FROM quarantine WHERE generation = :g AND origin = :o"), values)
        if broken:
            rows = [{**values, "s": each.source, "reason": each.reason} for each in broken]
            db.execute(text(sql.INSERT_QUARANTINE), rows)

    def _ids(self, sources: Collection[str], which: str) -> dict[str, set[str]]:
        with self._database.reading() as db:
            return self._ids_in(db, sources, which)

    def _ids_in(self, db: Connection, sources: Collection[str], which: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for part in in_parts(list(sources)):
            statement = (
                "SELECT source, id FROM chunks WHERE generation = :g "
                f"AND source IN ({names(part)}) AND {which}"
            )
            for source, id in db.execute(text(statement), {"g": self.generation, **part}):
                found.setdefault(source, set()).add(id)
        return found

    def _read(self, query: str, **values: Any) -> list[Any]:
        statement = text(query.replace("{g}", "generation = :g"))
        with self._database.reading() as db:
            return list(db.execute(statement, {"g": self.generation, **values}))

    def _one(self, db: Connection, query: str) -> int:
        found = db.execute(text(query.replace("{g}", "generation = :g")), {"g": self.generation})
        return int(found.scalar() or 0)

    def _run(self, db: Connection, statement: str, sources: Sequence[str], **more: Any) -> None:
        if sources:
            rows = [{"g": self.generation, "s": source, **more} for source in sources]
            db.execute(text(statement.replace("{g}", "generation = :g")), rows)
