"""The one filter language: Mongo-style conditions on metadata, parsed into a tree for the stores.

    {"lang": "en", "year": {"$gte": 2024}, "$or": [{"tags": {"$contains": "api"}}, {"level": 2}]}

What a filter means, the same on every store:

- Conditions side by side are all required (`$and`); a value without an operator is `$eq`.
- A field is a key of the metadata. If there is none of that name, its dots lead into nested
  objects: "a.b" is the key "a.b" where there is one, else "b" of the object under "a". Lists are
  not entered.
- `$eq`, `$ne`, `$in`, `$nin` compare JSON values: numbers by value (1 is 1.0), `true` is not 1,
  "1" is not 1, lists by their elements in order, objects whatever the order of their keys.
- `$gt`, `$gte`, `$lt`, `$lte` take a number or a string. Numbers compare with numbers, strings with
  strings by code point (so ISO 8601 dates of one form sort by time); any other pair is false.
- `$contains`: the field is a list with that element, or a string with that substring.
- `$exists`: the field is there, even when its value is null.
- A missing field counts as null in `$eq`, `$ne`, `$in` and `$nin`: `{"a": null}` finds documents
  without `a`, and so do `{"a": {"$ne": 1}}` and `{"a": {"$nin": [1]}}`. In every other comparison
  a missing field is false.
- `$and`, `$or`: lists of filters, at least one. `$not`: a filter, or the conditions of a field.
  `{}` matches everything.

`matches` is the definition; the stores are tested against it.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from rag_app.errors import FilterError
from rag_app.json_values import MAX_DEPTH, equality_key, find_non_json
from rag_app.registry import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from rag_app.types import Metadata

MAX_CONDITIONS: Final = 1000
"""Conditions that one filter may have; the values of an `$in` do not count."""

Ordering: TypeAlias = Literal["$gt", "$gte", "$lt", "$lte"]


@dataclass(frozen=True, slots=True)
class In:
    """The field's value, null when missing, is one of `values`. `$eq` is an `In` of one value."""

    field: str
    values: tuple[Any, ...]
    keys: frozenset[Hashable] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", frozenset(map(equality_key, self.values)))


@dataclass(frozen=True, slots=True)
class Compare:
    """The field's value is of `value`'s type, number or string, and stands in this order to it."""

    field: str
    operator: Ordering
    value: float | str


@dataclass(frozen=True, slots=True)
class Contains:
    """The field is a list with the element `value`, or a string with the substring `value`."""

    field: str
    value: Any


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """`node` does not match."""

    node: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of `nodes` match; with none of them, everything does."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of `nodes` matches."""

    nodes: tuple[Node, ...]


Node: TypeAlias = In | Compare | Contains | Exists | Not | And | Or

MISSING: Final = object()
"""What `look_up` gives for a field that is not there."""

_ORDERINGS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_FIELD_OPERATORS: Final = (
    *("$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists", "$contains", "$not"),
)
_JOINING_OPERATORS: Final = ("$and", "$or", "$not")


def parse(filter: Mapping[str, Any] | None) -> Node | None:
    """Read a filter as the user writes it; None when it lets everything pass (`None` or `{}`).

    Raises:
        FilterError: it is malformed; the message has the place inside the filter, what was given
            and what is allowed.
    """
    if filter is None:
        return None
    node = _Parser().parse_filter(filter, "filter", 0)
    return None if node == And(()) else node


def matches(node: Node | None, metadata: Metadata) -> bool:
    """Whether `metadata` passes: the definition of the language. None lets everything pass."""
    match node:
        case None:
            return True
        case And(nodes):
            return all(matches(each, metadata) for each in nodes)
        case Or(nodes):
            return any(matches(each, metadata) for each in nodes)
        case Not(inner):
            return not matches(inner, metadata)
    return _matches_field(node, look_up(metadata, node.field))


def look_up(metadata: Metadata, path: str) -> Any:
    """The value of a field or `MISSING`. A key with dots wins over a path through objects."""
    here: Any = metadata
    while isinstance(here, dict):
        if path in here:
            return here[path]
        first, dot, path = path.partition(".")
        if not dot:
            break
        here = here.get(first)
    return MISSING


def _matches_field(node: In | Compare | Contains | Exists, value: Any) -> bool:
    match node:
        case In():
            return equality_key(None if value is MISSING else value) in node.keys
        case Compare(_, name, bound):
            return type_of(value) == type_of(bound) and _ORDERINGS[name](value, bound)
        case Contains(_, part):
            return _contains(value, part)
        case Exists():
            return value is not MISSING


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    return isinstance(value, list) and equality_key(part) in map(equality_key, value)


def type_of(value: Any) -> str:
    """Either "number", "string" or another word that equals neither."""
    if isinstance(value, str):
        return "string"
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else "other"


class _Parser:
    """One pass over one filter; counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def parse_filter(self, given: Any, where: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _too_deep()
        if not isinstance(given, Mapping):
            raise FilterError(
                where,
                f"{_show(given)} is not a filter",
                'Give an object of fields and conditions, as {"year": {"$gte": 2024}}.',
            )
        return _join([self._parse_entry(key, value, where, depth) for key, value in given.items()])

    def _parse_entry(self, key: Any, value: Any, where: str, depth: int) -> Node:
        if not isinstance(key, str):
            wrong = f"the field {key!r} is not a string"
            raise FilterError(where, wrong, 'Write field names as "name".')
        place = f"{where}.{key}"
        if not key.startswith("$"):
            return self._parse_field(key, value, place, depth)
        if key == "$not":
            return Not(self.parse_filter(value, place, depth + 1))
        if key in ("$and", "$or"):
            nodes = self._parse_list(value, place, depth)
            return _join(nodes) if key == "$and" else Or(tuple(nodes))
        if key in _FIELD_OPERATORS:
            remedy = f'Put it under one, as {{"year": {{"{key}": …}}}}.'
            raise FilterError(place, f"{key} stands without a field", remedy)
        raise FilterError(place, *unknown(key, _JOINING_OPERATORS))

    def _parse_list(self, value: Any, place: str, depth: int) -> list[Node]:
        if not isinstance(value, list) or not value:
            wrong = f"{_show(value)} is not a list of filters"
            raise FilterError(place, wrong, "Give a list with at least one filter.")
        return [
            self.parse_filter(each, f"{place}[{position}]", depth + 1)
            for position, each in enumerate(value)
        ]

    def _parse_field(self, name: str, value: Any, place: str, depth: int) -> Node:
        operators = _list_operators(value)
        if not operators:
            _refuse_bare_operators(value, place)
            return self._parse_condition(name, "$eq", value, place, depth)
        if len(operators) < len(value):
            raise FilterError(
                place,
                f"operators and fields are mixed in {_show(value)}",
                f'Give operators only, or write nested fields as "{name}.field".',
            )
        return _join(
            [
                self._parse_condition(name, each, value[each], f"{place}.{each}", depth)
                for each in operators
            ]
        )

    def _parse_condition(self, name: str, key: str, value: Any, place: str, depth: int) -> Node:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            wrong = f"it has more than {MAX_CONDITIONS} conditions"
            raise FilterError("filter", wrong, "Use $in for many values of one field.")
        if key == "$not":
            return Not(self._parse_not(name, value, place, depth))
        if bad := find_non_json([name, value]):
            raise FilterError(
                place, bad[1], "Give JSON values: dates as ISO 8601 text, NumPy values by .item()."
            )
        return _parse_operand(name, key, value, place)

    def _parse_not(self, name: str, value: Any, place: str, depth: int) -> Node:
        if depth >= MAX_DEPTH:
            raise _too_deep()
        if not _list_operators(value):
            raise FilterError(
                place,
                f"{_show(value)} is not an object of operators",
                f'Write {{"{name}": {{"$ne": …}}}}.',
            )
        return self._parse_field(name, value, place, depth + 1)


def _too_deep() -> FilterError:
    return FilterError(
        "filter", f"it is nested deeper than {MAX_DEPTH} levels", "Write it flatter."
    )


def _refuse_bare_operators(value: Any, place: str) -> None:
    """`{"gt": 3}` would ask for an object that equals it; whoever writes it means `$gt`."""
    bare = (
        [key for key in value if f"${key}" in _FIELD_OPERATORS] if isinstance(value, dict) else []
    )
    if bare:
        raise FilterError(
            place,
            f"{bare[0]!r} is written without its $",
            f'Write "${bare[0]}"; for an object that has such a field: {{"$eq": …}}.',
        )


def _list_operators(value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    return [key for key in value if isinstance(key, str) and key.startswith("$")]


def _parse_operand(name: str, key: str, value: Any, place: str) -> Node:
    match key:
        case "$eq":
            return In(name, (value,))
        case "$ne":
            return Not(In(name, (value,)))
        case "$in":
            return In(name, _require_list(value, place))
        case "$nin":
            return Not(In(name, _require_list(value, place)))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return Compare(name, key, _require_ordered(value, place))
        case "$contains":
            return Contains(name, value)
        case "$exists":
            return _parse_exists(name, value, place)
    raise FilterError(place, *unknown(key, _FIELD_OPERATORS))


def _parse_exists(name: str, value: Any, place: str) -> Node:
    if not isinstance(value, bool):
        raise FilterError(place, f"{_show(value)} is neither true nor false", "Give true or false.")
    return Exists(name) if value else Not(Exists(name))


def _require_list(value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise FilterError(
            place, f"{_show(value)} is not a list", f"Give a list, as [{_show(value)}]."
        )
    return tuple(value)


def _require_ordered(value: Any, place: str) -> float | str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise FilterError(place, f"{_show(value)} has no order", "Give a number or a string.")
    return value


def _join(nodes: list[Node]) -> Node:
    """All of them; those that let everything pass fall away, and a single one needs no `And`."""
    wanted = tuple(node for node in nodes if node != And(()))
    return wanted[0] if len(wanted) == 1 else And(wanted)


def _show(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 80 else f"{words[:77]}…"
