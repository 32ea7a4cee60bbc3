"""Filters and metadata in Milvus's terms: expressions that hold nothing a user wrote.

A row carries, beside its whole metadata, what Milvus needs to judge it. `facts` are numbers, each
the digest of one thing that is so: this field is there, equals this value, holds this element.
`ordered` holds under the digest of each field its string or number in a form whose bytes sort as
the values do. What cannot be asked of those (substrings, order when negated or from 2**53 on) is
rendered as a condition that lets too much pass, and marked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rag_app.filters import MISSING, And, Compare, Contains, Exists, In, Not, Or, look_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_app.filters import Node
    from rag_app.types import Metadata

UNTOLD: Final = 0
"""The fact of a row whose metadata are too many to be told; every condition lets it pass."""

MAX_FACTS: Final = 4000
"""Facts of a row; Milvus's arrays hold 4,096."""

MAX_ORDERED: Final = 60_000
"""Bytes of `ordered`; Milvus's JSON fields hold 65,536."""

PREFIX: Final = 48
"""Bytes of a string that `ordered` keeps."""

MAX_CONDITIONS: Final = 50
MAX_VALUES: Final = 500
"""Larger filters are not rendered."""

EXACT: Final = 2**53
"""Integers below this size are exact as floats; others are rounded, but not to below it."""

Expression: TypeAlias = str | bool
"""A Milvus expression, or True for every row and False for none."""

_OPERATORS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


@dataclass(frozen=True, slots=True)
class Rendered:
    """`expression` passes at least the rows that match, and when `exact` no others of those told.

    A row of the fact `UNTOLD`, or whose long string compares like its beginning, passes untested.
    """

    expression: Expression
    exact: bool


def describe(metadata: Metadata) -> dict[str, Any]:
    """The fields `facts` and `ordered` of a row with this metadata."""
    facts: set[int] = set()
    ordered: dict[str, str] = {}
    for path in _list_paths(metadata):
        value = look_up(metadata, path)
        if value is not MISSING:
            facts |= set(_list_facts(path, value))
            if _has_order(value):
                ordered[_name(path)] = _sortable(value)[: 1 + 2 * PREFIX]
    if len(facts) > MAX_FACTS or 90 * len(ordered) > MAX_ORDERED:
        size = sum(len(key) + len(value) + 8 for key, value in ordered.items())
        if len(facts) > MAX_FACTS or size > MAX_ORDERED:
            return {"facts": [UNTOLD], "ordered": {}}
    return {"facts": sorted(facts), "ordered": ordered}


def render(node: Node) -> Rendered:
    """`node` as a Milvus expression."""
    if _count_conditions(node) > MAX_CONDITIONS:
        return Rendered(expression=True, exact=False)
    return _render(node, negated=False)


def _render(node: Node, *, negated: bool) -> Rendered:
    match node:
        case Not(inner):
            return _render(inner, negated=not negated)
        case And(nodes) | Or(nodes):
            parts = [_render(each, negated=negated) for each in nodes]
            all_needed = isinstance(node, And) is not negated
            return _require_all(parts) if all_needed else _require_one(parts)
        case In():
            return _render_values(node, negated)
        case Exists(path):
            return _has_any([_there(path), _equal(path, None)], negated=negated)
        case Contains(path, part):
            if isinstance(part, str):  # a substring, too
                return Rendered(True if negated else _passing([_there(path)]), exact=False)
            return _has_any([_element(path, part)], negated=negated)
        case Compare():
            return _render_order(node, negated)


def _render_values(node: In, negated: bool) -> Rendered:
    there = _there(node.field)
    if len(node.values) > MAX_VALUES:
        none_is_in = any(value is None for value in node.values)
        return Rendered(True if negated or none_is_in else _passing([there]), exact=False)
    equal = [_equal(node.field, value) for value in node.values if value is not None]
    if len(equal) == len(node.values):
        return _has_any(equal, negated=negated)
    # Null is among them, and so is a field that is not there.
    parts = [_has_any(equal, negated=negated), _has_any([there], negated=not negated)]
    return _require_all(parts) if negated else _require_one(parts)


def _render_order(node: Compare, negated: bool) -> Rendered:
    if negated:
        return Rendered(expression=True, exact=False)
    if not isinstance(node.value, str) and abs(node.value) >= EXACT:
        return Rendered(_passing([_there(node.field)]), exact=False)
    bound = _sortable(node.value)
    kind = bound[0]  # a bound of the other side keeps to the values of this kind
    side = f'< "{chr(ord(kind) + 1)}"' if node.operator in ("$gt", "$gte") else f'>= "{kind}"'
    field = f'ordered["{_name(node.field)}"]'
    within = f'({field} {_OPERATORS[node.operator]} "{bound}" and {field} {side})'
    return Rendered(f"({within} or {_passing([_cut(node.field)])})", exact=True)


def _has_any(facts: Sequence[int], *, negated: bool) -> Rendered:
    if not facts:
        return Rendered(expression=negated, exact=True)
    if negated:
        return Rendered(f"not (array_contains_any(facts, {sorted(facts)}))", exact=True)
    return Rendered(_passing(facts), exact=True)


def _passing(facts: Sequence[int]) -> str:
    return f"array_contains_any(facts, {sorted({UNTOLD, *facts})})"


def _require_all(parts: list[Rendered]) -> Rendered:
    if any(part.expression is False for part in parts):
        return Rendered(expression=False, exact=True)
    exact = all(part.exact for part in parts)
    told = [part.expression for part in parts if isinstance(part.expression, str)]
    return Rendered(f"({' and '.join(told)})" if told else True, exact)


def _require_one(parts: list[Rendered]) -> Rendered:
    if any(part.expression is True for part in parts):
        return Rendered(True, any(part.expression is True and part.exact for part in parts))
    told = [part.expression for part in parts if isinstance(part.expression, str)]
    return Rendered(f"({' or '.join(told)})" if told else False, all(p.exact for p in parts))


def _count_conditions(node: Node) -> int:
    match node:
        case Not(inner):
            return _count_conditions(inner)
        case And(nodes) | Or(nodes):
            return 1 + sum(map(_count_conditions, nodes))
    return 1


# What is so of a row.


def _list_facts(path: str, value: Any) -> Iterator[int]:
    yield _equal(path, value)
    if value is not None:
        yield _there(path)
    if isinstance(value, list):
        yield from (_element(path, item) for item in value)
    if isinstance(value, str) and len(value.encode()) > PREFIX:
        yield _cut(path)


def _there(path: str) -> int:
    return _digest("there", path, "")


def _equal(path: str, value: Any) -> int:
    return _digest("equal", path, _write(value))


def _element(path: str, value: Any) -> int:
    return _digest("element", path, _write(value))


def _cut(path: str) -> int:
    return _digest("cut", path, "")


def _digest(what: str, path: str, value: str) -> int:
    return (_remember if len(value) <= 100 else _compute)(what, path, value)


def _compute(what: str, path: str, value: str) -> int:
    """A number from 1 to 2**63 - 1."""
    given = f"{what} {len(path)} {path} {value}".encode()
    return int.from_bytes(hashlib.blake2b(given, digest_size=8).digest()) >> 1 or 1


_remember = functools.lru_cache(maxsize=50_000)(_compute)


def _write(value: Any) -> str:
    """A JSON value as text: the same text for what is the same value."""
    return json.dumps(value if isinstance(value, str) else _unify(value), sort_keys=True)


def _unify(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_unify(item) for item in value]
    if isinstance(value, dict):
        return {key: _unify(item) for key, item in value.items()}
    return value


def _has_order(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


@functools.lru_cache(maxsize=10_000)
def _name(path: str) -> str:
    return "f" + hashlib.blake2b(path.encode(), digest_size=12).hexdigest()


def _sortable(value: float | str) -> str:
    """Hexadecimal digits that sort as the values do, after "s" for strings and "n" for numbers."""
    if isinstance(value, str):
        return "s" + value.encode().hex()
    try:
        number = float(value) + 0.0  # of the two zeros, the positive one
    except OverflowError:
        number = float("inf") if value > 0 else float("-inf")
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    return f"n{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"


def _list_paths(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The name of every field, nested ones with dots."""
    for key, value in metadata.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{rest}" for rest in _list_paths(value))
