"""Ingest: read what changed, take away what is gone, embed and write the rest, commit.

Reading comes first and writes nothing to the store, so the number of texts to embed is known before
the first is paid for. A chunk that a changed document keeps keeps its vector.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from rag_app.errors import IndexStateError
from rag_app.index.embed import Embedding
from rag_app.index.identity import require_same
from rag_app.index.read import Reading
from rag_app.store import Row
from rag_app.types import IngestReport, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from langchain_text_splitters import TextSplitter
    from numpy.typing import NDArray

    from rag_app.index.index import Index
    from rag_app.index.manifest import StagedChunk
    from rag_app.index.read import Findings, Source

BATCH = 128  # texts embedded and written between two commits


def ingest(
    index: Index,
    sources: Sequence[Source],
    splitter: TextSplitter,
    *,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
    rebuild: bool = False,
    max_cost: float | None = None,
) -> IngestReport:
    """Make `index` hold what `sources` hold now.

    Args:
        index: what to fill.
        sources: the loaders; a document that could not be read is quarantined, and what the index
            already held of it stays.
        splitter: cuts documents into chunks.
        progress: called as (stage, done, total): "reading" with no total, then "embedding".
        rebuild: drop everything and write it all again; the cache still has the vectors.
        max_cost: US dollars that embedding may cost; None for no limit.

    Raises:
        BudgetError: more would be spent. Nothing was sent when the estimate of all was too high.
        IdentityError: the index holds vectors of another embedding model; before any write.
        SourceError: a source cannot be listed; nothing was deleted.
        IndexStateError: another ingest is running, or the store is not what the manifest says.
        ModelError, StoreError: the embedding model or the store failed; running again resumes.
    """
    start = time.perf_counter()
    with _only_writer(index):
        embedding = Embedding(index.embeddings, index.cache, max_cost)
        reading = Reading(index.manifest, splitter, index.splitter, progress, anew=rebuild)
        if rebuild:
            found = reading.read(sources)  # before anything is dropped: it may fail
            embedding.require_budget_for(_list_due(index, found, held=True))
            _empty(index)
        else:
            _check_held(index)
            found = reading.read(sources)
            embedding.require_budget_for(_list_due(index, found))
            _enter(index)
        writing = _Writing(index, embedding, progress)
        writing.abandon(found.abandoned)
        deleted = writing.remove(found.gone)
        writing.write()
        _leave(index)
        return _report(found, writing, deleted, index.check_count(), time.perf_counter() - start)


@contextmanager
def _only_writer(index: Index) -> Iterator[None]:
    if index.folder is None:
        yield
        return
    lock = FileLock(index.folder / "writer.lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        wrong = "another ingest is writing to it"
        raise IndexStateError(f"index {index.name!r}", wrong, "Wait until it has ended.") from error
    except PermissionError as error:
        wrong = f"{index.folder} cannot be written to"
        raise IndexStateError(
            f"index {index.name!r}", wrong, "Set index.path elsewhere."
        ) from error


def _check_held(index: Index) -> None:
    """Refuse to add to what was made otherwise, or by somebody else."""
    manifest = index.manifest
    held = manifest.get("identity")
    if not manifest.is_empty():
        index.check_store()
        require_same(index.name, held, index.identity)
    elif count := index.store.count():
        raise IndexStateError(
            f"index {index.name!r}",
            f"the store already holds {count} chunks that this index knows nothing of",
            "Give the index another name or the store another path; to drop them, run: "
            "rag-app ingest --rebuild",
        )
    elif held not in (None, index.identity):
        index.store.drop()  # empty, but shaped for another model's vectors
    if manifest.get("state") == "ready":
        index.check_count()


def _list_due(index: Index, found: Findings, *, held: bool = False) -> list[str]:
    """The texts to be embedded: not those of documents that are gone or cannot be read now."""
    return index.manifest.staged_texts({*found.gone, *found.abandoned}, held=held)


def _enter(index: Index) -> None:
    """From here on queries are refused only where the content is about to be cut differently."""
    manifest = index.manifest
    as_it_was = manifest.get("splitter") == index.splitter and manifest.get("state") == "ready"
    _describe(index, "ready" if as_it_was or manifest.is_empty() else "writing")


def _empty(index: Index) -> None:
    """Drop what the store holds; interrupted here, the index stays refused until it is rebuilt."""
    index.manifest.put(state="writing")
    index.store.drop()
    index.manifest.keep_only_staged()
    _describe(index, "writing")


def _describe(index: Index, state: str) -> None:
    index.manifest.put(
        store=index.kind, identity=index.identity, splitter=index.splitter, state=state
    )


def _leave(index: Index) -> None:
    """Whatever was written since the last time that all was well, the content is new now."""
    if index.manifest.get("state") != "ready":
        index.manifest.advance()
        index.manifest.put(state="ready")


def _report(
    found: Findings, writing: _Writing, deleted: int, total: int, seconds: float
) -> IngestReport:
    quarantine = (*found.quarantine, *writing.refused)
    indexed, quarantined = found.indexed - len(writing.refused), len(quarantine)
    embedding = writing.embedding
    return IngestReport(
        seen=indexed + found.unchanged + quarantined + found.excluded,
        indexed=indexed,
        unchanged=found.unchanged,
        deleted=deleted,
        quarantined=quarantined,
        excluded=found.excluded,
        chunks_written=writing.written,
        chunks_deleted=writing.deleted,
        chunks_total=total,
        embedded=embedding.embedded,
        truncated=embedding.truncated,
        seconds=seconds,
        quarantine=quarantine,
        cached=embedding.cached,
        tokens=embedding.tokens,
        cost=embedding.cost,
        saved=embedding.saved,
    )


class _Writing:
    """The writing half: staged chunks to vectors to the store, in commits of `BATCH` texts."""

    def __init__(
        self,
        index: Index,
        embedding: Embedding,
        progress: Callable[[str, int, int | None], None],
    ) -> None:
        self.written = self.deleted = 0
        self.refused: list[Unreadable] = []
        self.embedding = embedding
        self._index = index
        self._progress = progress
        self._done = self._total = 0

    def remove(self, sources: Sequence[str]) -> int:
        """Take away documents that are gone; how many there were."""
        if not sources:
            return 0
        self._writes()
        manifest = self._index.manifest
        ids = [id for source in sources for id in manifest.chunk_ids(source)]
        self._index.store.delete(ids)
        manifest.forget(sources)
        self.deleted += len(ids)
        return len(sources)

    def write(self) -> None:
        """Embed and write everything staged."""
        self._total = self._index.manifest.count_staged()
        if self._total:
            self._progress("embedding", 0, self._total)
        for batch in self._batches():
            vectors = self._embed(batch)
            if not batch:
                continue
            self._writes()
            chunks = [chunk for document in batch.values() for chunk in document]
            self._index.store.upsert([Row(c.id, c.text, vectors[c.id], c.metadata) for c in chunks])
            self.written += len(chunks)
            self._settle(batch)

    def _writes(self) -> None:
        """The store is about to change: an interruption from here on must be seen by queries."""
        if self._index.manifest.get("state") != "writing":
            self._index.manifest.put(state="writing")

    def _batches(self) -> Iterator[dict[str, list[StagedChunk]]]:
        """Whole documents with their chunks, `BATCH` chunks or a little more at a time."""
        batch: dict[str, list[StagedChunk]] = {}
        for source in self._index.manifest.staged_sources():
            batch[source] = self._index.manifest.staged_chunks(source)
            if sum(map(len, batch.values())) >= BATCH:
                yield batch
                batch = {}
        if batch:
            yield batch

    def _embed(self, batch: dict[str, list[StagedChunk]]) -> dict[str, NDArray[np.float32]]:
        """The vector of each chunk by its id, before the store is touched.

        A chunk that the store already has keeps its vector and is not paid for again. A document
        with a text that the model refuses is taken out of `batch`: it would be served in part.
        """
        chunks = [(source, chunk) for source, each in batch.items() for chunk in each]
        vectors: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(chunks), BATCH):
            part = [c for source, c in chunks[start : start + BATCH] if source in batch]
            held = {row.id: row.vector for row in self._index.store.fetch([c.id for c in part])}
            new = [chunk for chunk in part if chunk.id not in held]
            found, refused = self.embedding.embed([chunk.text for chunk in new])
            vectors |= held | {c.id: found[c.text] for c in new if c.text in found}
            for source in [s for s, each in batch.items() if any(c.text in refused for c in each)]:
                self._refuse(
                    source, next(refused[c.text] for c in batch.pop(source) if c.text in refused)
                )
            self._progress("embedding", min(self._total, self._done + start + BATCH), self._total)
        self._done += len(chunks)
        return vectors

    def _refuse(self, source: str, reason: str) -> None:
        """Quarantine a document; what the index holds of it stays as it was."""
        self.abandon([source])
        self.refused.append(Unreadable(source, reason))

    def abandon(self, sources: Sequence[str]) -> None:
        """Give up the planned version of documents, and what an interrupted run wrote of it."""
        for source in sources:
            if ids := self._index.manifest.planned_ids(source):
                self._writes()
                self._index.store.delete(sorted(ids))
            self._index.manifest.unstage(source)

    def _settle(self, batch: dict[str, list[StagedChunk]]) -> None:
        """The batch is in the store: delete what its documents no longer have, then commit."""
        manifest = self._index.manifest
        ids = {source: [chunk.id for chunk in chunks] for source, chunks in batch.items()}
        stale = [old for s in ids for old in manifest.chunk_ids(s) - set(ids[s])]
        if stale:
            self._index.store.delete(stale)
            self.deleted += len(stale)
        manifest.commit(ids)
