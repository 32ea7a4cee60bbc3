"""What an examination of an index finds, by kind; and what each kind means and who mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rag_app.types import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rag_app.errors import RagAppError

FIX: Final = "Run: rag-app doctor --fix"
INGEST: Final = "Run: rag-app ingest"
_RECUT: Final = "Run: rag-app migrate --to THE-CONFIG, or: rag-app ingest --rebuild"
_BOTH: Final = "Run: rag-app doctor --fix, then: rag-app ingest"
REBUILD: Final = "Run: rag-app ingest --rebuild"


class Kind(NamedTuple):
    """What one kind of finding means.

    Attributes:
        damages: whether searches are refused, wrong or incomplete because of it.
        things: what is counted.
        wrong: what is the matter with these.
        remedy: what mends it.
    """

    damages: bool
    things: str
    wrong: str
    remedy: str


KINDS: Final[dict[str, Kind]] = {
    # the store
    "store-unreadable": Kind(True, "", "the rows of the vector store cannot be read", ""),
    "missing-chunks": Kind(True, "chunks", "are published, but the store has no such row", FIX),
    "altered-rows": Kind(True, "rows", "do not hold what was written", FIX),
    "empty-rows": Kind(True, "rows", "have no text", FIX),
    "duplicate-rows": Kind(True, "rows", "are there more than once", FIX),
    "copied-rows": Kind(
        True, "rows", "are copies of others under ids that nothing is known of", FIX
    ),
    "unknown-rows": Kind(True, "rows", "are in the store, but nothing is known of them", FIX),
    "foreign-rows": Kind(
        True,
        "rows",
        "are in the store, nothing is known of them, and they are most of it: another program's?",
        "They are not deleted. Give the index another name or the store another path; if they may "
        "go, remove the collection by the store's own means, then run: rag-app doctor --fix",
    ),
    "bad-vectors": Kind(True, "rows", "have a vector of zeros, NaN, or not of length 1", FIX),
    "wrong-dimension": Kind(True, "rows", "have a vector of another dimension", FIX),
    "foreign-vectors": Kind(True, "rows", "have a vector that the model does not make", FIX),
    "unconfirmed-chunks": Kind(
        True, "chunks", "of an interrupted ingest are not in the store as was noted", FIX
    ),
    "long-chunks": Kind(
        False,
        "chunks",
        "are longer than the embedding model's window: their ends are not in the vectors",
        "Set splitter.chunk_size lower.",
    ),
    "unfinished-ingest": Kind(
        False, "chunks", "wait to be published: an ingest was interrupted, or is at work", INGEST
    ),
    "unpruned-rows": Kind(
        False, "rows", "are published no more and wait to be deleted; searches skip them", INGEST
    ),
    # the manifest
    "manifest-damaged": Kind(True, "", "the manifest is damaged", REBUILD),
    "nothing-published": Kind(True, "", "nothing is served yet", INGEST),
    "unfinished-mending": Kind(
        True, "", "mending was begun and has not ended: searches are refused until it has", FIX
    ),
    "unfinished-generation": Kind(
        False,
        "generations",
        "were begun and never published",
        "Run what began it again: rag-app ingest, ingest --rebuild or migrate; to drop it: "
        "rag-app index gc",
    ),
    "damaged-contents": Kind(
        True, "documents", "are kept in no readable copy: their chunks cannot be restored", _BOTH
    ),
    "splitter-drift": Kind(
        True, "documents", "have other chunks than splitting them again gives", _BOTH
    ),
    "documents-without-chunks": Kind(True, "documents", "are published without a chunk", _BOTH),
    "chunks-without-document": Kind(True, "chunks", "are published without their document", FIX),
    "to-read-again": Kind(True, "documents", "must be read again from their source", INGEST),
    # the config, and the model
    "other-store": Kind(True, "", "", ""),
    "other-model": Kind(True, "", "", ""),
    "other-splitter": Kind(
        True, "", "the chunks were cut by other splitter options than the config's", _RECUT
    ),
    "changed-model": Kind(True, "", "", ""),
    "unasked-model": Kind(False, "", "", ""),
    # what is derived, and the cache
    "damaged-words": Kind(True, "folders", "of the word index are damaged", FIX),
    "stale-words": Kind(True, "folders", "of the word index are not of the published chunks", FIX),
    "damaged-cache": Kind(True, "", "", FIX),
    "bad-cached-vectors": Kind(
        False, "values", "of the cache are no vectors, which is as good as none", FIX
    ),
    "foreign-cached-vectors": Kind(
        True, "chunks", "have a vector in the cache that the model does not make", FIX
    ),
    # the sources
    "unlisted-sources": Kind(False, "", "", ""),
    "new-documents": Kind(False, "documents", "of the sources are not in the index", INGEST),
    "changed-documents": Kind(False, "documents", "have changed since they were read", INGEST),
    "gone-documents": Kind(False, "documents", "are gone from the sources", INGEST),
    "quarantined": Kind(
        False,
        "documents",
        "could not be read",
        "Mend them, then run: rag-app ingest",
    ),
}
"""Every kind of finding, in the order told."""


class Ledger:
    """What was found so far, with the ids of chunks and rows by their document."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, set[str]]] = {}
        self._told: dict[str, list[Finding]] = {}

    def copy(self) -> Ledger:
        """One that goes on from here."""
        made = Ledger()
        made._ids = {
            kind: {document: set(ids) for document, ids in found.items()}
            for kind, found in self._ids.items()
        }
        made._told = {kind: list(told) for kind, told in self._told.items()}
        return made

    def add(self, kind: str, document: str, id: str = "") -> None:
        """One chunk, row or document is of this kind."""
        self._ids.setdefault(kind, {}).setdefault(document, set()).add(id)

    def tell(
        self, kind: str, detail: str = "", remedy: str = "", documents: Iterable[str] = ()
    ) -> None:
        """Something of this kind, in words of its own."""
        about, listed = KINDS[kind], tuple(documents)
        made = Finding(
            kind=kind,
            severity="damage" if about.damages else "note",
            detail=detail or about.wrong,
            documents=listed,
            count=len(listed),
            remedy=remedy or about.remedy,
        )
        self._told.setdefault(kind, []).append(made)

    def count(self, kind: str, by_document: Mapping[str, int], reason: str = "") -> None:
        """So many of each document are of this kind."""
        if by_document:
            self._told.setdefault(kind, []).append(_count(kind, by_document, reason))

    def explain(self, kind: str, error: RagAppError) -> None:
        """Tell what an error says."""
        self.tell(kind, f"{error.where}: {error.wrong}", error.remedy)

    def ids(self, *kinds: str) -> dict[str, set[str]]:
        """The ids of these kinds, by document."""
        found: dict[str, set[str]] = {}
        for kind in kinds:
            for document, ids in self._ids.get(kind, {}).items():
                found.setdefault(document, set()).update(ids)
        return found

    def has(self, *kinds: str) -> bool:
        """Whether anything of these kinds was found."""
        return any(kind in self._ids or kind in self._told for kind in kinds)

    def findings(self) -> tuple[Finding, ...]:
        """Everything, in the order of `KINDS`."""
        found: list[Finding] = []
        for kind in KINDS:
            found += self._told.get(kind, [])
            if kind in self._ids:
                found.append(_count(kind, {s: len(ids) for s, ids in self._ids[kind].items()}))
        return tuple(found)


def _count(kind: str, by_document: Mapping[str, int], reason: str = "") -> Finding:
    about, count = KINDS[kind], sum(by_document.values())
    of = f" of {len(by_document):,} documents" if about.things in ("chunks", "rows") else ""
    return Finding(
        kind=kind,
        severity="damage" if about.damages else "note",
        detail=f"{count:,} {about.things}{of} {about.wrong}" + (f": {reason}" if reason else ""),
        documents=tuple(sorted(by_document)),
        count=count,
        remedy=about.remedy,
    )
