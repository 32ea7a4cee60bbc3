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
import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

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
    from collections.abc import Iterator, Sequence

    from rag_app.filter_rendering import Condition
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

Where: TypeAlias = Rendered[str]
"""A Milvus expression. Whether it is exact is said of the rows that are told in full: one of the
fact `UNTOLD`, or whose long string compares like its beginning, passes untested."""

_OPERATORS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def describe(metadata: Metadata) -> dict[str, Any]:
    """The fields `facts` and `ordered` of a row with this metadata."""
    facts: set[int] = set()
    ordered: dict[str, str] = {}
    for path, value in list_fields(metadata):
        facts |= set(_list_facts(path, value))
        if type_of(value) != "other":
            ordered[_name(path)] = _sortable(value)[: 1 + 2 * PREFIX]
    if len(facts) > MAX_FACTS or 90 * len(ordered) > MAX_ORDERED:
        size = sum(len(key) + len(value) + 8 for key, value in ordered.items())
        if len(facts) > MAX_FACTS or size > MAX_ORDERED:
            return {"facts": [UNTOLD], "ordered": {}}
    return {"facts": sorted(facts), "ordered": ordered}


def render(node: Node) -> Where:
    """`node` as a Milvus expression."""
    if measure(node).conditions > MAX_CONDITIONS:
        return Rendered(where=True, exact=False)
    return carry_down(node, _render, _require_all, _require_one)


def _render(node: Condition, negated: bool) -> Where:
    match node:
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


def _render_values(node: In, negated: bool) -> Where:
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


def _render_order(node: Compare, negated: bool) -> Where:
    if negated:
        return Rendered(where=True, exact=False)
    if not isinstance(node.value, str) and abs(node.value) >= EXACT:
        return Rendered(_passing([_there(node.field)]), exact=False)
    bound = _sortable(node.value)
    kind = bound[0]  # a bound of the other side keeps to the values of this kind
    side = f'< "{chr(ord(kind) + 1)}"' if node.operator in ("$gt", "$gte") else f'>= "{kind}"'
    field = f'ordered["{_name(node.field)}"]'
    within = f'({field} {_OPERATORS[node.operator]} "{bound}" and {field} {side})'
    return Rendered(f"({within} or {_passing([_cut(node.field)])})", exact=True)


def _has_any(facts: Sequence[int], *, negated: bool) -> Where:
    if not facts:
        return Rendered(where=negated, exact=True)
    if negated:
        return Rendered(f"not (array_contains_any(facts, {sorted(facts)}))", exact=True)
    return Rendered(_passing(facts), exact=True)


def _passing(facts: Sequence[int]) -> str:
    return f"array_contains_any(facts, {sorted({UNTOLD, *facts})})"


def _require_all(parts: list[Where]) -> Where:
    return require_all(parts, lambda wheres: f"({' and '.join(wheres)})")


def _require_one(parts: list[Where]) -> Where:
    return require_one(parts, lambda wheres: f"({' or '.join(wheres)})")


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
    return _digest("equal", path, equality_text(value))


def _element(path: str, value: Any) -> int:
    return _digest("element", path, equality_text(value))


def _cut(path: str) -> int:
    return _digest("cut", path, "")


def _digest(what: str, path: str, value: str) -> int:
    return (_remember if len(value) <= 100 else _compute)(what, path, value)


def _compute(what: str, path: str, value: str) -> int:
    """A number from 1 to 2**63 - 1."""
    given = f"{what} {len(path)} {path} {value}".encode()
    return int.from_bytes(hashlib.blake2b(given, digest_size=8).digest()) >> 1 or 1


_remember = functools.lru_cache(maxsize=50_000)(_compute)


@functools.lru_cache(maxsize=10_000)
def _name(path: str) -> str:
    return "f" + hashlib.blake2b(path.encode(), digest_size=12).hexdigest()


def _sortable(value: float | str) -> str:
    """Hexadecimal digits that sort as the values do, after "s" for strings and "n" for numbers."""
    if isinstance(value, str):
        return "s" + value.encode().hex()
    number = to_float(value) + 0.0  # of the two zeros, the positive one
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    return f"n{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"
