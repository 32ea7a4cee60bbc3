"""Filters in Qdrant's terms: facts, numbers and beginnings of strings beside each row's metadata.

Qdrant's own comparisons are not ours (a list matches when one element does, 1 is not 1.0, strings
have no order, large integers are rounded). So beside its metadata each point has

- `facts`: a UUID, the first half of a SHA-256, for each value and each element of a list, and for
  each field that is a boolean, a list or an object;
- `numbers`: the two halves of each number's float64, as whole numbers that sort like it, because
  fractions may come out of a payload another than they went in;
- `words`: the beginning of each string as whole numbers that sort like it: `PIECE` bytes, and of
  one that begins with a digit, as dates do, up to `REACH`.

What these cannot answer (substrings, numbers from 2**53 on, order beyond a string's beginning) is
rendered as a condition that lets too much pass, and marked.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, unquote

from rag_app.filter_rendering import (
    EXACT,
    Rendered,
    carry_down,
    list_fields,
    measure,
    require_all,
    require_one,
    to_float,
)
from rag_app.filters import Compare, Contains, Exists, In, type_of
from rag_app.json_values import equality_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rag_app.filter_rendering import Condition
    from rag_app.filters import Node
    from rag_app.types import Metadata

PIECE: Final = 6
"""Bytes of a string in one number of `words`: with their count in three bits, exact as a float."""

REACH: Final = 4 * PIECE
"""Bytes of a string that `words` holds; UTF-8 sorts by code point, so its bytes do."""

MAX_CONDITIONS: Final = 200
"""Larger filters are not rendered: Qdrant would check each condition on each point."""

MAX_DEPTH: Final = 20
"""Nor deeper ones: servers parse JSON to a limited depth."""

Where: TypeAlias = Rendered[dict[str, Any]]
"""A Qdrant filter or condition as its REST interface writes it."""


def encode_facts(metadata: Metadata) -> dict[str, Any]:
    """The payload that conditions on `metadata` are asked of."""
    facts: set[str] = set()
    numbers: dict[str, int] = {}
    words: dict[str, int] = {}
    for path, value in list_fields(metadata):
        if isinstance(value, str):
            words.update(zip(_name_parts(path), _cut(value), strict=False))
        elif type_of(value) == "number":
            numbers.update(zip(_name_parts(path), _halve(value), strict=False))
        else:
            facts.update(_list_type_facts(path, value))
        facts.add(_fact("=", path, value))
    held = {"facts": list(facts), "numbers": numbers, "words": words}
    return {name: value for name, value in held.items() if value}


def render(node: Node | None) -> Where:
    """`node` as a Qdrant filter."""
    if node is None:
        return Rendered(where=True, exact=True)
    size = measure(node)
    if size.conditions > MAX_CONDITIONS or size.depth > MAX_DEPTH:
        return Rendered(where=True, exact=False)
    return carry_down(node, _render, _require_all, _require_one)


def list_ordered(where: Any) -> set[str]:
    """The payload fields that a filter compares by order."""
    if isinstance(where, list):
        return set[str]().union(*map(list_ordered, where))
    if not isinstance(where, dict):
        return set()
    return {where["key"]} if "range" in where else list_ordered(list(where.values()))


def find_owners(name: str) -> dict[str, Any]:
    """The filter of the points with the field that `name`, of `list_ordered`, is a part of."""
    field = unquote(name.partition(":")[2].removesuffix('"'))
    return {"must": [_exist(field).where]}


def _render(node: Condition, negated: bool) -> Where:
    rendered = _render_field(node)
    return _negate(rendered) if negated else rendered


def _render_field(node: Condition) -> Where:
    match node:
        case In(field, values):
            return _render_values(field, values)
        case Compare(field, operator, value):
            if isinstance(value, str):
                return _render_string_order(field, operator, value)
            return _render_number_order(field, operator, value)
        case Contains(field, value):
            return _render_contains(field, value)
        case Exists(field):
            return _exist(field)


def _render_values(field: str, values: Iterable[Any]) -> Where:
    if not (listed := list(values)):
        return Rendered(where=False, exact=True)
    found = _have(*dict.fromkeys(_fact("=", field, value) for value in listed))
    if any(value is None for value in listed):
        return _require_one([Rendered(found, exact=True), _negate(_exist(field))])
    return Rendered(found, exact=True)


def _render_number_order(field: str, operator: str, bound: float) -> Where:
    if abs(bound) >= EXACT:
        return Rendered(_is_number(field).where, exact=False)
    return _render_parts("numbers", field, operator, _halve(bound))


def _render_contains(field: str, part: Any) -> Where:
    element: Where = Rendered(_have(_fact("~", field, part)), exact=True)
    if not isinstance(part, str):
        return element
    return Rendered(_require_one([element, _is_string(field)]).where, exact=False)


def _render_string_order(field: str, operator: str, bound: str) -> Where:
    exact = len(bound.encode()) < PIECE * _count_pieces(bound)
    if not exact:  # of longer strings the rest is not known here
        operator = f"{operator.removesuffix('e')}e"
    return Rendered(_render_parts("words", field, operator, _cut(bound)).where, exact)


def _render_parts(part: str, field: str, operator: str, bounds: list[int]) -> Where:
    """Compares one number after the other: the first that differs decides."""
    names = [f'{part}."{name}"' for name in _name_parts(field)[: len(bounds)]]
    strict = operator.removesuffix("e")
    ways = []
    for last, (name, bound) in enumerate(zip(names, bounds, strict=True)):
        same = [_equal(*pair) for pair in zip(names[:last], bounds, strict=False)]
        decisive = operator if last == len(bounds) - 1 else strict
        ways.append({"must": [*same, _compare(name, decisive, bound)]})
    return Rendered({"should": ways}, exact=True)


def _negate(inner: Where) -> Where:
    if not inner.exact:
        return Rendered(where=True, exact=False)
    if isinstance(inner.where, bool):
        return Rendered(not inner.where, exact=True)
    return Rendered({"must_not": [inner.where]}, exact=True)


def _require_all(parts: list[Where]) -> Where:
    return require_all(parts, lambda wheres: {"must": wheres})


def _require_one(parts: list[Where]) -> Where:
    return require_one(parts, lambda wheres: {"should": wheres})


def _have(*facts: str) -> dict[str, Any]:
    return {"key": "facts", "match": {"any": list(facts)}}


def _exist(field: str) -> Where:
    others = [_fact("=", field, value) for value in (None, True, False)]
    nested = (_fact("type", field, "list"), _fact("type", field, "object"))
    found: Where = Rendered(_have(*others, *nested), exact=True)
    return _require_one([found, _is_number(field), _is_string(field)])


def _is_number(field: str) -> Where:
    return _render_parts("numbers", field, "$gte", [-(2**31)])


def _is_string(field: str) -> Where:
    return _render_parts("words", field, "$gte", [0])


def _compare(name: str, operator: str, bound: float) -> dict[str, Any]:
    return {"key": name, "range": {operator.removeprefix("$"): bound}}


def _equal(name: str, value: int) -> dict[str, Any]:
    return {"key": name, "range": {"gte": value, "lte": value}}


def _list_type_facts(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield _fact("type", path, "object")
    elif isinstance(value, list):
        yield _fact("type", path, "list")
        yield from (_fact("~", path, element) for element in value)


@lru_cache(4096)
def _name_parts(path: str) -> tuple[str, ...]:
    return tuple(f"{n}:{quote(path, '')}" for n in range(REACH // PIECE))


def _fact(kind: str, path: str, value: Any) -> str:
    words = f"{kind} {len(path)} {path} {equality_text(value)}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _cut(text: str) -> list[int]:
    """The string's beginning as numbers that sort as it does, up to the piece in which it ends.

    In a piece that the string ends in, how many bytes there are tells an end from a NUL. Strings of
    one piece and those of more differ in their first byte, so the first piece decides.
    """
    reach = PIECE * _count_pieces(text)
    data = text[:reach].encode()[:reach]
    pieces = [data[at : at + PIECE] for at in range(0, min(len(data) + 1, reach), PIECE)]
    return [int.from_bytes(each.ljust(PIECE, b"\0")) << 3 | len(each) for each in pieces]


def _count_pieces(text: str) -> int:
    return REACH // PIECE if "0" <= text[:1] <= "9" else 1


def _halve(number: float) -> list[int]:
    """A float64's halves, the higher one signed, so that comparing them compares the numbers."""
    # Of the two zeros, the positive one.
    bits: int = struct.unpack(">q", struct.pack(">d", to_float(number) + 0.0))[0]
    ordered = bits if bits >= 0 else bits ^ (2**63 - 1)
    return [ordered >> 32, ordered & 0xFFFFFFFF]
