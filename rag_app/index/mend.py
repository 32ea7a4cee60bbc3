"""Mends an index: brings store and manifest together again, with the fewest texts embedded.

A row is restored from the document that the manifest keeps, split again; its vector is that of a
good copy (the row itself, another generation), else the cache's, else the model's. Runs under the
writer's lock. Killed at any moment, it goes on when it is run again.
"""

from __future__ import annotations

import uuid
from itertools import islice
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from rag_app.errors import FailureError
from rag_app.index.database import in_parts, names
from rag_app.index.embed import Embedding
from rag_app.index.examine_derived import drop_words, mend_cache
from rag_app.index.examine_documents import READ_AGAIN, read_kept, split_again
from rag_app.index.examine_rows import PAGE, is_sound
from rag_app.index.examine_vectors import is_alike
from rag_app.index.failpoints import reach
from rag_app.index.identity import is_same_model
from rag_app.index.manifest import count_prune, set_head
from rag_app.index.read import name_chunk
from rag_app.index.records import PlannedChunk
from rag_app.index.view import MENDING
from rag_app.index.write import BATCH, require_written
from rag_app.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.engine import Connection

    from rag_app.index.examine import Examination
    from rag_app.index.manifest import Generation
    from rag_app.rows import Vector
    from rag_app.store import Store

    Ids = Mapping[str, set[str]]

_REPLACED: Final = (
    *("missing-chunks", "altered-rows", "empty-rows", "duplicate-rows", "bad-vectors"),
    *("wrong-dimension", "foreign-vectors"),
)
"""Kinds of which each row is written anew."""

_UNTRUSTED: Final = ("bad-vectors", "wrong-dimension", "foreign-vectors")
"""Kinds of rows whose vectors are not kept."""

_REREAD: Final = ("damaged-contents", "splitter-drift", "documents-without-chunks")
"""Kinds of documents that only their source can mend."""


class Mending:
    """Mends what one examination found.

    Args:
        examined: what to mend.
        embedding: makes the vectors that are nowhere at hand.
        progress: called as (stage, done, total).

    Attributes:
        written: rows written; `deleted` rows removed.
        asked: texts embedded only to find out which vectors are wrong.
    """

    def __init__(
        self,
        examined: Examination,
        embedding: Embedding,
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        self.written = self.deleted = self.asked = 0
        self.embedding = embedding
        self._examined, self._index = examined, examined.index
        self._ledger, self._progress = examined.ledger, progress
        self._untrusted: set[str] = set()
        self._lost: dict[str, set[str]] = {}

    def mend(self) -> None:
        """Mend what can be.

        Raises:
            BudgetError, ModelError, StoreError, IndexStateError: it stopped there.
        """
        if self._examined.cache_file is not None:
            mend_cache(self._examined.cache_file, self._ledger, self._index.cache)
        generation = self._examined.generation
        if generation is None or not self._examined.is_mendable:
            return
        wanted = self._find_wanted()
        self._clear(generation, wanted)
        self._write(generation, wanted)
        self._mend_manifest(generation)
        self._end()
        self._mend_words()
        if self._ledger.has("damaged-cache"):
            self._fill_cache()

    # -- the store ------------------------------------------------------------------------------

    def _find_wanted(self) -> dict[str, set[str]]:
        """The rows to be written, by document."""
        wanted = self._ledger.ids(*_REPLACED)
        self._untrusted = {id for ids in self._ledger.ids(*_UNTRUSTED).values() for id in ids}
        for listed in (self._judge_cache(), self._examined.doubtful):
            for document, ids in listed.items():
                wanted.setdefault(document, set()).update(ids)
                self._untrusted |= ids
        for document in self._ledger.ids("chunks-without-document"):
            wanted.pop(document, None)
        return wanted

    def _judge_cache(self) -> dict[str, set[str]]:
        """Put right what the cache has of another model; the rows that have it too."""
        apart: dict[str, set[str]] = {}
        fresh = Embedding(self._index.embeddings, None)
        for document, ids in self._ledger.ids("foreign-cached-vectors").items():
            rows = self._examined.store.fetch(sorted(ids))
            made, _ = fresh.embed([row.text for row in rows])
            if self._index.cache is not None:
                self._index.cache.keep(made)
            wrong = {r.id for r in rows if r.text in made and not is_alike(r.vector, made[r.text])}
            if wrong:
                apart[document] = wrong
        self.asked += fresh.embedded
        return apart

    def _clear(self, generation: Generation, wanted: dict[str, set[str]]) -> None:
        """Delete what is in the way: unknown rows, copies, a collection of another dimension."""
        store, dimension = self._examined.store, self._examined.dimension
        if dimension is not None and store.dimension not in (None, dimension):
            if self._ledger.has("foreign-rows", "unknown-rows"):
                return  # upserting will say that the collection is of another dimension
            self._begin(emptied=True)
            store.drop()
            with self._index.manifest.moment() as moment:
                wanted.clear()
                for id, source in moment.connection.execute(
                    text(_PUBLISHED), {"g": generation.number}
                ):
                    wanted.setdefault(source, set()).add(id)
            return
        self._delete(self._ledger.ids("unknown-rows", "copied-rows", "duplicate-rows"))

    def _delete(self, found: Ids) -> None:
        ids = [id for listed in found.values() for id in sorted(listed)]
        for start in range(0, len(ids), PAGE):
            self._begin()
            self._examined.store.delete(ids[start : start + PAGE])
            self.deleted += len(ids[start : start + PAGE])
            reach("rows-deleted")

    def _begin(self, *, emptied: bool = False) -> None:
        """Rows that readers may see are about to change: searches that overlap look again; while
        the collection is `emptied` and refilled they are refused."""
        generation = self._examined.generation
        if generation is not None:
            with self._index.manifest.database.writing() as connection:
                if emptied:
                    set_head(connection, MENDING, str(generation.number))
                count_prune(connection)
            reach("prune-begun")

    def _end(self) -> None:
        """The rows are as they should be: searches that overlapped look again, none is refused."""
        with self._index.manifest.database.writing() as connection:
            connection.execute(text("DELETE FROM head WHERE key = :key"), {"key": MENDING})
            count_prune(connection)

    def _write(self, generation: Generation, wanted: Ids) -> None:
        total = sum(map(len, wanted.values()))
        copies = self._open_copies(generation)
        with self._index.manifest.database.reading() as connection:
            chunks = self._restore(connection, generation, wanted)
            done = 0
            while batch := list(islice(chunks, BATCH)):
                self._progress("mending", done, total)
                self._begin()
                if rows := self._make_rows(batch, copies):
                    self._examined.store.upsert(rows)
                    reach("upserted")
                    require_written(self._examined.store, rows)
                    self.written += len(rows)
                done += len(batch)
        if total:
            self._progress("mending", total, total)

    def _restore(
        self, connection: Connection, generation: Generation, wanted: Ids
    ) -> Iterator[PlannedChunk]:
        """The chunks of these ids: cut from their documents, else as their own rows have them."""
        left = dict(wanted)
        splitter = self._examined.splitter
        for page in read_kept(connection, generation.number, sorted(wanted)):
            for kept in page:
                ids = left.pop(kept.source)
                chunks = {} if kept.text is None else split_again(splitter, kept)
                yield from (chunks[id] for id in sorted(ids & chunks.keys()))
                yield from self._restore_from_rows(kept.source, ids - chunks.keys())
        for source, ids in left.items():
            yield from self._restore_from_rows(source, ids)

    def _restore_from_rows(self, source: str, ids: set[str]) -> Iterator[PlannedChunk]:
        for row in self._examined.store.fetch(sorted(ids)) if ids else []:
            if name_chunk(source, row.text, row.metadata) == row.id:
                ids = ids - {row.id}
                yield PlannedChunk(row.id, source, 0, row.text, row.metadata)
        if ids:
            self._lost[source] = ids

    def _make_rows(self, batch: list[PlannedChunk], copies: list[Store]) -> list[Row]:
        vectors: dict[str, Vector] = {}
        for place, store in enumerate([self._examined.store, *copies]):
            missing = [c for c in batch if c.id not in vectors]
            if place == 0:
                missing = [c for c in missing if c.id not in self._untrusted]
            texts = {chunk.id: chunk.text for chunk in missing}
            for row in store.fetch(list(texts)) if texts else []:
                if row.text == texts[row.id] and is_sound(row.vector, self._examined.dimension):
                    vectors[row.id] = row.vector
        made, _ = self.embedding.embed([c.text for c in batch if c.id not in vectors])
        rows = []
        for chunk in batch:
            vector = vectors.get(chunk.id, made.get(chunk.text))
            if vector is not None:  # the model refuses some texts
                rows.append(Row(chunk.id, chunk.text, vector, chunk.metadata))
        return rows

    def _open_copies(self, generation: Generation) -> list[Store]:
        """The stores of other generations with vectors of the same model."""
        listed = []
        for other in self._index.manifest.generations():
            if other.number != generation.number and is_same_model(other, generation):
                try:
                    store = self._index.open_recorded(other)
                    store.count()
                except FailureError:  # it is a spare: the cache and the model are there too
                    continue
                listed.append(store)
        return listed

    # -- the manifest, and what is derived ------------------------------------------------------

    def _mend_manifest(self, generation: Generation) -> None:
        orphans = self._ledger.ids("chunks-without-document")
        journal = self._index.journal(generation)
        journal.abandon(self._ledger.ids("unconfirmed-chunks"))
        self._delete(orphans)
        self._delete(self._lost)
        again = {*self._ledger.ids(*_REREAD), *self._lost}
        with self._index.manifest.database.writing() as connection:
            given: dict[str, object] = {"g": generation.number}
            gone = [id for ids in (*orphans.values(), *self._lost.values()) for id in ids]
            for part in in_parts(gone):
                _run(connection, _FORGET.format(names(part)), given | part)
            for part in in_parts(sorted(self._ledger.ids("damaged-contents"))):
                _run(connection, _DROP_CONTENTS.format(names(part)), given | part)
            for part in in_parts(sorted(again)):
                for statement in _READ_AGAIN:
                    _run(connection, statement.format(names(part)), given | part)
            if gone or self._has_other_words():
                _run(connection, _RAISE, given | {"stamp": uuid.uuid4().hex[:16]})

    def _has_other_words(self) -> bool:
        """Whether word indexes may have been made of texts that were wrong."""
        return self._ledger.has("altered-rows", "empty-rows", "stale-words")

    def _mend_words(self) -> None:
        if not self._index.in_memory:
            every = self._has_other_words() or bool(self._lost)
            drop_words(self._index.folder, self._ledger, every=every)

    def _fill_cache(self) -> None:
        """A cache that begins anew gets the vectors that the store has."""
        if self._index.cache is None or self._examined.cache_file is None:
            return
        if self._examined.generation is not None:
            self._index.settle_cache(self._examined.generation.probes)
        rows = self._examined.store.scan()
        while page := list(islice(rows, PAGE)):
            self._index.cache.keep({row.text: row.vector for row in page})


def _run(connection: Connection, statement: str, given: dict[str, object]) -> None:
    connection.execute(text(statement), given)


_PUBLISHED: Final = "SELECT id, source FROM chunks WHERE generation = :g AND state % 2 = 1"
_FORGET: Final = "DELETE FROM chunks WHERE generation = :g AND id IN ({})"
_DROP_CONTENTS: Final = (
    "DELETE FROM contents WHERE key IN "
    "(SELECT content FROM documents WHERE generation = :g AND source IN ({}))"
)
_READ_AGAIN: Final = (
    "UPDATE origins SET fingerprint = NULL WHERE generation = :g AND origin IN "
    "(SELECT origin FROM documents WHERE generation = :g AND source IN ({}))",
    f"UPDATE documents SET version = '{READ_AGAIN}' "
    "WHERE generation = :g AND source IN ({}) AND version IS NOT NULL",
)
_RAISE: Final = """
UPDATE generations SET revision = revision + 1, stamp = :stamp, chunks =
    (SELECT count(*) FROM chunks WHERE generation = :g AND state % 2 = 1)
WHERE number = :g
"""
