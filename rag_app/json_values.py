"""JSON values: which Python values are some, and when two of them are the same.

Same means the same everywhere: numbers by value (1 is 1.0), `true` is not 1, objects whatever the
order of their keys.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

MAX_DEPTH: Final = 64
"""Levels of lists and objects that a value may have."""


def find_non_json(value: Any, path: str = "", depth: int = 0) -> tuple[str, str] | None:
    """The first place in `value` that JSON cannot hold, as (path, what is wrong there), or None.

    Refused: types other than dict, list, str, int, float, bool and None; NaN and infinities; keys
    that are not strings; strings with lone surrogates, which UTF-8 cannot hold; more than
    `MAX_DEPTH` levels.
    """
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, f"{value} is not a JSON number")
    if isinstance(value, str):
        return None if is_unicode(value) else (path, "holds half of a character (a lone surrogate)")
    if depth >= MAX_DEPTH:
        return path, f"is nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, list):
        return _first_in_list(value, path, depth)
    if isinstance(value, dict):
        return _first_in_object(value, path, depth)
    return path, f"{_shorten(value)} is of type {type(value).__name__}, which JSON does not have"


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def equality_key(value: Any) -> Hashable:
    """A hashable stand-in: two JSON values are the same exactly when their keys are equal."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, list):
        return ("list", tuple(map(equality_key, value)))
    if isinstance(value, dict):
        return ("object", frozenset((key, equality_key(item)) for key, item in value.items()))
    return value if value is None else ("string", value)


def equality_text(value: Any) -> str:
    """As `equality_key`, in a text: two JSON values share it exactly when they are the same."""
    if isinstance(value, str):
        return f"s{value}"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)):
        return f"{int(value):x}" if value == int(value) else float(value).hex()
    if isinstance(value, list):
        return "l" + _list_texts(map(equality_text, value))
    pairs = sorted((key, equality_text(item)) for key, item in value.items())
    return "o" + _list_texts(part for pair in pairs for part in pair)


def _list_texts(parts: Iterable[str]) -> str:
    """Each after its length, so that no other texts give the same."""
    return "".join(f"{len(part)}:{part}" for part in parts)


def _first_in_list(value: list[Any], path: str, depth: int) -> tuple[str, str] | None:
    for position, item in enumerate(value):
        if found := find_non_json(item, f"{path}[{position}]", depth + 1):
            return found
    return None


def _first_in_object(value: dict[Any, Any], path: str, depth: int) -> tuple[str, str] | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return path, f"the key {_shorten(key)} is a {type(key).__name__}, not a string"
        if not is_unicode(key):
            return path, f"the key {key!r} holds half of a character (a lone surrogate)"
        if found := find_non_json(item, f"{path}.{key}" if path else key, depth + 1):
            return found
    return None


def _shorten(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}…"
