"""What renderings of filters in vendors' terms share. What a filter means is in `rag_app.filters`.

A store that cannot decide a condition exactly renders one that lets too much pass, and says so: the
metadata of what passes is then looked at, and the search limited to the rows that match.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from rag_app.filters import MISSING, And, Compare, Contains, Exists, In, Not, Or, look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rag_app.filters import Node
    from rag_app.types import Metadata

Condition: TypeAlias = In | Compare | Contains | Exists
"""What a filter asks of one field."""

EXACT: Final = 2**53
"""Integers below this size are exact as floats; others are rounded, but not to below it."""

T = TypeVar("T")
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Rendered(Generic[W]):
    """`where` passes at least the rows that match, and when `exact` no others.

    It is in the vendor's terms, or True for every row and False for none.
    """

    where: W | bool
    exact: bool


class Size(NamedTuple):
    """How large a filter is: its conditions and joinings, the values they name, its levels."""

    conditions: int
    values: int
    depth: int


def measure(node: Node) -> Size:
    """The size of `node`; vendors have limits."""
    match node:
        case Not(inner):
            size = measure(inner)
            return size._replace(depth=size.depth + 1)
        case And(nodes) | Or(nodes):
            sizes = [Size(1, 0, 0), *map(measure, nodes)]
            conditions, values = sum(s.conditions for s in sizes), sum(s.values for s in sizes)
            return Size(conditions, values, 1 + max(s.depth for s in sizes))
        case In(_, values):
            return Size(1, len(values), 1)
    return Size(1, 1, 1)


def carry_down(
    node: Node,
    render: Callable[[Condition, bool], T],
    all_of: Callable[[list[T]], T],
    one_of: Callable[[list[T]], T],
) -> T:
    """`node` with its negations carried down to its conditions (De Morgan).

    Args:
        node: the filter.
        render: renders a condition, negated when the second argument is true.
        all_of: joins renderings that are all required; there may be none.
        one_of: joins renderings of which one is required; there may be none.
    """

    def walk(node: Node, negated: bool) -> T:
        match node:
            case Not(inner):
                return walk(inner, not negated)
            case And(nodes) | Or(nodes):
                join = all_of if isinstance(node, And) is not negated else one_of
                return join([walk(each, negated) for each in nodes])
        return render(node, negated)

    return walk(node, False)


def require_all(parts: Sequence[Rendered[W]], join: Callable[[list[W]], W]) -> Rendered[W]:
    """What passes all of `parts`; `join` puts two or more together."""
    if any(part.where is False for part in parts):
        return Rendered(where=False, exact=True)
    wheres: list[Any] = [part.where for part in parts if part.where is not True]
    where = _join(wheres, join) if wheres else True
    return Rendered(where, all(part.exact for part in parts))


def require_one(parts: Sequence[Rendered[W]], join: Callable[[list[W]], W]) -> Rendered[W]:
    """What passes one of `parts` at least; `join` puts two or more together."""
    if any(part.where is True for part in parts):
        return Rendered(where=True, exact=any(p.where is True and p.exact for p in parts))
    wheres: list[Any] = [part.where for part in parts if part.where is not False]
    where = _join(wheres, join) if wheres else False
    return Rendered(where, all(part.exact for part in parts))


def _join(wheres: list[W], join: Callable[[list[W]], W]) -> W:
    return wheres[0] if len(wheres) == 1 else join(wheres)


def list_fields(metadata: Metadata) -> Iterator[tuple[str, Any]]:
    """Every field that a filter can name, once, with the value that it has for `look_up`."""
    told = set(metadata)
    for key, value in metadata.items():
        yield key, value
        if isinstance(value, dict):
            for path in (f"{key}.{rest}" for rest in _list_paths(value)):
                if path not in told and (nested := look_up(metadata, path)) is not MISSING:
                    told.add(path)
                    yield path, nested


def _list_paths(nested: Mapping[str, Any]) -> Iterator[str]:
    for key, value in nested.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{rest}" for rest in _list_paths(value))


def to_float(number: float) -> float:
    """The nearest float; the largest one for an integer beyond it."""
    try:
        return float(number)
    except OverflowError:
        return sys.float_info.max if number > 0 else -sys.float_info.max
