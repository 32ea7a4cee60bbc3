"""Overrides: `--set retriever.k=12` on the command line, `{"retriever.k": 12}` in Python.

Each replaces the value at its path. `retriever=dense` replaces the section, its former options
included; `retriever.kind=dense` keeps them. Where a section is a list of backends to compare, an
option is set in each of them, and `retriever[1].k=12` sets it in one. Paths in an override start at
the current folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rag_app.config.nodes import (
    Branch,
    Items,
    Leaf,
    Node,
    Origin,
    Place,
    Problems,
    Steps,
    from_python,
    resolve,
    show,
    show_word,
    write_path,
)
from rag_app.config.yaml_reader import read_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATH: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+|\[\d{1,4}\])*\Z")
_STEP: Final = re.compile(r"\[(\d+)\]|([\w-]+)")


def apply_overrides(
    root: Branch,
    overrides: Mapping[str, Any] | Sequence[str],
    kinds: Mapping[str, str | None],
    problems: Problems,
) -> None:
    """Put each override into `root`, in order.

    Args:
        kinds: each section that names a backend, with the `kind` it has when it is left out.
    """
    pairs = _read_python(overrides, problems) if isinstance(overrides, Mapping) else None
    for steps, node in _read_lines(overrides, problems) if pairs is None else pairs:
        _put(root, steps, node, kinds, problems)


def _read_python(given: Mapping[str, Any], problems: Problems) -> list[tuple[Steps, Node]]:
    found = []
    for order, (path, value) in enumerate(given.items(), 1):
        place = Place("overrides", order=order, origin=Origin.PYTHON)
        steps = _read_path(str(path), place, problems)
        try:
            node = from_python(value, place)
        except RecursionError:
            problems.add(place, steps or (), "nested too deep", "A config needs four levels.")
            continue
        if steps is not None:
            found.append((steps, node))
    return found


def _read_lines(given: Any, problems: Problems) -> list[tuple[Steps, Node]]:
    found = []
    for order, line in enumerate(given, 1):
        path, equals, text = str(line).partition("=")
        place = Place(f"--set {show_word(path)}", order=order, origin=Origin.COMMAND_LINE)
        if not equals:
            problems.add(place, (), "has no `=`", "Write --set option=value, as in retriever.k=12.")
            continue
        steps = _read_path(path.strip(), place, problems)
        node = _read_value(text, place, problems)
        if steps is not None and node is not None:
            found.append((steps, node))
    return found


def _read_value(text: str, place: Place, problems: Problems) -> Node | None:
    """Lists in brackets, mappings in braces and text in quotes are YAML; all else is one value."""
    text = text.strip()
    if text[:1] not in {"[", "{", '"', "'"}:
        return Leaf(resolve(text), text, place)
    inner = Problems()
    node = read_yaml(text, place.name, inner, origin=place.origin, order=place.order)
    for _, problem in inner.found:
        problems.add(place, (), problem.wrong, problem.remedy)
    if node is not None:
        _move(node, place)
    return node


def _move(node: Node, place: Place) -> None:
    node.place = place
    if isinstance(node, Branch):
        node.keys = dict.fromkeys(node.keys, place)
    if not isinstance(node, Leaf):
        for inner in node.items if isinstance(node, Items) else node.entries.values():
            _move(inner, place)


def _read_path(path: str, place: Place, problems: Problems) -> Steps | None:
    if not _PATH.match(path):
        wrong = f"'{show_word(path)}' is not the path of an option"
        problems.add(place, (), wrong, "Write it like retriever.k or sources[0].path.")
        return None
    return tuple(int(i) if i else word for i, word in _STEP.findall(path))


def _put(
    root: Branch, steps: Steps, node: Node, kinds: Mapping[str, str | None], problems: Problems
) -> None:
    given = root.entries.get(str(steps[0])) if steps[0] in kinds else None
    if isinstance(given, Items) and len(steps) > 1 and isinstance(steps[1], str):
        for place in _find_candidates(given):
            _put(root, (steps[0], place, *steps[1:]), node, kinds, problems)
        return
    current: Node = root
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(current, Branch) and isinstance(step, str):
            current = _enter(current, step, node, last, kinds if depth == 0 else {})
        elif isinstance(current, Items) and isinstance(step, int) and step <= len(current.items):
            current = _enter_item(current, step, node, last)
        else:
            wrong, remedy = _explain(current, steps[:depth], step)
            problems.add(node.place, steps, wrong, remedy)
            return


def _find_candidates(items: Items) -> list[int]:
    """Where backends stand in a search dimension, short forms made long; `none` has no options."""
    for place, item in enumerate(items.items):
        if isinstance(item, Leaf) and isinstance(item.value, str) and item.value != "none":
            items.items[place] = Branch({"kind": item}, {"kind": item.place}, item.place)
    return [place for place, item in enumerate(items.items) if isinstance(item, Branch)]


def _explain(current: Node, above: Steps, step: str | int) -> tuple[str, str]:
    where = write_path(above)
    if isinstance(current, Items):
        count = len(current.items)
        remedy = f"Choose one by number, {where}[0] to {where}[{count - 1}]; [{count}] adds one."
        return f"'{where}' is a list of {count}", remedy
    if isinstance(current, Branch):
        return f"'{where}' is no list", f"Name one of its options instead of [{step}]."
    return f"'{where}' is {show(current)}, which has no options", f"Set {where} itself."


def _enter(
    branch: Branch, key: str, node: Node, last: bool, kinds: Mapping[str, str | None]
) -> Node:
    if last:
        branch.entries[key] = node
        branch.keys[key] = node.place
        return node
    inner = branch.entries.get(key)
    if inner is None or (isinstance(inner, Leaf) and inner.value is None):
        inner = _kind_only(kinds.get(key), node.place)
        branch.keys.setdefault(key, node.place)
    elif key in kinds and isinstance(inner, Leaf) and isinstance(inner.value, str):
        short, inner = inner, Branch({}, {}, inner.place)
        if short.value != "none":
            inner.entries["kind"], inner.keys["kind"] = short, short.place
    branch.entries[key] = inner
    return inner


def _enter_item(items: Items, index: int, node: Node, last: bool) -> Node:
    if index == len(items.items):
        items.items.append(node if last else Branch({}, {}, node.place))
    elif last:
        items.items[index] = node
    return items.items[index]


def _kind_only(kind: str | None, place: Place) -> Branch:
    if kind is None:
        return Branch({}, {}, place)
    return Branch({"kind": Leaf(kind, kind, place)}, {"kind": place}, place)
