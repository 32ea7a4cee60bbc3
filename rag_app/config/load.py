"""A YAML file or a dict, with overrides -> `AppConfig`, or one error with every problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_app.config.assembly import Assembly
from rag_app.config.model import DEFAULT_KINDS, KIND_OF_SECTION
from rag_app.config.nodes import Branch, Items, Leaf, Origin, Place, Problems, from_python, show
from rag_app.config.overrides import apply_overrides
from rag_app.config.variables import read_dotenv
from rag_app.config.yaml_reader import LARGEST_FILE, read_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.config.model import AppConfig


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    folder: Path | None = None,
    dotenv: Path | None = None,
) -> AppConfig:
    """Read and validate a config.

    Args:
        source: path of the YAML file, or the same content as a mapping.
        overrides: `{"retriever.k": 12}`, or lines `retriever.k=12` as on the command line; later
            ones win. Relative paths in them start at the current folder.
        folder: where relative paths of a mapping start; the current folder by default.
        dotenv: variables for a mapping; a file's are those of the `.env` beside it.

    Raises:
        ConfigError: with every problem found, in the order of the file.
    """
    problems = Problems()
    written = gather(source, overrides, problems, folder=folder, dotenv=dotenv)
    made = written.assemble(problems)
    problems.raise_any()
    return made


@dataclass(frozen=True, slots=True)
class Written:
    """A config as written, overrides put in, and what is needed to make sense of it."""

    root: Branch
    file: Path | None
    folder: Path
    environment: Mapping[str, str]

    def assemble(self, problems: Problems) -> AppConfig:
        """The config; of no use when there are problems."""
        return Assembly(self.root, self.folder, self.environment, problems).make(self.file)


def gather(
    source: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str],
    problems: Problems,
    *,
    folder: Path | None = None,
    dotenv: Path | None = None,
) -> Written:
    """Read what `load_config` makes a config of.

    Raises:
        ConfigError: at once, where there is nothing to check.
    """
    file = None if isinstance(source, Mapping) else Path(source)
    if folder is None:
        folder = Path.cwd() if file is None else Path(os.path.abspath(file)).parent
    root = _read_mapping(source, problems) if isinstance(source, Mapping) else _read(file, problems)
    kinds: dict[str, str | None] = {**dict.fromkeys(KIND_OF_SECTION), **DEFAULT_KINDS}
    apply_overrides(root, overrides, kinds, problems)
    if file is not None:
        dotenv = folder / ".env"
    variables = {} if dotenv is None else read_dotenv(dotenv, problems)
    return Written(root, file, folder, {**variables, **os.environ})


def _read(file: Path | None, problems: Problems) -> Branch:
    """The root of the file; raises at once what leaves nothing to check."""
    assert file is not None
    place = Place(str(file), 1, 1)
    text = _read_text(file, problems)
    before = len(problems.found)
    root = read_yaml(text, str(file), problems)
    if root is None and len(problems.found) == before:
        remedy = "Begin with `name:` and `sources:`, or run: rag-app init"
        problems.add(place, (), "the file is empty", remedy)
    elif isinstance(root, Leaf | Items):
        remedy = "Begin with `name:` and `sources:`."
        problems.add(root.place, (), f"{show(root)} where the sections belong", remedy)
    if not isinstance(root, Branch):
        problems.raise_any()
    assert isinstance(root, Branch)
    return root


def _read_text(file: Path, problems: Problems) -> str:
    place = Place(str(file))
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        problems.add(place, (), "there is no such file", "Make one with: rag-app init")
    except OSError as error:
        problems.add(place, (), f"cannot be read ({error.strerror})", "Name a readable YAML file.")
    problems.raise_any()
    if len(raw) > LARGEST_FILE:
        problems.add(place, (), "larger than 1 MiB", "A config is a few kilobytes: name another.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = error.start - before.rfind(b"\n")
        at = Place(str(file), before.count(b"\n") + 1, column)
        problems.add(at, (), "not UTF-8 text", "Save the file as UTF-8.")
    problems.raise_any()
    return text.replace("\r\n", "\n")


def _read_mapping(source: Mapping[str, Any], problems: Problems) -> Branch:
    place = Place("config", origin=Origin.PYTHON)
    try:
        root = from_python(source, place)
    except RecursionError:
        problems.add(place, (), "nested more than 50 levels deep", "A config needs four.")
        problems.raise_any()
    assert isinstance(root, Branch)
    return root
