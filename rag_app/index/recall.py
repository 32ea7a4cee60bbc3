"""How much of the evidence of some cases a search finds: the same spans, however chunks are cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_app.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from rag_app.types import Hit, Span


@dataclass(frozen=True, slots=True)
class Case:
    """A question and the spans of documents that answer it, as (source, (start, end))."""

    question: str
    evidence: tuple[tuple[str, Span], ...]


def read_cases(path: Path, texts: Callable[[Iterable[str]], dict[str, str]]) -> list[Case]:
    """The answerable cases of a JSONL file; evidence by quote is found in the documents' texts.

    Args:
        path: lines of `{"question", "evidence": [{"source", "quote"} | {"source", "start",
            "end"}]}`; a case without evidence is left out.
        texts: gives the texts of documents by their sources.

    Raises:
        UsageError: a line is no case, or its evidence does not stand in a document of the index.
    """
    given = [
        _parse(f"{path}:{number}", line) for number, line in enumerate(_lines(path), 1) if line
    ]
    known = texts({each["source"] for case in given for each in case.evidence})
    cases = []
    for case in given:
        spans = tuple(_find(case, each, known) for each in case.evidence)
        if spans:
            cases.append(Case(case.question, spans))
    if not cases:
        raise UsageError(str(path), "no case has evidence", "Give questions with evidence.")
    return cases


def measure_recall(cases: Sequence[Case], search: Callable[[str], Iterable[Hit]]) -> float:
    """The mean share of a case's spans that some hit overlaps, from 0 to 1."""
    found = 0.0
    for case in cases:
        hits = list(search(case.question))
        met = [any(_overlaps(hit, *span) for hit in hits) for span in case.evidence]
        found += sum(met) / len(met)
    return found / len(cases)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is not UTF-8 text"
        wrong = f"{path} cannot be read: {words}"
        raise UsageError("--cases", wrong, "Name a JSONL file.") from error


@dataclass(frozen=True, slots=True)
class _Given:
    """A case as it is written, at its `place` in the file."""

    place: str
    question: str
    evidence: list[dict[str, Any]]


def _parse(place: str, line: str) -> _Given:
    remedy = 'A line reads {"question": …, "evidence": [{"source": …, "quote": …}]}.'
    try:
        case = json.loads(line)
    except ValueError as error:
        raise UsageError(place, f"it is no JSON ({error})", remedy) from error
    wrong = _find_wrong(case)
    if wrong is not None:
        raise UsageError(place, f"it is no case: {wrong}", remedy)
    return _Given(place, case["question"], case.get("evidence") or [])


def _find_wrong(case: Any) -> str | None:
    """Why this is no case; None when it is one."""
    if not isinstance(case, dict):
        return "it is no object"
    question, evidence = case.get("question"), case.get("evidence") or []
    if not isinstance(question, str) or not question.strip():
        return f"`question` is {question!r}, and no text"
    if not isinstance(evidence, list):
        return f"`evidence` is {evidence!r}, and no list"
    return next((wrong for each in evidence if (wrong := _find_wrong_in(each))), None)


def _find_wrong_in(evidence: Any) -> str | None:
    if not isinstance(evidence, dict) or not isinstance(evidence.get("source"), str):
        return f"the evidence {evidence!r} names no `source`"
    if "quote" in evidence:
        quote = evidence["quote"]
        fits = isinstance(quote, str) and bool(quote.strip())
        return None if fits else f"`quote` is {quote!r}, and no text to look for"
    start, end = evidence.get("start"), evidence.get("end")
    if type(start) is int and type(end) is int and 0 <= start < end:
        return None
    return f"`start` is {start!r} and `end` {end!r}, and no span of characters (0 <= start < end)"


def _find(case: _Given, evidence: dict[str, Any], texts: dict[str, str]) -> tuple[str, Span]:
    source = evidence["source"]
    if source not in texts:
        wrong = f"the index holds no document {source!r}"
        raise UsageError(case.place, wrong, "Correct the source, or run: rag-app ingest")
    text, quote = texts[source], evidence.get("quote")
    start = evidence["start"] if quote is None else text.find(quote)
    end = evidence["end"] if quote is None else start + len(quote)
    if start < 0 or end > len(text):
        wrong = f"the evidence of {case.question!r} does not stand in {source!r} as it is indexed"
        raise UsageError(case.place, wrong, "Correct the evidence, or run: rag-app ingest")
    return source, (start, end)


def _overlaps(hit: Hit, source: str, span: Span) -> bool:
    return hit.source == source and hit.start < span[1] and span[0] < hit.end
