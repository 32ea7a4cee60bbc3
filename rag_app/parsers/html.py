"""HTML: the main text of the page as Markdown, without navigation and footers (trafilatura).

A page in which no main text is found gives the text of its whole body instead, and says so in its
metadata: `extraction: whole page`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rag_app.parsers.markdown import read_date, read_structure
from rag_app.parsers.parsed import Broken, Parsed, refuse_empty
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.I)
_DECLARED = re.compile(r"^\s*<\?xml[^>]*\?>")  # lxml refuses text that still declares its encoding
_PERMALINK = re.compile(r"[ \t]*(?:\[[¶#]\]\([^)]*\)|¶)[ \t]*$", re.M)
_UNSEEN = "script, style, noscript, template, svg, head"


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The page as one document; title and date from its metadata."""
    page, found = decode(data, options.get("charset") or _declared_charset(data))
    page = _DECLARED.sub("", page)
    text, metadata = _extract(page)
    if not text:
        text = refuse_empty(_read_whole(page))
        metadata["extraction"] = "whole page"
    structure = read_structure(text)
    yield Parsed(text, {**found, **structure, **metadata})


def _declared_charset(data: bytes) -> str | None:
    found = _CHARSET.search(data[:4096])
    return found[1].decode("ascii") if found else None


def _extract(page: str) -> tuple[str, dict[str, Any]]:
    """Main text as Markdown, "" when there is none; dates only where the page states them."""
    import trafilatura

    text = trafilatura.extract(
        page,
        output_format="markdown",
        include_formatting=True,
        include_comments=False,
        favor_recall=True,
    )
    stated = trafilatura.extract_metadata(
        page, date_config={"extensive_search": False, "original_date": True}
    )
    metadata = {"title": (stated.title or "").strip(), "created": read_date(stated.date)}
    found = {name: value for name, value in metadata.items() if value}
    return _PERMALINK.sub("", text or "").strip(), found


def _read_whole(page: str) -> str:
    from lxml import etree, html

    try:
        root = html.document_fromstring(page)
    except (etree.ParserError, ValueError):
        return ""
    for unseen in root.xpath(" | ".join(f"//{name}" for name in _UNSEEN.split(", "))):
        unseen.drop_tree()
    lines = (" ".join(piece.split()) for piece in root.itertext())
    return "\n".join(line for line in lines if line)
