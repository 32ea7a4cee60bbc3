"""PDF: the text layer, page by page (PDFium). No text is recognised in images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rag_app.parsers.parsed import Broken, Parsed, ParseError
from rag_app.parsers.text import unify_newlines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypdfium2 import PdfDocument, PdfPage

_HYPHEN = re.compile("[\x02\ufffe\u00ad]\n?")  # a word broken at the end of a line: join it
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\ufffe\uffff]")
_SPACED_WORD = re.compile(r"[^\W\d_]+")
_DATE = re.compile(r"D?:?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(Z|[+-]\d\d)?'?(\d\d)?")
_SCAN = 0.5
"""Part of a page that an image must cover for a page without text to count as scanned."""


def parse(data: bytes, _options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """All pages as one document, two newlines between them; a page that is lost is `Broken`.

    Raises:
        ParseError: password, damage, no text layer, or text whose letters or spaces are lost.
    """
    document = _open(data)
    pages = [_read_page(document, number) for number in range(len(document))]
    text = "\n\n".join(page.text for page in pages)
    _judge(text, pages)
    starts, at = [], 0
    for page in pages:
        starts.append(at)
        at += len(page.text) + 2
    headings = _find_headings(document, text, starts)
    yield Parsed(text, {**_read_metadata(document), "_pages": starts, **headings})
    for number, page in enumerate(pages, 1):
        if page.lost:
            yield Broken(f"page={number}", page.lost)


@dataclass(frozen=True, slots=True)
class _Page:
    text: str
    lost: str | None = None  # why there is no text although there should be


def _open(data: bytes) -> PdfDocument:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ParseError("is protected by a password") from error
        raise ParseError(f"is not a readable PDF ({_said_by(error)})") from error
    if not len(document):
        raise ParseError("is a PDF without pages")
    return document


def _said_by(error: Exception) -> str:
    found = re.search(r"PDFium: ([^)]*?)\.?\)", str(error))
    return found[1] if found else str(error)


def _read_page(document: PdfDocument, number: int) -> _Page:
    import pypdfium2

    try:
        page = document[number]
        text = _clean(page.get_textpage().get_text_range())
    except pypdfium2.PdfiumError as error:
        return _Page("", f"cannot be read ({_said_by(error)})")
    scanned = not text and _is_scanned(page)
    return _Page(text, "no text layer (a scanned page?)" if scanned else None)


def _clean(text: str) -> str:
    text = _CONTROL.sub("", _HYPHEN.sub("", unify_newlines(text)))
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def _is_scanned(page: PdfPage) -> bool:
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    covered = 0.0
    for image in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE], max_depth=4):
        left, bottom, right, top = image.get_bounds()
        covered += abs(right - left) * abs(top - bottom)
    width, height = page.get_size()
    return bool(covered >= _SCAN * width * height > 0)


def _judge(text: str, pages: list[_Page]) -> None:
    """Refuse a text layer that is missing, or whose letters or spaces are lost.

    Words that run together would silently ruin keyword search, so they are no text at all. Only
    scripts that put spaces between words are looked at.
    """
    if not text.strip():
        damage = [f"page {n} {page.lost}" for n, page in enumerate(pages, 1) if page.lost]
        unscanned = [reason for reason in damage if "scanned" not in reason]
        raise ParseError(unscanned[0] if unscanned else "no text layer (scanned?)")
    lost = sum(letter == "\ufffd" or "\ue000" <= letter <= "\uf8ff" for letter in text)
    if lost > 0.3 * len(text):
        raise ParseError("its fonts do not say which letters they draw; the text is unreadable")
    words = [len(word) for word in _SPACED_WORD.findall(text) if max(word) < "\u0530"]
    long = sum(length > 20 for length in words)
    if len(words) >= 50 and (long > 0.15 * len(words) or sum(words) > 14 * len(words)):
        raise ParseError("its words run together, without spaces between them")


def _read_metadata(document: PdfDocument) -> dict[str, Any]:
    given = document.get_metadata_dict(skip_empty=True)
    title, author = (_clean(given.get(key, "")).strip() for key in ("Title", "Author"))
    created, modified = (_read_date(given.get(key, "")) for key in ("CreationDate", "ModDate"))
    found = {"title": title, "author": author, "created": created, "modified": modified}
    return {name: value for name, value in found.items() if value}


def _read_date(given: str) -> str | None:
    """ISO 8601 of a PDF date, `D:YYYYMMDDHHmmSS+HH'mm'` (ISO 32000-2, 7.9.4)."""
    found = _DATE.match(given.strip())
    if not found:
        return None
    year, month, day, hour, minute, second, zone, zone_minute = found.groups()
    offset = "+00:00" if zone == "Z" else f"{zone}:{zone_minute or '00'}" if zone else ""
    iso = f"{year}-{month or '01'}-{day or '01'}"
    if hour:
        iso += f"T{hour}:{minute or '00'}:{second or '00'}{offset}"
    try:
        datetime.fromisoformat(iso)
    except ValueError:
        return None
    return iso


def _find_headings(
    document: PdfDocument, text: str, starts: list[int]
) -> dict[str, list[tuple[int, int, str]]]:
    """The outline, each entry where its title stands on its page, else at the page's start."""
    headings: list[tuple[int, int, str]] = []
    at = 0
    for entry in document.get_toc(max_depth=6):
        dest = entry.get_dest()
        number = dest.get_index() if dest else None
        title = " ".join(_clean(entry.get_title()).split())
        if number is None or not title or not 0 <= number < len(starts):
            continue
        end = starts[number + 1] if number + 1 < len(starts) else len(text)
        found = re.compile(r"\s+".join(map(re.escape, title.split()))).search(
            text, max(at, starts[number]), end
        )
        at = max(at, found.start() if found else starts[number])
        headings.append((at, entry.level + 1, title))
    return {"_headings": headings} if headings else {}
