"""XLSX: each sheet under its name, a line a row (openpyxl).

Where the first row names every column in use, the others are `name: value` pairs, which stand on
their own in a chunk. A formula whose result is not in the file stays as the formula.
"""

from __future__ import annotations

import io
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from rag_app.parsers.docx import COMPOUND
from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def parse(data: bytes, _options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The whole workbook as one document.

    Raises:
        ParseError: it is protected, damaged, or no XLSX.
    """
    results, formulas = _open(data, data_only=True), _open(data, data_only=False)
    text, headings, filled = "", list[tuple[int, int, str]](), False
    for name in results.sheetnames:
        if not hasattr(results[name], "iter_rows"):
            continue  # a sheet that is a chart
        rows = list(_read_rows(results[name], formulas[name]))
        filled = filled or bool(rows)
        headings.append((len(text), 2, name))
        text += "\n".join([name, *_write_rows(rows)]) + "\n\n"
    if not filled:
        raise ParseError("no text")
    whole = refuse_empty(text.rstrip())
    yield Parsed(whole, {**_read_properties(results), "_headings": headings})


def _open(data: bytes, *, data_only: bool) -> Any:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    if data.startswith(COMPOUND):
        raise ParseError("is protected by a password, or an old .xls by another name")
    try:
        return openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=data_only)
    except (BadZipFile, InvalidFileException, KeyError, ValueError) as error:
        raise ParseError(f"is not a readable XLSX ({error})") from error


def _read_rows(results: Any, formulas: Any) -> Iterator[list[str]]:
    """The rows in which anything is written."""
    for sheet in (results, formulas):
        sheet.reset_dimensions()  # what the file says of its own size is often wrong
    pairs = zip(
        results.iter_rows(values_only=True), formulas.iter_rows(values_only=True), strict=True
    )
    for shown, written in pairs:
        cells = [_write(w if s is None else s) for s, w in zip(shown, written, strict=True)]
        while cells and not cells[-1]:
            cells.pop()
        if any(cells):
            yield cells


def _write(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(value).split())


def _write_rows(rows: Sequence[list[str]]) -> Iterator[str]:
    if not _has_header(rows):
        yield from (" | ".join(row) for row in rows)
        return
    names = rows[0]
    for row in rows[1:]:
        pairs = zip(names, row, strict=False)
        yield "; ".join(f"{name}: {value}" for name, value in pairs if value)


def _has_header(rows: Sequence[list[str]]) -> bool:
    """Whether the first row names each column of the others, in words."""
    if len(rows) < 2 or len(rows[0]) < max(map(len, rows)):
        return False
    names = rows[0]
    return len(names) > 1 and len(set(names)) == len(names) and not any(map(_is_number, names))


def _is_number(word: str) -> bool:
    return not word or word.replace(".", "").replace("-", "").replace(":", "").isdigit()


def _read_properties(workbook: Any) -> dict[str, Any]:
    given = workbook.properties
    found = {
        "title": (given.title or "").strip(),
        "author": (given.creator or "").strip(),
        "created": given.created.isoformat() if given.created else "",
        "modified": given.modified.isoformat() if given.modified else "",
    }
    return {name: value for name, value in found.items() if value}
