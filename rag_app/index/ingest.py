"""Ingest: read what changed, take away what is gone, embed and write the rest, commit.

Reading comes first and writes nothing to the store, so the number of texts to embed is known before
the first is paid for. A chunk that a changed document keeps keeps its vector.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from rag_app.errors import IndexStateError, ModelError, TruncationWarning
from rag_app.index.identity import require_same
from rag_app.index.read import Reading
from rag_app.store import Row
from rag_app.types import IngestReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
) -> IngestReport:
    """Make `index` hold what `sources` hold now.

    Args:
        index: what to fill.
        sources: the loaders; a document that could not be read is quarantined, and what the index
            already held of it stays.
        splitter: cuts documents into chunks.
        progress: called as (stage, done, total): "reading" with no total, then "embedding".
        rebuild: drop everything and embed it all again.

    Raises:
        IdentityError: the index holds vectors of another embedding model; before any write.
        SourceError: a source cannot be listed; nothing was deleted.
        IndexStateError: another ingest is running, or the store is not what the manifest says.
        ModelError, StoreError: the embedding model or the store failed; running again resumes.
    """
    start = time.perf_counter()
    with _only_writer(index):
        reading = Reading(index.manifest, splitter, index.splitter, progress, anew=rebuild)
        if rebuild:
            found = reading.read(sources)  # before anything is dropped: it may fail
            _empty(index)
        else:
            _check_held(index)
            _enter(index)
            found = reading.read(sources)
        writing = _Writing(index, progress)
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
    quarantined = len(found.quarantine)
    return IngestReport(
        seen=found.indexed + found.unchanged + quarantined + found.excluded,
        indexed=found.indexed,
        unchanged=found.unchanged,
        deleted=deleted,
        quarantined=quarantined,
        excluded=found.excluded,
        chunks_written=writing.written,
        chunks_deleted=writing.deleted,
        chunks_total=total,
        embedded=writing.embedded,
        truncated=writing.truncated,
        seconds=seconds,
        quarantine=tuple(found.quarantine),
    )


class _Writing:
    """The writing half: staged chunks to vectors to the store, in commits of `BATCH` texts."""

    def __init__(self, index: Index, progress: Callable[[str, int, int | None], None]) -> None:
        self.written = self.deleted = self.embedded = self.truncated = 0
        self._index = index
        self._progress = progress
        self._total = 0

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
        for batch in self._batches():
            self._writes()
            chunks = [chunk for document in batch.values() for chunk in document]
            for first in range(0, len(chunks), BATCH):
                self._put(chunks[first : first + BATCH])
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

    def _put(self, chunks: Sequence[StagedChunk]) -> None:
        """Upsert chunks; one the store already has keeps its vector and is not paid for again."""
        held = {row.id: row.vector for row in self._index.store.fetch([c.id for c in chunks])}
        new = [c for c in chunks if c.id not in held]
        held |= dict(zip((c.id for c in new), self._embed([c.text for c in new]), strict=True))
        self._index.store.upsert([Row(c.id, c.text, held[c.id], c.metadata) for c in chunks])
        self.written += len(chunks)
        self._progress("embedding", self.written, self._total)

    def _embed(self, texts: list[str]) -> list[NDArray[np.float32]]:
        if not texts:
            return []
        model: Any = self._index.embeddings
        cut = getattr(model, "truncated", 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # counted in the report instead
            vectors = model.embed_documents(texts)
        if len(vectors) != len(texts):
            raise ModelError(
                "embeddings",
                f"the model returned {len(vectors)} vectors for {len(texts)} texts",
                "Try another model or server; nothing of this batch was written.",
            )
        self.embedded += len(texts)
        self.truncated += getattr(model, "truncated", 0) - cut
        return [np.asarray(v, dtype=np.float32) for v in vectors]

    def _settle(self, batch: dict[str, list[StagedChunk]]) -> None:
        """The batch is in the store: delete what its documents no longer have, then commit."""
        manifest = self._index.manifest
        ids = {source: [chunk.id for chunk in chunks] for source, chunks in batch.items()}
        stale = [old for s in ids for old in manifest.chunk_ids(s) - set(ids[s])]
        if stale:
            self._index.store.delete(stale)
            self.deleted += len(stale)
        manifest.commit(ids)
