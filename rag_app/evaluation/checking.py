"""Does the evidence of cases stand in what is indexed? Where not, what comes nearest."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rag_app.evaluation.projection import locate, read_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.app import RagApp
    from rag_app.evaluation.projection import Stale
    from rag_app.evaluation.results import Cases

_WORD: Final = re.compile(r"\w+")
_LEAST: Final = 0.3
"""Share of a quote's words that a passage must have to be named as the nearest."""
_SHOWN: Final = 160


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Evidence that does not stand in what is indexed.

    Attributes:
        case: its id; `place` is where it is written, as `cases.jsonl:3`.
        number: of the piece of evidence in its case, from 1.
        hint: the nearest passage of the source or the nearest source; empty when nothing is near.
    """

    case: str
    place: str
    number: int
    source: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """Cases held against an index.

    Attributes:
        evidence: how many pieces there are.
    """

    cases: int
    unanswerable: int
    evidence: int
    misplaced: tuple[Misplaced, ...]
    notes: tuple[str, ...] = ()


def check_cases(app: RagApp, cases: Cases) -> Checked:
    """Look for every piece of evidence in its document as it is indexed.

    Raises:
        IndexStateError, IdentityError: the index cannot answer for this config.
    """
    texts = read_texts(app, (e.source for case in cases.cases for e in case.evidence))
    stale = [lost for case in cases.cases for lost in locate(case, texts)[1]]
    unknown = any(lost.case.evidence[lost.place].source not in texts for lost in stale)
    sources = _list_sources(app) if unknown else []
    return Checked(
        cases=len(cases.cases),
        unanswerable=sum(not case.answerable for case in cases.cases),
        evidence=sum(len(case.evidence) for case in cases.cases),
        misplaced=tuple(_describe(lost, texts, sources) for lost in stale),
        notes=cases.notes,
    )


def find_nearest(quote: str, text: str) -> str:
    """The passage of a text, as long as the quote, that shares most words with it; white space
    made one space. Empty when it shares few."""
    wanted = Counter(word.casefold() for word in _WORD.findall(quote))
    words = [(found.group().casefold(), found.span()) for found in _WORD.finditer(text)]
    length = sum(wanted.values())
    if not length or not words:
        return ""
    seen: Counter[str] = Counter()
    shared = best = start = 0
    for place, (word, _) in enumerate(words):
        seen[word] += 1
        shared += seen[word] <= wanted[word]
        if place >= length:
            gone = words[place - length][0]
            shared -= seen[gone] <= wanted[gone]
            seen[gone] -= 1
        if shared > best:
            best, start = shared, max(0, place - length + 1)
    if best < _LEAST * length:
        return ""
    end = words[min(start + length, len(words)) - 1][1][1]
    return " ".join(text[words[start][1][0] : end].split())


def _describe(lost: Stale, texts: Mapping[str, str], sources: Sequence[str]) -> Misplaced:
    case, evidence = lost.case, lost.case.evidence[lost.place]
    hint = ""
    if evidence.source not in texts:
        near = difflib.get_close_matches(evidence.source, sources, n=1)
        hint = f"there is {near[0]!r}" if near else ""
    elif evidence.quote is not None and (
        passage := find_nearest(evidence.quote, texts[evidence.source])
    ):
        short = passage if len(passage) <= _SHOWN else passage[: _SHOWN - 1] + "…"
        hint = f"nearest: “{short}”"
    return Misplaced(case.id, case.place, lost.place + 1, evidence.source, lost.reason, hint)


def _list_sources(app: RagApp) -> list[str]:
    return app.index.read(lambda view: sorted(app.index.journal(view.generation).contents()))
