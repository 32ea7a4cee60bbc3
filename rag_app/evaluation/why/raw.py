"""Looks for words in the bytes of a file, past its parser: what a parser leaves out is lost text.

Every way in which a format writes letters is undone as far as plain Python can: encodings, entities
and tags, the parts of zipped formats, the parts of an e-mail, JSON escapes, the pages of a PDF.
"""

from __future__ import annotations

import email
import email.policy
import html
import json
import re
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from rag_app.evaluation.why.places import SHORTEST, squeeze

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG: Final = re.compile(r"<[^<>]*>")
_ESCAPED: Final = re.compile(r"\\u[0-9a-fA-F]{4}|\\[\"\\/bfnrt]")
_MARKUP: Final = re.compile(r"[*_`~|\\]+|\[(?=[^\]]*\]\()|(?<=\])\([^)\s]*\)|\]")
MOST: Final = 64 * 2**20
"""Bytes of a part of a zipped file that are looked at."""


@dataclass(frozen=True, slots=True)
class Look:
    """What looking into a file told.

    Attributes:
        found: where the words stand, in words; empty where they were not seen.
        whole: whether all text was seen, so that words not seen are not there; an image may hold
            some.
        note: what may hide them.
    """

    found: str
    whole: bool
    note: str = ""


def look_into(quote: str, data: bytes) -> Look:
    """Look for a quote in a file's bytes, whatever the format."""
    wanted = squeeze(quote)[0]
    if len(wanted) < SHORTEST:
        return Look("", whole=False, note="the quote is too short to be looked for in the file")
    if data.startswith(b"%PDF") or b"%PDF-" in data[:1024]:
        return _look_into_pdf(wanted, data)
    if data.startswith(b"PK"):
        return _look_into_zip(wanted, data)
    for where, text in _list_texts(data):
        for writing, letters in _list_writings(text):
            if wanted in letters:
                return Look(f"{where}{writing}", whole=True)
    return Look("", whole=b"\0" not in data[:4096] or data[:2] in (b"\xff\xfe", b"\xfe\xff"))


def _list_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """The texts that bytes may be, each with what it was read as."""
    for encoding in ("utf-8", "utf-16", "cp1252", "gb18030", "shift_jis"):
        try:
            yield f"its bytes as {encoding}", data.decode(encoding)
        except UnicodeDecodeError:
            continue
    yield "its bytes as latin-1", data.decode("latin-1")
    if b"Content-Transfer-Encoding" in data or b"MIME-Version" in data:
        yield from _list_mail(data)


def _list_mail(data: bytes) -> Iterator[tuple[str, str]]:
    message = email.message_from_bytes(data, policy=email.policy.default)
    for part in message.walk():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            charset = part.get_content_charset() or "utf-8"
            try:
                text = content.decode(charset, "replace")
            except LookupError:
                text = content.decode("utf-8", "replace")
            yield f"its part {part.get_content_type()}", text


def _list_writings(text: str) -> Iterator[tuple[str, str]]:
    """A text's letters as they are, and with what formats put around or in place of them undone."""
    yield "", squeeze(text)[0]
    if "<" in text or "&" in text:
        yield ", without its tags", squeeze(html.unescape(_TAG.sub("", text)))[0]
    if "\\" in text:
        yield ", without its escapes", squeeze(_ESCAPED.sub(_unescape, text))[0]
    yield ", without its markup", squeeze(_MARKUP.sub("", html.unescape(_TAG.sub("", text))))[0]


def _unescape(found: re.Match[str]) -> str:
    written: str = json.loads(f'"{found.group()}"')
    return written


def _look_into_zip(wanted: str, data: bytes) -> Look:
    try:
        with zipfile.ZipFile(BytesIO(data)) as file:
            return _look_into_parts(wanted, file)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        return Look("", whole=False, note=f"the file cannot be unzipped ({error})")


def _look_into_parts(wanted: str, file: zipfile.ZipFile) -> Look:
    images = 0
    for part in file.infolist():
        if not part.filename.lower().endswith((".xml", ".xhtml", ".html", ".htm", ".rels", ".opf")):
            images += not part.is_dir()
            continue
        with file.open(part) as opened:
            text = opened.read(MOST).decode("utf-8", "replace")
        for _, letters in _list_writings(text):
            if wanted in letters:
                return Look(f"its part {part.filename}", whole=True)
    note = "it holds images or other files, which may show the words" if images else ""
    return Look("", whole=not images, note=note)


def _look_into_pdf(wanted: str, data: bytes) -> Look:
    try:
        import pypdfium2
    except ImportError:
        return Look("", whole=False, note="pypdfium2 is not installed, so the PDF was not opened")
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        return Look("", whole=False, note=f"the PDF cannot be opened ({error})")
    try:
        return _look_into_pages(wanted, document)
    except pypdfium2.PdfiumError as error:
        return Look("", whole=False, note=f"a page of the PDF cannot be opened ({error})")
    finally:
        document.close()


def _look_into_pages(wanted: str, document: pypdfium2.PdfDocument) -> Look:  # type: ignore[name-defined] # noqa: F821
    texts = []
    for page in document:
        text = page.get_textpage().get_text_range()
        texts.append(squeeze(re.sub("[\x02\ufffe]\\s*", "", text))[0])
    for number, letters in enumerate(texts, 1):
        if wanted in letters:
            return Look(f"the text of page {number}", whole=True)
    if wanted in "".join(texts):
        return Look("the text of its pages, over a page's end", whole=True)
    empty = [str(number) for number, letters in enumerate(texts, 1) if not letters]
    if empty:
        return Look("", whole=False, note=f"no text is on page {', '.join(empty[:10])}")
    return Look("", whole=False, note="an image of the PDF may show the words")
