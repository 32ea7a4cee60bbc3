"""Filters and metadata in Chroma's terms, with nothing lost on the way.

Chroma holds flat scalars only, and compares by its own rules. So each row keeps its whole metadata
as JSON under `WHOLE`, and beside it every scalar that Chroma compares as we do: strings, booleans,
and numbers as floats. What cannot be asked of those (order of strings, substrings, lists, null,
existence, numbers from 2**53 on) is rendered as a condition that lets too much pass, and marked.
"""

from __future__ import annotations

import json
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
from rag_app.filters import Compare, In

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_app.filter_rendering import Condition
    from rag_app.filters import Node
    from rag_app.types import Metadata

WHOLE: Final = "rag_app:metadata"
"""The key under which a row's metadata is kept whole."""

MAX_CONDITIONS: Final = 50
"""Larger filters are not rendered: SQLite's expressions are limited in depth."""

MOST: Final = 10_000
"""Values or ids in one question to Chroma: SQLite takes 32,766."""

Where: TypeAlias = Rendered[dict[str, Any]]
"""A Chroma `where`."""


def render(node: Node | None) -> Where:
    """`node` as a Chroma `where`."""
    if node is None:
        return Rendered(where=True, exact=True)
    size = measure(node)
    if size.conditions > MAX_CONDITIONS or size.values > MOST:
        return Rendered(where=True, exact=False)
    return carry_down(node, _render, _require_all, _require_one)


def encode(metadata: Metadata) -> dict[str, str | float | bool]:
    """The metadata that Chroma holds for `metadata`."""
    flat: dict[str, str | float | bool] = {
        WHOLE: json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    }
    for path, value in list_fields(metadata):
        if _is_plain(path) and isinstance(value, (str, int, float)):
            flat[path] = value if isinstance(value, (str, bool)) else to_float(value)
    return flat


def decode(held: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that `encode` was given."""
    metadata: dict[str, Any] = json.loads(held[WHOLE])
    return metadata


def _render(node: Condition, negated: bool) -> Where:
    match node:
        case In(field, values) if _is_plain(field):
            return _render_values(field, values, negated)
        case Compare(field, operator, value) if _is_plain(field) and not negated:
            if not isinstance(value, str) and abs(value) < EXACT:
                return Rendered({field: {operator: float(value)}}, exact=True)
    return Rendered(where=True, exact=False)


def _render_values(field: str, values: tuple[Any, ...], negated: bool) -> Where:
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
    parts: list[Where] = [
        Rendered({field: {operator: group}}, exact=True) for group in groups.values()
    ]
    return _require_all(parts) if negated else _require_one(parts)


def _require_all(parts: list[Where]) -> Where:
    return require_all(parts, lambda wheres: {"$and": wheres})


def _require_one(parts: list[Where]) -> Where:
    return require_one(parts, lambda wheres: {"$or": wheres})


def _is_plain(path: str) -> bool:
    """Whether Chroma takes `path` as a key: it keeps some beginnings for itself, and we one key."""
    return bool(path) and path != WHOLE and not path.startswith(("$", "#", "chroma:"))
