"""`${VARIABLE}` and `${VARIABLE:-default}`, and the `.env` file beside a config."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rag_app.config.nodes import Leaf, Place, Problems, Steps, walk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rag_app.config.nodes import Node

REFERENCE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_]\w*)(?::-([^{}\n]*))?\}|\$\{")
"""An escaped `$${`, a reference, or a `${` that is neither."""

_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*\Z")


def expand(node: Node, environment: Mapping[str, str], problems: Problems, at: Steps = ()) -> None:
    """Put the environment's values in the place of references, in every text below `node`.

    What is put in is never read as YAML: it stays text. An unset variable without a default is a
    problem.
    """
    for steps, leaf in walk(node):
        if isinstance(leaf.value, str) and not leaf.broken and not leaf.expanded:
            _expand(leaf, (*at, *steps), environment, problems)


def _expand(leaf: Leaf, steps: Steps, environment: Mapping[str, str], problems: Problems) -> None:
    def put(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            bad.append("holds a `${` that begins no variable")
            return ""
        leaf.variables = True
        value = environment.get(name) or default
        if value is None:
            bad.append(
                f"environment variable {name} is {'empty' if name in environment else 'not set'}"
            )
        return value or ""

    bad: list[str] = []
    leaf.expanded = True
    leaf.value = REFERENCE.sub(put, leaf.value)
    for wrong in bad:
        leaf.broken = True
        problems.add(leaf.place, steps, wrong, _remedy(wrong, steps))


def _remedy(wrong: str, steps: Steps) -> str:
    if "begins no variable" in wrong:
        return "Write ${NAME} or ${NAME:-default}; a literal one is written $${."
    remedy = f"Set {wrong.split()[2]}, or put it in a file .env beside the config."
    keyless = " Without a key, leave chat_model out: chain: extractive quotes the documents."
    return remedy + keyless * (steps[:1] == ("chat_model",))


def write_literal(text: str) -> str:
    """What stands in `text` itself: references removed, their defaults kept."""
    return REFERENCE.sub(lambda m: m[2] or "", text)


def read_dotenv(file: Path, problems: Problems) -> dict[str, str]:
    """The variables of a `.env` file, `NAME=value` a line; empty when there is no such file.

    `#` begins a comment; `export` before a name and quotes around a value are dropped; nothing is
    expanded.
    """
    if not file.is_file():
        return {}
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        problems.add(Place(str(file)), (), "cannot be read as UTF-8 text", "Mend or remove it.")
        return {}
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            place = Place(str(file), number, 1)
            problems.add(place, (), "this line is not NAME=value", "Begin a comment with #.")
            continue
        found[match[1]] = _unquote(match[2])
    return found


def _unquote(text: str) -> str:
    quoted = re.match(r"(['\"])(.*)\1\s*(#.*)?\Z", text)
    return quoted[2] if quoted else re.split(r"(?:^|\s)#", text)[0].rstrip()
