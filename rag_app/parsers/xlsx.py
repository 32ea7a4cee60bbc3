"""XLSX: each sheet under its name, a line a row (openpyxl).

Where the first row names every column in use, the others are `name: value` pairs, which stand on
their own in a chunk. That row is taken for names when it is set off from the others: bold or on a
coloured ground, under a filter or a table, or words over numbers or dates. A formula whose result
is not in the file stays as the formula.
"""

from __future__ import annotations

import io
import re
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from rag_app.parsers.docx import COMPOUND
from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FILTER: Final = re.compile(rb"<(?:\w{1,20}:)?(?:autoFilter|tablePart)\s")


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
        sheet = results[name]
        rows = list(_read_rows(sheet, formulas[name]))
        filled = filled or bool(rows)
        headings.append((len(text), 2, name))
        marked = _has_names(rows) and (_is_typed(rows) or _is_styled(sheet) or _is_filtered(sheet))
        text += "\n".join([name, *_write_rows(rows, named=marked)]) + "\n\n"
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


def _read_rows(results: Any, formulas: Any) -> Iterator[list[Any]]:
    """The values of the rows in which anything is written."""
    for sheet in (results, formulas):
        sheet.reset_dimensions()  # what the file says of its own size is often wrong
    pairs = zip(
        results.iter_rows(values_only=True), formulas.iter_rows(values_only=True), strict=True
    )
    for shown, written in pairs:
        cells = [w if s is None else s for s, w in zip(shown, written, strict=True)]
        while cells and not _write(cells[-1]):
            cells.pop()
        if cells:
            yield cells


def _write(value: Any) -> str:
    from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula

    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ArrayFormula):
        value = value.text
    elif isinstance(value, DataTableFormula):
        value = f"=TABLE({value.r1 or ''},{value.r2 or ''})"
    return " ".join(str(value).split())


def _write_rows(rows: Sequence[list[Any]], *, named: bool) -> Iterator[str]:
    written = [[_write(value) for value in row] for row in rows]
    if not named:
        yield from (" | ".join(row) for row in written)
        return
    names = written[0]
    for row in written[1:]:
        pairs = zip(names, row, strict=False)
        yield "; ".join(f"{name}: {value}" for name, value in pairs if value)


def _has_names(rows: Sequence[list[Any]]) -> bool:
    """Whether the first row could name each column of the others, in words."""
    if len(rows) < 2 or len(rows[0]) < max(map(len, rows)):
        return False
    if not all(isinstance(value, str) for value in rows[0]):
        return False
    names = [_write(value) for value in rows[0]]
    return len(names) > 1 and len(set(names)) == len(names) and not any(map(_is_number, names))


def _is_typed(rows: Sequence[list[Any]]) -> bool:
    """Whether a number, a date or a truth value stands under the words of the first row."""
    return any(
        isinstance(v, int | float | date | time | timedelta) for row in rows[1:] for v in row
    )


def _is_styled(sheet: Any) -> bool:
    """Whether all of the first row is bold or on a coloured ground, and not all of the second."""
    cells = (row for row in sheet.iter_rows() if any(_write(cell.value) for cell in row))
    first, second = ([cell for cell in row if _write(cell.value)] for row in islice(cells, 2))
    return all(map(_stands_out, first)) and not all(map(_stands_out, second))


def _stands_out(cell: Any) -> bool:
    return bool(cell.font.b) or cell.fill.fill_type == "solid"


def _is_filtered(sheet: Any) -> bool:
    """Whether a filter or a table is laid over the sheet, which needs a row of names.

    Read from the sheet's XML: openpyxl does not tell of them when it reads row by row.
    """
    with sheet._get_source() as source:  # noqa: SLF001
        end = b""
        while block := source.read(1 << 20):
            if _FILTER.search(end + block):
                return True
            end = block[-50:]
    return False


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
