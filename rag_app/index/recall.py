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
        UsageError: a line is no case, or its quote does not stand in its document.
    """
    given = [_parse(path, number, line) for number, line in enumerate(_lines(path), 1) if line]
    wanted = {each["source"] for case in given for each in case["evidence"]}
    known = texts(wanted)
    cases = []
    for case in given:
        spans = tuple(_find(path, case["question"], each, known) for each in case["evidence"])
        if spans:
            cases.append(Case(case["question"], spans))
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


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        case = json.loads(line)
        evidence = case.get("evidence") or []
        if all("quote" in e or {"start", "end"} <= set(e) for e in evidence):
            return {"question": str(case["question"]), "evidence": [{**e} for e in evidence]}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # told below, for whatever is wrong with it
    remedy = 'A line reads {"question": …, "evidence": [{"source": …, "quote": …}]}.'
    raise UsageError(f"{path}:{number}", "it is no case", remedy)


def _find(path: Path, question: str, evidence: dict[str, Any], texts: dict[str, str]) -> Any:
    source = str(evidence["source"])
    if "quote" not in evidence:
        return source, (int(evidence["start"]), int(evidence["end"]))
    start = texts.get(source, "").find(evidence["quote"])
    if start < 0:
        wrong = f"the evidence of {question!r} does not stand in {source!r} as it is indexed"
        raise UsageError(str(path), wrong, "Correct the quote, or run: rag-app ingest")
    return source, (start, start + len(evidence["quote"]))


def _overlaps(hit: Hit, source: str, span: Span) -> bool:
    return hit.source == source and hit.start < span[1] and span[0] < hit.end
