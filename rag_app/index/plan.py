"""What an ingest would do and cost, without asking anybody outside.

Reads the sources as an ingest does, and compares with the manifest and the embedding cache. Which
texts the vector store has vectors of is told by the manifest's documents, cut as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from rag_app.errors import IndexStateError
from rag_app.index.embed import name_text
from rag_app.index.losses import refuse_loss
from rag_app.index.read import Reading
from rag_app.types import IngestPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_text_splitters import TextSplitter

    from rag_app.index.index import Index
    from rag_app.index.journal import Journal
    from rag_app.index.manifest import Generation
    from rag_app.index.read import Source
    from rag_app.index.records import Findings, Notes


def plan(
    index: Index,
    sources: Sequence[Source],
    splitter: TextSplitter,
    *,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
    rebuild: bool = False,
    allow_delete: bool = False,
    retry_quarantined: bool = False,
) -> IngestPlan:
    """What `ingest` would do for the same arguments, were it run now.

    Raises:
        SourceError: a source cannot be listed.
        MissingPackageError: a format's parser is not installed.
    """
    generation = _find_generation(index)
    journal = None if generation is None or rebuild else index.journal(generation)
    if generation is not None:
        index.settle_cache(generation.probes)
    counting = _Counting(index, journal, splitter)
    reading = Reading(
        journal,
        splitter,
        index.splitter,
        progress,
        plan=counting.take,
        retry_quarantined=retry_quarantined,
    )
    found = reading.read(sources)
    if journal is not None:
        counting.take_waiting(journal, {*found.gone, *found.abandoned})
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
        cost=estimate_cost(model, counting.tokens),
        saved=None if price is None else counting.saved_tokens * price / 1e6,
        price=price,
        minutes=estimate_minutes(model, counting.embed, counting.tokens),
        quarantine=tuple(found.quarantine),
        rebuild=not rebuild and generation is None and index.manifest.served() is not None,
        loss="" if journal is None or allow_delete else _find_loss(index, journal, found),
        added=tuple(found.added),
        changed=tuple(found.changed),
        deleted=tuple(found.gone),
    )


def _find_loss(index: Index, journal: Journal, found: Findings) -> str:
    """Why an ingest would refuse to delete what is gone; empty when it would not."""
    try:
        refuse_loss(index, journal, found)
    except IndexStateError as error:
        return f"{error.where}: {error.wrong}"
    return ""


def _find_generation(index: Index) -> Generation | None:
    """The generation that an ingest would write to; None when it would begin one, or refuse
    because what the index holds is in another store, or of another model or splitter."""
    served = index.manifest.served()
    first = (each for each in index.manifest.generations() if each.purpose == "ingest")
    found = served or next(first, None)
    asked = index.kind, index.identity, index.splitter
    if found is None or (found.store, found.identity, found.splitter) != asked:
        return None
    return found


class _Counting:
    """Stands where an ingest would plan documents, and counts what they would take.

    Args:
        journal: of the generation whose vectors can be kept; None when there is none.
        splitter: as the chunks of that generation were cut.
    """

    def __init__(self, index: Index, journal: Journal | None, splitter: TextSplitter) -> None:
        self.chunks = self.held = self.cached = self.embed = self.tokens = self.saved_tokens = 0
        self._index, self._journal, self._splitter = index, journal, splitter
        self._seen: set[bytes] = set()
        self._named: set[str] = set()

    def take(self, notes: Notes) -> None:
        """Count documents that would be planned."""
        for document in notes.documents:
            self._named.add(document.source)
            self._count([chunk.text for chunk in document.chunks], document.source)

    def take_waiting(self, journal: Journal, without: set[str]) -> None:
        """Count what an interrupted ingest left planned and reading found unchanged since."""
        for documents in journal.documents().values():
            for source, known in documents.items():
                if known.planned is not None and source not in self._named | without:
                    self._count(journal.staged_texts_of(source), source)

    def _count(self, chunks: Sequence[str], source: str) -> None:
        held = self._find_held(source)
        texts = [text for text in chunks if text not in held]
        self.chunks += len(chunks)
        self.held += len(chunks) - len(texts)
        named = {name_text(text): text for text in texts}
        fresh = [text for key, text in named.items() if key not in self._seen]
        self._seen.update(named)
        found = {} if self._index.cache is None else self._index.cache.find(fresh)
        count = getattr(self._index.embeddings, "count_tokens", lambda _: 0)
        for text in fresh:
            if text in found:
                self.cached += 1
                self.saved_tokens += count(text)
            else:
                self.embed += 1
                self.tokens += count(text)

    def _find_held(self, source: str) -> set[str]:
        """The texts of a document whose vectors the store has."""
        if self._journal is None:
            return set()
        stored = self._journal.find_stored(source)
        if stored is None:
            return set()
        document = Document(stored.text, metadata=stored.metadata)
        return {piece.page_content for piece in self._splitter.split_documents([document])}


def estimate_cost(model: Any, tokens: int) -> float | None:
    """US dollars for so many tokens; None when the price is not known."""
    if not hasattr(model, "usage"):
        return 0.0  # it runs in this process
    return None if model.price is None else float(tokens * model.price / 1e6)


def estimate_minutes(model: Any, texts: int, tokens: int) -> float | None:
    """How long the limits per minute make it take, were nothing else slow."""
    limits = getattr(model, "limits_per_minute", None)
    if limits is None or (limits.requests is None and limits.tokens is None):
        return None
    requests = model.count_requests(texts, tokens)
    by_requests = requests / limits.requests if limits.requests else 0.0
    by_tokens = tokens / limits.tokens if limits.tokens else 0.0
    return max(by_requests, by_tokens)
