"""CSV and TSV: each row a document of `column: value` lines, its columns in the metadata."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from rag_app.parsers.parsed import Broken, Parsed, ParseError, name_column
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_DELIMITERS = ",;\t|"
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?")

Row = dict[str, str]


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """One document per row after the header, which is row 1.

    `options`: `text` (columns that make the text; all), `id` (column; the number), `title`
    (column), `delimiter`. A column whose values are all numbers, written as JSON writes them,
    becomes numbers.

    Raises:
        ParseError: it has no header or no rows, a quote in it is not closed, or an option names a
            column it does not have, or it ends in the middle of a row: there may have been more.
    """
    text, found = decode(data)
    rows = list(_read_rows(text, options.get("delimiter") or _find_delimiter(text)))
    if len(rows) < 2:
        raise ParseError("no text: it has a header at most" if rows else "no text")
    columns = _name_columns(rows[0][1])
    _check_columns(columns, options)
    table = [(number, dict(zip(columns, row, strict=False)), row) for number, row in rows[1:]]
    numbers = _find_numbers(columns, [cells for _, cells, _ in table])
    seen: set[str] = set()
    for number, cells, row in table:
        if number == table[-1][0] and len(row) < len(columns) and not text.endswith("\n"):
            raise ParseError(f"is cut off in row {number}: {len(row)} of {len(columns)} cells")
        if len(row) > len(columns):
            reason = f"has {len(row)} cells, the header has {len(columns)}"
            yield Broken(f"row={number}", reason)
        else:
            yield _to_document(number, cells, numbers, options, seen, found)


def _read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(sys.maxsize)
    record: list[str] = []
    reader = csv.reader(_keep(io.StringIO(text), record), delimiter=delimiter)
    try:
        for number, row in enumerate(reader, 1):
            if len(record) > 1:
                _check_quotes(record, reader.line_num, delimiter)
            record.clear()
            if any(cell.strip() for cell in row):
                yield number, row
    except csv.Error as error:
        raise ParseError(f"is not readable as CSV: {error}") from error


def _keep(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The lines and an empty one, which a quote that is still open then runs into."""
    for line in chain(lines, [""]):
        kept.append(line)
        yield line


def _check_quotes(record: list[str], last_line: int, delimiter: str) -> None:
    """Refuse a row of several lines that only a misplaced quote holds together.

    Python's reader takes everything up to the next quote, or the end, for one cell.
    """
    try:
        list(csv.reader(record, delimiter=delimiter, strict=True))
    except csv.Error:
        first = last_line - len(record) + 1
        raise ParseError(
            f"the row that begins on line {first} has a quote that is not closed, "
            f"or one inside a quoted cell that is not doubled"
        ) from None


def _find_delimiter(text: str) -> str:
    """The delimiter that splits most of the first rows into the same, largest number of columns."""
    best, most = ",", 0.0
    for delimiter in _DELIMITERS:
        lines = csv.reader(io.StringIO(text[:65536]), delimiter=delimiter)
        widths = Counter(len(row) for row, _ in zip(lines, range(100), strict=False) if row)
        if not widths:
            continue
        (width, times), total = widths.most_common(1)[0], widths.total()
        score = (width - 1) * (times / total) ** 4
        if score > most:
            best, most = delimiter, score
    return best


def _name_columns(header: list[str]) -> list[str]:
    """Header cells, with `column 3` for an empty one and `name (2)` for a repeated one."""
    names: list[str] = []
    for at, cell in enumerate(header, 1):
        name = " ".join(cell.split()) or f"column {at}"
        repeats = sum(name in (other, other.rpartition(" (")[0]) for other in names)
        names.append(f"{name} ({repeats + 1})" if name in names else name)
    return names


def _check_columns(columns: list[str], options: Mapping[str, Any]) -> None:
    named = [*(options.get("text") or []), options.get("id"), options.get("title")]
    for name in named:
        if name is not None and name not in columns:
            raise ParseError(f"has no column {name!r}; its columns are {', '.join(columns)}")


def _find_numbers(columns: Iterable[str], rows: list[Row]) -> dict[str, Callable[[str], Any]]:
    found: dict[str, Callable[[str], Any]] = {}
    for column in columns:
        values = [value for row in rows if (value := row.get(column, "").strip())]
        if values and all(map(_WHOLE.fullmatch, values)):
            found[column] = int
        elif values and all(map(_DECIMAL.fullmatch, values)):
            found[column] = float
    return found


def _to_document(
    number: int,
    cells: Row,
    numbers: Mapping[str, Callable[[str], Any]],
    options: Mapping[str, Any],
    seen: set[str],
    found: Mapping[str, str],
) -> Parsed | Broken:
    part = f"row={number}"
    filled = {column: cell.strip() for column, cell in cells.items() if cell.strip()}
    if options.get("id"):
        key = filled.get(options["id"])
        if key is None or key in seen:
            what = f"has no {options['id']!r}" if key is None else f"repeats the id {key!r}"
            return Broken(part, what)
        seen.add(key)
        part = key
    wanted = options.get("text") or list(filled)
    text = "\n".join(f"{column}: {filled[column]}" for column in wanted if column in filled)
    if not text:
        return Broken(part, "no text")
    metadata = {name_column(c): numbers.get(c, str)(cell) for c, cell in filled.items()}
    title = {"title": filled[options["title"]]} if options.get("title") in filled else {}
    return Parsed(text, {**found, **metadata, **title}, part)
