"""Filters and metadata in PostgreSQL's terms, exactly as `rag_app.filters.matches` defines them.

Each row keeps its metadata as JSON text, which comes back as it went in, and again as JSONB, which
is what conditions look at. JSONB compares numbers by value and objects whatever the order of their
keys, as we do; two things it cannot hold are written otherwise: U+0000 is escaped, and a float from
2**53 on is the integer it stands for (its shortest form may name another one).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import StoreError
from rag_app.filters import And, Compare, Contains, Exists, In, Not, Or
from rag_app.json_values import MAX_DEPTH
from rag_app.vector_stores._pgvector_wire import JSONB, Encoded, encode_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.filters import Node

EXACT: Final = 2**53
"""Floats below this size are written as they print; others are integers, and written in full."""

_ESCAPES: Final = {
    chr(code): f"\x01{end}"
    for code, end in enumerate(["\x02\x02", "\x02\x03", "\x03\x02", "\x03\x03"])
}
"""U+0001 begins an escape and nothing else, U+0002 and U+0003 only end one: so escaped texts have
the order of the plain ones, and contain the same parts."""

_ESCAPED: Final = re.compile("[\x00-\x03]")
_PLAIN: Final = {escape: plain for plain, escape in _ESCAPES.items()}

_ORDERINGS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def escape(text: str) -> str:
    """`text` without U+0000, which PostgreSQL's texts cannot hold."""
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


def unescape(text: str) -> str:
    """The text that `escape` was given."""
    if "\x01" not in text:
        return text
    return re.sub("\x01..", lambda found: _PLAIN[found[0]], text, flags=re.DOTALL)


def dump(metadata: Mapping[str, Any], id: str) -> tuple[str, str]:
    """The metadata of `id` as JSON text to be read back, and as the text of what filters look at.

    Raises:
        StoreError: it holds an integer of more digits than Python writes.
    """
    try:
        whole = _dump(metadata)
        if "\\u000" in whole or "e+" in whole:
            return whole, _dump(_to_comparable(metadata))
    except ValueError as error:
        raise StoreError(
            "vector_store.pgvector",
            f"the metadata of {id!r} cannot be written as JSON: {error}",
            "Give such a number as a text.",
        ) from error
    return whole, whole


class Condition:
    """A filter as SQL.

    Attributes:
        sql: a condition on the JSONB column `fields`, never NULL; with psycopg's placeholders.
        values: what to bind to them.
    """

    def __init__(self, node: Node) -> None:
        self.values: dict[str, Any] = {}
        self._names: dict[tuple[str, str], str] = {}
        self.sql = self._render(node)

    def _render(self, node: Node) -> str:
        match node:
            case And(nodes):
                return self._join(" AND ", nodes, "true")
            case Or(nodes):
                return self._join(" OR ", nodes, "false")
            case Not(inner):
                return f"(NOT {self._render(inner)})"
        return f"coalesce({self._render_field(node)}, false)"

    def _join(self, word: str, nodes: Sequence[Node], empty: str) -> str:
        return f"({word.join(map(self._render, nodes))})" if nodes else empty

    def _render_field(self, node: In | Compare | Contains | Exists) -> str:
        field = self._find(node.field)
        match node:
            case In(_, values):
                wanted = [b"\x01" + _to_json(value).encode() for value in values]
                name = self._bind(Encoded(encode_array(JSONB, wanted)))
                return f"coalesce({field}, 'null'::jsonb) = ANY({name}::jsonb[])"
            case Compare(_, operator, value):
                return self._compare(field, _ORDERINGS[operator], value)
            case Contains(_, value):
                return self._contain(field, value)
        return f"{field} IS NOT NULL"

    def _compare(self, field: str, operator: str, value: float | str) -> str:
        if isinstance(value, str):
            bound = f'{self._bind_text(value)} COLLATE "C"'
            order = f"({field} #>> '{{}}') COLLATE \"C\" {operator} {bound}"
            return f"(jsonb_typeof({field}) = 'string' AND {order})"
        bound = f"{self._bind_text(_to_json(value), escaped=True)}::jsonb"
        return f"(jsonb_typeof({field}) = 'number' AND {field} {operator} {bound})"

    def _contain(self, field: str, value: Any) -> str:
        part = f"{self._bind_text(_to_json(value), escaped=True)}::jsonb"
        listed = (
            f"CASE WHEN jsonb_typeof({field}) = 'array' THEN EXISTS "
            f"(SELECT FROM jsonb_array_elements({field}) AS each(item) WHERE item = {part}) END"
        )
        if not isinstance(value, str):
            return listed
        found = f"strpos(({field} #>> '{{}}') COLLATE \"C\", {self._bind_text(value)}) > 0"
        return f"coalesce({listed}, jsonb_typeof({field}) = 'string' AND {found})"

    def _find(self, path: str) -> str:
        """The field's value, NULL when missing: a key with dots wins over a path through objects.

        `->` with a text enters objects only, and JSON's null is not NULL to it.
        """
        parts = path.split(".")
        ways = []
        for depth in range(min(len(parts), MAX_DEPTH + 1)):
            steps = [*parts[:depth], ".".join(parts[depth:])]
            ways.append("fields" + "".join(f" -> {self._bind_text(step)}" for step in steps))
        return f"coalesce({', '.join(ways)})" if len(ways) > 1 else f"({ways[0]})"

    def _bind_text(self, text: str, *, escaped: bool = False) -> str:
        text = text if escaped else escape(text)
        if ("text", text) not in self._names:
            self._names["text", text] = self._bind(text)
        return f"{self._names['text', text]}::text"

    def _bind(self, value: Any) -> str:
        name = f"filter{len(self.values)}"
        self.values[name] = value
        return f"%({name})s"


def _to_json(value: Any) -> str:
    return _dump(_to_comparable(value))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _to_comparable(value: Any) -> Any:
    """`value` as JSONB is to hold it."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, float):
        return value if abs(value) < EXACT else int(value)
    if isinstance(value, list):
        return list(map(_to_comparable, value))
    if isinstance(value, dict):
        return {escape(key): _to_comparable(item) for key, item in value.items()}
    return value
