"""Search dimensions of a config: a list where one value belongs, or a range of numbers.

Which values are one is told by the type of the option: where it takes a list, a list is its value,
and a list of lists is a dimension. Works on nodes, so that every value keeps its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args, get_origin

from pydantic import BaseModel

from rag_app import registry
from rag_app.config.labels import NOT_SHOWN, tell_apart
from rag_app.config.model import KIND_OF_SECTION
from rag_app.config.nodes import Branch, Items, Leaf, Node, Place, Steps, to_written, write_path
from rag_app.config.ranges import Range, is_range, read_range
from rag_app.config.secrets import takes_secret
from rag_app.errors import UsageError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from rag_app.config.nodes import Problems

_LISTS: Final = (list, tuple, set, frozenset, Sequence)
_MAPPINGS: Final = (dict, Mapping)


@dataclass(frozen=True, slots=True)
class Dimension:
    """What may take several values.

    Attributes:
        path: as `retriever.k`, the way to the value in the config of one choice.
        key: as `retriever[1].k`: with the places of candidates, no two dimensions have the same.
        candidates: empty for a range that has no end of numbers.
        labels: a short name of each candidate, no two alike.
        numbers: the candidates are numbers in ascending order.
    """

    path: str
    key: str
    place: Place
    candidates: tuple[Node, ...]
    labels: tuple[str, ...]
    range: Range | None = None
    numbers: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What a dimension was given: `value` as JSON, `label` its short name."""

    dimension: Dimension
    value: Any
    label: str


Choose: TypeAlias = Callable[[Dimension], int | float]
"""Decides: the place of a candidate, or a number of the range where there are no candidates."""


@dataclass(frozen=True, slots=True)
class _At:
    """The way to a value: in the config of one choice, and with the places of candidates."""

    path: Steps
    key: Steps

    def enter(self, step: str | int) -> _At:
        return _At((*self.path, step), (*self.key, step))

    def pick(self, place: int) -> _At:
        return _At(self.path, (*self.key, place))


class Choosing:
    """One way through a config: each dimension gives way to what `choose` says.

    Dimensions are met in the order of the pipeline, those inside a candidate after it.
    """

    def __init__(self, choose: Choose, problems: Problems) -> None:
        self._choose, self._problems = choose, problems
        self.choices: list[Choice] = []

    def root(self, root: Branch) -> Branch:
        """The config without dimensions; nodes are shared with `root` where they have none."""
        entries = dict(root.entries)
        if "sources" in entries:
            entries["sources"] = self._sources(entries["sources"], _At(("sources",), ("sources",)))
        for name, kind in KIND_OF_SECTION.items():
            if name in entries:
                entries[name] = self._section(entries[name], kind, _At((name,), (name,)))
        return Branch(entries, root.keys, root.place, root.broken)

    def _sources(self, node: Node, at: _At) -> Node:
        if not isinstance(node, Items):
            return node
        if _is_list_of_lists(node):
            node, at = self._decide(node, at, secret=False)
        if not isinstance(node, Items):
            return node
        items = [self._section(n, "loaders", at.enter(i)) for i, n in enumerate(node.items)]
        return Items(items, node.place, node.broken)

    def _section(self, node: Node, kind: str, at: _At) -> Node:
        if isinstance(node, Items):
            node, at = self._decide(node, at, secret=False)
        if not isinstance(node, Branch):
            return node
        entries = dict(node.entries)
        if isinstance(named := entries.get("kind"), Items):
            entries["kind"], _ = self._decide(named, at.enter("kind"), secret=False)
        node = Branch(entries, node.keys, node.place, node.broken)
        model = _find_model(kind, entries.get("kind"))
        return node if model is None else self._options(node, model, at)

    def _options(self, branch: Branch, model: type[BaseModel], at: _At) -> Branch:
        entries = dict(branch.entries)
        for name, node in entries.items():
            if (field := model.model_fields.get(name)) is not None:
                entries[name] = self._value(node, field, at.enter(name))
        return Branch(entries, branch.keys, branch.place, branch.broken)

    def _value(self, node: Node, field: FieldInfo, at: _At) -> Node:
        parts = _parts(field.annotation)
        if isinstance(node, Items) and (not _takes(parts, _LISTS) or _is_list_of_lists(node)):
            node, at = self._decide(node, at, secret=takes_secret(field))
        if not isinstance(node, Branch) or _takes(parts, _MAPPINGS):
            return node
        nested = next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)
        if nested is not None:
            return self._options(node, nested, at)
        if is_range(node) and parts & {int, float}:
            return self._number(node, at, whole=float not in parts)
        return node

    def _number(self, node: Branch, at: _At, *, whole: bool) -> Node:
        found = read_range(node, at.path, whole=whole, problems=self._problems)
        if found is None:
            return Leaf(None, "", node.place, broken=True)
        numbers = found.numbers
        leaves = tuple(Leaf(n, str(n), node.place) for n in numbers)
        dimension = Dimension(
            write_path(at.path),
            write_path(at.key),
            node.place,
            leaves,
            tuple(map(str, numbers)),
            found,
            numbers=True,
        )
        chosen = self._choose(dimension)
        number = numbers[int(chosen)] if numbers else found.clip(chosen)
        self.choices.append(Choice(dimension, number, str(number)))
        return Leaf(number, str(number), node.place)

    def _decide(self, node: Items, at: _At, *, secret: bool) -> tuple[Node, _At]:
        """The candidate chosen of a list; the list's end is a problem when it has none."""
        if not node.items or node.broken:
            wrong = "an empty list where one value belongs"
            if not node.broken:
                self._problems.add(node.place, at.path, wrong, "Give at least one value to try.")
            return Leaf(None, "", node.place, broken=True), at
        labels = tell_apart(node.items, secret=secret)
        self._refuse_twice(node, at)
        values = [to_written(item) for item in node.items]
        dimension = Dimension(
            write_path(at.path),
            write_path(at.key),
            node.place,
            tuple(node.items),
            labels,
            numbers=all(_is_number(v) for v in values) and values == sorted(values),
        )
        place = int(self._choose(dimension))
        chosen, label = node.items[place], labels[place]
        plain = not secret and not isinstance(chosen, Branch) and NOT_SHOWN not in label
        self.choices.append(Choice(dimension, values[place] if plain else label, label))
        return chosen, at.pick(place)

    def _refuse_twice(self, node: Items, at: _At) -> None:
        values = [to_written(item) for item in node.items]
        for place, (item, value) in enumerate(zip(node.items, values, strict=True)):
            if any(value == v and type(value) is type(v) for v in values[:place]):
                wrong = "the same value a second time"
                self._problems.add(item.place, at.path, wrong, "List each value to try once.")


def _find_model(kind: str, node: Node | None) -> type[BaseModel] | None:
    """The options of the backend that `node` names; None where that is a problem, told later."""
    if not isinstance(node, Leaf) or node.value not in registry.names(kind):
        return None
    try:
        return registry.config_class(kind, str(node.value))
    except UsageError:  # the package is missing, which reading the section tells in full
        return None


def _parts(annotation: Any) -> set[Any]:
    """The types that a value may have: the members of a union, each without what annotates it."""
    if hasattr(annotation, "__metadata__"):
        return _parts(annotation.__origin__)
    origin = get_origin(annotation)
    if origin is None or isinstance(origin, type) and issubclass(origin, (*_LISTS, *_MAPPINGS)):
        return {origin or annotation}
    members = get_args(annotation)
    if all(isinstance(member, str | int) for member in members):
        return {type(member) for member in members}
    return {part for member in members for part in _parts(member)}


def _takes(parts: set[Any], containers: tuple[Any, ...]) -> bool:
    """Whether a value of one of the types may be such a container."""
    return Any in parts or object in parts or bool(parts & set(containers))


def _is_list_of_lists(node: Items) -> bool:
    """Whether a list stands for several lists; beside them `null` may stand for none."""
    lists = [isinstance(item, Items) for item in node.items]
    others = [item for item in node.items if not isinstance(item, Items)]
    return any(lists) and all(isinstance(o, Leaf) and o.value is None for o in others)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
