"""What an index should serve, worked out from the files alone: the model that a test compares with.

A document is paragraphs of ten words; a splitter of the setup "one" makes a chunk of each, that of
"two" of each two. Nothing of the framework is used here.
"""

from __future__ import annotations

import zlib
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.reliability.errands import OURS, POISON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BROKEN: Final = ""
"""The text of a file that cannot be read."""

PARAGRAPHS: Final = [
    f"{OURS} tells of {POISON if n == 11 else 'matter'} {n} that word{n} holds in truth"
    for n in range(12)
]

FEW: Final = 5
SHARE: Final = 0.2


class Setup(NamedTuple):
    """What of a config decides what is served: the splitter, the model, the store's place."""

    splitter: str = "one"
    dimension: int = 16
    place: str = "a"


class Shown(NamedTuple):
    """A chunk as a reader gets it."""

    source: str
    start: int
    end: int
    text: str
    modified: str


class Version(NamedTuple):
    """A document as it is served."""

    text: str
    splitter: str


@dataclass
class Generation:
    """One that was published.

    Attributes:
        refused: documents with a text that the model refused, in the version it was.
        revision: how often what it serves changed.
        unfinished: whether a run of it stopped before its end, since the last one that did not.
        before: which one it took the place of.
    """

    setup: Setup
    documents: dict[str, Version] = field(default_factory=dict)
    refused: dict[str, Version] = field(default_factory=dict)
    revision: int = 1
    unfinished: bool = False
    before: int | None = None

    def shown(self) -> list[Shown]:
        """All of its chunks, sorted."""
        return sorted(chunk for name in self.documents for chunk in self.chunks(name))

    def chunks(self, name: str) -> list[Shown]:
        """The chunks of one document."""
        found = self.documents.get(name)
        return [] if found is None else split(name, *found)


@dataclass
class World:
    """The generations that are kept, by number; which one is served, and its revision when it took
    the other's place; and the texts whose vectors the cache has, by dimension."""

    kept: dict[int, Generation] = field(default_factory=dict)
    served: int | None = None
    revision: int = 0
    cached: set[tuple[int, str]] = field(default_factory=set)

    @property
    def now(self) -> Generation | None:
        """The one that is served."""
        return None if self.served is None else self.kept[self.served]

    def serve(self, number: int, generation: Generation | None = None) -> None:
        """Serve it from now on; when it is new, in the place of the other."""
        if generation is not None:
            generation.before = self.served
            self.kept[number] = generation
        self.served = number
        self.revision = self.kept[number].revision

    def earlier(self) -> int | None:
        """What a rollback leads to: what was served before, if it is kept."""
        number = None if self.now is None else self.now.before
        while number is not None and number not in self.kept:
            return None
        return number


@dataclass
class Expected:
    """What an ingest is to do: the error's name, or the generation as it will be and the report."""

    error: str | None
    after: Generation
    report: dict[str, object] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)


def ingest(
    world: World,
    files: Mapping[str, str],
    setup: Setup,
    *,
    allow_delete: bool = False,
    retry: bool = False,
    refusing: bool = False,
    rebuild: bool = False,
) -> Expected:
    """What ingesting these files is to do to what is served."""
    before = None if rebuild else world.now
    known = Generation(setup, revision=0) if before is None else before
    after = deepcopy(known)
    after.setup = setup
    if not files:
        return Expected("SourceError", deepcopy(known))
    stays, due, unchanged, broken = _sort(known, files, setup, retry=retry)
    after.refused = {n: v for n, v in known.refused.items() if n in stays or n not in files}
    gone = [name for name in known.documents if name not in files]
    if not allow_delete and is_loss(known, files, gone, {files[name] for name in due}):
        failed = deepcopy(known)
        failed.refused = after.refused
        return Expected("IndexStateError", failed)
    refused = [name for name in due if refusing and _asks_for_poison(known, name, files, setup)]
    after.refused |= {name: Version(files[name], setup.splitter) for name in refused}
    for name in gone:
        del after.documents[name]
    written: set[Shown] = set()
    texts: set[str] = set()
    for name in set(due).difference(refused):
        new = split(name, files[name], setup.splitter)
        held = known.chunks(name)
        after.documents[name] = Version(files[name], setup.splitter)
        written.update(set(new).difference(held))
        texts.update({chunk.text for chunk in new} - {chunk.text for chunk in held})
    changed = bool(gone or len(due) > len(refused)) or not known.revision
    after.revision = known.revision + changed
    after.unfinished = False
    quarantine = sorted([*broken, *stays, *refused])
    report: dict[str, object] = {
        "seen": len(files),
        "indexed": len(due) - len(refused),
        "unchanged": len(unchanged),
        "deleted": len(gone),
        "quarantined": len(quarantine),
        "quarantine": quarantine,
        "excluded": 0,
        "chunks_written": len(written),
        "chunks_deleted": len(set(known.shown()) - set(after.shown())),
        "chunks_total": len(after.shown()),
    }
    return Expected(None, after, report, texts)


def _sort(
    known: Generation, files: Mapping[str, str], setup: Setup, *, retry: bool
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Documents by what is to become of them: they stay refused, are due, unchanged, broken."""
    stays: list[str] = []
    due: list[str] = []
    unchanged: list[str] = []
    broken: list[str] = []
    for name, text in files.items():
        version = Version(text, setup.splitter)
        if text == BROKEN:
            broken.append(name)
        elif known.refused.get(name) == version and not retry:
            stays.append(name)
        elif known.documents.get(name) == version:
            unchanged.append(name)
        else:
            due.append(name)
    return stays, due, unchanged, broken


def _asks_for_poison(known: Generation, name: str, files: Mapping[str, str], setup: Setup) -> bool:
    """Whether a vector has to be made of what a model may refuse."""
    held = {chunk.text for chunk in known.chunks(name)}
    new = {chunk.text for chunk in split(name, files[name], setup.splitter)}
    return any(POISON in text for text in new - held)


def is_loss(
    known: Generation, files: Mapping[str, str], gone: Iterable[str], new: set[str]
) -> bool:
    """Whether more is gone than anybody deletes by hand; a text that came anew is not gone."""
    lost = [name for name in gone if known.documents[name].text not in new]
    all_gone = not any(name in known.documents for name in files)
    many = len(lost) > FEW and len(lost) > SHARE * len(known.documents)
    return bool(lost) and (all_gone or many)


def split(name: str, text: str, splitter: str) -> list[Shown]:
    """The chunks of a document."""
    paragraphs = text.strip().split("\n\n")
    size = {"one": 1, "two": 2}[splitter]
    found, start = [], 0
    for place in range(0, len(paragraphs), size):
        piece = "\n\n".join(paragraphs[place : place + size])
        modified = datetime.fromtimestamp(modified_at(text), UTC).isoformat(timespec="seconds")
        found.append(Shown(name, start, start + len(piece), piece, modified))
        start += len(piece) + 2
    return found


def modified_at(text: str) -> int:
    """When a file of this text was modified: the same text, the same time."""
    return 1_700_000_000 + zlib.crc32(text.encode()) % 10_000_000
