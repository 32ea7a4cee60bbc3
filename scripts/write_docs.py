"""Write the generated parts of the project: the config's JSON Schema and the README's tables.

`--check` writes nothing and fails when something on disk differs from what the code says.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from rag_app.catalogue import list_backends
from rag_app.cli import COMMANDS
from rag_app.model_cards import list_cards
from rag_app.schema import schema_text
from scripts.crash import readme_table

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
    for name, table in (
        ("backends", _backends()),
        ("stores", _stores()),
        ("commands", _commands()),
        ("reliability", readme_table()),
    ):
        text = _replace(readme, text, name, table)
    pages = {}
    for page, name, table in (
        ("embeddings.md", "model cards", _cards()),
        ("index_and_identity.md", "reliability", readme_table()),
    ):
        path = ROOT / "rag_app" / "guide" / page
        pages[path] = _replace(path, path.read_text(encoding="utf-8"), name, table)
    return {ROOT / "rag_app" / "schema.json": schema_text(), readme: text, **pages}


def _backends() -> str:
    rows = ["| kind | names |", "|---|---|"]
    for kind, backends in list_backends().items():
        rows.append(f"| {kind.replace('_', ' ')} | {', '.join(f'`{n}`' for n in backends)} |")
    return "\n".join(rows)


def _stores() -> str:
    """What each store was seen to do, as `make contracts` wrote it down."""
    path = ROOT / "tests" / "contracts" / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    columns = {
        "LangChain's tests": ["TestLangChainStandard"],
        "search": ["TestSimilarity", "TestSearch"],
        f"filters ({results['filters']:,})": ["TestFilters"],
        "writing": ["TestWriting", "TestEmptiness", "TestRefusals"],
        "content": ["TestContent"],
        "reopening": ["TestPersistence"],
        "threads": ["TestThreads"],
    }
    rows = [
        f"| store | ran against | {' | '.join(columns)} | recall@10 |",
        f"|---|---|{'---|' * len(columns)}---|",
    ]
    for place, found in results["places"].items():
        cells = [_tally([found[name] for name in names]) for names in columns.values()]
        store = place.partition("-")[0]
        rows.append(
            f"| `{store}` | {found['against']} | {' | '.join(cells)} | {found['recall@10']:.3f} |"
        )
    return "\n".join(rows)


def _tally(counts: list[str]) -> str:
    passed, total = (sum(int(c.split("/")[i]) for c in counts) for i in (0, 1))
    return f"{passed} of {total}"


def _commands() -> str:
    rows = ["| command | what it does |", "|---|---|"]
    return "\n".join(rows + [f"| `rag-app {name}` | {words} |" for name, words in COMMANDS.items()])


def _cards() -> str:
    """What is known of embedding models, a row for each."""
    rows = [
        "| model | window | dimensions | pooling | before a question | before a chunk | languages "
        "| licence | US$ per million tokens |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for card in list_cards():
        names = ", ".join(f"`{name}`" for name in (card.name, *card.aliases))
        lengths = [str(n) for n in (card.dimension, *card.dimensions) if n]
        if card.shortest:
            lengths.append(f"any from {card.shortest}")
        prefixes = [_code(words) for words in (card.query_prefix, card.document_prefix)]
        price = "" if card.price is None else f"{card.price:g} ({card.price_date})"
        cells = [names, f"{card.window or ''}", ", ".join(lengths), card.pooling or "", *prefixes]
        cells += [card.languages, card.licence, price]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _code(words: str) -> str:
    return f"`{words}`".replace("\n", "\\n").replace("|", "\\|") if words else ""


def _replace(path: Path, text: str, name: str, part: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"{path.name}: needs one {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{part}\n{end}", text)


if __name__ == "__main__":
    sys.exit(main())
