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
import json
import struct
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from rag_app.filters import MISSING, And, Compare, Contains, Exists, In, Not, Or, look_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rag_app.filters import Node
    from rag_app.types import Metadata

EXACT: Final = 2**53
"""Integers below this size are exact as floats; others are rounded, but not to below it."""

PIECE: Final = 6
"""Bytes of a string in one number of `words`: with their count in three bits, exact as a float."""

REACH: Final = 4 * PIECE
"""Bytes of a string that `words` holds; UTF-8 sorts by code point, so its bytes do."""

MAX_CONDITIONS: Final = 200
"""Larger filters are not rendered: Qdrant would check each condition on each point."""

MAX_DEPTH: Final = 20
"""Nor deeper ones: servers parse JSON to a limited depth."""

Where: TypeAlias = dict[str, Any] | bool
"""A Qdrant filter as its REST interface writes it, or True for every row and False for none."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """`where` passes at least the rows that match, and when `exact` no others.

    `ordered` are the payload fields that it compares by order.
    """

    where: Where
    exact: bool
    ordered: frozenset[str] = frozenset()


def encode_facts(metadata: Metadata) -> dict[str, Any]:
    """The payload that conditions on `metadata` are asked of."""
    facts: set[str] = set()
    numbers: dict[str, int] = {}
    words: dict[str, int] = {}
    for path in set(_list_paths(metadata)):
        value = look_up(metadata, path)
        if isinstance(value, str):
            words.update(zip(_name_parts(path), _cut(value), strict=False))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.update(zip(_name_parts(path), _halve(value), strict=False))
        elif value is MISSING:  # a key with dots hides it
            continue
        else:
            facts.update(_list_type_facts(path, value))
        facts.add(_fact("=", path, value))
    held = {"facts": list(facts), "numbers": numbers, "words": words}
    return {name: value for name, value in held.items() if value}


def render(node: Node | None) -> Rendered:
    """`node` as a Qdrant filter."""
    if node is None:
        return Rendered(where=True, exact=True)
    conditions, depth = _measure(node)
    if conditions > MAX_CONDITIONS or depth > MAX_DEPTH:
        return Rendered(where=True, exact=False)
    return _render(node)


def _render(node: Node) -> Rendered:
    match node:
        case Not(inner):
            return _negate(_render(inner))
        case And(nodes):
            return _require_all([_render(each) for each in nodes])
        case Or(nodes):
            return _require_one([_render(each) for each in nodes])
    return _render_field(node)


def _render_field(node: In | Compare | Contains | Exists) -> Rendered:
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


def _render_values(field: str, values: Iterable[Any]) -> Rendered:
    if not (listed := list(values)):
        return Rendered(where=False, exact=True)
    found = _have(*dict.fromkeys(_fact("=", field, value) for value in listed))
    if any(value is None for value in listed):
        return _require_one([Rendered(found, exact=True), _negate(_exist(field))])
    return Rendered(found, exact=True)


def _render_number_order(field: str, operator: str, bound: float) -> Rendered:
    if abs(bound) >= EXACT:
        return replace(_is_number(field), exact=False)
    return _render_parts("numbers", field, operator, _halve(bound))


def _render_contains(field: str, part: Any) -> Rendered:
    element = Rendered(_have(_fact("~", field, part)), exact=True)
    if not isinstance(part, str):
        return element
    return replace(_require_one([element, _is_string(field)]), exact=False)


def _render_string_order(field: str, operator: str, bound: str) -> Rendered:
    exact = len(bound.encode()) < PIECE * _count_pieces(bound)
    if not exact:  # of longer strings the rest is not known here
        operator = f"{operator.removesuffix('e')}e"
    return replace(_render_parts("words", field, operator, _cut(bound)), exact=exact)


def _render_parts(part: str, field: str, operator: str, bounds: list[int]) -> Rendered:
    """Compares one number after the other: the first that differs decides."""
    names = [f'{part}."{name}"' for name in _name_parts(field)[: len(bounds)]]
    strict = operator.removesuffix("e")
    ways: list[Where] = []
    for last, (name, bound) in enumerate(zip(names, bounds, strict=True)):
        same = [_equal(*pair) for pair in zip(names[:last], bounds, strict=False)]
        decisive = operator if last == len(bounds) - 1 else strict
        ways.append({"must": [*same, _compare(name, decisive, bound)]})
    return Rendered({"should": ways}, True, frozenset(names))


def _negate(inner: Rendered) -> Rendered:
    if not inner.exact:
        return Rendered(where=True, exact=False)
    if isinstance(inner.where, bool):
        return Rendered(not inner.where, exact=True)
    return Rendered({"must_not": [inner.where]}, True, inner.ordered)


def _require_all(parts: list[Rendered]) -> Rendered:
    if any(part.where is False for part in parts):
        return Rendered(where=False, exact=True)
    exact = all(part.exact for part in parts)
    wheres = [part.where for part in parts if part.where is not True]
    where: Where = {"must": wheres} if wheres else True
    return Rendered(where, exact, _all_ordered(parts))


def _require_one(parts: list[Rendered]) -> Rendered:
    if any(part.where is True for part in parts):
        return Rendered(where=True, exact=any(p.where is True and p.exact for p in parts))
    wheres = [part.where for part in parts if part.where is not False]
    where: Where = {"should": wheres} if wheres else False
    return Rendered(where, all(part.exact for part in parts), _all_ordered(parts))


def _all_ordered(parts: list[Rendered]) -> frozenset[str]:
    return frozenset[str]().union(*(part.ordered for part in parts))


def _have(*facts: str) -> dict[str, Any]:
    return {"key": "facts", "match": {"any": list(facts)}}


def _exist(field: str) -> Rendered:
    others = [_fact("=", field, value) for value in (None, True, False)]
    nested = (_fact("type", field, "list"), _fact("type", field, "object"))
    found = Rendered(_have(*others, *nested), exact=True)
    return _require_one([found, _is_number(field), _is_string(field)])


def _is_number(field: str) -> Rendered:
    return _render_parts("numbers", field, "$gte", [-(2**31)])


def _is_string(field: str) -> Rendered:
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
    words = f"{kind}\0{path}\0{_canonical(value)}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _canonical(value: Any) -> str:
    """One text, without NUL, for all JSON values that are the same."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{int(value):x}"  # 1.0 is 1
    if isinstance(value, list):
        return f"[{','.join(map(_canonical, value))}]"
    if isinstance(value, dict):
        items = (f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value))
        return f"{{{','.join(items)}}}"
    return json.dumps(value)


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


def _measure(node: Node) -> tuple[int, int]:
    """How many conditions and levels it has."""
    match node:
        case Not(inner):
            conditions, depth = _measure(inner)
            return conditions, depth + 1
        case And(nodes) | Or(nodes):
            sizes = [(0, 0), *map(_measure, nodes)]
            return sum(size for size, _ in sizes), 1 + max(depth for _, depth in sizes)
    return 1, 1


def _list_paths(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The name of every field, nested ones with dots."""
    for key, value in metadata.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{rest}" for rest in _list_paths(value))


def _halve(number: float) -> list[int]:
    """A float64's halves, the higher one signed, so that comparing them compares the numbers."""
    try:
        bits: int = struct.unpack(">q", struct.pack(">d", float(number or 0)))[0]
    except OverflowError:
        return _halve(sys.float_info.max if number > 0 else -sys.float_info.max)
    ordered = bits if bits >= 0 else bits ^ (2**63 - 1)
    return [ordered >> 32, ordered & 0xFFFFFFFF]
