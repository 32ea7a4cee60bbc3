"""A config back to YAML, as it was written: variables by name, secrets never."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from rag_app.config.model import KIND_OF_SECTION
from rag_app.config.nodes import Branch, Items, Leaf, Origin, resolve, to_written, walk, write_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag_app.config.load import Written
    from rag_app.config.model import AppConfig
    from rag_app.config.nodes import Node, Steps

_PLAIN: Final = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)


def write_plain(written: Written, config: AppConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """The config as plain values, and the absolute form of each relative path, by the option.

    A secret that was given in Python becomes the name of a variable.
    """
    paths: dict[str, str] = {}
    root = _hide(written.root, ())
    assert isinstance(root, Branch)
    for steps, leaf in walk(root):
        base = _find_folder(written, leaf)
        if leaf.text and _is_path(_find_value(config, steps), leaf, base):
            paths[write_path(steps)] = os.path.join(base, leaf.text)
    plain = to_written(root)
    return {"name": config.name, **plain}, paths


def dump(
    tree: Mapping[str, Any], comments: Mapping[str, str], paths: Mapping[str, str], folder: Path
) -> str:
    """YAML that reads as `tree`, with a comment behind each option of `comments`.

    Args:
        paths: options that hold a path, and where it leads; written as it lies from `folder`.
    """
    return "".join(f"{line}\n" for line in _Lines(comments, paths, folder).mapping(tree, ""))


class _Lines:
    def __init__(self, comments: Mapping[str, str], paths: Mapping[str, str], folder: Path) -> None:
        self._comments, self._paths, self._folder = comments, paths, folder

    def mapping(self, tree: Mapping[str, Any], at: str) -> Iterator[str]:
        for key, value in tree.items():
            path = f"{at}.{key}".lstrip(".")
            comment = " ".join(self._comments.get(path, "").split())
            end = f"  # {comment}" if comment else ""
            if isinstance(value, dict) and value:
                yield f"{_scalar(key)}:{end}"
                yield from (f"  {line}" for line in self.mapping(value, path))
            elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
                yield f"{_scalar(key)}:{end}"
                yield from (f"  {line}" for line in self._items(value, path))
            else:
                yield f"{_scalar(key)}: {self._value(value, path)}{end}"

    def _items(self, items: list[Any], at: str) -> Iterator[str]:
        for place, item in enumerate(items):
            path = f"{at}[{place}]"
            if isinstance(item, dict) and item:
                lines = list(self.mapping(item, path))
                yield from (f"{'  ' if n else '- '}{line}" for n, line in enumerate(lines))
            else:
                yield f"- {self._value(item, path)}"

    def _value(self, value: Any, path: str) -> str:
        if isinstance(value, dict):
            return "{}"
        if isinstance(value, list):
            return f"[{', '.join(self._value(v, f'{path}[{n}]') for n, v in enumerate(value))}]"
        if (lies := self._paths.get(path)) is not None:
            return _scalar(Path(os.path.relpath(lies, self._folder)).as_posix())
        return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' * (value < 0)}.inf"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and resolve(text) == text:
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf)
    return quoted.rstrip("\n")


def _hide(node: Node, at: Steps) -> Node:
    """The node with variables' names in the place of secrets that were given in Python."""
    if isinstance(node, Items):
        return Items([_hide(item, (*at, n)) for n, item in enumerate(node.items)], node.place)
    if isinstance(node, Branch):
        entries = {key: _hide(entry, (*at, key)) for key, entry in node.entries.items()}
        return Branch(entries, node.keys, node.place)
    if not node.hidden or node.variables or node.value is None:
        return node
    if node.place.origin is not Origin.PYTHON:
        return node
    name = re.sub(r"\W+", "_", write_path(at)).strip("_").upper()
    return Leaf(f"${{{name}}}", f"${{{name}}}", node.place)


def _find_folder(written: Written, leaf: Leaf) -> str:
    """Where a relative path starts: of an override, the current folder."""
    moved = leaf.place.origin is not Origin.FILE and leaf.place != written.root.place
    return str(Path.cwd() if moved else written.folder)


def _find_value(config: AppConfig, steps: Steps) -> Any:
    """The validated value of the option at `steps`; None where it is no option of a backend."""
    first, *rest = steps
    found: Any = None
    if first == "sources" and rest:
        found = config.sources[int(rest.pop(0))].options
    elif first == "index":
        found = config.index
    elif first in KIND_OF_SECTION and (section := getattr(config, str(first))) is not None:
        found = section.options
    for step in rest:
        if isinstance(step, int) and isinstance(found, list | tuple):
            found = found[step]
        else:
            found = found.get(step) if isinstance(found, dict) else getattr(found, str(step), None)
    return found if rest else None


def _is_path(value: Any, leaf: Leaf, base: str) -> bool:
    """Whether the option is a path that was written as it lies from `base`."""
    given = os.path.expanduser(str(leaf.value))
    if os.path.isabs(given):
        return False
    moved = isinstance(value, str) and value != leaf.value and Path(value) == Path(base, given)
    return isinstance(value, Path) or moved
