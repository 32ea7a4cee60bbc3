"""Evidence, which is spans of sources, on the documents and chunks that a config makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_app.errors import UsageError
from rag_app.evaluation.results import Located

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rag_app.app import RagApp
    from rag_app.evaluation.results import Case, Cases, Evidence
    from rag_app.index.view import View
    from rag_app.types import Hit, Span

MANY = 5
"""Cases that an alarm names."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Evidence that does not stand in what is indexed, with the reason."""

    case: Case
    place: int
    reason: str


class StaleCasesError(UsageError):
    """Evidence does not stand in the corpus, so measuring it would give zeros that mean nothing."""

    code = "stale_cases"

    def __init__(self, origin: str, stale: Sequence[Stale], way_out: str = "") -> None:
        self.stale = tuple(stale)
        cases = {each.case.id: each for each in stale}
        named = "; ".join(f"{id}: {each.reason}" for id, each in list(cases.items())[:MANY])
        more = f"; and {len(cases) - MANY} more" if len(cases) > MANY else ""
        super().__init__(
            stale[0].case.place or origin,
            f"the evidence of {len(cases)} cases does not stand in what is indexed ({named}{more})",
            f"See all: rag-app cases check. Correct them, or run: rag-app ingest. {way_out}",
        )


def locate(case: Case, texts: Mapping[str, str]) -> tuple[tuple[Located, ...], tuple[Stale, ...]]:
    """Where the evidence of a case stands.

    Args:
        texts: of the documents that are indexed, by source.

    Returns:
        the places, one for each piece of evidence, behind the text for those that are not found;
        and those.
    """
    found, stale = [], []
    for place, evidence in enumerate(case.evidence):
        try:
            spans = find_spans(evidence, texts)
        except LookupError as error:
            spans = _place_beyond(evidence, texts.get(evidence.source, ""))
            stale.append(Stale(case, place, str(error.args[0])))
        found.append(Located(evidence.source, spans, evidence.relevance))
    return tuple(found), tuple(stale)


def _place_beyond(evidence: Evidence, text: str) -> tuple[Span, ...]:
    """A span of the evidence's length that no chunk holds or touches, so that missing it counts."""
    if evidence.whole:
        return ()
    start, end = evidence.span or (0, len(evidence.quote or ""))
    beyond = len(text) + 1
    return ((beyond, beyond + end - start),)


def locate_all(app: RagApp, cases: Cases) -> tuple[dict[str, tuple[Located, ...]], list[Stale]]:
    """Where the evidence of each case stands, by the case's id; and what is not found.

    Raises:
        IndexStateError, IdentityError: the index cannot answer for this config.
    """
    texts = read_texts(app, (e.source for case in cases.cases for e in case.evidence))
    found: dict[str, tuple[Located, ...]] = {}
    stale: list[Stale] = []
    for case in cases.cases:
        found[case.id], lost = locate(case, texts)
        stale += lost
    return found, stale


def find_spans(evidence: Evidence, texts: Mapping[str, str]) -> tuple[Span, ...]:
    """The spans of a piece of evidence, each as good as the others; none for a whole document.

    A quote is looked for as it is, then with any white space for its own. Where a span is given
    too, it has to be one of its places.

    Raises:
        LookupError: saying why it is not there.
    """
    if evidence.source not in texts:
        raise LookupError(f"no document {evidence.source!r} is indexed")
    text = texts[evidence.source]
    if evidence.whole:
        return ()
    spans = () if evidence.quote is None else find_quote(evidence.quote, text)
    if evidence.quote is not None and not spans:
        raise LookupError(f"{evidence.source!r} does not hold the quote")
    if evidence.span is None:
        return spans
    start, end = evidence.span
    if end > len(text):
        raise LookupError(f"{evidence.source!r} has {len(text)} characters, and no {start}-{end}")
    if spans and evidence.span not in spans:
        first, last = spans[0]
        raise LookupError(
            f"the quote stands at {first}-{last} of {evidence.source!r}, and not at {start}-{end}"
        )
    return (evidence.span,)


def find_quote(quote: str, text: str) -> tuple[Span, ...]:
    """Every place of a quote in a text; where there is none, with any white space for its own."""
    exact = re.escape(quote)
    loose = r"\s+".join(map(re.escape, quote.split()))
    for pattern in (exact, loose):  # looked for ahead of each character, as places may overlap
        if spans := tuple(match.span(1) for match in re.finditer(f"(?=({pattern}))", text)):
            return spans
    return ()


def overlapped(hit: Hit, located: Sequence[Located]) -> tuple[int, ...]:
    """The places of the pieces of evidence that a hit holds at least a character of."""
    return find_held(hit.source, (hit.start, hit.end), located)


def find_held(source: str, span: Span, located: Sequence[Located]) -> tuple[int, ...]:
    """The places of the pieces of evidence that a span of a document holds a character of; a whole
    document is held by any span of it."""
    return tuple(
        place
        for place, each in enumerate(located)
        if source == each.source
        and (not each.spans or any(overlaps(span, other) for other in each.spans))
    )


def overlaps(one: Span, other: Span) -> bool:
    """Whether two spans share a character."""
    return max(one[0], other[0]) < min(one[1], other[1])


def read_texts(app: RagApp, sources: Iterable[str]) -> dict[str, str]:
    """The texts of documents as they are indexed; of those that are.

    Raises:
        IndexStateError, IdentityError: the index cannot answer for this config.
    """
    wanted = sorted(set(sources))

    def read(view: View) -> dict[str, str]:
        journal = app.index.journal(view.generation)
        stored = (journal.find_stored(source) for source in wanted)
        return {each.source: each.text for each in stored if each is not None}

    return app.index.read(read)


def read_chunks(app: RagApp, sources: Iterable[str]) -> dict[str, list[tuple[str, Span]]]:
    """The chunks that documents were cut into: (id, span) in order; of those that are indexed.

    Raises:
        IndexStateError, IdentityError: the index cannot answer for this config.
    """
    wanted = sorted(set(sources))

    def read(view: View) -> dict[str, list[tuple[str, Span]]]:
        made = {}
        for source, ids in view.ids_of(wanted).items():
            chunks = []
            for row in view.fetch(ids):
                start = row.metadata.get("start", 0)
                chunks.append((row.id, (start, row.metadata.get("end", start + len(row.text)))))
            made[source] = sorted(chunks, key=lambda chunk: (chunk[1], chunk[0]))
        return made

    return app.index.read(read)
