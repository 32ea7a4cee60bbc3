"""EPUB: the chapters in reading order, headings by their tags.

A chapter that is missing or cannot be read is reported, and the others are read.

An EPUB is a ZIP of XHTML files, with a package file that says in which order they are read.
Source: EPUB 3.3, W3C Recommendation, sections 5 (package document) and 4.2 (container).
"""

from __future__ import annotations

import io
import posixpath
import re
from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from zipfile import BadZipFile, ZipFile

from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONTAINER: Final = "META-INF/container.xml"
_CONTENT: Final = frozenset(
    ["application/xhtml+xml", "text/html", "application/xml", "text/xml"]
    + ["application/x-dtbook+xml", "text/x-oeb1-document"]
)
_WORDLESS: Final = ("image/", "audio/", "video/")
_DOCTYPE: Final = re.compile(r"<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.I | re.S)
_CDATA: Final = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.S)
_DECLARED: Final = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{2,40})""")
_BLOCKS: Final = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "dt", "dd", "pre", "blockquote", "figcaption"]
    + ["caption", "tr", "div", "section"]
)
_UNSEEN: Final = frozenset(["head", "script", "style", "template", "svg", "math", "nav"])
_LARGEST: Final = 50_000_000
"""Bytes of one chapter; no book has such, but a ZIP can claim it."""


def parse(data: bytes, _options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The whole book as one document.

    Raises:
        ParseError: it is encrypted, damaged, or no EPUB.
    """
    try:
        with ZipFile(io.BytesIO(data)) as book:
            yield from _read_book(book)
    except (BadZipFile, KeyError, RuntimeError) as error:  # RuntimeError: a password is needed
        raise ParseError(f"is not a readable EPUB ({error})") from error


def _read_book(book: ZipFile) -> Iterator[Parsed | Broken]:
    if "META-INF/encryption.xml" in book.namelist() and _hides_chapters(book):
        raise ParseError("is encrypted (protected by its seller)")
    rootfiles = _find(_parse(book, _CONTAINER), "rootfile")
    if not rootfiles:
        raise ParseError(f"{_CONTAINER} names no package file")
    package = rootfiles[0].get("full-path", "")
    root = _parse(book, package)
    text, headings, broken = "", list[tuple[int, int, str]](), list[Broken]()
    for blocks in _read_chapters(book, root, posixpath.dirname(package)):
        if isinstance(blocks, Broken):
            broken.append(blocks)
            continue
        for block, level in blocks:
            if level:
                headings.append((len(text), level, " ".join(block.split())))
            text += block + "\n\n"
    if broken and not text:
        raise ParseError("; ".join(f"{each.part}: {each.reason}" for each in broken[:3]))
    marks = {"_headings": headings} if headings else {}
    yield Parsed(refuse_empty(text.rstrip()), {**_read_metadata(root), **marks})
    yield from broken


def _read_chapters(
    book: ZipFile, root: Any, folder: str
) -> Iterator[list[tuple[str, int]] | Broken]:
    for chapter in _list_chapters(root, folder):
        if isinstance(chapter, Broken):
            yield chapter
            continue
        try:
            yield _read_chapter(book, chapter)
        except ParseError as error:
            yield Broken(chapter, str(error))


def _hides_chapters(book: ZipFile) -> bool:
    """Whether more than fonts is encrypted; fonts often are, against copying."""
    references = _find(_parse(book, "META-INF/encryption.xml"), "CipherReference")
    names = (reference.get("URI", "").lower() for reference in references)
    return any(not name.endswith((".ttf", ".otf", ".woff", ".woff2")) for name in names)


def _read(book: ZipFile, name: str) -> bytes:
    if book.getinfo(name).file_size > _LARGEST:
        raise ParseError(f"{name} is larger than {_LARGEST} bytes")
    return book.read(name)


def _parse(book: ZipFile, name: str) -> Any:
    """A file of the package itself, as XML; nothing outside the file is ever fetched."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    root = etree.fromstring(_read(book, name), parser)
    if root is None:
        raise ParseError(f"{name} is no XML")
    return root


def _read_chapter(book: ZipFile, name: str) -> list[tuple[str, int]]:
    """The blocks of one chapter.

    Read as HTML, which knows the named characters, takes `AT&T` for what it says and has no
    entities of the file's own. Real books are seldom valid XML.
    """
    if name not in book.namelist():
        raise ParseError("is in the reading order, but not in the file")
    data = _read(book, name)
    stated = _DECLARED.match(data)
    page, _ = decode(data, stated[1].decode("ascii") if stated else None)
    page = _CDATA.sub(lambda found: escape(found[1], quote=False), _DOCTYPE.sub("", page, count=1))
    if not page.strip():
        return []
    try:
        return [block for root in _parse_page(page) for block in _read_blocks(root)]
    except RecursionError as error:
        raise ParseError("its tags are nested too deep") from error


def _parse_page(page: str) -> list[Any]:
    """The root, and what stands beside it in a damaged file."""
    from lxml import etree, html

    parser = html.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        root = html.document_fromstring(page.encode(), parser=parser)
    except etree.ParserError:
        return []  # comments alone
    roots = [*reversed(list(root.itersiblings(preceding=True))), root, *root.itersiblings()]
    for each in roots:
        for line_break in each.iter("br"):
            line_break.tail = "\n" + (line_break.tail or "")
    return roots


def _find(root: Any, name: str) -> list[Any]:
    """The elements of that name, whatever their namespace."""
    return list(root.iter(f"{{*}}{name}"))


def _list_chapters(root: Any, folder: str) -> Iterator[str | Broken]:
    """The files in reading order; pictures and sounds have no words and are left out."""
    items = {item.get("id"): item for item in _find(root, "item")}
    for place in _find(root, "itemref"):
        named = str(place.get("idref"))
        if named not in items:
            yield Broken(named, "is in the reading order, but the manifest has no such item")
            continue
        item = _find_readable(items, named)
        href = unquote(item.get("href", "").partition("#")[0])
        name = posixpath.normpath(posixpath.join(folder, href))
        if _media_type(item) in _CONTENT:
            yield name
        elif not _media_type(item).startswith(_WORDLESS):
            yield Broken(name, f"chapters of the type {_media_type(item)!r} cannot be read")


def _find_readable(items: dict[Any, Any], named: str) -> Any:
    """The item, or the first of its fallbacks (EPUB 3.3, 3.5.1) that is a text."""
    seen, current = set[str](), named
    while current in items and current not in seen:
        if _media_type(items[current]) in _CONTENT:
            return items[current]
        seen.add(current)
        current = str(items[current].get("fallback"))
    return items[named]


def _media_type(item: Any) -> str:
    return str(item.get("media-type", "")).partition(";")[0].strip().lower()


def _read_blocks(root: Any) -> Iterator[tuple[str, int]]:
    """Each innermost block of text with its heading level, 0 for none."""
    name = _name(root)
    if name in _UNSEEN or name is None:
        return
    if name in _BLOCKS and not any(_name(inner) in _BLOCKS for inner in root.iterdescendants()):
        if text := _read_text(root, name):
            yield text, int(name[1]) if name[0] == "h" and name[1:].isdigit() else 0
        return
    for loose in (root.text, *_tails(root)):
        if isinstance(loose, str):
            if text := " ".join(loose.split()):
                yield text, 0
        elif loose is not None:
            yield from _read_blocks(loose)


def _tails(root: Any) -> Iterator[Any]:
    """The children and the texts between them, in order."""
    for child in root:
        yield child
        yield child.tail


def _read_text(root: Any, name: str) -> str:
    if name == "pre":
        return "".join(root.itertext()).strip("\n")
    if name == "tr":
        cells = (" ".join("".join(cell.itertext()).split()) for cell in root if _name(cell))
        return " | ".join(cells).strip(" |")
    return " ".join("".join(root.itertext()).split())


def _name(element: Any) -> str | None:
    """The tag without its prefix; None for comments and the like."""
    tag = element.tag
    return tag.rpartition(":")[2].lower() if isinstance(tag, str) else None


def _read_metadata(root: Any) -> dict[str, Any]:
    named = {"title": "title", "author": "creator", "language": "language", "created": "date"}
    found = {ours: _find(root, theirs) for ours, theirs in named.items()}
    texts = {name: " ".join((each[0].text or "").split()) for name, each in found.items() if each}
    return {name: text for name, text in texts.items() if text}
