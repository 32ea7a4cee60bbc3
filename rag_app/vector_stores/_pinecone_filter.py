"""Filters and metadata in Pinecone's terms, with nothing lost on the way.

Pinecone compares strings for equality only, has no null, no nested objects and no lists but those
of strings. So a record carries, beside its metadata as JSON, what its filters need:

- `TOKENS`, a list of digests: one for each field with its value, one for each field with its type,
  and one for each element of a list. Pinecone's `$in` and `$nin` on a list of strings ask whether
  any, or none, of its elements is among those given, so equality of any JSON value is exact.
- the number in each field that holds one, as a float;
- the first `PREFIX` bytes of each string, as numbers that stand in the order of the strings.

What these cannot decide (substrings, the order of longer strings, numbers from 2**53 on) is
rendered as a condition that lets too much pass, and marked.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
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
    from rag_app.filter_rendering import Condition
    from rag_app.filters import Node, Ordering
    from rag_app.types import Metadata

TOKENS: Final = "tokens"
"""The key of the digests."""

UNINDEXED: Final = "?"
"""The only token of a record whose tokens would not fit; every filter lets it pass."""

WIDTH: Final = 6
"""Bytes of a string in one number, which with their count is below 2**53."""

PREFIX: Final = 4 * WIDTH
"""Bytes of a string whose order is kept; a bound shorter than this is decided exactly."""

MAX_CONDITIONS: Final = 50
"""Larger filters are not rendered."""

MOST: Final = 10_000
"""Values in one filter: Pinecone's limit for `$in` and `$nin`."""

TYPES: Final = ("number", "string", "other")

OPPOSITE: Final[dict[Ordering, Ordering]] = {
    "$gt": "$lte",
    "$gte": "$lt",
    "$lt": "$gte",
    "$lte": "$gt",
}
STRICT: Final[dict[Ordering, Ordering]] = {
    "$gt": "$gt",
    "$gte": "$gt",
    "$lt": "$lt",
    "$lte": "$lt",
}
LOOSE: Final[dict[Ordering, Ordering]] = {
    "$gt": "$gte",
    "$gte": "$gte",
    "$lt": "$lte",
    "$lte": "$lte",
}

Where: TypeAlias = Rendered[dict[str, Any]]
"""A Pinecone filter."""


def encode(metadata: Metadata) -> dict[str, Any]:
    """What a record carries so that filters on `metadata` can be asked."""
    tokens: set[str] = set()
    held: dict[str, Any] = {}
    for path, value in list_fields(metadata):
        if isinstance(value, (list, dict)):
            tokens |= {_name("is", path, equality_text(value)), _type_token(path, "other")}
            if isinstance(value, list):
                tokens |= {_name("has", path, equality_text(element)) for element in value}
            continue
        short = not isinstance(value, str) or len(value) <= 200
        named, numbers = (_encode_again if short else _encode_scalar)(path, value)
        tokens.update(named)
        held.update(numbers)
    # An empty list is no value of Pinecone's: a row without metadata has a token all the same.
    held[TOKENS] = list(tokens) or ["-"]
    return held


def _encode_scalar(path: str, value: Any) -> tuple[tuple[str, str], dict[str, float]]:
    """The tokens and numbers of a field."""
    kind = type_of(value)
    tokens = _name("is", path, equality_text(value)), _type_token(path, kind)
    if kind == "number":
        return tokens, {_number_key(path): to_float(value)}
    numbers = _order_numbers(value) if kind == "string" else []
    return tokens, {_string_key(path, position): n for position, n in enumerate(numbers)}


_encode_again = lru_cache(maxsize=20_000, typed=True)(_encode_scalar)


def render(node: Node | None) -> Where:
    """`node` as a Pinecone filter."""
    if node is None:
        return Rendered(where=True, exact=True)
    size = measure(node)
    if size.conditions > MAX_CONDITIONS or size.values > MOST:
        return Rendered(where=True, exact=False)
    rendered = carry_down(node, _render, _require_all, _require_one)
    if isinstance(rendered.where, bool):
        return rendered
    return _require_one([rendered, Rendered(_any_of([UNINDEXED]), rendered.exact)])


def _render(node: Condition, negated: bool) -> Where:
    match node:
        case In(field, values):
            return _render_values(field, values, negated)
        case Compare(field, operator, value):
            if isinstance(value, str):
                return _render_order(field, operator, value, negated)
            return _render_number(field, operator, value, negated)
        case Contains(field, part):
            return _render_contains(field, part, negated)
        case Exists(field):
            types = [_type_token(field, each) for each in TYPES]
            return Rendered(_none_of(types) if negated else _any_of(types), exact=True)


def _render_values(field: str, values: tuple[Any, ...], negated: bool) -> Where:
    if not values:
        return Rendered(negated, exact=True)
    tokens = [_name("is", field, equality_text(value)) for value in values]
    among = Rendered(_none_of(tokens) if negated else _any_of(tokens), exact=True)
    if all(value is not None for value in values):
        return among
    there = _render(Exists(field), not negated)  # a missing field counts as null
    return _require_all([among, there]) if negated else _require_one([among, there])


def _render_number(field: str, operator: Ordering, value: float, negated: bool) -> Where:
    is_number = _type_token(field, "number")
    if abs(value) >= EXACT:
        return Rendered(negated or _any_of([is_number]), exact=False)
    key = _number_key(field)
    if not negated:
        return Rendered({key: {operator: float(value)}}, exact=True)
    beyond = {key: {OPPOSITE[operator]: float(value)}}
    return Rendered({"$or": [_none_of([is_number]), beyond]}, exact=True)


def _render_order(field: str, operator: Ordering, value: str, negated: bool) -> Where:
    exact = len(value.encode()) < PREFIX
    if not negated:
        return Rendered(_compare_numbers(field, operator, value, exact), exact)
    beyond = _compare_numbers(field, OPPOSITE[operator], value, exact)
    no_string = _none_of([_type_token(field, "string")])
    return Rendered({"$or": [no_string, beyond]}, exact)


def _compare_numbers(field: str, operator: Ordering, value: str, exact: bool) -> dict[str, Any]:
    """The numbers of a string stand as the strings do: the first that differs decides."""
    *before, (position, last) = enumerate(_order_numbers(value))
    final = operator if exact else LOOSE[operator]
    condition: dict[str, Any] = {_string_key(field, position): {final: last}}
    for position, number in reversed(before):
        key = _string_key(field, position)
        same = {"$and": [{key: {"$eq": number}}, condition]}
        condition = {"$or": [{key: {STRICT[operator]: number}}, same]}
    return condition


def _render_contains(field: str, part: Any, negated: bool) -> Where:
    tokens = [_name("has", field, equality_text(part))]
    if negated:
        return Rendered(_none_of(tokens), exact=not isinstance(part, str))
    if isinstance(part, str):
        return Rendered(_any_of([*tokens, _type_token(field, "string")]), exact=False)
    return Rendered(_any_of(tokens), exact=True)


def _require_all(parts: list[Where]) -> Where:
    return require_all(parts, lambda wheres: {"$and": wheres})


def _require_one(parts: list[Where]) -> Where:
    return require_one(parts, lambda wheres: {"$or": wheres})


def _any_of(tokens: list[str]) -> dict[str, Any]:
    return {TOKENS: {"$in": tokens}}


def _none_of(tokens: list[str]) -> dict[str, Any]:
    return {TOKENS: {"$nin": tokens}}


def _name(kind: str, path: str, content: str) -> str:
    """The token for something that is said of a field."""
    said = f"{kind} {len(path)} {path} {content}".encode()
    return base64.urlsafe_b64encode(hashlib.blake2b(said, digest_size=12).digest()).decode()


@lru_cache(maxsize=10_000)
def _type_token(path: str, kind: str) -> str:
    return _name("type", path, kind)


@lru_cache(maxsize=10_000)
def _number_key(path: str) -> str:
    return f"n_{_name('key', path, '')}"


@lru_cache(maxsize=10_000)
def _string_key(path: str, position: int) -> str:
    return f"s{position}_{_name('key', path, '')}"


def _order_numbers(text: str) -> list[int]:
    """The beginning of a string, and the end where it is within `PREFIX`, as numbers that stand in
    the order of the code points, which is that of the bytes of UTF-8. The bytes come first, then
    how many they are: what ends comes before what goes on, even with zeros."""
    content = text[:PREFIX].encode()[:PREFIX]
    count = min(len(content) // WIDTH + 1, PREFIX // WIDTH)
    parts = [content[WIDTH * i : WIDTH * (i + 1)] for i in range(count)]
    return [int.from_bytes(part.ljust(WIDTH, b"\0")) * (WIDTH + 1) + len(part) for part in parts]
