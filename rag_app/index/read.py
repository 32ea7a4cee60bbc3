"""The reading half of an ingest: what the sources hold now, against what the journal knows.

Writes nothing to the store. A document is unchanged when its origin's fingerprint is, or when its
text, metadata, splitter and model are; every other one is split and planned. What is gone is only
known after every source was listed to its end without an error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_app.errors import RagAppError, UsageError
from rag_app.index.losses import find_doubtful, find_emptied
from rag_app.index.records import (
    Findings,
    Known,
    Notes,
    OriginRecord,
    PlannedChunk,
    PlannedDocument,
)
from rag_app.json_values import find_non_json
from rag_app.parsers.parsed import ParseError
from rag_app.types import Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from langchain_core.document_loaders import BaseLoader
    from langchain_core.documents import Document
    from langchain_text_splitters import TextSplitter

    from rag_app.index.journal import Journal


@dataclass(frozen=True, slots=True)
class Source:
    """One `sources` entry: its loader, and its options as text, for a change in them to be seen."""

    kind: str
    settings: str
    loader: BaseLoader


class Reading:
    """Reads sources into planned documents.

    Args:
        journal: what is known; None to plan every document as if nothing were.
        splitter: cuts documents into chunks.
        splitter_identity: part of what makes a document changed.
        progress: called as (stage, done, total).
        plan: takes what is to be recorded, some documents at a time.
        retry_quarantined: read again what was quarantined, though it has not changed.
    """

    def __init__(
        self,
        journal: Journal | None,
        splitter: TextSplitter,
        splitter_identity: str,
        progress: Callable[[str, int, int | None], None],
        *,
        plan: Callable[[Notes], None],
        retry_quarantined: bool = False,
    ) -> None:
        self.found = Findings()
        self._plan = plan
        self._splitter = splitter
        self._splitter_identity = splitter_identity
        self._progress = progress
        self._retry = retry_quarantined
        self._origins: dict[str, OriginRecord] = {} if journal is None else journal.origins()
        self._known: dict[str, dict[str, Known]] = {} if journal is None else journal.documents()
        self._by_source = {s: k for documents in self._known.values() for s, k in documents.items()}
        self._broken = {} if journal is None else journal.quarantine()
        self._homes = {s: o for o, documents in self._known.items() for s in documents}
        self._due: set[str] = set()
        self._spared: set[str] = set()
        self._notes = Notes.none()

    def read(self, sources: Sequence[Source]) -> Findings:
        """Read every source to its end; an error while listing one is raised, and nothing is gone.

        Raises:
            SourceError: a source cannot be listed.
            MissingPackageError: a format's parser is not installed.
        """
        for place, source in enumerate(sources):
            alike = sum(each.settings == source.settings for each in sources[:place])
            entry = f"{source.settings} {alike + 1}" if alike else source.settings
            self.found.entries.add(entry)
            settings = digest(entry, self._splitter_identity)
            for origin in list_origins(source, place):
                self._read_origin(origin, settings, entry)
                self._flush_if_much()
            self.found.doubts += getattr(source.loader, "doubts", tuple)()
        self._flush()
        self._find_gone()
        return self.found

    def _find_gone(self) -> None:
        found = self.found
        missing = set(self._known) - found.origins
        found.gone += [
            source for origin in sorted(missing) for source in sorted(self._known[origin])
        ]
        found.emptied = find_emptied(self._known, self._origins, found)
        found.doubtful = find_doubtful(self._known, found)
        stay = found.sources | self._spared
        gone = [source for source in dict.fromkeys(found.gone) if source not in stay]
        found.gone = [s for s in gone if self._by_source[s].version is not None]
        dealt_with = self._due.union(found.gone)
        found.abandoned = [
            source
            for documents in self._known.values()
            for source, known in sorted(documents.items())
            if known.planned is not None and source not in dealt_with
        ]

    def _read_origin(self, origin: Origin, settings: str, entry: str) -> None:
        found = self.found
        self._progress("reading", len(found.origins), None)
        if origin.excluded is not None:
            found.excluded += 1
            return
        if origin.source in found.origins:
            found.quarantine.append(Unreadable(origin.source, _TWICE))
            return
        found.origins.add(origin.source)
        known = self._known.get(origin.source, {})
        broken = self._broken.get(origin.source, [])
        record = OriginRecord(origin.fingerprint, settings, entry)
        same = origin.fingerprint and self._origins.get(origin.source) == record
        if same and (known or broken) and not (broken and self._retry):
            if twice := self._keep(known, broken):
                self._notes.origins[origin.source] = record._replace(fingerprint=None)
                self._notes.quarantine[origin.source] = [*broken, *twice]
            return
        gone = len(found.gone)
        whole = self._load(origin, known, settings)
        if whole and len(found.gone) > gone:
            found.settled[origin.source] = record
            whole = False  # until they are gone: a run that does not publish must not forget them
        self._notes.origins[origin.source] = record if whole else record._replace(fingerprint=None)

    def _keep(
        self, known: Mapping[str, Known], broken: Sequence[Unreadable] = ()
    ) -> list[Unreadable]:
        """An unchanged origin: its documents are, but for those an interrupted run left planned.

        Those that another origin of this run gave are returned.
        """
        named = {each.source for each in broken}
        twice = [Unreadable(source, _TWICE) for source in known if source in self.found.sources]
        for source in known.keys() - self.found.sources:
            document = known[source]
            if document.planned is not None:
                self._is_due(source, document)
                self.found.contents[source] = document.content or ""
            elif source not in named:
                self.found.unchanged += 1
        self.found.quarantine += [*broken, *twice]
        self.found.sources.update(known, named)
        return twice

    def _is_due(self, source: str, known: Known | None) -> None:
        self._due.add(source)
        is_new = known is None or known.version is None
        (self.found.added if is_new else self.found.changed).append(source)

    def _load(self, origin: Origin, known: Mapping[str, Known], settings: str) -> bool:
        """Plan what `origin` holds; True when all of it was read, or will be read no better."""
        before = len(self.found.quarantine)
        here: set[str] = set()
        try:
            for item in origin.load():
                self._take(item, origin.source, settings, here)
                self._flush_if_much()
        except UsageError:
            raise
        except Exception as error:  # whatever a parser raises, the rest goes on
            self.found.quarantine.append(Unreadable(origin.source, _reason(error)))
            self._spared.update(known)
            self._notes.quarantine[origin.source] = self.found.quarantine[before:]
            return isinstance(error.__cause__, ParseError)  # what it holds, not how it was read
        if known and not here:  # nothing at all is lost more often than deleted
            self.found.quarantine.append(Unreadable(origin.source, "it gave no documents"))
            self._spared.update(known)
            return False
        broken = self.found.quarantine[before:]
        if {each.source for each in broken} <= set(known):
            # else any of the known may be the one that broke
            self.found.gone += sorted(set(known) - here)
        else:
            self._spared.update(known)
        self._notes.quarantine[origin.source] = list(broken)
        return not any(each.reason == _TWICE for each in broken)

    def _take(
        self, item: Document | Unreadable, origin: str, settings: str, here: set[str]
    ) -> None:
        found = self.found
        if isinstance(item, Unreadable):
            item = Unreadable(*(each.replace("\0", "\\0") for each in (item.source, item.reason)))
            here.add(item.source)
            found.sources.add(item.source)
            found.quarantine.append(item)
            return
        source = str(item.metadata["source"])
        if "\0" in source:
            found.quarantine.append(Unreadable(source.replace("\0", "\\0"), _NUL))
            return
        if source in found.sources:
            found.quarantine.append(Unreadable(source, _TWICE))
            return
        here.add(source)
        found.sources.add(source)
        if wrong := find_non_json({"text": item.page_content, "metadata": item.metadata}):
            found.quarantine.append(Unreadable(source, f"{wrong[0]}: {wrong[1]}"))
            return
        known = self._known.get(origin, {}).get(source)
        version = name_version(item.page_content, item.metadata, settings)
        if known is not None and self._is_known(source, known, version):
            return
        planned = make_document(self._splitter, item, origin, version)
        if not planned.chunks:
            found.quarantine.append(Unreadable(source, "no text"))
            return
        self._is_due(source, self._by_source.get(source))
        found.contents[source] = planned.content
        self._read_again(self._homes.get(source), origin)
        self._notes.documents.append(planned)

    def _is_known(self, source: str, known: Known, version: str) -> bool:
        """Whether this version is planned, or published: then nothing is to be read of it."""
        if known.planned == version:
            self._is_due(source, known)
            self.found.contents[source] = known.content or ""
            return True
        if known.version != version:
            return False
        if known.planned is not None:
            self._notes.kept.append(source)
        self.found.unchanged += 1
        return True

    def _read_again(self, home: str | None, origin: str) -> None:
        """The origin that a document is taken from is read again, lest it still has it."""
        if home not in (None, origin, *self.found.origins) and home in self._origins:
            self._notes.origins[home] = self._origins[home]._replace(fingerprint=None)
            self._notes.quarantine[home] = self._broken.get(home, [])

    def _flush_if_much(self) -> None:
        if self._notes.are_many():
            self._flush()

    def _flush(self) -> None:
        if self._notes != Notes.none():
            self._plan(self._notes)
            self._notes = Notes.none()


_TWICE = (
    "another document of this run has the same name; give one of the sources a `prefix`, "
    "or take it out of one"
)
_NUL = "its name holds a NUL character"


def make_document(
    splitter: TextSplitter, document: Document, origin: str, version: str
) -> PlannedDocument:
    """A document with its chunks, each named by everything that its row will hold."""
    source = str(document.metadata["source"])
    times: dict[str, int] = {}
    chunks = []
    for place, piece in enumerate(splitter.split_documents([document])):
        named = name_chunk(source, piece.page_content, piece.metadata)
        times[named] = times.get(named, -1) + 1
        id = digest(named, str(times[named]))[:32] if times[named] else named
        chunks.append(PlannedChunk(id, source, place, piece.page_content, piece.metadata))
    content = digest(document.page_content)
    return PlannedDocument(
        source, origin, version, content, document.page_content, document.metadata, chunks
    )


def name_version(text: str, metadata: Mapping[str, object], settings: str) -> str:
    """What stands for a document as it was read: `settings` for how it is cut and where from."""
    return digest(text, _canonical(metadata), settings)


def name_chunk(source: str, text: str, metadata: Mapping[str, object]) -> str:
    """The id of a chunk: 32 hexadecimal digits of the SHA-256 of what its row holds."""
    return digest(source, text, _canonical(metadata))[:32]


def digest(*parts: str) -> str:
    """The SHA-256 of texts, each with its length, as hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.hexdigest()


def list_origins(source: Source, place: int) -> Iterator[Origin]:
    """A loader's origins; one that does not list any (any LangChain loader) is a single origin."""
    listed = getattr(source.loader, "origins", None)
    if listed is not None:
        yield from listed()
    else:
        yield Origin(f"{source.kind}:{place}", None, source.loader.lazy_load)


def _reason(error: Exception) -> str:
    if isinstance(error, RagAppError):
        return error.wrong.replace("\0", "\\0")
    words = str(error).replace("\0", "\\0")
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _canonical(metadata: object) -> str:
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False, default=str)
