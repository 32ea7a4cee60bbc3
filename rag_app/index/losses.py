"""What an ingest would lose, and the refusal of more than anybody deletes by hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rag_app.errors import IndexStateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_app.index.index import Index
    from rag_app.index.journal import Journal
    from rag_app.index.records import Findings, Known, OriginRecord
    from rag_app.types import Doubt

FEW: Final = 5
SHARE: Final = 0.2
"""More documents gone than these, in number and as a share of all, need to be allowed."""


def find_emptied(
    known: Mapping[str, Mapping[str, Known]],
    origins: Mapping[str, OriginRecord],
    found: Findings,
) -> list[str]:
    """Entries of the config of which every origin with a published document is gone."""
    published = [o for o in origins if any(each.version for each in known.get(o, {}).values())]
    listed = {origins[o].entry for o in published if o in found.origins}
    entries = (origins[o].entry for o in sorted(known.keys() & origins) if o not in found.origins)
    return [e for e in dict.fromkeys(entries) if e in found.entries - listed]


def find_doubtful(
    known: Mapping[str, Mapping[str, Known]], found: Findings
) -> list[tuple[Doubt, set[str]]]:
    """The documents of origins that are gone, by the doubt of a loader that covers them."""
    missing = known.keys() - found.origins
    doubtful = []
    for doubt in found.doubts if missing else ():
        documents = {source for origin in filter(doubt.covers, missing) for source in known[origin]}
        if documents:
            doubtful.append((doubt, documents))
    return doubtful


def refuse_loss(index: Index, journal: Journal, found: Findings) -> None:
    """Refuse when more is gone than anybody deletes by hand: it is lost more often than deleted.

    A rebuild is compared with what is served; what it cannot read is lost by it. A document that
    came back under another name, with the same text, is not gone.

    Raises:
        IndexStateError: naming some; nothing was deleted or published.
    """
    served = index.manifest.served()
    gone, emptied, doubtful = found.gone, found.emptied, found.doubtful
    contents, allowing = journal.contents(), "rag-app ingest --allow-delete"
    if served is not None and served.number != journal.generation:
        before, allowing = index.journal(served), "rag-app ingest --rebuild --allow-delete"
        known, contents = before.documents(), before.contents()
        gone = sorted(contents.keys() - {*found.added, *found.changed})
        emptied = find_emptied(known, before.origins(), found)
        doubtful = find_doubtful(known, found)
    lost = list(_without_renamed(gone, contents, found.contents))
    for doubt, documents in doubtful:
        if doubted := [source for source in lost if source in documents]:
            raise IndexStateError(
                doubt.where,
                f"{doubt.wrong}, and {len(doubted)} documents that the index holds were there "
                f"({_name(doubted)}); nothing was deleted",
                f"{doubt.remedy} If they are to go, run: {allowing}",
            )
    much = len(lost) > FEW and len(lost) > SHARE * len(contents)
    if lost and (emptied or much):
        of_entry = ": all that a source had" if emptied else ""
        raise IndexStateError(
            index.place,
            f"{len(lost)} of {len(contents)} documents are gone from the sources{of_entry} "
            f"({_name(lost)}), and nothing was deleted",
            f"See that the sources are whole. If that is meant, run: {allowing}",
        )


def _without_renamed(
    gone: Sequence[str], contents: Mapping[str, str], planned: Mapping[str, str]
) -> Iterator[str]:
    """Those gone that came back nowhere: each text that is new in its place stands for one."""
    came = Counter(key for source, key in planned.items() if contents.get(source) != key)
    for source in gone:
        if source not in contents:
            continue
        if came[contents[source]]:
            came[contents[source]] -= 1
        else:
            yield source


def _name(documents: Sequence[str]) -> str:
    return ", ".join(documents[:5]) + (", …" if len(documents) > 5 else "")
