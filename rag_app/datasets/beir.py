"""The folders of BEIR and MTEB: a corpus, queries, and judgments of which document answers which.

`corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/<split>.tsv` or
`.jsonl` (`query-id`, `corpus-id`, `score`); each may be gzipped. Thakur et al., "BEIR: A
Heterogenous Benchmark for Zero-shot Evaluation of Information Retrieval Models", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_app.datasets.files import open_file, read_text
from rag_app.parsers.jsonl import identify, read_records
from rag_app.parsers.parsed import Broken, Parsed, ParseError, name_column

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

CORPUS: Final = "corpus.jsonl"
QUERIES: Final = "queries.jsonl"
JUDGMENTS: Final = "qrels"

_COLUMNS: Final = ("query-id", "corpus-id", "score")
_ENDINGS: Final = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")
_TEXTS: Final = ("title", "text")


@dataclass(frozen=True, slots=True)
class Query:
    """A query. `line` is where it stands; `answers`, where it has that field."""

    id: str
    text: str
    answers: tuple[str, ...]
    line: int


def is_one(folder: Path) -> bool:
    """Whether a folder has a corpus or queries in it."""
    names = (CORPUS, f"{CORPUS}.gz", QUERIES, f"{QUERIES}.gz")
    return any((folder / name).exists() for name in names)


def find_file(folder: Path, name: str) -> Path:
    """The file of that name, plain or gzipped.

    Raises:
        ParseError: there is none, or both.
    """
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
    if not found:
        raise ParseError(f"holds neither {name} nor {name}.gz")
    if len(found) > 1:
        raise ParseError(f"holds both {name} and {name}.gz, and nothing says which is meant")
    return found[0]


def read_documents(path: Path, sha256: str | None = None) -> Generator[Parsed | Broken, None, None]:
    """The documents of a corpus, one after the other; `part` is the `_id`.

    The text is title, a space, text: the form that figures are published for. A record without a
    legible or unique id is named by its line, as `corpus.jsonl#line=3`.

    Args:
        sha256: what the file is to hold.

    Raises:
        ParseError: it is cut off or damaged, or holds nothing.
        UnreadError: it cannot be read, or was changed meanwhile.
    """
    seen: dict[str, int] = {}
    empty = True
    with open_file(path, sha256) as stream:
        for number, record in read_records(stream):
            empty = False
            if isinstance(record, Broken):
                yield Broken(f"{CORPUS}#{record.part}", record.reason)
            else:
                yield _to_document(number, record, seen)
        if empty:
            raise ParseError("no text")


def list_splits(folder: Path) -> dict[str, list[Path]]:
    """The files of judgments by split, as `test`; more than one where they are in two forms.

    Raises:
        OSError: the folder cannot be listed.
    """
    splits: dict[str, list[Path]] = {}
    place = folder / JUDGMENTS
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        for ending in _ENDINGS:
            if path.name.endswith(ending) and not path.name.startswith("."):
                splits.setdefault(path.name.removesuffix(ending), []).append(path)
    return splits


def read_judgments(path: Path) -> dict[str, dict[str, int]]:
    """The scores by query and document, in the file's order, those of 0 and less included.

    Raises:
        ParseError: it is damaged, a line is no judgment, or two of a pair differ.
        UnreadError: it cannot be read.
    """
    judged: dict[str, dict[str, int]] = {}
    is_table = path.name.removesuffix(".gz").endswith(".tsv")
    for line, row in _read_table(path) if is_table else _read_rows(path):
        query, document = (_to_name(line, name, row.get(name)) for name in _COLUMNS[:2])
        score = _to_score(line, row.get("score"))
        if judged.setdefault(query, {}).setdefault(document, score) != score:
            first = judged[query][document]
            words = f"the document {document!r} has the score {score} for the query {query!r}"
            raise ParseError(f"line {line}: {words}, and {first} on a line before")
    return judged


def read_queries(path: Path) -> Iterator[Query]:
    """The queries, in the file's order.

    Raises:
        ParseError: it is cut off or damaged, or a line is no query; of an id that comes again, if
            the text is another.
        UnreadError: it cannot be read.
    """
    seen: dict[str, int] = {}
    with open_file(path) as stream:
        for number, record in read_records(stream):
            if isinstance(record, Broken):
                raise ParseError(f"line {number}: {record.reason}")
            name = _to_name(number, "_id", record.get("_id"))
            text = record.get("text")
            if not isinstance(text, str) or not text.strip():
                raise ParseError(f"line {number}: the query {name!r} has no text")
            told = hash(text)
            if name not in seen:
                seen[name] = told
                yield Query(name, text, _read_answers(record), number)
            elif seen[name] != told:
                raise ParseError(f"line {number}: the query {name!r} had another text before")


def _to_document(number: int, record: Mapping[str, Any], seen: dict[str, int]) -> Parsed | Broken:
    part = f"{CORPUS}#line={number}"
    try:
        part = identify(number, record, "_id", seen)
        return Parsed(_make_text(record), _describe(record), part)
    except (ParseError, ValueError) as error:
        return Broken(part, str(error))


def _make_text(record: Mapping[str, Any]) -> str:
    given = [record[field] for field in _TEXTS if record.get(field) is not None]
    for value in given:
        if not isinstance(value, str):
            raise ParseError(f"its text is a {type(value).__name__}")
    text = " ".join(given).strip()
    if not text:
        raise ParseError("no text")
    return text


def _describe(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `metadata`, and every other one but the text and the id."""
    nested = record.get("metadata")
    kept = dict(nested) if isinstance(nested, dict) else {}
    taken = {*_TEXTS, "_id"} | ({"metadata"} if isinstance(nested, dict) else set())
    kept |= {name: value for name, value in record.items() if name not in taken}
    metadata = {name_column(name): value for name, value in kept.items()}
    title = record.get("title")
    if isinstance(title, str) and title.strip():
        metadata["title"] = title.strip()
    return metadata


def _read_table(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    names = _COLUMNS
    lines = read_text(path).removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != len(_COLUMNS):
            wanted = ", ".join(_COLUMNS)
            raise ParseError(f"line {number}: has {len(cells)} columns, not the 3 {wanted}")
        if number == 1 and sorted(cells) == sorted(_COLUMNS):
            names = (cells[0], cells[1], cells[2])
        else:
            yield number, dict(zip(names, cells, strict=True))


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_file(path) as stream:
        for number, record in read_records(stream):
            if isinstance(record, Broken):
                raise ParseError(f"line {number}: {record.reason}")
            yield number, record


def _to_name(line: int, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ParseError(f"line {line}: its {name!r} is {value!r}, and no id")
    return str(value)


def _to_score(line: int, value: Any) -> int:
    try:
        score = float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        score = None
    if score is None or isinstance(value, bool) or not score.is_integer():
        raise ParseError(f"line {line}: the score {value!r} is no whole number")
    return int(score)


def _read_answers(record: Mapping[str, Any]) -> tuple[str, ...]:
    given = record.get("answers")
    if not isinstance(given, list):
        return ()
    return tuple(dict.fromkeys(each for each in given if isinstance(each, str) and each.strip()))
