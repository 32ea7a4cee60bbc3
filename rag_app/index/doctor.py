"""The doctor: what is wrong with an index, and mending it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rag_app.errors import StoreError
from rag_app.index.database import is_damage
from rag_app.index.embed import Embedding
from rag_app.index.examine import Examination
from rag_app.index.ledger import Ledger
from rag_app.index.mend import Mending
from rag_app.types import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from langchain_text_splitters import TextSplitter

    from rag_app.errors import RagAppError
    from rag_app.index.index import Index
    from rag_app.index.read import Source
    from rag_app.types import Finding


def diagnose(
    index: Index,
    sources: Sequence[Source],
    splitter: TextSplitter,
    cache_file: Path | None,
    *,
    fix: bool = False,
    max_cost: float | None = None,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Diagnosis:
    """Examine an index; with `fix` mend what can be and examine it again.

    Args:
        index: what to examine; it need not be fit to be searched.
        sources: compared with it by their fingerprints, as an ingest does.
        splitter: cuts the documents that the manifest keeps once more.
        cache_file: of the index's embedding cache, when it is a file.
        max_cost: US dollars that mending may cost; None for no limit.
        progress: called as (stage, done, total).

    Raises:
        IndexStateError: it changed again and again, or the manifest cannot be written.
        LockedError: another process is writing, and `fix` is given.
        BudgetError, ModelError, StoreError: mending stopped there; run again, it goes on.
    """
    start = time.perf_counter()

    def examine() -> Examination:
        made = Examination(index, splitter, cache_file, progress)
        made.run(sources)
        return made

    if not fix:
        found = examine()
        return _describe(found, start)
    with index.writing():
        before = examine()
        embedding = Embedding(index.embeddings, index.cache, max_cost)
        mending = Mending(before, embedding, progress)
        mending.mend()
        after = examine()
        after.asked += before.asked + mending.asked
        return _describe(after, start, before.ledger.findings(), mending)


def report_unopened(error: RagAppError) -> Diagnosis | None:
    """The finding that the manifest, or the file of the store, cannot be opened because it is
    damaged; None for an error of another kind, such as a server that is away."""
    if not is_damage(error.wrong):
        return None
    ledger = Ledger()
    kind = "store-unreadable" if isinstance(error, StoreError) else "manifest-damaged"
    ledger.explain(kind, error)
    return Diagnosis(ledger.findings(), (), 0, 0, 0, 0, 0, 0, 0, 0.0)


def _describe(
    found: Examination,
    start: float,
    before: Sequence[Finding] = (),
    mending: Mending | None = None,
) -> Diagnosis:
    left = found.ledger.findings()
    kinds = {each.kind for each in left}
    gone = (e for e in before if e.severity == "damage" and e.kind not in kinds)
    return Diagnosis(
        findings=left,
        mended=tuple(gone),
        documents=found.documents,
        chunks=found.chunks,
        written=0 if mending is None else mending.written,
        deleted=0 if mending is None else mending.deleted,
        embedded=0 if mending is None else mending.embedding.embedded,
        cached=0 if mending is None else mending.embedding.cached,
        compared=found.asked,
        seconds=time.perf_counter() - start,
    )
