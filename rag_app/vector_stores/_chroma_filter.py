"""Filters and metadata in Chroma's terms, with nothing lost on the way.

Chroma holds flat scalars only, and compares by its own rules. So each row keeps its whole metadata
as JSON under `WHOLE`, and beside it every scalar that Chroma compares as we do: strings, booleans,
and numbers as floats. What cannot be asked of those (order of strings, substrings, lists, null,
existence, numbers from 2**53 on) is rendered as a condition that lets too much pass, and marked.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rag_app.filters import MISSING, And, Compare, In, Not, Or, look_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_app.filters import Node
    from rag_app.types import Metadata

WHOLE: Final = "rag_app:metadata"
"""The key under which a row's metadata is kept whole."""

EXACT: Final = 2**53
"""Integers below this size are exact as floats; others are rounded, but not to below it."""

MAX_CONDITIONS: Final = 50
"""Larger filters are not rendered: SQLite's expressions are limited in depth."""

MOST: Final = 10_000
"""Values or ids in one question to Chroma: SQLite takes 32,766."""

Where: TypeAlias = dict[str, Any] | bool
"""A Chroma `where`, or True for every row and False for none."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """`where` passes at least the rows that match, and when `exact` no others."""

    where: Where
    exact: bool


def render(node: Node | None) -> Rendered:
    """`node` as a Chroma `where`."""
    if node is None:
        return Rendered(where=True, exact=True)
    conditions, values = _measure(node)
    if conditions > MAX_CONDITIONS or values > MOST:
        return Rendered(where=True, exact=False)
    return _render(node, negated=False)


def encode(metadata: Metadata) -> dict[str, str | float | bool]:
    """The metadata that Chroma holds for `metadata`."""
    flat: dict[str, str | float | bool] = {
        WHOLE: json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    }
    for path in _list_paths(metadata):
        value = look_up(metadata, path)
        if _is_plain(path) and value is not MISSING and isinstance(value, (str, int, float)):
            flat[path] = value if isinstance(value, (str, bool)) else _to_float(value)
    return flat


def decode(held: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that `encode` was given."""
    metadata: dict[str, Any] = json.loads(held[WHOLE])
    return metadata


def _render(node: Node, *, negated: bool) -> Rendered:
    match node:
        case Not(inner):
            return _render(inner, negated=not negated)
        case And(nodes) | Or(nodes):
            parts = [_render(each, negated=negated) for each in nodes]
            all_needed = isinstance(node, And) is not negated
            return _require_all(parts) if all_needed else _require_one(parts)
        case In(field, values) if _is_plain(field):
            return _render_values(field, values, negated)
        case Compare(field, operator, value) if _is_plain(field) and not negated:
            if not isinstance(value, str) and abs(value) < EXACT:
                return Rendered({field: {operator: float(value)}}, exact=True)
    return Rendered(where=True, exact=False)


def _render_values(field: str, values: tuple[Any, ...], negated: bool) -> Rendered:
    groups: dict[str, list[Any]] = {}
    for value in values:
        if value is None or isinstance(value, (list, dict)):
            return Rendered(where=True, exact=False)
        if isinstance(value, (str, bool)):
            groups.setdefault(type(value).__name__, []).append(value)
        elif abs(value) < EXACT:
            groups.setdefault("number", []).append(float(value))
        else:
            return Rendered(where=True, exact=False)
    operator = "$nin" if negated else "$in"
    parts = [Rendered({field: {operator: group}}, exact=True) for group in groups.values()]
    return _require_all(parts) if negated else _require_one(parts)


def _require_all(parts: list[Rendered]) -> Rendered:
    if any(part.where is False for part in parts):
        return Rendered(where=False, exact=True)
    exact = all(part.exact for part in parts)
    wheres = [part.where for part in parts if part.where is not True]
    return Rendered(_join("$and", wheres) if wheres else True, exact)


def _require_one(parts: list[Rendered]) -> Rendered:
    if any(part.where is True for part in parts):
        return Rendered(where=True, exact=any(p.where is True and p.exact for p in parts))
    wheres = [part.where for part in parts if part.where is not False]
    return Rendered(_join("$or", wheres) if wheres else False, all(part.exact for part in parts))


def _join(operator: str, wheres: Sequence[Where]) -> Where:
    return wheres[0] if len(wheres) == 1 else {operator: list(wheres)}


def _measure(node: Node) -> tuple[int, int]:
    """How many conditions and values it has."""
    match node:
        case Not(inner):
            return _measure(inner)
        case And(nodes) | Or(nodes):
            sizes = [(1, 0), *map(_measure, nodes)]
            return sum(size for size, _ in sizes), sum(size for _, size in sizes)
        case In(_, values):
            return 1, len(values)
    return 1, 1


def _is_plain(path: str) -> bool:
    """Whether Chroma takes `path` as a key: it keeps some beginnings for itself, and we one key."""
    return bool(path) and path != WHOLE and not path.startswith(("$", "#", "chroma:"))


def _list_paths(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The name of every field, nested ones with dots."""
    for key, value in metadata.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{rest}" for rest in _list_paths(value))


def _to_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return sys.float_info.max if number > 0 else -sys.float_info.max
