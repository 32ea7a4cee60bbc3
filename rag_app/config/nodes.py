"""A config as written: values that know their place in the file, and the problems found in them.

Knows nothing of sections or backends: `yaml_reader` makes these from text, `load` turns them into
options.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from rag_app.config.secret_shapes import looks_like_secret
from rag_app.errors import ConfigError, Problem

Steps: TypeAlias = tuple[str | int, ...]
"""The way to a value: `("sources", 1, "include", 0)` is `sources[1].include[0]`."""

DEEPEST = 50


class Origin(Enum):
    """Who wrote a value."""

    FILE = "file"
    COMMAND_LINE = "--set"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: a file with line and column from 1, or the name of an override."""

    name: str
    line: int = 0
    column: int = 0
    order: int = 0
    origin: Origin = Origin.FILE

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(slots=True)
class Leaf:
    """One value.

    Attributes:
        text: as written, `${VARIABLE}` and all.
        broken: a problem was already reported; nothing more is said about it.
        hidden: its text must not be shown.
        variables: it came, in whole or in part, from environment variables.
        expanded: its variables are put in; what they held is not looked at again.
    """

    value: Any
    text: str
    place: Place
    broken: bool = False
    hidden: bool = False
    variables: bool = False
    expanded: bool = False


@dataclass(slots=True)
class Items:
    """A list."""

    items: list[Node]
    place: Place
    broken: bool = False


@dataclass(slots=True)
class Branch:
    """A mapping; `keys` has the place of each key."""

    entries: dict[str, Node]
    keys: dict[str, Place]
    place: Place
    broken: bool = False


Node: TypeAlias = Leaf | Items | Branch


@dataclass
class Problems:
    """The problems found so far. Raised together, in the order of the file."""

    found: list[tuple[Place, Problem]] = field(default_factory=list)

    def add(self, place: Place, steps: Steps, wrong: str, remedy: str) -> None:
        """Note one problem at `place`."""
        self.found.append((place, Problem(str(place), write_path(steps), wrong, remedy)))

    def raise_any(self) -> None:
        """Raise a ConfigError with all problems, each once, if there are any."""
        if self.found:
            once = dict.fromkeys(self.found)  # what several variants share is one problem
            ordered = sorted(once, key=lambda f: (f[0].order, f[0].line, f[0].column))
            raise ConfigError([problem for _, problem in ordered])


def write_path(steps: Steps) -> str:
    """`("sources", 1, "path")` as a user writes it: `sources[1].path`."""
    text = "".join(f"[{s}]" if isinstance(s, int) else f".{show_word(s)}" for s in steps)
    return text.removeprefix(".")


def show_word(word: str) -> str:
    """A key as written, cut when long, and not at all when it looks like a secret."""
    if looks_like_secret(word):
        return "(not shown)"
    printable = "".join(c if c.isprintable() else "?" for c in word)
    return printable if len(printable) <= 60 else f"{printable[:57]}..."


def show(node: Node) -> str:
    """The value for a message, as written: never a secret, never what a variable holds."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Branch):
        return "a mapping"
    if node.hidden or looks_like_secret(node.text):
        return "the value (not shown)"
    if node.value is None:
        return "nothing"
    text = show_word(node.text)
    return f"'{text}'" if isinstance(node.value, str) else text


def from_python(value: Any, place: Place, depth: int = 0) -> Node:
    """The node of a Python value.

    Raises:
        RecursionError: it is nested more than `DEEPEST` levels deep.
    """
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, Mapping):
        entries = {str(k): from_python(v, place, depth + 1) for k, v in value.items()}
        return Branch(entries, dict.fromkeys(entries, place), place)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Items([from_python(item, place, depth + 1) for item in value], place)
    return Leaf(value, value if isinstance(value, str) else str(value), place)


def to_python(node: Node) -> Any:
    """The plain value of a node."""
    if isinstance(node, Leaf):
        return node.value
    if isinstance(node, Items):
        return [to_python(item) for item in node.items]
    return {key: to_python(entry) for key, entry in node.entries.items()}


def to_written(node: Node) -> Any:
    """The plain value of a node, text as written: variables by their names."""
    if isinstance(node, Leaf):
        plain = node.value is None or isinstance(node.value, int | float)
        return node.value if plain else node.text
    if isinstance(node, Items):
        return [to_written(item) for item in node.items]
    return {key: to_written(entry) for key, entry in node.entries.items()}


def find(node: Node | None, steps: Steps) -> Node | None:
    """The node at `steps` below `node`; None when there is none."""
    for step in steps:
        if isinstance(node, Branch) and isinstance(step, str):
            node = node.entries.get(step)
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node


def walk(node: Node, steps: Steps = ()) -> Iterator[tuple[Steps, Leaf]]:
    """Every leaf below `node`, with the way to it."""
    if isinstance(node, Leaf):
        yield steps, node
    elif isinstance(node, Items):
        for i, item in enumerate(node.items):
            yield from walk(item, (*steps, i))
    else:
        for key, entry in node.entries.items():
            yield from walk(entry, (*steps, key))


_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_OCTAL_HEX = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {"": None, "~": None} | {
    form: value
    for word, value in {
        "null": None,
        "true": True,
        "false": False,
        ".inf": math.inf,
        "-.inf": -math.inf,
        ".nan": math.nan,
    }.items()
    for form in (word, word.capitalize(), word.upper())
}


def resolve(text: str) -> Any:
    """The value of an unquoted scalar by YAML 1.2's core schema.

    `no`, `on` and `12:30` are text there; so is `007` here, which a number would lose the zeros of.
    """
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 40:
        return text
    if _INT.match(text):
        return int(text)
    if _OCTAL_HEX.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text
