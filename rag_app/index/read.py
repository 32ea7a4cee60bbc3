"""The reading half of an ingest: what the sources hold now, against what the manifest knows.

Writes nothing to the store. A document is unchanged when its origin's fingerprint is, or when its
text, metadata, splitter and model are; every other one is split and staged. What is gone is only
known after every source was listed to its end without an error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag_app.errors import RagAppError, UsageError
from rag_app.index.manifest import StagedChunk, StagedDocument
from rag_app.json_values import find_non_json
from rag_app.types import Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_core.document_loaders import BaseLoader
    from langchain_core.documents import Document
    from langchain_text_splitters import TextSplitter

    from rag_app.index.manifest import Known, Manifest

READ_BATCH = 256  # documents staged in one transaction


@dataclass(frozen=True, slots=True)
class Source:
    """One `sources` entry: its loader, and its options as text, for a change in them to be seen."""

    kind: str
    settings: str
    loader: BaseLoader


@dataclass(slots=True)
class Findings:
    """What reading found. `gone` may be acted on only when reading ended without an error.

    Attributes:
        abandoned: documents with a version that an interrupted run left waiting, and that cannot
            be read now.
    """

    indexed: int = 0
    unchanged: int = 0
    excluded: int = 0
    quarantine: list[Unreadable] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)


class Reading:
    """Reads sources into staged documents.

    Args:
        manifest: what is known, and where documents are staged.
        splitter: cuts documents into chunks.
        splitter_identity: part of what makes a document changed.
        progress: called as (stage, done, total).
        anew: stage every document, as if nothing were known.
        stage: called with documents and origins in place of the manifest's own.
    """

    def __init__(
        self,
        manifest: Manifest,
        splitter: TextSplitter,
        splitter_identity: str,
        progress: Callable[[str, int, int | None], None],
        *,
        anew: bool = False,
        stage: Callable[[Sequence[StagedDocument], Sequence[tuple[str, str | None, str]]], None]
        | None = None,
    ) -> None:
        self._anew = anew
        self._stage = manifest.stage if stage is None else stage
        self.found = Findings()
        self._manifest = manifest
        self._splitter = splitter
        self._splitter_identity = splitter_identity
        self._progress = progress
        self._due: set[str] = set()
        self._documents: list[StagedDocument] = []
        self._origins: list[tuple[str, str | None, str]] = []

    def read(self, sources: Sequence[Source]) -> Findings:
        """Read every source to its end; an error while listing one is raised, and nothing is gone.

        Raises:
            SourceError: a source cannot be listed.
            MissingPackageError: a format's parser is not installed.
        """
        for place, source in enumerate(sources):
            settings = _digest(source.settings, self._splitter_identity)
            for origin in _origins_of(source, place):
                self._read_origin(origin, settings)
                if len(self._documents) >= READ_BATCH:
                    self._flush()
        self._flush()
        for origin_name in sorted(self._manifest.origins() - self.found.origins):
            self.found.gone += sorted(self._manifest.versions(origin_name))
        self.found.gone = [s for s in self.found.gone if s not in self.found.sources]
        dealt_with = self._due.union(self.found.gone)
        staged = self._manifest.staged_sources()
        self.found.abandoned = [source for source in staged if source not in dealt_with]
        return self.found

    def _read_origin(self, origin: Origin, settings: str) -> None:
        found = self.found
        self._progress("reading", len(found.origins), None)
        if origin.excluded is not None:
            found.excluded += 1
            return
        if origin.source in found.origins:
            found.quarantine.append(Unreadable(origin.source, _TWICE))
            return
        found.origins.add(origin.source)
        known = self._manifest.versions(origin.source)
        current = (origin.fingerprint, settings)
        if self._is_unchanged(origin, known, current):
            self._keep(known)
        else:
            whole = self._load(origin, known, settings)
            self._origins.append((origin.source, origin.fingerprint if whole else None, settings))

    def _is_unchanged(
        self, origin: Origin, known: dict[str, Known], current: tuple[str | None, str]
    ) -> bool:
        if self._anew or not known or not origin.fingerprint:
            return False
        return self._manifest.origin(origin.source) == current

    def _keep(self, known: dict[str, Known]) -> None:
        """An unchanged origin: its documents are, but for those an interrupted run left staged."""
        staged = {source for source, document in known.items() if document.staged}
        self._due |= staged
        self.found.indexed += len(staged)
        self.found.unchanged += len(known) - len(staged)
        self.found.sources.update(known)

    def _load(self, origin: Origin, known: dict[str, Known], settings: str) -> bool:
        """Stage what `origin` holds; True when all of it could be read."""
        broken = len(self.found.quarantine)
        here: set[str] = set()
        try:
            for item in origin.load():
                self._take(item, origin.source, known, settings, here)
        except UsageError:
            raise
        except Exception as error:  # whatever a parser raises, the rest goes on
            self.found.quarantine.append(Unreadable(origin.source, _reason(error)))
            self.found.sources.update(known)
            return False
        broken_here = {each.source for each in self.found.quarantine[broken:]}
        if broken_here <= set(known):  # else any of the known may be the one that broke
            self.found.gone += sorted(set(known) - here)
        else:
            self.found.sources.update(known)
        return not broken_here

    def _take(
        self,
        item: Document | Unreadable,
        origin: str,
        known: dict[str, Known],
        settings: str,
        here: set[str],
    ) -> None:
        if isinstance(item, Unreadable):
            here.add(item.source)
            self.found.sources.add(item.source)
            self.found.quarantine.append(item)
            return
        source = str(item.metadata["source"])
        if source in self.found.sources:
            self.found.quarantine.append(Unreadable(source, _TWICE))
            return
        here.add(source)
        self.found.sources.add(source)
        version = _digest(item.page_content, _canonical(item.metadata), settings)
        if not self._anew and source in known and known[source].version == version:
            self._keep({source: known[source]})
            return
        if wrong := find_non_json({"text": item.page_content, "metadata": item.metadata}):
            self.found.quarantine.append(Unreadable(source, f"{wrong[0]}: {wrong[1]}"))
            return
        chunks = _chunks(self._splitter, item, source)
        if not chunks:
            self.found.quarantine.append(Unreadable(source, "no text"))
            return
        self._due.add(source)
        self._documents.append(StagedDocument(source, origin, version, chunks))
        self.found.indexed += 1

    def _flush(self) -> None:
        if self._documents or self._origins:
            self._stage(self._documents, self._origins)
            self._documents, self._origins = [], []


_TWICE = (
    "another document of this run has the same name; give one of the sources a `prefix`, "
    "or take it out of one"
)


def _origins_of(source: Source, place: int) -> Iterator[Origin]:
    """A loader's origins; one that does not list any (any LangChain loader) is a single origin."""
    listed = getattr(source.loader, "origins", None)
    if listed is not None:
        yield from listed()
    else:
        yield Origin(f"{source.kind}:{place}", None, source.loader.lazy_load)


def _chunks(splitter: TextSplitter, document: Document, source: str) -> list[StagedChunk]:
    """Chunks with ids made of source and text; a text that occurs again counts its occurrences."""
    times: dict[str, int] = {}
    chunks = []
    for piece in splitter.split_documents([document]):
        text = piece.page_content
        times[text] = times.get(text, -1) + 1
        id = _digest(source, text, str(times[text]))[:32]
        chunks.append(StagedChunk(id, text, piece.metadata))
    return chunks


def _reason(error: Exception) -> str:
    if isinstance(error, RagAppError):
        return error.wrong
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _canonical(metadata: object) -> str:
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False, default=str)


def _digest(*parts: str) -> str:
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.hexdigest()
