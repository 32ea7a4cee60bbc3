"""What every loader shares: origins as a LangChain loader, parsed pieces as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from rag_app.errors import SourceError
from rag_app.parsers.parsed import Broken, Parsed, ParseError, UnreadError
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rag_app.types import Doubt, Origin


class Listing(Protocol):
    """What lists the origins of one `sources` entry."""

    def origins(self) -> Iterator[Origin]: ...

    def doubts(self) -> Sequence[Doubt]: ...

    def close(self) -> None: ...


class SourceLoader(BaseLoader):
    """One `sources` entry as a LangChain loader.

    `origins()` is what an ingest walks: each is fingerprinted, parsed and quarantined by itself.
    """

    def __init__(self, listing: Listing) -> None:
        self.listing = listing

    def origins(self) -> Iterator[Origin]:
        """What the source offers, in sorted order, what the user's patterns leave out included.

        Raises:
            SourceError: it cannot be listed, or there is nothing in it.
        """
        return self.listing.origins()

    def doubts(self) -> Sequence[Doubt]:
        """Why what `origins()` listed last may not be all there is, though it ended well."""
        return self.listing.doubts()

    def close(self) -> None:
        """End the child processes that parse; loading again starts new ones."""
        self.listing.close()

    def lazy_load(self) -> Iterator[Document]:
        """Every document of every origin; what cannot be read is reported after the last of them.

        Raises:
            SourceError: the source cannot be listed, or documents could not be read: it names them.
        """
        broken: list[Unreadable] = []
        try:
            for origin in self.origins():
                if origin.excluded is None:
                    yield from _readable(origin, broken)
        finally:
            self.close()
        if broken:
            raise _name_broken(broken)


def to_documents(
    source: str, pieces: Iterable[Parsed | Broken], metadata: Mapping[str, Any], remedy: str
) -> Iterator[Document | Unreadable]:
    """The parsed pieces of `source` as documents; a piece's own metadata goes before `metadata`.

    Raises:
        SourceError: the parser could not read it; the reason, and `remedy`.
    """
    found = False
    try:
        for piece in pieces:
            found = True
            name = source if piece.part is None else f"{source}#{piece.part}"
            if isinstance(piece, Broken):
                yield Unreadable(name, piece.reason)
            else:
                yield Document(piece.text, metadata={**metadata, **piece.metadata, "source": name})
    except (ParseError, UnreadError) as error:
        raise SourceError(source, str(error), remedy) from error
    if not found:
        raise SourceError(source, "no text", remedy)


def _readable(origin: Origin, broken: list[Unreadable]) -> Iterator[Document]:
    try:
        for loaded in origin.load():
            if isinstance(loaded, Unreadable):
                broken.append(loaded)
            else:
                yield loaded
    except SourceError as error:
        broken.append(Unreadable(origin.source, error.wrong))


def _name_broken(broken: list[Unreadable]) -> SourceError:
    named = "; ".join(f"{each.source} ({each.reason})" for each in broken[:20])
    more = f"; and {len(broken) - 20} more" if len(broken) > 20 else ""
    wrong = f"{len(broken)} could not be read: {named}{more}"
    return SourceError("sources", wrong, "Mend them, or leave them out with `exclude`.")
