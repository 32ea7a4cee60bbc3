"""What an ingest would do and cost, without asking anybody outside.

Reads the sources as an ingest does, and compares with the manifest and the embedding cache. What
the vector store holds is taken from the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app.index.read import Reading
from rag_app.types import IngestPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langchain_text_splitters import TextSplitter

    from rag_app.index.index import Index
    from rag_app.index.manifest import Manifest, StagedDocument
    from rag_app.index.read import Source


def plan(
    index: Index,
    sources: Sequence[Source],
    splitter: TextSplitter,
    *,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> IngestPlan:
    """What `ingest` would do for the same arguments, were it run now.

    Raises:
        SourceError: a source cannot be listed.
        MissingPackageError: a format's parser is not installed.
    """
    rebuild = _needs_rebuild(index)
    counting = _Counting(index, keeps=not rebuild)
    reading = Reading(
        index.manifest, splitter, index.splitter, progress, anew=rebuild, stage=counting.take
    )
    found = reading.read(sources)
    if not rebuild:
        counting.take_waiting({*found.gone, *found.abandoned})
    model: Any = index.embeddings
    price = getattr(model, "price", None)
    return IngestPlan(
        seen=found.indexed + found.unchanged + len(found.quarantine) + found.excluded,
        new=found.indexed,
        unchanged=found.unchanged,
        quarantined=len(found.quarantine),
        excluded=found.excluded,
        gone=len(found.gone),
        chunks=counting.chunks,
        held=counting.held,
        cached=counting.cached,
        embed=counting.embed,
        tokens=counting.tokens,
        cost=_cost(model, counting.tokens),
        saved=None if price is None else counting.saved_tokens * price / 1e6,
        price=price,
        minutes=_minutes(model, counting),
        quarantine=tuple(found.quarantine),
        rebuild=rebuild,
    )


def _needs_rebuild(index: Index) -> bool:
    """Whether an ingest would refuse: what the index holds is in another store, or of another
    model."""
    manifest = index.manifest
    held = manifest.get("store"), manifest.get("identity")
    return not manifest.is_empty() and held != (index.kind, index.identity)


class _Counting:
    """Stands where an ingest would stage documents, and counts what they would take.

    Args:
        keeps: whether vectors that the store has can be kept.
    """

    def __init__(self, index: Index, *, keeps: bool) -> None:
        self.chunks = self.held = self.cached = self.embed = self.tokens = self.saved_tokens = 0
        self._index, self._keeps = index, keeps
        self._seen: set[str] = set()
        self._named: set[str] = set()

    def take(self, documents: Iterable[StagedDocument], _: object) -> None:
        """Count documents that would be staged."""
        for document in documents:
            self._named.add(document.source)
            self._count([(c.id, c.text) for c in document.chunks], document.source)

    def take_waiting(self, without: set[str]) -> None:
        """Count what an interrupted ingest left staged and reading found unchanged since."""
        manifest: Manifest = self._index.manifest
        for source in manifest.staged_sources():
            if source not in self._named | without:
                self._count([(c.id, c.text) for c in manifest.staged_chunks(source)], source)

    def _count(self, chunks: Sequence[tuple[str, str]], source: str) -> None:
        written = self._index.manifest.written_ids(source) if self._keeps else set()
        texts = [text for id, text in chunks if id not in written]
        self.chunks += len(chunks)
        self.held += len(chunks) - len(texts)
        fresh = [text for text in dict.fromkeys(texts) if text not in self._seen]
        self._seen.update(fresh)
        found = {} if self._index.cache is None else self._index.cache.find(fresh)
        count = getattr(self._index.embeddings, "count_tokens", lambda _: 0)
        for text in fresh:
            if text in found:
                self.cached += 1
                self.saved_tokens += count(text)
            else:
                self.embed += 1
                self.tokens += count(text)


def _cost(model: Any, tokens: int) -> float | None:
    if not hasattr(model, "usage"):
        return 0.0  # it runs in this process
    return None if model.price is None else float(tokens * model.price / 1e6)


def _minutes(model: Any, counting: _Counting) -> float | None:
    """How long the limits per minute make it take, were nothing else slow."""
    limits = getattr(model, "limits_per_minute", None)
    if limits is None or (limits.requests is None and limits.tokens is None):
        return None
    requests = model.count_requests(counting.embed, counting.tokens)
    by_requests = requests / limits.requests if limits.requests else 0.0
    by_tokens = counting.tokens / limits.tokens if limits.tokens else 0.0
    return max(by_requests, by_tokens)
