"""DOCX: paragraphs in order, tables as a line per row, headings by style (python-docx).

Headers, footers, notes and text boxes are left out.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HEADING = re.compile(r"heading ([1-9])", re.I)
COMPOUND = b"\xd0\xcf\x11\xe0"  # an OLE file: a protected or an old Office file


def parse(data: bytes, _options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The whole file as one document.

    Raises:
        ParseError: it is protected, damaged, or no DOCX.
    """
    document = _open(data)
    blocks: list[str] = []
    headings: list[tuple[int, int, str]] = []
    at = 0
    for text, level in _read_blocks(document):
        if level:
            headings.append((at, level, " ".join(text.split())))
        blocks.append(text)
        at += len(text) + 2
    whole = refuse_empty("\n\n".join(blocks))
    marks = {"_headings": headings} if headings else {}
    yield Parsed(whole, {**_read_properties(document, headings), **marks})


def _open(data: bytes) -> Any:
    import docx
    from docx.opc.exceptions import PackageNotFoundError

    if data.startswith(COMPOUND):
        raise ParseError("is protected by a password, or an old .doc by another name")
    try:
        return docx.Document(io.BytesIO(data))
    except (BadZipFile, PackageNotFoundError, KeyError, ValueError) as error:
        raise ParseError(f"is not a readable DOCX ({error})") from error


def _read_blocks(document: Any) -> Iterator[tuple[str, int]]:
    """Each paragraph and table with its heading level, 0 for none; empty ones are left out."""
    from docx.table import Table

    for block in document.iter_inner_content():
        if isinstance(block, Table):
            text, level = "\n".join(_read_rows(block)), 0
        else:
            text, level = block.text.strip(), _find_level(block)
        if text:
            yield text, level


def _read_rows(table: Any) -> Iterator[str]:
    for row in table.rows:
        cells, last = [], None
        for cell in row.cells:
            if cell._tc is not last:  # a merged cell comes once for each column it covers
                cells.append(" ".join(cell.text.split()))
            last = cell._tc
        if any(cells):
            yield " | ".join(cells)


def _find_level(paragraph: Any) -> int:
    style = paragraph.style
    while style is not None:
        found = _HEADING.fullmatch(style.name or "")
        if found:
            return int(found[1])
        if (style.name or "").lower() == "title":
            return 1
        style = style.base_style
    return 0


def _read_properties(document: Any, headings: list[tuple[int, int, str]]) -> dict[str, Any]:
    given = document.core_properties
    first = next((title for _, level, title in headings if level == 1), "")
    found = {
        "title": (given.title or "").strip() or first,
        "author": (given.author or "").strip(),
        "created": given.created.isoformat() if given.created else "",
        "modified": given.modified.isoformat() if given.modified else "",
    }
    return {name: value for name, value in found.items() if value}
