"""Import: a new generation from an export, its vectors taken as they are.

Everything is checked before anything is written. Then it goes as an ingest does: every chunk is
planned, written, read back, and all of it published at once; run again after a kill it goes on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from langchain_core.embeddings import Embeddings

from rag_app.errors import IdentityError, IndexStateError
from rag_app.index.embed import Embedding
from rag_app.index.identity import PROBES, require_same, require_same_probes
from rag_app.index.ingest import begin_generation, publish, tell_resumption
from rag_app.index.manifest import set_head
from rag_app.index.portable_reading import open_portable
from rag_app.index.portable_vectors import FileVectors
from rag_app.index.read import digest
from rag_app.index.records import Notes, OriginRecord, PlannedChunk, PlannedDocument
from rag_app.index.write import Writing
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rag_app.index.index import Index
    from rag_app.index.journal import Journal
    from rag_app.index.manifest import Generation
    from rag_app.index.portable import ChunkLine, DocumentLine
    from rag_app.index.portable_reading import Portable

    Progress = Callable[[str, int, int | None], None]

_IMPORTED: Final = "imported"
"""Key of the manifest's head: which generation was begun for which export."""


def import_index(
    index: Index,
    source: Path,
    *,
    replace: bool = False,
    progress: Progress = lambda *_: None,
    prepare: Callable[[], None] = lambda: None,
) -> Generation:
    """Fill a generation with an export and serve it; the embedding model embeds only its probes.

    Args:
        source: the folder or zip that `export_index` wrote.
        replace: serve it in the place of what is served, which is kept for a rollback.
        progress: called as (stage, done, total).
        prepare: called before anything is published; reads of the index then see what will be.

    Raises:
        IdentityError: its vectors are of another model than the config's.
        IndexStateError: it is damaged, cut by another splitter, or something is served already.
        LockedError: another process is writing. StoreError: the store failed; run it again.
    """
    with index.writing() as require_held, open_portable(source, index.folder) as portable:
        _require_fit(index, portable)
        served = index.manifest.served()
        if served is not None and _is_of(index, served, portable) and served.revision == 1:
            return served
        if served is not None and not replace:
            raise _occupied(index, served)
        portable.check(progress)
        vectors = FileVectors(portable.vectors, portable.find_rows())
        _require_probes(index, portable)
        generation = _choose_generation(index, portable, replace=replace)
        journal, store = index.journal(generation), index.open(generation.collection)
        waiting = journal.count()["planned"]
        _plan(journal, portable)
        if waiting:
            tell_resumption(index, journal, progress)
        embedding = Embedding(_NoModel(portable.place), vectors)
        writing = Writing(journal, store, embedding, [], _name_stage(progress))
        writing.write()
        planned = journal.count()["planned"]
        if planned != portable.header.counts.chunks:  # a mistake of ours, and not one to serve
            raise RuntimeError(f"{planned} chunks were planned: {portable.header.counts}")
        index.require_count(store, planned)
        publish(index, generation, journal, prepare, require_held)
        journal.sweep()
        return next(g for g in index.manifest.generations() if g.number == generation.number)


def _require_fit(index: Index, portable: Portable) -> None:
    """Refuse vectors or chunks that were made otherwise than the config says."""
    header = portable.header
    identity, splitter = (
        json.dumps(each, sort_keys=True) for each in (header.embeddings, header.splitter)
    )
    try:
        require_same(index.name, identity, index.identity)
    except IdentityError as error:
        remedy = "Set embeddings as its index.json says, or ingest the sources instead."
        raise IdentityError(portable.place, error.wrong, remedy) from error
    if splitter != index.splitter:
        there, here = header.splitter, json.loads(index.splitter)
        names = sorted({*there, *here})
        apart = [n for n in names if there.get(n) != here.get(n)]
        raise IndexStateError(
            portable.place,
            "its chunks were cut by other splitter options than the config's: "
            + ", ".join(f"{n} {there.get(n)!r}, here {here.get(n)!r}" for n in apart),
            "Set splitter as its index.json says, or ingest the sources instead.",
        )


def _require_probes(index: Index, portable: Portable) -> None:
    """Refuse vectors that the model, as it is here and now, would not make."""
    if tuple(portable.header.probes) != PROBES:
        wrong = "its probe sentences are not those of this version"
        remedy = "Read it with the rag-app that it was made by."
        raise IndexStateError(portable.place, wrong, remedy)
    probes = portable.probes.read(0, len(PROBES)).tobytes()
    try:
        require_same_probes(index.name, probes, index.embeddings, index.identity, lengths=False)
    except IdentityError as error:
        remedy = "Use the model that made it, or ingest the sources instead."
        raise IdentityError(portable.place, error.wrong, remedy) from error


def _occupied(index: Index, served: Generation) -> IndexStateError:
    chunks = index.journal(served).count()["served"]
    return IndexStateError(
        index.place,
        f"it serves {chunks} chunks already (generation {served.number})",
        "To serve the import in their place, run it with --replace; they are kept for "
        "`rag-app index rollback`.",
    )


def _choose_generation(index: Index, portable: Portable, *, replace: bool) -> Generation:
    """The generation that was begun for this export, or a new one."""
    for unfinished in index.manifest.generations():
        if unfinished.revision or unfinished.purpose != "import":
            continue
        if _is_of(index, unfinished, portable) and index.is_as_asked(unfinished):
            return unfinished
        index.drop(unfinished)
    last = int(index.manifest.get("last") or 0)
    if not replace and (count := index.open(f"{index.name}_g{last + 1}").count()):
        raise IndexStateError(
            index.place,
            f"the store already holds {count} chunks that this index knows nothing of",
            "Give the index another name or the store another path; to drop them, run it with "
            "--replace.",
        )
    generation = begin_generation(index, "import")
    with index.manifest.database.writing() as connection:
        note = json.dumps([generation.number, portable.digest])
        set_head(connection, _IMPORTED, note)
    return generation


def _is_of(index: Index, generation: Generation, portable: Portable) -> bool:
    """Whether a generation was begun for this very export."""
    note = json.loads(index.manifest.get(_IMPORTED) or "[]")
    return bool(note == [generation.number, portable.digest])


def _plan(journal: Journal, portable: Portable) -> None:
    """Plan every document but those that a killed run planned already."""
    known = {s: k for each in journal.documents().values() for s, k in each.items()}
    notes = Notes.none()
    for line, chunks in portable.documents():
        there = known.get(line.source)
        if there is None or there.planned != line.version:
            notes.documents.append(_make_document(line, chunks))
        if notes.are_many():
            journal.plan(notes)
            notes = Notes.none()
    for origin in portable.origins():
        record = OriginRecord(origin.fingerprint, origin.settings, origin.entry)
        notes.origins[origin.origin] = record
        broken = [Unreadable(source, reason) for source, reason in origin.quarantine.items()]
        notes.quarantine[origin.origin] = broken
    journal.plan(notes)


def _make_document(line: DocumentLine, chunks: list[ChunkLine]) -> PlannedDocument:
    planned = [
        PlannedChunk(chunk.id, line.source, place, chunk.text, chunk.metadata)
        for place, chunk in enumerate(chunks)
    ]
    return PlannedDocument(
        line.source, line.origin, line.version, digest(line.text), line.text, line.metadata, planned
    )


def _name_stage(progress: Progress) -> Progress:
    """An import embeds nothing: what the writing of an ingest calls so is writing here."""
    return lambda stage, *rest: progress("writing" if stage == "embedding" else stage, *rest)


class _NoModel(Embeddings):
    """What a model is asked here is a mistake: every text has its vector in the export."""

    def __init__(self, place: str) -> None:
        self._place = place

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise RuntimeError(f"{self._place}: {len(texts)} texts have no vector")

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]
