"""The folder of chunking-evaluation: long texts, and questions with the spans that answer them.

`corpora/<corpus_id>.md` and `questions_df.csv` (`question`, `references`, `corpus_id`), where the
references are a JSON list of `content`, `start_index` and `end_index`. Smith and Troynikov,
"Evaluating Chunking Strategies for Retrieval", 2024.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_app.datasets.files import read_text
from rag_app.parsers.parsed import Broken, Parsed, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORPORA: Final = "corpora"
QUESTIONS: Final = "questions_df.csv"
ENDING: Final = ".md"

_COLUMNS: Final = ("question", "references", "corpus_id")


@dataclass(frozen=True, slots=True)
class Reference:
    """A passage that answers: its words, and the characters of the corpus where they stand."""

    content: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one corpus. `number` counts the questions from 1; `line` is where it stands."""

    number: int
    text: str
    corpus: str
    references: tuple[Reference, ...]
    line: int


def is_one(folder: Path) -> bool:
    """Whether a folder has corpora or such questions in it."""
    return (folder / QUESTIONS).exists() or (folder / CORPORA).is_dir()


def list_corpora(folder: Path) -> list[Path]:
    """The files of the corpora, sorted by name.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = (folder / CORPORA).iterdir()
    return sorted(each for each in found if each.suffix == ENDING and each.name[0] != ".")


def read_documents(path: Path, sha256: str | None = None) -> Iterator[Parsed | Broken]:
    """A corpus as one document, character by character; `part` is the file's name.

    Args:
        sha256: what the file is to hold.

    Raises:
        ParseError: there is no text in it, or it is not UTF-8.
        UnreadError: it cannot be read, or was changed meanwhile.
    """
    text = read_text(path, sha256)
    if not text.strip():
        raise ParseError("no text")
    yield Parsed(text, {}, path.name)


def read_questions(path: Path) -> Iterator[Question]:
    """The questions, in the file's order.

    Raises:
        ParseError: a column is missing, or a row is no question.
        UnreadError: it cannot be read.
    """
    rows = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""))
    try:
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ParseError(f"has no column {', '.join(missing)}")
        before = rows.line_num
        for number, row in enumerate(rows, 1):
            yield _to_question(number, row, before + 1)
            before = rows.line_num
    except csv.Error as error:
        raise ParseError(f"line {rows.line_num}: is no CSV: {error}") from error


def _to_question(number: int, row: dict[str, Any], line: int) -> Question:
    for name in ("question", "corpus_id"):
        if not (row[name] or "").strip():
            raise ParseError(f"line {line}: has no {name}")
    try:
        given = json.loads(row["references"] or "")
    except (ValueError, RecursionError) as error:
        raise ParseError(f"line {line}: its references are no JSON: {error}") from error
    if not isinstance(given, list):
        raise ParseError(f"line {line}: its references are no list")
    references = tuple(_to_reference(each, line) for each in given)
    return Question(number, row["question"], row["corpus_id"], references, line)


def _to_reference(given: Any, line: int) -> Reference:
    known = given if isinstance(given, dict) else {}
    content, start, end = (known.get(name) for name in ("content", "start_index", "end_index"))
    if isinstance(content, str) and content.strip() and type(start) is int and type(end) is int:
        return Reference(content, start, end)
    words = "with content, start_index and end_index"
    raise ParseError(f"line {line}: {str(given)[:60]!r} is no reference {words}")
