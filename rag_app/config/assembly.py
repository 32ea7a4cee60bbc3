"""Nodes -> sections: each section's backend chosen and its options validated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from rag_app import registry
from rag_app.config.model import (
    DEFAULT_KINDS,
    KIND_OF_SECTION,
    NAME,
    OPTIONAL,
    AppConfig,
    IndexOptions,
    Section,
)
from rag_app.config.nodes import (
    Branch,
    Items,
    Leaf,
    Origin,
    Place,
    Problems,
    Steps,
    show,
    to_python,
    walk,
)
from rag_app.config.secrets import refuse_secrets, refuse_variables
from rag_app.config.variables import expand
from rag_app.config.warn import find_warnings
from rag_app.config.wording import DIMENSION, report
from rag_app.errors import MissingPackageError, UsageError
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_app.config.nodes import Node
    from rag_app.options import Options

_TOP: Final = ("name", "sources", *KIND_OF_SECTION, "index")
_NO_CHAIN_MODEL: Final = "extractive"


class Assembly:
    """One config in the making: nodes in, sections out, problems noted on the way."""

    def __init__(
        self, root: Branch, folder: Path, environment: Mapping[str, str], problems: Problems
    ) -> None:
        self.root, self.folder, self.problems = root, folder, problems
        self.environment = environment

    def make(self, file: Path | None) -> AppConfig:
        """The config; of no use when there are problems."""
        for key in self.root.entries.keys() - set(_TOP):
            remedy = f"A config has: {', '.join(_TOP)}. {did_you_mean(key, _TOP)}".strip()
            self.problems.add(self.root.keys[key], (key,), "not a section", remedy)
            refuse_secrets(self.root.entries[key], (key,), None, self.problems)
        sections = {name: self._named_section(name) for name in KIND_OF_SECTION}
        for name in ("reranker", "chain"):
            self._check_chat_model(name, sections[name])
        made: dict[str, Any] = {
            "name": self._name(file),
            "sources": self._sources(),
            **sections,
            "index": self._index(),
            "file": file,
            "folder": self.folder,
        }
        if not self.problems.found:
            made["warnings"] = find_warnings(made)
        return AppConfig(**made)

    def _name(self, file: Path | None) -> str:
        node = self.root.entries.get("name")
        remedy = "Use 2 to 41 of a-z, 0-9, - and _, a letter first."
        if node is None:
            return self._name_of(file, remedy)
        self._prepare(node, ("name",), None)
        value = to_python(node)
        if not (isinstance(value, str) and re.fullmatch(NAME, value)) and not node.broken:
            wrong = f"{show(node)} is not a name of an index"
            self.problems.add(node.place, ("name",), wrong, remedy)
        return str(value)

    def _name_of(self, file: Path | None, remedy: str) -> str:
        """The name of an index whose config gives none: the file's."""
        if file is None:
            return "default"
        stem = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")
        for name in (stem, f"index-{stem}"):
            if stem and file.stem.isascii() and re.fullmatch(NAME, name):
                return name
        place = Place(str(file), 1, 1)
        wrong = "is missing, and the file's own name will not do"
        self.problems.add(place, ("name",), wrong, f"Name the index. {remedy}")
        return ""

    def _sources(self) -> tuple[Section | None, ...]:
        node = self.root.entries.get("sources")
        example = "List at least one, as in `- {kind: files, path: docs}`."
        if node is None:
            self.problems.add(self.root.place, ("sources",), "is missing", example)
            return ()
        if isinstance(node, Items) and node.items:
            return tuple(
                self._section(("sources", i), "loaders", item, item.place)
                for i, item in enumerate(node.items)
            )
        if not node.broken:
            what = "an empty list" if isinstance(node, Items) else show(node)
            wrong = f"{what} where a list of sources belongs"
            self.problems.add(node.place, ("sources",), wrong, example)
        return ()

    def _index(self) -> IndexOptions:
        node = self.root.entries.get("index") or Branch({}, {}, self.root.place)
        if not isinstance(node, Branch):
            self._prepare(node, ("index",), None)
            if not node.broken:
                wrong = f"{show(node)} where options belong"
                self.problems.add(node.place, ("index",), wrong, "Write {path: .rag}.")
            return IndexOptions()
        return self._validate(IndexOptions, node, ("index",)) or IndexOptions()

    def _named_section(self, name: str) -> Section | None:
        node, kind = self.root.entries.get(name), KIND_OF_SECTION[name]
        if node is None:
            if name in OPTIONAL:
                return None
            default = self._default_kind(name)
            node = Branch({"kind": Leaf(default, default, self.root.place)}, {}, self.root.place)
        if name in OPTIONAL and _is_none(node):
            return None
        return self._section((name,), kind, node, self._key(name, node))

    def _default_kind(self, name: str) -> str:
        if name == "chain" and _is_none(self.root.entries.get("chat_model")):
            return _NO_CHAIN_MODEL
        return DEFAULT_KINDS[name]

    def _section(self, at: Steps, kind: str, node: Node, key: Place) -> Section | None:
        """The backend that `node` names, short form or long; None with a problem noted."""
        if isinstance(node, Leaf) and isinstance(node.value, str):
            node = Branch({"kind": node}, {"kind": node.place}, node.place)
            chosen, at_kind = self._choose(at, kind, node, at)
        elif isinstance(node, Branch) and "kind" in node.entries:
            chosen, at_kind = self._choose(at, kind, node, (*at, "kind"))
        else:
            self._prepare(node, at, None)
            if not node.broken:
                self._explain_no_kind(at, kind, node, key)
            return None
        if chosen is None:
            return None
        options = self._options(chosen, kind, node, at, at_kind)
        return None if options is None else Section(chosen, options, _variables(node))

    def _choose(
        self, at: Steps, kind: str, branch: Branch, at_kind: Steps
    ) -> tuple[str | None, Steps]:
        """The name of the backend, if there is one of that name."""
        node, allowed = branch.entries["kind"], registry.names(kind)
        self._prepare(node, at_kind, None)
        if node.broken or (isinstance(node, Leaf) and node.value in allowed):
            usable = isinstance(node, Leaf) and not node.broken
            return (str(to_python(node)) if usable else None), at_kind
        if isinstance(node, Items):
            wrong, remedy = DIMENSION, "Give one backend, or run: rag-app compare"
        else:
            listed = [*allowed, "none"] if at[0] in OPTIONAL else allowed
            wrong = f"{show(node)} is not one of {', '.join(sorted(set(listed)))}"
            given = node.text if isinstance(node, Leaf) and not node.variables else ""
            remedy = did_you_mean(given, listed) if given else ""
        self.problems.add(node.place, at_kind, wrong, remedy)
        self._prepare(branch, at, None)
        return None, at_kind

    def _options(
        self, chosen: str, kind: str, branch: Branch, at: Steps, at_kind: Steps
    ) -> Options | None:
        place = branch.entries["kind"].place
        try:
            model = registry.config_class(kind, chosen)
        except UsageError as error:
            named = f"{chosen!r} " if isinstance(error, MissingPackageError) else ""
            self.problems.add(place, at_kind, f"{named}{error.wrong}", error.remedy)
            return None
        made: Options | None = self._validate(model, branch, at)
        return made

    def _validate(self, model: type[Options], branch: Branch, at: Steps) -> Any:
        self._prepare(branch, at, model)
        given = {key: to_python(node) for key, node in branch.entries.items() if key != "kind"}
        moved = [
            key
            for key, node in branch.entries.items()
            if node.place.origin is not Origin.FILE and node.place != self.root.place
        ]
        context = {
            "folder": self.folder,
            "folders": dict.fromkeys(moved, Path.cwd()),
            "environment": self.environment,
        }
        try:
            return model.model_validate(given, context=context)
        except ValidationError as error:
            report(error, model, branch, at, self.problems)
            return None

    def _prepare(self, node: Node, at: Steps, model: type[Options] | None) -> None:
        refuse_secrets(node, at, model, self.problems)
        expand(node, self.environment, self.problems, at)
        refuse_variables(node, at, model, self.problems)

    def _explain_no_kind(self, at: Steps, kind: str, node: Node, key: Place) -> None:
        names = registry.names(kind)
        remedy = f"Choose one of {', '.join(names)}."
        if isinstance(node, Items):
            self.problems.add(
                node.place, at, DIMENSION, "Give one backend, or run: rag-app compare"
            )
        elif isinstance(node, Branch):
            near = [did_you_mean(k, ["kind"]) for k in node.entries]
            hint = next(filter(None, near), "")
            wrong = "names no backend: `kind` is missing"
            self.problems.add(key, at, wrong, f"{remedy} {hint}".strip())
        else:
            self.problems.add(node.place, at, f"{show(node)} where a backend belongs", remedy)

    def _check_chat_model(self, name: str, section: Section | None) -> None:
        """A part whose `build` requires a chat model needs one in the config."""
        if section is None or not _is_none(self.root.entries.get("chat_model")):
            return
        if registry.needs(KIND_OF_SECTION[name], section.kind, "chat_model"):
            node = self.root.entries.get(name)
            place = self.root.place if node is None else node.place
            other = "choose chain: extractive" if name == "chain" else "choose another reranker"
            remedy = f"Add one, as in `chat_model: {{kind: openai, …}}`, or {other}."
            wrong = f"{section.kind!r} needs a chat model, and the config names none"
            self.problems.add(place, (name,), wrong, remedy)

    def _key(self, name: str, node: Node) -> Place:
        return self.root.keys.get(name, node.place)


def _is_none(node: Node | None) -> bool:
    """Whether an optional section asks for none: left out, empty, `none` or `{kind: none}`."""
    if isinstance(node, Branch) and set(node.entries) == {"kind"}:
        node = node.entries["kind"]
    return node is None or (isinstance(node, Leaf) and node.value in (None, "none"))


def _variables(branch: Branch) -> dict[Steps, str]:
    return {steps: leaf.text for steps, leaf in walk(branch) if leaf.variables}
