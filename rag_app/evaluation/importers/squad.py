"""The questions of a SQuAD file: evidence is the answer that most people marked."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rag_app.datasets.squad import Paragraph, read_paragraphs
from rag_app.evaluation.importers.notes import Notes, close_cases
from rag_app.evaluation.projection import find_quote
from rag_app.evaluation.results import Case, Evidence
from rag_app.parsers.parsed import Broken, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rag_app.evaluation.results import Cases
    from rag_app.types import Span

_BROKEN: Final = "paragraphs that cannot be read, whose questions are left out"
_UNANSWERED: Final = "questions left out, as they have no answers and are not marked impossible"
_BOTH: Final = "questions left out, as they are marked impossible and have answers"
_NOWHERE: Final = "questions left out, as none of their answers stands in the paragraph"
_MOVED: Final = "questions whose answer stands elsewhere than told; the nearest place is taken"


def read_cases(path: Path) -> Cases:
    """The questions, in the file's order; those marked impossible have no evidence.

    People marked each for himself, so their answers are alternatives: the evidence is the one that
    most of them marked, the first of several, and all of their words are `answers`.

    Raises:
        UsageError: there are no questions, or two have the same id.
        ParseError, UnreadError: the file cannot be read, or a question is none.
    """
    notes = Notes()
    return close_cases(_read(path, notes), str(path), notes)


def _read(path: Path, notes: Notes) -> Iterator[Case]:
    for paragraph in read_paragraphs(path):
        if isinstance(paragraph, Broken):
            notes.add(_BROKEN, f"{paragraph.part}: {paragraph.reason}")
            continue
        for number, given in enumerate(_require_list(paragraph.questions, paragraph.place, "qas")):
            place = f"{paragraph.place}.qas[{number}]"
            case = _to_case(given, f"{path}: {place}", paragraph, place, notes)
            if case is not None:
                yield case


def _to_case(given: Any, place: str, paragraph: Paragraph, name: str, notes: Notes) -> Case | None:
    question = given.get("question") if isinstance(given, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise ParseError(f"{name}: it is no question with words")
    id = name if given.get("id") in (None, "") else str(given["id"])
    answers = _read_answers(given.get("answers"), name)
    impossible = given.get("is_impossible", False)
    if impossible not in (True, False):
        raise ParseError(f"{name}: `is_impossible` is {impossible!r}, neither true nor false")
    if bool(answers) == impossible:
        notes.add(_BOTH if impossible else _UNANSWERED, id)
        return None
    if impossible:
        return Case(id, question, place=place)
    evidence = _find_evidence(paragraph, answers, id, notes)
    if evidence is None:
        return None
    words = tuple(dict.fromkeys(text for text, _ in answers))
    return Case(id, question, (evidence,), words, place=place)


def _read_answers(given: Any, name: str) -> list[tuple[str, int]]:
    """The answers that say something, with the places they are told to start at."""
    answers = []
    for each in _require_list(given, name, "answers"):
        text = each.get("text") if isinstance(each, dict) else None
        start = each.get("answer_start") if isinstance(each, dict) else None
        if not isinstance(text, str) or type(start) is not int:
            raise ParseError(f"{name}: an answer has no text with its answer_start")
        if text.strip():
            answers.append((text, start))
    return answers


def _require_list(given: Any, place: str, name: str) -> list[Any]:
    if isinstance(given, list | None):
        return given or []
    raise ParseError(f"{place}: `{name}` is a {type(given).__name__}, and no list")


def _find_evidence(
    paragraph: Paragraph, answers: Sequence[tuple[str, int]], id: str, notes: Notes
) -> Evidence | None:
    text = paragraph.text
    exact = [(s, s + len(a)) for a, s in answers if s >= 0 and text.startswith(a, s)]
    moved = [] if exact else [_find_nearest(answer, start, text) for answer, start in answers]
    votes: Counter[Span] = Counter(exact or [span for span in moved if span is not None])
    if not votes:
        notes.add(_NOWHERE, id)
        return None
    if not exact:
        notes.add(_MOVED, id)
    span = votes.most_common(1)[0][0]
    return Evidence(paragraph.source, text[slice(*span)], span)


def _find_nearest(answer: str, start: int, text: str) -> Span | None:
    """Where an answer stands, the place nearest to the one told; None where it does not."""
    spans = find_quote(re.sub(r"\s+", " ", answer).strip(), text)
    return min(spans, key=lambda span: abs(span[0] - start), default=None)
