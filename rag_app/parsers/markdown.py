"""Markdown: the raw text, with headings, code blocks and the front matter's title and dates."""

from __future__ import annotations

import contextlib
import datetime
import re
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rag_app.parsers.parsed import Broken, Parsed, refuse_empty
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_ANCHOR = re.compile(r"\s*\{:?\s*[#.][^{}]*\}\s*$")  # "## First Steps { #first-steps }"
_CREATED = ("date", "created", "published", "pubDate")
_MODIFIED = ("modified", "updated", "lastmod", "last_modified")


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The raw Markdown as one document."""
    text, found = decode(data, options.get("charset"))
    yield Parsed(refuse_empty(text), {**found, **read_structure(text)})


def read_structure(text: str) -> dict[str, Any]:
    """`title`, `created`, `modified`, `_headings` and `_code` of Markdown `text` (CommonMark 0.31).

    Front matter stays part of the text; what it holds is neither a heading nor code.
    """
    skipped, found = _read_front(text)
    headings, code = _walk(text, skipped)
    first = next((title for _, level, title in headings if level == 1), None)
    if first and "title" not in found:
        found["title"] = first
    marks: dict[str, Any] = {"_headings": headings, "_code": code}
    return found | {name: mark for name, mark in marks.items() if mark}


def _walk(text: str, skipped: int) -> tuple[list[tuple[int, int, str]], list[tuple[int, int]]]:
    starts = [skipped]  # of each line
    for line in text[skipped:].split("\n"):
        starts.append(min(starts[-1] + len(line) + 1, len(text)))
    headings, code = [], []
    tokens = _blocks().parse(text[skipped:])
    for token, inside in zip_longest(tokens, tokens[1:]):
        if token.type == "heading_open" and token.level == 0 and token.map and inside:
            title = _plain_title(inside.content)
            headings.append((starts[token.map[0]], int(token.tag[1:]), title))
        elif token.type in ("fence", "code_block") and token.map:
            code.append(_code_span(text, starts, token))
    return [heading for heading in headings if heading[2]], code


def _code_span(text: str, starts: list[int], token: Token) -> tuple[int, int]:
    first, last = token.map or (0, 0)
    start, end = starts[first], starts[last]
    return start, start + len(text[start:end].rstrip())


@cache
def _blocks() -> MarkdownIt:
    """Blocks only: inline syntax is not looked at, which is most of the time."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


@cache
def _inlines() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark")


def _plain_title(content: str) -> str:
    title = _ANCHOR.sub("", content)
    if re.search(r"[*_`\[\]<>&\\!]", title):
        tokens = _inlines().parseInline(title)[0].children or []
        title = "".join(_inline_text(token) for token in tokens)
    return " ".join(title.split())


def _inline_text(token: Token) -> str:
    if token.type in ("softbreak", "hardbreak"):
        return " "
    return "" if token.type == "html_inline" else token.content


def _read_front(text: str) -> tuple[int, dict[str, Any]]:
    """Where the front matter ends, and what it says; (0, {}) when there is none."""
    front = _FRONT.match(text)
    if front is None:
        return 0, {}
    import yaml

    try:
        values = yaml.safe_load(front.group(1))
    except (yaml.YAMLError, ValueError):
        return 0, {}  # no front matter after all: a rule, some lines, another rule
    return (front.end(), _pick(values)) if isinstance(values, dict) else (0, {})


def _pick(values: dict[Any, Any]) -> dict[str, Any]:
    title = values.get("title")
    found = {"title": title.strip()} if isinstance(title, str) and title.strip() else {}
    for name, keys in (("created", _CREATED), ("modified", _MODIFIED)):
        date = next((d for key in keys if (d := read_date(values.get(key)))), None)
        if date:
            found[name] = date
    return found


def read_date(value: object) -> str | None:
    """ISO 8601 of a date, a datetime or their ISO text; None for anything else."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    for kind in (datetime.date, datetime.datetime):
        with contextlib.suppress(ValueError, TypeError):
            return kind.fromisoformat(value).isoformat()  # type: ignore[arg-type]
    return None
