"""The JSON of SQuAD 1.1 and 2.0, which many data sets of other languages have taken over.

`{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers":
[{"text", "answer_start"}], "is_impossible"}]}]}]}`; gzipped or not. Rajpurkar et al., "SQuAD:
100,000+ Questions for Machine Comprehension of Text", 2016; "Know What You Don't Know", 2018.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_app.datasets.files import read_text
from rag_app.parsers.frames import replace_surrogates
from rag_app.parsers.parsed import Broken, Parsed, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORM: Final = 'as SQuAD\'s {"data": [{"title": …, "paragraphs": […]}]}'


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph, which is a document.

    Attributes:
        source: its id; else its article's title and its number there, as `Normans#3`.
        questions: the `qas` as they are written; None where there are none.
        place: in the file, as `data[0].paragraphs[2]`.
    """

    source: str
    title: str
    text: str
    questions: Any
    place: str


def is_one(path: Path) -> bool:
    """Whether a file is called like one."""
    return path.name.lower().endswith((".json", ".json.gz"))


def read_documents(path: Path, sha256: str | None = None) -> Iterator[Parsed | Broken]:
    """The paragraphs; `part` is the name. One that cannot be read is named by its place.

    Args:
        sha256: what the file is to hold.

    Raises:
        ParseError: it is no such file, cut off or damaged, or holds no paragraphs.
        UnreadError: it cannot be read, or was changed meanwhile.
    """
    for each in read_paragraphs(path, sha256):
        if isinstance(each, Broken):
            yield each
        else:
            yield Parsed(each.text, {"title": each.title} if each.title else {}, each.source)


def read_paragraphs(path: Path, sha256: str | None = None) -> Iterator[Paragraph | Broken]:
    """The paragraphs with their questions; raises what `read_documents` does."""
    seen: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    empty = True
    for number, article in enumerate(_read_data(path, sha256)):
        place = f"data[{number}]"
        for given, where, title in _list_paragraphs(article, place):
            empty = False
            label = title or f"article {number + 1}"
            numbers[label] += 1
            try:
                yield _to_paragraph(given, where, title, f"{label}#{numbers[label]}", seen)
            except ParseError as error:
                yield Broken(f"{path.name}#{where}", str(error))
    if empty:
        raise ParseError("no text: there are no paragraphs in it")


def _read_data(path: Path, sha256: str | None) -> list[Any]:
    text = read_text(path, sha256).removeprefix("\ufeff")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} on line {error.lineno}, column {error.colno}"
        raise ParseError(f"{reason}; it may be cut off") from error
    except (RecursionError, ValueError) as error:
        raise ParseError(f"is not JSON: {error}") from error
    data = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(data, list):
        raise ParseError(f'holds no list "data", {_FORM}')
    made: list[Any] = replace_surrogates(data) if "\\u" in text else data
    return made


def _list_paragraphs(article: Any, place: str) -> Iterator[tuple[Any, str, str]]:
    """Each with its place and its article's title; an article without any as one, broken."""
    paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
    if not isinstance(paragraphs, list):
        yield None, place, ""
        return
    title = article.get("title")
    for number, given in enumerate(paragraphs):
        where = f"{place}.paragraphs[{number}]"
        yield given, where, title.strip() if isinstance(title, str) else ""


def _to_paragraph(given: Any, place: str, title: str, name: str, seen: dict[str, str]) -> Paragraph:
    if not isinstance(given, dict):
        raise ParseError(f"is no paragraph, {_FORM}")
    key = given.get("id")
    is_id = isinstance(key, str | int) and not isinstance(key, bool) and key != ""
    source = str(key) if is_id else name
    if (first := seen.setdefault(source, place)) != place:
        raise ParseError(f"repeats the name {source!r} of {first}")
    text = given.get("context")
    if not isinstance(text, str) or not text.strip():
        raise ParseError("no text: it has no `context`")
    return Paragraph(source, title, text, given.get("qas"), place)
