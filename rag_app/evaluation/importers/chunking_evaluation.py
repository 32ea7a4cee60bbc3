"""The questions of a chunking-evaluation folder: evidence is the spans of a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rag_app.datasets import chunking_evaluation as form
from rag_app.evaluation.importers.notes import Notes, close_cases
from rag_app.evaluation.projection import find_quote
from rag_app.evaluation.results import Case, Evidence
from rag_app.parsers.parsed import Parsed, ParseError, UnreadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rag_app.datasets.chunking_evaluation import Question, Reference
    from rag_app.evaluation.results import Cases

_ABSENT: Final = "questions left out, as their corpus cannot be read"
_EMPTY: Final = "questions left out, as they have no references"
_MOVED: Final = "references that stand elsewhere than told; the nearest place is taken"
_NOWHERE: Final = "references that do not stand in their corpus; they stay evidence"


def read_cases(folder: Path) -> Cases:
    """The questions, in the file's order, called by corpus and number: `finance-174`.

    A reference that the corpus does not hold stays evidence as a quote, which an evaluation
    reports as stale.

    Raises:
        UsageError: there are no questions left.
        ParseError, UnreadError: `questions_df.csv` cannot be read, or a row is no question.
    """
    notes = Notes()
    return close_cases(_read(folder, notes), str(folder), notes)


def _read(folder: Path, notes: Notes) -> Iterator[Case]:
    texts = _read_corpora(folder, notes)
    path = folder / form.QUESTIONS
    try:
        for question in form.read_questions(path):
            case = _to_case(question, f"{path}:{question.line}", texts, notes)
            if case is not None:
                yield case
    except ParseError as error:
        raise ParseError(f"{path.name}: {error}") from error


def _read_corpora(folder: Path, notes: Notes) -> dict[str, str]:
    texts = {}
    for path in form.list_corpora(folder) if (folder / form.CORPORA).is_dir() else ():
        try:
            pieces = [each for each in form.read_documents(path) if isinstance(each, Parsed)]
        except (ParseError, UnreadError) as error:
            notes.add("corpora that cannot be read", f"{path.name}: {error}")
            continue
        texts[path.name.removesuffix(form.ENDING)] = pieces[0].text
    return texts


def _to_case(question: Question, place: str, texts: Mapping[str, str], notes: Notes) -> Case | None:
    id = f"{question.corpus}-{question.number}"
    if question.corpus not in texts:
        notes.add(_ABSENT, id)
        return None
    if not question.references:
        notes.add(_EMPTY, id)
        return None
    source, text = f"{question.corpus}{form.ENDING}", texts[question.corpus]
    evidence = tuple(_locate(each, source, text, id, notes) for each in question.references)
    return Case(id, question.text, evidence, tags=(question.corpus,), place=place)


def _locate(reference: Reference, source: str, text: str, id: str, notes: Notes) -> Evidence:
    start, end = reference.start, reference.end
    if start >= 0 and text[start:end] == reference.content:
        return Evidence(source, reference.content, (start, end))
    spans = find_quote(reference.content, text)
    if not spans:
        notes.add(_NOWHERE, id)
        return Evidence(source, reference.content)
    notes.add(_MOVED, id)
    start, end = min(spans, key=lambda span: abs(span[0] - reference.start))
    return Evidence(source, text[start:end], (start, end))
