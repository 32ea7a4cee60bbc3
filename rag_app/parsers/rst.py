"""reStructuredText: the raw text, with headings and code blocks. Directives are not followed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rag_app.parsers.parsed import Broken, Parsed, refuse_empty
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docutils import nodes

_SETTINGS = {
    "report_level": 5,  # what docutils thinks of Sphinx's directives concerns nobody here
    "halt_level": 5,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "sectsubtitle_xform": False,
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
}
_CODE = re.compile(r"^([ \t]*)(?:\.\. (?:code|code-block|sourcecode)::.*|(?!\.\. ).*::)[ \t]*$")
_DATES = {"date": "created", "created": "created", "updated": "modified", "modified": "modified"}


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The raw reStructuredText as one document."""
    text, found = decode(data, options.get("charset"))
    yield Parsed(refuse_empty(text), {**found, **_read_structure(text)})


def _read_structure(text: str) -> dict[str, Any]:
    from docutils.core import publish_doctree

    lines = text.split("\n")
    starts = [0]  # of each line
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    tree = publish_doctree(text, settings_overrides=_SETTINGS)
    found: dict[str, Any] = _read_fields(tree)
    headings = list(_find_headings(tree, lines, starts))
    if headings and "title" not in found:
        found["title"] = headings[0][2]
    marks: dict[str, Any] = {"_headings": headings, "_code": list(_find_code(lines, starts))}
    return found | {name: mark for name, mark in marks.items() if mark}


def _find_headings(
    tree: nodes.document, lines: list[str], starts: list[int]
) -> Iterator[tuple[int, int, str]]:
    from docutils import nodes

    for title in tree.findall(nodes.title):
        if not isinstance(title.parent, nodes.section) or title.line is None:
            continue
        under = title.line - 1  # docutils counts from 1 and names the underline
        overlined = under >= 2 and lines[under - 2].rstrip() == lines[under].rstrip()
        yield starts[under - 1 - overlined], _count_sections(title.parent), title.astext()


def _count_sections(node: nodes.Node | None) -> int:
    from docutils import nodes

    level = 0
    while node is not None:
        level += isinstance(node, nodes.section)
        node = node.parent
    return level


def _find_code(lines: list[str], starts: list[int]) -> Iterator[tuple[int, int]]:
    """Spans of the indented blocks after `::` and code directives, by their indentation."""
    at = 0
    while at < len(lines):
        opened = _CODE.match(lines[at])
        at += 1
        if not opened:
            continue
        first, last = at, at
        while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > len(opened[1])):
            last = at + 1 if lines[at].strip() else last
            at += 1
        while first < last and not lines[first].strip():
            first += 1
        if last > first:
            yield starts[first], starts[last] - 1


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _read_fields(tree: nodes.document) -> dict[str, Any]:
    """`:date:` and `:title:` of the field list that a file may open with."""
    from docutils import nodes

    from rag_app.parsers.markdown import read_date

    found: dict[str, Any] = {}
    opening = next(iter(tree.findall(nodes.field_list)), None)
    for field in opening.findall(nodes.field) if opening else ():
        name, value = field[0].astext().lower(), field[1].astext().strip()
        date = read_date(value)
        if name in _DATES and date:
            found.setdefault(_DATES[name], date)
        elif name == "title" and value:
            found["title"] = value
    return found
