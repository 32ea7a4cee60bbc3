"""The guide keeps its word: examples run, tables match the code, quotes of cases stand in it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

import click
import pytest
import yaml
from pydantic import BaseModel

import rag_app
from chains import qa
from rag_app import registry
from rag_app.cli import COMMANDS
from rag_app.cli.groups import group
from rag_app.cli.output import answer_json, ingest_json, plan_json, search_json
from rag_app.config import load_config
from rag_app.config.space import read_space
from rag_app.filters import matches, parse
from rag_app.parsers import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(rag_app.__file__).parent
GUIDE = PACKAGE / "guide"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(GUIDE.glob("*.md"))}
PAGE_OF_KIND = {
    "loaders": "sources.md",
    "splitters": "splitters.md",
    "embeddings": "embeddings.md",
    "vector_stores": "vector_stores.md",
    "retrievers": "hybrid_search.md",
    "rerankers": "reranking.md",
    "chat_models": "chat_models.md",
    "chains": "chains.md",
}
BACKENDS = [(kind, name) for kind in PAGE_OF_KIND for name in registry.names(kind)]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: what stands behind the fence, its text, its place."""

    page: str
    line: int
    language: str
    marks: frozenset[str]
    text: str


def find_blocks(language: str) -> list[Any]:
    """The blocks of one language, as parameters of a test."""
    found = []
    for page, text in PAGES.items():
        for match in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                marks = frozenset(match[2].split())
                found.append(Block(page, line, language, marks, match[3]))
    assert found, f"no {language} block in the guide"
    return [pytest.param(block, id=f"{block.page}:{block.line}") for block in found]


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `rag-app init` makes it, its documents ingested."""
    folder = tmp_path_factory.mktemp("guide") / "handbook"
    shutil.copytree(PACKAGE / "template", folder)
    with rag_app.load(folder / "rag-app.yaml") as app:
        app.ingest()
    return folder


# -- the cases ------------------------------------------------------------------------------------

CASES = [json.loads(line) for line in (GUIDE / "cases.jsonl").read_text("utf-8").splitlines()]


def test_there_are_sixty_cases_ten_of_them_unanswerable() -> None:
    assert len(CASES) == 60
    unanswerable = [case for case in CASES if not case["evidence"]]
    assert len(unanswerable) == 10
    assert [case for case in CASES if "unanswerable" in case["tags"]] == unanswerable
    assert len({case["id"] for case in CASES}) == 60
    assert len({case["question"] for case in CASES}) == 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_a_case_has_its_fields_and_its_quotes_stand_once_in_their_page(
    case: dict[str, Any],
) -> None:
    assert case.keys() == {"id", "question", "answer", "evidence", "tags"}
    for piece in case["evidence"]:
        assert piece.keys() == {"source", "quote"}
        assert "\n" not in piece["quote"]
        assert PAGES[piece["source"]].count(piece["quote"]) == 1


def test_the_cases_reach_every_page_but_the_list_of_words() -> None:
    reached = {piece["source"] for case in CASES for piece in case["evidence"]}
    single = {f"{kind.removesuffix('s')}_{name}.md" for kind, name in BACKENDS}
    assert PAGES.keys() - reached <= {"glossary.md", *single}


# -- the pages against the code -------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), BACKENDS)
def test_every_backend_and_option_stands_on_its_page_with_its_default(kind: str, name: str) -> None:
    page = PAGES[PAGE_OF_KIND[kind]] + PAGES.get(f"{kind.removesuffix('s')}_{name}.md", "")
    assert f"`{name}`" in page
    for option, default in list_options(registry.config_class(kind, name)):
        cells = re.findall(rf"^\| `{re.escape(option)}` \| ([^|]*) \|", page, re.MULTILINE)
        assert cells, f"{kind}/{name}: no row for the option {option}"
        shown = [cell.strip().strip("`").replace("\\", "") for cell in cells]
        words = show_default(default)
        assert words is None or words in shown, f"{kind}/{name}.{option}: {shown} is not {words}"


def list_options(config: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Each option and its default, those of nested options included."""
    for option, field in config.model_fields.items():
        default = (
            "required" if field.is_required() else field.get_default(call_default_factory=True)
        )
        yield option, default
        if isinstance(default, BaseModel):
            yield from list_options(type(default))


def show_default(default: Any) -> str | None:
    """A default as a table shows it; None where the table puts it in words."""
    if default is None or default == "" or isinstance(default, BaseModel):
        return None
    if isinstance(default, PurePath):
        return default.as_posix()
    if isinstance(default, str):
        return default
    if isinstance(default, tuple):
        return json.dumps(list(default)) if len(default) < 4 else None
    return json.dumps(default, ensure_ascii=False)


OPERATORS: Final = ("$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte")
SECTIONS: Final = (
    "splitter",
    "embeddings",
    "vector_store",
    "retriever",
    "reranker",
    "chat_model",
    "chain",
)


def test_every_command_section_error_format_and_operator_is_described() -> None:
    errors = [name for name in rag_app.__all__ if name.endswith("Error")]
    described = {
        "command_line.md": [f"| `rag-app {command}" for command in COMMANDS],
        "python.md": [f"`{name}`" for name in errors],
        "sources.md": [f"`{ending}`" for ending in FORMATS],
        "configuration.md": [f"| `{name}` |" for name in ("name", "sources", "index", *SECTIONS)],
        "filters.md": [*OPERATORS, "$exists", "$contains", "$and", "$or", "$not"],
    }
    for page, words in described.items():
        missing = [each for each in words if each not in PAGES[page]]
        assert not missing, f"{page} lacks {missing}"


def test_exit_statuses_of_the_errors_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `(\w+Error)` \|.*\| (\d) \|$", PAGES["python.md"], re.MULTILINE)
    assert len(rows) > 8
    for name, status in rows:
        assert getattr(rag_app, name).exit_status == int(status)


def test_links_between_pages_lead_somewhere_and_the_index_leads_to_every_page() -> None:
    for page, text in PAGES.items():
        for target, anchor in re.findall(r"\]\(([\w.]+\.md)(?:#([\w-]+))?\)", text):
            assert target in PAGES, f"{page} links to {target}"
            assert not anchor or anchor in list_anchors(PAGES[target]), f"{page}: {target}#{anchor}"
        assert not re.search(r"\]\((?!https?://|[\w.]+\.md(?:#[\w-]+)?\))", text), page
    linked = set(re.findall(r"\]\(([\w.]+\.md)\)", PAGES["index.md"]))
    assert PAGES.keys() - linked == {"index.md"}


def list_anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paragraphs_are_not_broken_into_lines() -> None:
    """So that a sentence, and with it a quote, never holds a line break."""
    for page, text in PAGES.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        broken = re.findall(r"^(?![#|\-\d]).+\n(?![#|\-\d\n]).+", prose, re.MULTILINE)
        assert not broken, f"{page}: {broken[:1]}"


# -- the examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block", find_blocks("yaml"))
def test_yaml_is_a_valid_config_or_part_of_one(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = yaml.safe_load(block.text)
    base = {"name": "guide", "sources": [{"kind": "files", "path": "docs"}]}
    missing = {key: value for key, value in base.items() if key not in given}
    file = tmp_path / "rag-app.yaml"
    file.write_text(block.text + (yaml.safe_dump(missing) if missing else ""), "utf-8")
    if "needs-key" in block.marks:
        for variable in re.findall(r"\$\{(\w+)\}", block.text):
            monkeypatch.setenv(variable, "from-the-environment")
    if "dimensions" in block.marks:  # several configs, for `compare` and `tune`
        space = read_space(file)
        assert len(space.assemble(space.probe())) > 1
        return
    config = load_config(file)
    assert not config.warnings
    for section, value in given.items():
        kind = value.get("kind") if isinstance(value, dict) else value
        if section in SECTIONS:
            assert getattr(config, section).kind == kind


@pytest.mark.parametrize("block", find_blocks("python"))
def test_python_runs(block: Block, handbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, f"{block.page}:{block.line}", "exec")
    if "needs-key" not in block.marks:
        monkeypatch.chdir(handbook)
        monkeypatch.syspath_prepend(handbook)
        shutil.copy(qa.__file__, handbook / "my_chain.py")  # as the page on chains says
        exec(code, {"__name__": "guide"})


@pytest.mark.parametrize("block", find_blocks("console"))
def test_commands_are_ones_that_rag_app_takes(block: Block) -> None:
    lines = re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(re.split(r" [|>] ", line)[0])
        if words[0] == "rag-app":
            take(words[1:])


def take(args: list[str]) -> None:
    """Let the command line read `args` without running the command; an unknown option raises."""
    context = click.Context(group)
    if args[0].startswith("-"):
        assert args[0] in {option for param in group.params for option in param.opts}
        return
    command: click.Command | None = group
    while isinstance(command, click.Group):
        name, *args = args
        command = command.get_command(context, name)
        assert command is not None, f"no command {name}"
    assert command is not None
    command.make_context(name, args, parent=context)


@pytest.mark.parametrize("block", find_blocks("json"))
def test_json_is_json_and_filters_are_filters(block: Block) -> None:
    value = json.loads(block.text)
    if block.page == "filters.md":
        matches(parse(value), {})


def test_json_shapes_are_those_of_the_commands(handbook: Path) -> None:
    shown = [json.loads(block.values[0].text) for block in find_blocks("json")]
    with rag_app.load(handbook / "rag-app.yaml") as app:
        real = [
            ingest_json(app.ingest()),
            plan_json(app.plan()),
            search_json(app.search("lost laptop")),
            answer_json(app.ask("How many days of vacation do we have?")),
        ]
    for value in real:
        example = next(each for each in shown if each.keys() == value.keys())
        assert_same_shape(example, value)


def assert_same_shape(example: Any, value: Any) -> None:
    """Objects of the example have keys that the value has, down to the first item of each list."""
    if isinstance(example, dict):
        assert isinstance(value, dict)
        assert example.keys() <= value.keys() | {"embed", "dense", "bm25", "fusion", "total"}
        for key in example.keys() & value.keys():
            assert_same_shape(example[key], value[key])
    elif isinstance(example, list) and example and value:
        assert_same_shape(example[0], value[0])
