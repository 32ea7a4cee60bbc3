"""Ingest: read what changed, embed and write it, publish it all at once, prune the rest.

Reading comes first and writes nothing to the store, so the number of texts to embed is known before
the first is paid for. Queries see what was published last until everything is in the store.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rag_app.errors import IndexStateError, RagAppError
from rag_app.index.embed import Embedding
from rag_app.index.failpoints import reach
from rag_app.index.identity import take_probes
from rag_app.index.losses import refuse_loss
from rag_app.index.read import Reading
from rag_app.index.write import Writing
from rag_app.types import IngestReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_text_splitters import TextSplitter

    from rag_app.index.index import Index
    from rag_app.index.journal import Journal
    from rag_app.index.manifest import Generation, Purpose
    from rag_app.index.read import Source
    from rag_app.index.records import Findings

    Progress = Callable[[str, int, int | None], None]


def ingest(
    index: Index,
    sources: Sequence[Source],
    splitter: TextSplitter,
    *,
    progress: Progress = lambda *_: None,
    rebuild: bool = False,
    max_cost: float | None = None,
    allow_delete: bool = False,
    retry_quarantined: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> IngestReport:
    """Make `index` hold what `sources` hold now.

    Args:
        index: what to fill.
        sources: the loaders; a document that could not be read is quarantined, and what the index
            already held of it stays.
        splitter: cuts documents into chunks.
        progress: called as (stage, done, total): "reading" with no total, then "embedding".
        rebuild: fill a new generation from nothing and serve it in place of the others; the cache
            still has the vectors.
        max_cost: US dollars that embedding may cost; None for no limit.
        allow_delete: let any number of documents go that the sources no longer have.
        retry_quarantined: read what was quarantined again, though it has not changed.
        prepare: called before anything is published; reads of the index then see what will be.

    Raises:
        BudgetError: more would be spent. No document's text was sent when the estimate of all was
            too high.
        LockedError: another process is writing.
        IdentityError: the index is of another embedding model or splitter; before any write.
        SourceError: a source cannot be listed; nothing was deleted.
        IndexStateError: too much is gone, or the store is not what the manifest says.
        ModelError, StoreError: the embedding model or the store failed; running again resumes.
    """
    start = time.perf_counter()
    with index.writing() as require_held:
        embedding = Embedding(index.embeddings, index.cache, max_cost)
        generation = choose_generation(index, "rebuild" if rebuild else "ingest")
        journal, store = index.journal(generation), index.open(generation.collection)
        waiting = journal.count()["planned"]
        reading = Reading(
            journal,
            splitter,
            index.splitter,
            progress,
            plan=journal.plan,
            retry_quarantined=retry_quarantined,
        )
        found = read(index, journal, reading, sources, allow_delete=allow_delete)
        writing = Writing(journal, store, embedding, [(journal, store)], progress)
        embedding.require_budget_for(writing.texts_to_embed())
        if waiting:
            tell_resumption(index, journal, progress)
        writing.write()
        publish(index, generation, journal, prepare, require_held)
        journal.settle(found.settled)
        total = finish(index, generation, writing, progress, alone=rebuild)
        return _report(found, writing, total, time.perf_counter() - start)


def choose_generation(index: Index, purpose: Purpose) -> Generation:
    """The generation to write to: the one served, or one begun before or now.

    Raises:
        IdentityError, IndexStateError: it is not the config's; nothing was written.
    """
    manifest = index.manifest
    served = manifest.served()
    if purpose == "ingest" and served is not None:
        index.require_fit(served)
        index.require_cut(served)
        index.check_probes(served)
        index.settle_cache(served.probes)
        index.require_count(index.open(served.collection), index.journal(served).count()["served"])
        return served
    for unfinished in manifest.generations():
        if unfinished.revision or unfinished.purpose != purpose:
            continue
        if purpose != "ingest" and not index.is_as_asked(unfinished):
            index.drop(unfinished)
            continue
        index.require_fit(unfinished)
        index.require_cut(unfinished)
        if unfinished.probes is None:  # it was stopped before anything else was done
            _require_empty(index, unfinished)
            return replace(unfinished, probes=_keep_probes(index, unfinished.number))
        index.check_probes(unfinished)
        index.settle_cache(unfinished.probes)
        return unfinished
    return begin_generation(index, purpose)


def begin_generation(index: Index, purpose: Purpose) -> Generation:
    """A new generation for the config's store and model; its collection is empty.

    Raises:
        IndexStateError: the collection holds rows that nobody knows of.
    """
    probes = take_probes(index.embeddings)  # a model that fails leaves nothing behind
    made = index.manifest.begin(
        purpose,
        index.name,
        store=index.kind,
        identity=index.identity,
        splitter=index.splitter,
        config=index.record,
    )
    _require_empty(index, made)
    _keep_probes(index, made.number, probes)
    return replace(made, probes=probes)


def _require_empty(index: Index, made: Generation) -> None:
    """See that the collection of a new generation is empty, or make it so for a rebuild."""
    store = index.open(made.collection)
    if count := store.count():
        if made.purpose == "ingest":
            index.manifest.forget(made.number)
            raise IndexStateError(
                index.place,
                f"the store already holds {count} chunks that this index knows nothing of",
                "Give the index another name or the store another path; to drop them, run: "
                "rag-app ingest --rebuild",
            )
        store.drop()


def _keep_probes(index: Index, number: int, probes: bytes | None = None) -> bytes:
    """Record what a generation's model makes of the probe sentences; ask it where that is not
    known yet."""
    kept = take_probes(index.embeddings) if probes is None else probes
    index.manifest.keep_probes(number, kept)
    reach("probes-kept")
    index.trust_model(number, kept)
    return kept


def read(
    index: Index,
    journal: Journal,
    reading: Reading,
    sources: Sequence[Source],
    *,
    allow_delete: bool,
) -> Findings:
    """Read all there is, and note what is gone, once that was seen not to be a loss.

    Raises:
        IndexStateError: as `refuse_loss`.
    """
    found = reading.read(sources)
    if not allow_delete:
        refuse_loss(index, journal, found)
    journal.abandon(_unwanted(journal, found))
    journal.take_away(found.gone)
    return found


def finish(
    index: Index, generation: Generation, writing: Writing, progress: Progress, *, alone: bool
) -> int:
    """Remove what is no longer served, `alone` other generations too; how many chunks are served.

    Raises:
        IndexStateError: the store holds fewer.
    """
    journal = index.journal(generation)
    writing.prune()
    if alone:
        drop_others(index, generation, progress)
    journal.sweep()
    total = journal.count()["served"]
    index.require_count(index.open(generation.collection), total)
    return total


def tell_resumption(index: Index, journal: Journal, progress: Progress) -> None:
    """Say how far an interrupted run had come."""
    counts = journal.count()
    total = counts["planned"]
    if total:
        done = total - counts["staged"]
        paid = "" if index.cache is None else ", 0 paid twice"
        progress(f"resuming: {done:,} of {total:,} done{paid}", 0, None)


def publish(
    index: Index,
    generation: Generation,
    journal: Journal,
    prepare: Callable[[], None],
    require_held: Callable[[], None],
) -> None:
    """Serve what was written, once what is derived from it is there."""
    if journal.has_changes():
        announced = index.manifest.announce(generation)
        index.check_probes(generation)  # an ingest may take longer than a model stays the same
        with index.next(announced):
            if index.read(lambda view: view.count()):
                prepare()
    require_held()
    described = {"splitter": index.splitter, "config": index.record, "store": index.kind}
    journal.publish(described)


def drop_others(index: Index, kept: Generation, progress: Progress) -> None:
    """Drop every generation but one, with its collection."""
    for other in index.manifest.generations():
        if other.number != kept.number:
            try:
                index.drop(other)
            except RagAppError as error:  # what was asked for is done, and is served
                progress(f"generation {other.number} is left: {error}", 0, None)


def _unwanted(journal: Journal, found: Findings) -> list[str]:
    """Planned versions that nobody wants any more: their documents are gone, or unreadable now."""
    gone = set(found.gone)
    planned = [
        source
        for documents in journal.documents().values()
        for source, known in documents.items()
        if known.planned is not None and source in gone
    ]
    return [*found.abandoned, *planned]


def _report(found: Findings, writing: Writing, total: int, seconds: float) -> IngestReport:
    quarantine = (*found.quarantine, *writing.refused)
    indexed, quarantined = found.indexed - len(writing.refused), len(quarantine)
    embedding = writing.embedding
    return IngestReport(
        seen=indexed + found.unchanged + quarantined + found.excluded,
        indexed=indexed,
        unchanged=found.unchanged,
        deleted=len(found.gone),
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
