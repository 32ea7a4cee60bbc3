"""Where the sentences of a text lie: plain text or Markdown, Western or East Asian.

Rules, not a model: blocks first (blank lines, list items, headings, table rows, code), then the
marks that end a sentence, less those of abbreviations, initials and numbers. Linear in the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rag_app.spans import trim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.types import Span

_ABBREVIATED = """
    dr mr mrs ms prof hon gen capt lt sgt st jr sr messrs
    e.g i.e cf viz vs approx resp incl esp ca dept univ
    z.b d.h u.a bzw ggf vgl bspw
"""
_ABBREVIATIONS: Final = frozenset(_ABBREVIATED.split())
"""Words, in lower case and without their full stop, that no sentence ends with."""

_ENDINGS: Final = frozenset({"etc", "al", "inc", "ltd", "co", "corp", "usw"})
"""Abbreviations that end a sentence when a capital letter follows."""

_BEFORE_NUMBERS = """
    no nos sec art ch chap vol ed eds fig figs tab eq eqs ref refs p pp nr abb
    jan feb mar apr jun jul aug sep sept oct nov dec
"""
_NUMBERED: Final = frozenset(_BEFORE_NUMBERS.split())
"""Abbreviations when a number follows; many are also words."""

_STARTERS: Final = frozenset(
    {"a", "an", "and", "but", "he", "his", "however", "if", "in", "it", "its", "she", "so"}
    | {"that", "the", "their", "then", "there", "these", "they", "this", "we", "when", "you"}
)
"""Words that, with a capital letter, begin a sentence even after an initial or "U.S."."""

_MARK: Final = re.compile(
    r"""
    # No space need follow; a quotation that と or a comma takes up goes on.
    (?P<wide>[。！？｡]++(?:[」』”’）》】〕]++(?![とっ，、])|(?![」』”’）》】〕])))
    # A space must follow.
    | (?<![.!?…])[.!?…]++[)\]}"'”’»*_`]*+(?=\s)
    """,
    re.VERBOSE,
)
_FENCE: Final = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_LONE: Final = re.compile(r"[ \t]{0,3}(?:#{1,6}\s|\|)")
_RULE: Final = re.compile(r"[ \t]{0,3}(?:[-=*_][ \t]*){3,}$")
_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•·–]|\(?\d{1,3}[.)]|\(?[a-z]\))[ \t]+\S")
_LAST_WORD: Final = re.compile(r"[^\s(\[\"'“‘«*_]+$")
_ENUMERATOR: Final = re.compile(r"\s*\(?\d{1,3}")
_NUMBER: Final = re.compile(r"[(\[]?[A-Z]?\d")
_ACRONYM: Final = re.compile(r"[^\W\d_](?:\.[^\W\d_])+")


def sentence_spans(text: str) -> list[Span]:
    """The character spans of the sentences of `text`, in order, without white space at their ends.

    They do not overlap, and everything that is not white space lies in one. A blank line, a list
    item, a heading and a table row end a sentence; code between fences is cut at its blank lines
    only.
    """
    spans = []
    for start, end, is_code in _blocks(text):
        pieces = [(start, end)] if is_code else _cut_block(text, start, end)
        spans += [trim(text, *piece) for piece in pieces]
    return [(start, end) for start, end in spans if start < end]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Parts of the text that no sentence crosses, and whether each is code."""
    start = place = 0
    fence = ""  # what opened the code we are in
    for line in text.splitlines(keepends=True):
        before, after, next_fence = _read_line(line, fence)
        if before:
            yield start, place, bool(fence)
            start = place
        place += len(line)
        if after:
            yield start, place, bool(fence)
            start = place
        fence = next_fence
    yield start, place, bool(fence)


def _read_line(line: str, fence: str) -> tuple[bool, bool, str]:
    """Whether a part ends before the line, whether one ends after it, and the fence in force."""
    mark = _FENCE.match(line)
    if fence:
        closes = mark is not None and mark[1].startswith(fence)
        return not line.strip(), closes, "" if closes else fence
    if mark:
        return True, False, mark[1]
    alone = _LONE.match(line) is not None
    begins = alone or not line.strip() or _ITEM.match(line) is not None
    return begins, alone or _RULE.match(line) is not None, ""


def _cut_block(text: str, start: int, end: int) -> Iterator[Span]:
    first = start
    for mark in _MARK.finditer(text, start, end):
        if mark["wide"] or _ends_sentence(text, first, mark.start(), mark.end(), end):
            yield first, mark.end()
            first = mark.end()
    yield first, end


def _ends_sentence(text: str, first: int, mark: int, after: int, end: int) -> bool:
    """Whether the mark at `mark`, with what closes after it, ends the sentence from `first`."""
    following = text[after : min(end, after + 40)].lstrip()
    if following and _continues(following):
        return False
    if text[mark] != "." or text[mark + 1 : mark + 2] == ".":
        return True
    if _ENUMERATOR.fullmatch(text, first, mark):
        return False
    before = text[max(first, mark - 40) : mark]
    found = _LAST_WORD.search(before)
    return found is None or not _is_abbreviation(found[0], before[: found.start()], following)


def _continues(following: str) -> bool:
    """Whether the text after a mark goes on in lower case, after any opening mark."""
    return following.lstrip("(['\"“‘«")[:1].islower()


def _is_abbreviation(word: str, before: str, following: str) -> bool:
    lower = word.lower()
    if lower in _NUMBERED:
        return _NUMBER.match(following) is not None
    if lower in _ENDINGS:
        return not following[:1].isupper()
    if lower in _ABBREVIATIONS:
        return True
    if _starts_sentence(following):
        return False
    if len(word) == 1:
        return word.isupper() and _is_initial(before, following)
    return _ACRONYM.fullmatch(word) is not None


def _starts_sentence(following: str) -> bool:
    first = following.split(maxsplit=1)[:1]
    return not first or first[0].rstrip(",").lower() in _STARTERS


def _is_initial(before: str, following: str) -> bool:
    """Whether a capital between the two stands for a name: "John F.", "J. R.", or at the start."""
    words = before.split()
    if not words or following[1:2] == ".":
        return True
    return words[-1].endswith(".") or words[-1][:1].isupper()
