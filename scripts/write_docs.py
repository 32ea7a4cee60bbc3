"""Write the generated parts of the project: the config's JSON Schema and the README's tables.

`--check` writes nothing and fails when something on disk differs from what the code says.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from rag_app.catalogue import list_backends
from rag_app.cli import COMMANDS
from rag_app.schema import schema_text

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Write or check; the exit status says whether anything differed under `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail on a difference, write nothing")
    only_check = parser.parse_args().check
    stale = []
    for path, text in generate().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not only_check:
            path.write_text(text, encoding="utf-8")
    if stale and only_check:
        print(f"out of date: {', '.join(stale)}. Run: make docs", file=sys.stderr)
        return 1
    print(f"written: {', '.join(stale)}" if stale else "generated parts are up to date")
    return 0


def generate() -> dict[Path, str]:
    """Each generated file with the text it should have."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, table in (("backends", _backends()), ("commands", _commands())):
        text = _replace(text, name, table)
    return {ROOT / "rag_app" / "schema.json": schema_text(), readme: text}


def _backends() -> str:
    rows = ["| kind | names |", "|---|---|"]
    for kind, backends in list_backends().items():
        rows.append(f"| {kind.replace('_', ' ')} | {', '.join(f'`{n}`' for n in backends)} |")
    return "\n".join(rows)


def _commands() -> str:
    rows = ["| command | what it does |", "|---|---|"]
    return "\n".join(rows + [f"| `rag-app {name}` | {words} |" for name, words in COMMANDS.items()])


def _replace(text: str, name: str, part: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"README.md: needs one {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{part}\n{end}", text)


if __name__ == "__main__":
    sys.exit(main())
