"""EPUB: the chapters in reading order, headings by their tags.

An EPUB is a ZIP of XHTML files, with a package file that says in which order they are read.
Source: EPUB 3.3, W3C Recommendation, sections 5 (package document) and 4.2 (container).
"""

from __future__ import annotations

import io
import posixpath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from zipfile import BadZipFile, ZipFile

from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONTAINER: Final = "META-INF/container.xml"
_CONTENT: Final = {"application/xhtml+xml", "text/html"}
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
            yield _read_book(book)
    except (BadZipFile, KeyError, RuntimeError) as error:  # RuntimeError: a password is needed
        raise ParseError(f"is not a readable EPUB ({error})") from error


def _read_book(book: ZipFile) -> Parsed:
    if "META-INF/encryption.xml" in book.namelist() and _hides_chapters(book):
        raise ParseError("is encrypted (protected by its seller)")
    package = _find(_parse(book, _CONTAINER), "rootfile")[0].get("full-path", "")
    root = _parse(book, package)
    text, headings = "", list[tuple[int, int, str]]()
    for chapter in _list_chapters(root, posixpath.dirname(package)):
        for block, level in _read_blocks(_parse(book, chapter)):
            if level:
                headings.append((len(text), level, " ".join(block.split())))
            text += block + "\n\n"
    whole = refuse_empty(text.rstrip())
    marks = {"_headings": headings} if headings else {}
    return Parsed(whole, {**_read_metadata(root), **marks})


def _hides_chapters(book: ZipFile) -> bool:
    """Whether more than fonts is encrypted; fonts often are, against copying."""
    references = _find(_parse(book, "META-INF/encryption.xml"), "CipherReference")
    names = (reference.get("URI", "").lower() for reference in references)
    return any(not name.endswith((".ttf", ".otf", ".woff", ".woff2")) for name in names)


def _parse(book: ZipFile, name: str) -> Any:
    from lxml import etree

    if book.getinfo(name).file_size > _LARGEST:
        raise ParseError(f"{name} is larger than {_LARGEST} bytes")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    root = etree.fromstring(book.read(name), parser)
    if root is None:
        raise ParseError(f"{name} is no XML")
    return root


def _find(root: Any, name: str) -> list[Any]:
    """The elements of that name, whatever their namespace."""
    return list(root.iter(f"{{*}}{name}"))


def _list_chapters(root: Any, folder: str) -> Iterator[str]:
    items = {item.get("id"): item for item in _find(root, "item")}
    for place in _find(root, "itemref"):
        item = items.get(place.get("idref"))
        if item is not None and item.get("media-type") in _CONTENT:
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))


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
    """The tag without its namespace; None for comments and the like."""
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else None


def _read_metadata(root: Any) -> dict[str, Any]:
    named = {"title": "title", "author": "creator", "language": "language", "created": "date"}
    found = {ours: _find(root, theirs) for ours, theirs in named.items()}
    texts = {name: " ".join((each[0].text or "").split()) for name, each in found.items() if each}
    return {name: text for name, text in texts.items() if text}
