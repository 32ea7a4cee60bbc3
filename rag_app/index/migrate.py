"""Migration: another model, splitter or vector store, filled beside the one that is served.

A new generation is filled from the documents that the manifest keeps, not from the sources: they
are cut by the new splitter, and their chunks embedded by the new model, or given the vectors that
the old generation has when the model is the same. Searches are answered by the old one throughout;
the new one is verified, then served in one step. The old one stays for `rollback` until `gc`.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from langchain_core.documents import Document

from rag_app.errors import IndexStateError, RagAppError, StoreError, UsageError
from rag_app.index.embed import Embedding, name_text
from rag_app.index.identity import require_same_loaders
from rag_app.index.ingest import choose_generation, publish, tell_resumption
from rag_app.index.read import digest, make_document, name_version
from rag_app.index.records import Notes, OriginRecord
from rag_app.index.write import Writing
from rag_app.types import MigrationPlan, MigrationReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_text_splitters import TextSplitter

    from rag_app.index.index import Index
    from rag_app.index.journal import Journal
    from rag_app.index.manifest import Generation
    from rag_app.index.records import PlannedDocument, StoredDocument
    from rag_app.store import Store

    Progress = Callable[[str, int, int | None], None]

SAMPLE: Final = 200
"""Chunks of the new generation that have to find themselves before it is served."""

ITSELF: Final = 0.999


def migrate(
    index: Index,
    splitter: TextSplitter,
    *,
    progress: Progress = lambda *_: None,
    max_cost: float | None = None,
    prepare: Callable[[], None] = lambda: None,
    judge: Callable[[], None] = lambda: None,
) -> MigrationReport:
    """Fill a generation as the config of `index` says from what is served, and serve it instead.

    Args:
        index: opened by the config to migrate to; its name and path lead to what is served.
        splitter: that config's.
        progress: called as (stage, done, total).
        max_cost: US dollars that embedding may cost; None for no limit.
        prepare: called before the switch; reads of `index` then see the new generation.
        judge: called after `prepare`, likewise; to refuse the switch it raises.

    Raises:
        UsageError: there is nothing to change.
        LockedError: another process is writing.
        IndexStateError: nothing is served yet, or what was filled is not what it should be.
        BudgetError, ModelError, StoreError: as `ingest`; running it again resumes.
    """
    start = time.perf_counter()
    with index.writing() as require_held:
        served = find_served(index)
        if served.identity == index.identity:
            index.check_probes(served)  # its vectors are taken over
        before = index.journal(served)
        generation = choose_generation(index, "migrate")
        journal, store = index.journal(generation), index.open(generation.collection)
        waiting = journal.count()["planned"]
        _plan_stored(before, journal, splitter, index.splitter, progress)
        embedding = Embedding(index.embeddings, index.cache, max_cost)
        at_hand = [(journal, store)]
        if served.identity == index.identity:
            at_hand.append((before, index.open_recorded(served)))
        writing = Writing(journal, store, embedding, at_hand, progress)
        embedding.require_budget_for(writing.texts_to_embed())
        if waiting:
            tell_resumption(index, journal, progress)
        writing.write()
        if writing.refused:
            raise _refused(index, writing)
        writing.prune()
        _verify(index, before, journal, store)

        def prepare_and_judge() -> None:
            prepare()
            judge()

        publish(index, generation, journal, prepare_and_judge, require_held)
        journal.sweep()
        return _report(served, generation, journal, writing, time.perf_counter() - start)


def plan_migration(index: Index, splitter: TextSplitter, progress: Progress) -> MigrationPlan:
    """What `migrate` would do and cost; nothing is written, and no service is asked.

    Raises:
        UsageError, IndexStateError: as `migrate`.
    """
    served = find_served(index)
    before = index.journal(served)
    copies = served.identity == index.identity
    index.settle_cache(served.probes if copies else None)
    documents = chunks = copied = cached = embed = tokens = 0
    seen: set[bytes] = set()
    model: Any = index.embeddings
    count = getattr(model, "count_tokens", lambda _: 0)
    for stored, planned in _split(before, splitter, index.splitter):
        documents += 1
        chunks += len(planned.chunks)
        progress("reading", documents, None)
        texts = {name_text(chunk.text): chunk.text for chunk in planned.chunks}
        if copies:
            same = _texts_of(before, served, stored.source, index)
            copied += sum(chunk.text in same for chunk in planned.chunks)
            texts = {key: text for key, text in texts.items() if text not in same}
        fresh = [text for key, text in texts.items() if key not in seen]
        seen.update(texts)
        found = {} if index.cache is None else index.cache.find(fresh)
        wanted = [text for text in fresh if text not in found]
        cached += len(found)
        embed += len(wanted)
        tokens += sum(map(count, wanted))
    from rag_app.index.plan import estimate_cost, estimate_minutes

    return MigrationPlan(
        changes=tuple(describe_changes(index, served)),
        documents=documents,
        chunks=chunks,
        copied=copied,
        cached=cached,
        embed=embed,
        tokens=tokens,
        cost=estimate_cost(model, tokens),
        minutes=estimate_minutes(model, embed, tokens),
    )


def find_served(index: Index) -> Generation:
    """The generation to migrate from.

    Raises:
        IndexStateError: nothing is served. UsageError: it is already as the config says.
        IdentityError: what it keeps of the documents was read by other loaders than today's.
    """
    served = index.manifest.served()
    if served is None or not index.journal(served).contents():
        raise IndexStateError(index.place, "it holds nothing to migrate", "Run: rag-app ingest")
    if index.is_as_asked(served):
        wrong = f"generation {served.number} of {index.name!r} already is as that config says"
        remedy = "Name the config to change to; changed sources need only: rag-app ingest"
        raise UsageError("migrate", wrong, remedy)
    require_same_loaders(index.name, served.splitter)
    return served


def describe_changes(index: Index, served: Generation) -> Iterator[str]:
    """What differs between what is served and what the config asks for, in words."""
    before, after = (json.loads(each)["config"] for each in (served.config, index.record))
    for section in ("embeddings", "splitter", "vector_store"):
        there, here = before.get(section), after.get(section)
        if there != here:
            yield f"{section}: {_words(there)} -> {_words(here)}"


def rollback(index: Index) -> Generation:
    """Serve again what was served before the last migration.

    Raises:
        IndexStateError: there is no earlier generation. LockedError: another process is writing.
    """
    with index.writing():
        served = index.manifest.served()
        target = None if served is None else index.manifest.find_replaced(served.number)
        if target is None:
            wrong = "no earlier generation is kept"
            raise IndexStateError(index.place, wrong, "See what there is: rag-app index list")
        store = index.open_recorded(target)
        index.require_count(store, index.journal(target).count()["served"])
        index.manifest.serve(target.number)
        return target


def collect_garbage(index: Index) -> list[Generation]:
    """Drop every generation that is not served; those that were dropped.

    Raises:
        LockedError: another process is writing. StoreError: a collection cannot be dropped.
    """
    with index.writing():
        served = index.manifest.served()
        dropped: list[Generation] = []
        failed: list[RagAppError] = []
        for each in index.manifest.generations():
            first = served is None and each.purpose == "ingest"  # it waits to be gone on with
            if not first and (served is None or each.number != served.number):
                try:
                    index.drop(each)
                    dropped.append(each)
                except RagAppError as error:  # told below; the others are none the worse for it
                    failed.append(error)
        if served is not None:
            index.journal(served).sweep()
        if failed:
            wrong = (
                f"{len(failed)} generations could not be removed, {len(dropped)} were; {failed[0]}"
            )
            raise IndexStateError(index.place, wrong, "Mend that, then run: rag-app index gc")
        return dropped


def _plan_stored(
    before: Journal, journal: Journal, splitter: TextSplitter, identity: str, progress: Progress
) -> None:
    """Plan every document that is served, but for those that an interrupted run planned already."""
    known = {s: k for each in journal.documents().values() for s, k in each.items()}
    notes = Notes.none()
    for done, (stored, document) in enumerate(_split(before, splitter, identity)):
        progress("reading", done, None)
        there = known.pop(stored.source, None)
        if there is None or there.planned != document.version:
            notes.documents.append(document)
        if notes.are_many():
            journal.plan(notes)
            notes = Notes.none()
    notes.origins = dict(_carry_origins(before, identity))
    notes.quarantine = before.quarantine()
    journal.plan(notes)
    journal.abandon(known)


def _split(
    before: Journal, splitter: TextSplitter, identity: str
) -> Iterator[tuple[StoredDocument, PlannedDocument]]:
    entries = {origin: record.entry for origin, record in before.origins().items()}
    for stored in before.stored():
        settings = digest(entries.get(stored.origin, ""), identity)
        version = name_version(stored.text, stored.metadata, settings)
        document = Document(stored.text, metadata=stored.metadata)
        planned = make_document(splitter, document, stored.origin, version)
        if not planned.chunks:
            wrong = f"the new splitter makes no chunk of {stored.source!r}"
            raise IndexStateError("splitter", wrong, "Choose other options of the splitter.")
        yield stored, planned


def _carry_origins(before: Journal, identity: str) -> Iterator[tuple[str, OriginRecord]]:
    """How origins were read, so that the next ingest reads only what has changed since.

    An origin with work that was never published counts as not read: its documents here are older.
    """
    unfinished = {
        origin
        for origin, documents in before.documents().items()
        if any(known.planned is not None for known in documents.values())
    } | before.quarantine().keys()  # what one model or splitter refuses another may take
    for origin, record in before.origins().items():
        settings = digest(record.entry, identity)
        fingerprint = None if origin in unfinished else record.fingerprint
        yield origin, OriginRecord(fingerprint, settings, record.entry)


def _texts_of(before: Journal, served: Generation, source: str, index: Index) -> set[str]:
    """The texts of a document whose vectors the old generation has."""
    ids = before.served_ids([source]).get(source, set())
    return {row.text for row in index.open_recorded(served).fetch(sorted(ids))}


def _verify(index: Index, before: Journal, journal: Journal, store: Store) -> None:
    """See that the new generation holds every document, every chunk, and finds its own chunks.

    Raises:
        IndexStateError, StoreError: what is wrong; the old generation is still served.
    """
    there, here = set(before.contents()), journal.planned_sources()
    if there != here:
        wrong = f"{len(there ^ here)} documents differ between the two generations"
        raise IndexStateError(index.place, wrong, "The old one is still served; run it again.")
    planned = journal.count()["planned"]
    index.require_count(store, planned)
    for row in store.fetch(journal.sample(SAMPLE)):
        found = store.search(row.vector, 1)
        if not found or found[0][1] < ITSELF or not np.isfinite(row.vector).all():
            wrong = f"the chunk {row.id!r} of {row.metadata.get('source')!r} does not find itself"
            raise StoreError("vector_store", wrong, "The old generation is still served.")


def _refused(index: Index, writing: Writing) -> IndexStateError:
    named = ", ".join(each.source for each in writing.refused[:5])
    return IndexStateError(
        index.place,
        f"the new model refuses {len(writing.refused)} documents ({named}): "
        f"{writing.refused[0].reason}",
        "The old generation is still served. Choose smaller chunks or another model; what was "
        "embedded is kept.",
    )


def _report(
    served: Generation, generation: Generation, journal: Journal, writing: Writing, seconds: float
) -> MigrationReport:
    embedding = writing.embedding
    return MigrationReport(
        before=served.number,
        generation=generation.number,
        documents=len(journal.contents()),
        chunks=journal.count()["served"],
        copied=writing.copied,
        embedded=embedding.embedded,
        cached=embedding.cached,
        tokens=embedding.tokens,
        cost=embedding.cost,
        seconds=seconds,
    )


def _words(section: Any) -> str:
    if not isinstance(section, dict):
        return "default"
    options = [f"{name}: {value}" for name, value in section.items() if name != "kind"]
    return f"{section['kind']} ({', '.join(options)})" if options else str(section["kind"])
