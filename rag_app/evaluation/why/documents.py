"""Whether evidence was lost before there were chunks: it is not in the corpus, or not in its text.

A document that is there and could not be read is lost by the loader, whatever the reason; one that
is left out by a pattern, offered by no source, or not ingested yet is not in the corpus.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rag_app.errors import SourceError, UsageError
from rag_app.evaluation.projection import find_quote
from rag_app.evaluation.verdicts import Verdict
from rag_app.evaluation.why.places import find_squeezed
from rag_app.evaluation.why.raw import Look, look_into
from rag_app.index.read import list_origins
from rag_app.spelling import did_you_mean
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.app import RagApp
    from rag_app.evaluation.results import Evidence
    from rag_app.index.records import StoredDocument
    from rag_app.types import Origin

_INGEST: Final = "run: rag-app ingest"
_ABSENT: Final = ("is the pointer of Git LFS", "is a link to nothing")
"""How the reasons begin of things that are listed and whose content is elsewhere."""


class Corpus:
    """What the sources offer now, listed when first asked for. To be closed."""

    def __init__(self, app: RagApp) -> None:
        self._app = app
        self._opened = ExitStack()

    def close(self) -> None:
        """Close the loaders."""
        self._opened.close()
        self.__dict__.pop("_listed", None)

    @property
    def origins(self) -> Sequence[Origin]:
        """Everything the sources list, what is excluded too."""
        return self._listed[0]

    @property
    def failure(self) -> str:
        """Why a source cannot be listed; empty when all can."""
        return self._listed[1]

    @cached_property
    def _listed(self) -> tuple[list[Origin], str]:
        listed: list[Origin] = []
        failures = []
        sources = self._opened.enter_context(self._app.open_sources())
        for place, source in enumerate(sources):
            try:
                listed += list_origins(source, place)
            except SourceError as error:
                failures.append(f"{error.where}: {error.wrong}")
        return listed, "; ".join(failures)

    def find(self, source: str) -> Origin | None:
        """What a document comes from: of its name, or what it is a part of."""
        named = [o for o in self.origins if source == o.source or source.startswith(f"{o.source}#")]
        wanted = [each for each in named if each.excluded is None]
        return max(wanted or named, key=lambda each: len(each.source), default=None)

    def find_inside(self, source: str) -> Origin | None:
        """What gives a document of that name, among the things that only loading can tell of."""
        opaque = (o for o in self.origins if o.fingerprint is None and o.excluded is None)
        return next((origin for origin in opaque if source in _load(origin)[0]), None)


def explain_missing(
    corpus: Corpus, number: int, evidence: Evidence, quarantine: Mapping[str, Sequence[Unreadable]]
) -> Verdict:
    """The verdict on evidence whose document is not in the index."""
    source = evidence.source
    if broken := _find_broken(source, quarantine):
        return _judge_broken(number, broken)
    origin = corpus.find(source) or corpus.find_inside(source)
    if origin is None:
        return _judge_unlisted(corpus, number, source)
    if origin.excluded is not None:
        proof = f"the source that has {source!r} leaves it out: it {_say(origin.excluded)}"
        return Verdict(number, "not_in_corpus", proof)
    texts, unread = _load(origin)
    if unread and source not in texts:
        return _judge_broken(number, unread[0])
    if source in texts:
        proof = f"{source!r} is in the sources, but not in the index yet; {_INGEST}"
        return Verdict(number, "not_in_corpus", proof)
    proof = (
        f"{origin.source!r} is in the sources, and none of the {len(texts)} documents it gives is "
        f"called {source!r}. {did_you_mean(source, texts)}".rstrip()
    )
    return Verdict(number, "not_in_corpus", proof)


def explain_lost(
    corpus: Corpus,
    number: int,
    evidence: Evidence,
    document: StoredDocument,
    quarantine: Mapping[str, Sequence[Unreadable]],
) -> Verdict:
    """The verdict on evidence that does not stand in the text of its document."""
    origin = corpus.find(evidence.source) or corpus.find_inside(evidence.source)
    texts: Mapping[str, str] = {}
    if origin is not None and origin.excluded is None:
        texts, unread = _load(origin)
        if unread and evidence.source not in texts:
            return _judge_broken(number, unread[0])
    now = texts.get(evidence.source)
    if now is not None and now != document.text and _stands(evidence, now):
        proof = (
            f"the index has an older text of {evidence.source!r}, in which it does not stand; it "
            f"does in the one there is now: {_INGEST}"
        )
        return Verdict(number, "not_in_corpus", proof)
    if evidence.quote is None:
        wrong = f"the text of {evidence.source!r} has only {len(document.text):,} characters"
        return Verdict(number, "lost_by_loader", "", note=wrong)
    return _judge_raw(number, evidence, origin, quarantine)


def _judge_raw(
    number: int,
    evidence: Evidence,
    origin: Origin | None,
    quarantine: Mapping[str, Sequence[Unreadable]],
) -> Verdict:
    """By what the bytes of the file say."""
    source = evidence.source
    look = _look(evidence.quote or "", origin)
    if look.found:
        proof = f"it stands in the file of {source!r} ({look.found}), and not in its loaded text"
        return Verdict(number, "lost_by_loader", proof)
    if look.whole:
        proof = (
            f"{source!r} is in the index, and the quote stands neither in its text nor anywhere in "
            "its file"
        )
        return Verdict(number, "not_in_corpus", proof)
    home = source if origin is None else origin.source
    lost = [each for each in quarantine.get(home, ()) if each.source.startswith(f"{source}#")]
    if lost:
        told = "; ".join(f"{each.source}: {each.reason}" for each in lost[:5])
        return Verdict(number, "lost_by_loader", "", note=f"parts could not be read: {told}")
    stage = "lost_by_loader" if look.note.startswith("no text is on") else "not_in_corpus"
    note = f"the quote does not stand in the text of {source!r}; {look.note}"
    return Verdict(number, stage, "", note=note)  # type: ignore[arg-type]


def _look(quote: str, origin: Origin | None) -> Look:
    if origin is None:
        return Look("", whole=False, note="the sources do not list it any more")
    if origin.read is None:
        return Look("", whole=False, note="its source gives no bytes to look into")
    try:
        return look_into(quote, origin.read())
    except OSError as error:
        return Look("", whole=False, note=f"its file cannot be read: {error.strerror}")


def _judge_unlisted(corpus: Corpus, number: int, source: str) -> Verdict:
    listed = [origin.source for origin in corpus.origins]
    near = did_you_mean(source, listed)
    if corpus.failure:
        seen = f"{source!r} is not in the index, and a source cannot be listed: {corpus.failure}"
        return Verdict(number, "not_in_corpus", "", note=f"{seen}. {near}".rstrip())
    proof = f"none of the {len(listed)} things that the sources list is called {source!r}"
    return Verdict(number, "not_in_corpus", f"{proof}. {near}".rstrip())


def _find_broken(source: str, quarantine: Mapping[str, Sequence[Unreadable]]) -> Unreadable | None:
    listed = [each for broken in quarantine.values() for each in broken]
    return next((each for each in listed if each.source == source), None)


def _judge_broken(number: int, broken: Unreadable) -> Verdict:
    proof = f"{broken.source!r} is there, but could not be read: {broken.reason}"
    if broken.reason.startswith(_ABSENT):
        proof = f"{broken.source!r} is listed, but its content is not there: it {broken.reason}"
        return Verdict(number, "not_in_corpus", proof)
    return Verdict(number, "lost_by_loader", proof)


def _load(origin: Origin) -> tuple[dict[str, str], list[Unreadable]]:
    """The texts of what an origin gives now, by name, and what of it cannot be read."""
    texts: dict[str, str] = {}
    unread: list[Unreadable] = []
    try:
        for item in origin.load():
            if isinstance(item, Unreadable):
                unread.append(item)
            else:
                texts[str(item.metadata["source"])] = item.page_content
    except UsageError:
        raise
    except Exception as error:  # whatever a parser raises, as an ingest would record it
        reason = (
            error.wrong if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
        )
        unread.append(Unreadable(origin.source, reason))
    return texts, unread


def _stands(evidence: Evidence, text: str) -> bool:
    if evidence.quote is None:
        return evidence.span is None or evidence.span[1] <= len(text)
    return bool(find_quote(evidence.quote, text) or find_squeezed(evidence.quote, text))


def _say(reason: str) -> str:
    return reason if reason.startswith("matches") else f"is {reason}"
