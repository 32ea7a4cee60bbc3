"""Filters and metadata in Weaviate's terms: tokens that stand for values, and numbers.

Weaviate's property names are restricted and its types fixed, so metadata is kept whole as JSON, and
found by two kinds of properties that every collection of ours has:

- `tokens`, a list of digests matched whole: one for the type and one for the value of every field,
  one for every element of a list. Digests, because Weaviate trims and cuts up text.
- `numbers_0` … `numbers_7`, lists of numbers: those of all fields that share a place, and for texts
  that begin with a digit, as dates do, a number that stands in the same order.

A rendered filter passes at least the rows that match. It may pass more (order and parts of texts,
fields that share a place), so the metadata of what is found has to be looked at.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rag_app.filter_rendering import carry_down, list_fields, measure, to_float
from rag_app.filters import Compare, Contains, Exists, In
from rag_app.json_values import equality_text

if TYPE_CHECKING:
    from rag_app.filter_rendering import Condition
    from rag_app.filters import Node
    from rag_app.types import Metadata

PLACES: Final = 8
"""Number properties of a collection."""

MAX_TOKENS: Final = 1000
"""Tokens that a row may have; one with more has `OVERFLOW` alone, which every filter lets pass."""

MAX_VALUES: Final = 10_000
"""Values in one question to Weaviate; larger filters are not rendered."""

MAX_CONDITIONS: Final = 100
MAX_DEPTH: Final = 30
"""gRPC messages may be nested about 100 levels deep."""

OVERFLOW: Final = "*"

TYPES: Final = "bdflnos"
"""The kinds of value a field can have: boolean, text that begins with a digit, float or int, list,
null, object, other text."""

ORDERED: Final = "-./0123456789:T"
"""What dates and times are made of."""

DIGITS: Final = frozenset("0123456789")

LEADING: Final = 12
"""Characters of a text that its number tells of: 12 of base 19 are within 2**53."""

Where: TypeAlias = Any
"""A filter of Weaviate's client, or True for every row and False for none."""


def encode(metadata: Metadata) -> dict[str, list[Any]]:
    """The properties that make a row with `metadata` findable."""
    tokens: list[str] = []
    found: dict[str, list[Any]] = {"tokens": tokens}
    for path, value in list_fields(metadata):
        kind = _kind(value)
        tokens += _type_token(path, kind), _value_token(path, value)
        if kind == "f":
            found.setdefault(_place(path), []).append(to_float(value))
        elif kind == "d":
            found.setdefault(_place(path), []).append(_order_text(value))
        elif kind == "l":
            tokens += (_element_token(path, each) for each in value)
    if len(tokens) > MAX_TOKENS:
        found["tokens"] = [OVERFLOW]
    return {name: values for name, values in found.items() if values}


def render(node: Node, can_negate: bool) -> Where:
    """What passes at least the rows that match; `can_negate`: the server knows ContainsNone."""
    size = measure(node)
    if size.conditions > MAX_CONDITIONS or size.values > MAX_VALUES or size.depth > MAX_DEPTH:
        return True
    return _Renderer(can_negate).render(node)


class _Renderer:
    """One pass over one filter."""

    def __init__(self, can_negate: bool) -> None:
        from weaviate.classes.query import Filter

        self._filter = Filter
        self._can_negate = can_negate

    def render(self, node: Node) -> Where:
        return carry_down(node, self._render, self._require_all, self._require_one)

    def _render(self, node: Condition, negated: bool) -> Where:
        match node:
            case In():
                return self._render_values(node, negated)
            case Contains(field, part):
                tokens = [_element_token(field, part)]
                if negated:
                    return self._none(tokens)
                texts = [_type_token(field, kind) for kind in "ds"] if isinstance(part, str) else []
                return self._any(tokens + texts)
            case Exists(field):
                tokens = [_type_token(field, kind) for kind in TYPES]
                return self._none(tokens) if negated else self._any(tokens)
            case Compare():
                return True if negated else self._render_order(node)

    def _render_values(self, node: In, negated: bool) -> Where:
        tokens = [_value_token(node.field, value) for value in node.values]
        if negated:
            rest = self._none(tokens) if tokens else True
            return self._require_all([rest, self._exists(node)]) if None in node.values else rest
        if None in node.values:
            missing = self._render(Exists(node.field), True)
            return self._require_one([self._any(tokens), missing])
        return self._any(tokens) if tokens else False

    def _exists(self, node: In) -> Where:
        return self._render(Exists(node.field), False)

    def _render_order(self, node: Compare) -> Where:
        """Bounds are rounded as the rows' numbers are, so both include what equals them."""
        text = isinstance(node.value, str)
        numbers = self._filter.by_property(_place(node.field))
        bound = _order_text(node.value) if isinstance(node.value, str) else to_float(node.value)
        above = node.operator in ("$gt", "$gte")
        ordered = numbers.greater_or_equal(bound) if above else numbers.less_or_equal(bound)
        kind = self._any([_type_token(node.field, "d" if text else "f")])
        found = self._require_all([kind, ordered])
        others = self._any([_type_token(node.field, "s")])
        return self._require_one([found, others]) if text else found

    def _any(self, tokens: list[str]) -> Where:
        return self._filter.by_property("tokens").contains_any([*tokens, OVERFLOW])

    def _none(self, tokens: list[str]) -> Where:
        """Rows with too many tokens have none of these, and pass."""
        if not self._can_negate:
            return True
        return self._filter.by_property("tokens").contains_none(tokens)

    def _require_all(self, parts: list[Where]) -> Where:
        if any(part is False for part in parts):
            return False
        wanted = [part for part in parts if part is not True]
        return self._filter.all_of(wanted) if wanted else True

    def _require_one(self, parts: list[Where]) -> Where:
        if any(part is True for part in parts):
            return True
        wanted = [part for part in parts if part is not False]
        return self._filter.any_of(wanted) if wanted else False


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "d" if value[:1] in DIGITS else "s"
    if isinstance(value, bool):
        return "b"
    if isinstance(value, (int, float)):
        return "f"
    if value is None:
        return "n"
    return "l" if isinstance(value, list) else "o"


@lru_cache(4096)
def _type_token(path: str, kind: str) -> str:
    return _digest(f"t{kind}{path}")


@lru_cache(4096)
def _place(path: str) -> str:
    return f"numbers_{hashlib.sha256(path.encode()).digest()[0] % PLACES}"


def _value_token(path: str, value: Any) -> str:
    return _digest(f"v{len(path)}.{path}{equality_text(value)}")


def _element_token(path: str, value: Any) -> str:
    return _digest(f"e{len(path)}.{path}{equality_text(value)}")


def _digest(words: str) -> str:
    return hashlib.blake2b(words.encode(), digest_size=12).hexdigest()


def _order_text(text: str) -> float:
    """A number that is greater only for texts that stand later, by code point.

    Its digits tell the characters, up to the first that shares its digit with others: from there on
    texts are taken for equal. The end of a text is 0.
    """
    number, told = 0, True
    for character in text[:LEADING]:
        number = number * 19 + (_rank(character) if told else 0)
        told = told and character in ORDERED
    return float(number * 19 ** max(0, LEADING - len(text)))


@lru_cache(256)
def _rank(character: str) -> int:
    """Its place among those of `ORDERED`; those in between share one."""
    below = sum(each < character for each in ORDERED)
    gaps = sum(character > end for end in "T:")
    return 2 + below + gaps if character in ORDERED else 1 + below + gaps
