"""The writing half of an ingest: planned chunks to vectors to the store, read back, pruned.

Nothing here is seen by queries: what is written is published by the journal, all of it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from rag_app.errors import StoreError
from rag_app.index.failpoints import reach
from rag_app.rows import Row, normalise
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from rag_app.index.embed import Embedding
    from rag_app.index.journal import Journal
    from rag_app.index.records import PlannedChunk
    from rag_app.store import Store

    Vector = NDArray[np.float32]

BATCH: Final = 128
"""Texts embedded and written between two notes in the journal."""

PRUNED_AT_ONCE: Final = 1000

READ_BACK_ALIKE: Final = 0.999
"""The least cosine between a vector sent and read back; stores may round."""


class Writing:
    """Brings one generation's store to what its journal plans.

    Args:
        journal: of the generation.
        store: its collection.
        embedding: makes vectors; asked for those alone that are not at hand.
        at_hand: journals and stores of the same identity, whose vectors of the same document and
            text are taken over; the generation's own first.
        progress: called as (stage, done, total).
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        embedding: Embedding,
        at_hand: Sequence[tuple[Journal, Store]],
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        self.written = self.deleted = self.copied = 0
        self.refused: list[Unreadable] = []
        self.embedding = embedding
        self._journal = journal
        self._store = store
        self._at_hand = at_hand
        self._progress = progress
        self._held: dict[str, dict[str, Vector]] = {}

    def texts_to_embed(self) -> Iterator[list[str]]:
        """The texts that are staged and have no vector at hand, some at a time."""
        for page in self._journal.staged_texts():
            self._find_held({source for source, _ in page})
            yield [text for source, text in page if text not in self._held[source]]

    def write(self) -> None:
        """Embed and write every chunk that is staged."""
        total, done = self._journal.count()["staged"], 0
        while batch := self._journal.staged(BATCH):
            self._progress("embedding", done, total)
            rows = self._embed(batch)
            reach("embedded")
            if rows:
                self._store.upsert(rows)
                reach("upserted")
                require_written(self._store, rows)
                reach("confirmed")
                self._journal.confirm([row.id for row in rows])
                self.written += len(rows)
            done += len(batch)
        if total:
            self._progress("embedding", total, total)

    def prune(self) -> None:
        """Delete what is no longer published, after the journal has said so."""
        begun = False
        while ids := self._journal.doomed(PRUNED_AT_ONCE):
            if not begun:
                self._journal.begin_prune()
                begun = True
            self._store.delete(ids)
            reach("rows-deleted")
            self._journal.prune(ids)
            self.deleted += len(ids)

    def _embed(self, batch: Sequence[PlannedChunk]) -> list[Row]:
        """The rows of a batch, but of documents with a text that the model refuses: one of those
        would be served in part, so it is quarantined whole."""
        self._find_held({chunk.source for chunk in batch})
        new = [c.text for c in batch if c.text not in self._held.get(c.source, {})]
        found, refused = self.embedding.embed(new)
        for chunk in batch:
            why = refused.get(chunk.text)
            if why is not None and all(chunk.source != each.source for each in self.refused):
                self._journal.abandon([chunk.source], why)
                self.refused.append(Unreadable(chunk.source, why))
        dropped = {each.source for each in self.refused}
        rows = []
        for chunk in batch:
            if chunk.source not in dropped:
                held = self._held.get(chunk.source, {}).get(chunk.text)
                vector = found[chunk.text] if held is None else held
                self.copied += held is not None
                rows.append(Row(chunk.id, chunk.text, vector, chunk.metadata))
        return rows

    def _find_held(self, sources: Iterable[str]) -> None:
        """The vectors that stores have of these documents' texts, and of no others'."""
        self._held = {source: self._held[source] for source in sources if source in self._held}
        missing = [source for source in sources if source not in self._held]
        for source in missing:
            self._held[source] = {}
        for journal, store in self._at_hand:
            for source, ids in journal.served_ids(missing).items():
                rows = store.fetch(sorted(ids))
                self._held[source] |= {
                    r.text: r.vector for r in rows if np.isfinite(r.vector).all()
                }


def require_written(store: Store, rows: Sequence[Row]) -> None:
    """See that the store holds these rows as they were sent.

    Raises:
        StoreError: it does not.
    """
    held = {row.id: row for row in store.fetch([row.id for row in rows])}
    for row in rows:
        there = held.get(row.id)
        if there is None or (there.text, there.metadata) != (row.text, row.metadata):
            raise _not_as_sent(row, "is not there" if there is None else "differs")
        cosine = float(normalise(row.vector, "the vector", "store") @ there.vector)
        if not cosine >= READ_BACK_ALIKE:
            raise _not_as_sent(row, f"has a vector of similarity {cosine:.3f} to the one sent")


def _not_as_sent(row: Row, how: str) -> StoreError:
    return StoreError(
        "vector_store",
        f"read back, the chunk {row.id!r} of {row.metadata.get('source')!r} {how}",
        "Nothing of this run is served. See what else writes to the store; then run it again.",
    )
