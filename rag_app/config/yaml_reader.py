"""YAML text -> nodes with places. A config is plain data: one document, no tags, no anchors.

Every such thing is a problem of its own, so that one reading names them all; only broken syntax
ends it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import yaml

from rag_app.config.nodes import (
    DEEPEST,
    Branch,
    Items,
    Leaf,
    Node,
    Origin,
    Place,
    Problems,
    Steps,
    resolve,
    show_word,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_FILE: Final = 1 << 20  # bytes
MOST_VALUES: Final = 10_000

_REFERENCE: Final = re.compile(r"(\$\$?)\{([A-Za-z_]\w*(?::-[^{}\n]*)?)\}")
_COLLECTION: Final = re.compile(r"while parsing a flow|while scanning a (double-)?quoted")


def read_yaml(
    text: str, name: str, problems: Problems, *, origin: Origin = Origin.FILE, order: int = 0
) -> Node | None:
    """The nodes of `text`, or None when it is empty.

    Args:
        text: the YAML.
        name: what to call it in problems: the file's name, or the override.
        problems: where problems are noted. Broken syntax, too deep or too many values end the
            reading.
    """
    reader = _Reader(text, name, problems, origin, order)
    try:
        return reader.read()
    except yaml.MarkedYAMLError as error:
        problems.add(*_explain_syntax(error, reader))
    except yaml.reader.ReaderError as error:
        place = reader.place_at(error.position)
        wrong = f"the character U+{error.character:04X} is not allowed in YAML"
        problems.add(place, (), wrong, "Remove it; save the file as UTF-8 text.")
    except ValueError as error:  # PyYAML on numbers in escapes and directives that are out of range
        problems.add(Place(name, 1, 1, order, origin), (), "this is not YAML", _first_line(error))
    except _Enough:  # what was wrong is noted already
        return None
    return None


class _Enough(Exception):  # noqa: N818 - ends the reading, is no error
    """The reading ends here; its problem is noted."""


class _Reader:
    def __init__(
        self, text: str, name: str, problems: Problems, origin: Origin, order: int
    ) -> None:
        self.text, self.name, self.problems = text, name, problems
        self._origin, self._order = origin, order
        self._count = 0
        self._braces = _unused_characters(text)
        self._events: Iterator[yaml.Event] = iter(())

    def read(self) -> Node | None:
        opening, closing = self._braces
        # A plain scalar inside { } or [ ] ends at a brace; not so at the braces of a reference.
        text = _REFERENCE.sub(rf"\1{opening}\2{closing}", self.text)
        self._events = yaml.parse(text, Loader=yaml.SafeLoader)
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                wrong = "a second document begins here"
                self._stop(event, (), wrong, "A config is one document: remove the `---`.")
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, (), 0)
        return root

    def place(self, mark: Any) -> Place:
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return Place(self.name, line, column, self._order, self._origin)

    def place_at(self, position: int) -> Place:
        before = self.text[:position]
        column = position - (before.rfind("\n") + 1) + 1
        return Place(self.name, before.count("\n") + 1, column, self._order, self._origin)

    def _node(self, event: yaml.Event, steps: Steps, depth: int) -> Node:
        self._count += 1
        if depth > DEEPEST:
            remedy = "A config needs four levels at most."
            self._stop(event, (), f"nested more than {DEEPEST} levels deep", remedy)
        if self._count > MOST_VALUES:
            self._stop(event, (), f"more than {MOST_VALUES:,} values", "Shorten the config.")
        broken = self._refuse_properties(event, steps)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._items(event, steps, depth, broken)
        if isinstance(event, yaml.MappingStartEvent):
            return self._branch(event, steps, depth, broken)
        return self._leaf(event, broken)

    def _leaf(self, event: yaml.Event, broken: bool) -> Leaf:
        place = self.place(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):  # an alias
            return Leaf(None, "", place, broken=True)
        text = self._restore(event.value)
        return Leaf(resolve(text) if event.style is None else text, text, place, broken)

    def _items(self, event: yaml.Event, steps: Steps, depth: int, broken: bool) -> Items:
        items: list[Node] = []
        for inner in self._events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(self._node(inner, (*steps, len(items)), depth + 1))
        return Items(items, self.place(event.start_mark), broken)

    def _branch(self, event: yaml.Event, steps: Steps, depth: int, broken: bool) -> Branch:
        branch = Branch({}, {}, self.place(event.start_mark), broken)
        for key_event in self._events:
            if isinstance(key_event, yaml.MappingEndEvent):
                break
            key, place = self._key(key_event, steps, branch), self.place(key_event.start_mark)
            inner = (*steps, key) if key is not None else steps
            entry = self._node(next(self._events), inner, depth + 1)
            if key is not None:
                branch.entries[key], branch.keys[key] = entry, place
        return branch

    def _key(self, event: yaml.Event, steps: Steps, branch: Branch) -> str | None:
        place = self.place(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, steps, len(steps) + 1)
            if not isinstance(event, yaml.AliasEvent):
                self.problems.add(place, steps, "a key must be one word", "Write `name: value`.")
            return None
        key = self._restore(event.value)
        self._refuse_properties(event, (*steps, key))
        if key == "<<" and event.style is None:
            wrong = "merge keys (<<) are not used in a config"
            self.problems.add(place, steps, wrong, "Write the options out.")
            return None
        if key in branch.entries:
            wrong = f"written twice; first on line {branch.keys[key].line}"
            self.problems.add(place, (*steps, key), wrong, "Keep one of the two.")
        return key

    def _refuse_properties(self, event: yaml.Event, steps: Steps) -> bool:
        """Note a tag, an anchor or an alias; True when the value cannot be used."""
        place = self.place(event.start_mark)
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            wrong = f"the alias *{show_word(str(event.anchor))} is not used in a config"
            self.problems.add(place, steps, wrong, "Write the value out.")
        elif tag is not None:
            wrong = f"the tag {show_word(_short_tag(tag))} is not used in a config"
            self.problems.add(place, steps, wrong, "Remove it: a config is plain data.")
        if getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent):
            wrong = f"the anchor &{show_word(str(event.anchor))} is not used in a config"  # type: ignore[attr-defined]
            self.problems.add(place, steps, wrong, "Remove it, and write each value out.")
        return tag is not None or isinstance(event, yaml.AliasEvent)

    def _restore(self, text: str) -> str:
        opening, closing = self._braces
        return text.replace(opening, "{").replace(closing, "}")

    def _stop(self, event: yaml.Event, steps: Steps, wrong: str, remedy: str) -> None:
        self.problems.add(self.place(event.start_mark), steps, wrong, remedy)
        raise _Enough


def _unused_characters(text: str) -> tuple[str, str]:
    used = set(text)
    first, second, *_ = (c for c in map(chr, range(0xE000, 0xF8FF)) if c not in used)
    return first, second


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _explain_syntax(error: yaml.MarkedYAMLError, reader: _Reader) -> tuple[Place, Steps, str, str]:
    """Place, way, words and remedy of a syntax error: PyYAML's words without its quotations."""
    mark, context = error.problem_mark or error.context_mark, error.context or ""
    place, text = reader.place(mark), reader.text
    index = mark.index if mark else 0
    if text[index : index + 1] == "\t" or "'\\t'" in str(error.problem):
        return place, (), "a tab where YAML wants spaces", "Indent with spaces."
    # These two go on with words of the file, which may be a secret.
    problem = re.sub(r"(tag handle|directive) .*", r"\1", _first_line(error.problem or "malformed"))
    if _COLLECTION.match(context):
        quoted = "quoted" in context
        what = "quoted text" if quoted else "list or mapping in brackets"
        wrong = f"the {what} that begins here is not closed or malformed"
        wrong += f", noticed on line {place.line}: {problem}"
        remedy = "End it with the same mark." if quoted else "Close it; put commas between parts."
        return reader.place(error.context_mark), (), wrong, remedy
    if "scanning a simple key" in context:
        return reader.place(error.context_mark), (), "a key without `:`", "Write `name: value`."
    if "mapping values are not allowed" in problem:
        return _explain_colon(place, text)
    return place, (), f"this is not YAML: {problem}", "Check the indentation and the line above."


def _explain_colon(place: Place, text: str) -> tuple[Place, Steps, str, str]:
    above = text.split("\n")[: place.line - 1]
    while above and not above[-1].partition("#")[0].strip():
        above.pop()
    word = above[-1].partition("#")[0].rstrip() if above else ""
    if re.fullmatch(r" *[\w-]+", word):
        column = len(word) - len(word.lstrip()) + 1
        key = replace(place, line=len(above), column=column)
        return key, (), "a key without `:`", "Write `name: value`."
    remedy = "Quote text that holds `: `; check the indentation and the line above."
    return place, (), "a `: ` that begins no option", remedy


def _first_line(words: object) -> str:
    return str(words).partition("\n")[0]
