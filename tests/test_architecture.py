"""Who may import whom, what no code may do, and how long things may be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from rag_app import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FILES: Final = sorted([*(ROOT / "rag_app").rglob("*.py"), *(ROOT / "chains").rglob("*.py")])
IDS: Final = [str(file.relative_to(ROOT)) for file in FILES]
KIND_FOLDERS: Final = frozenset(package.rpartition(".")[2] for package in registry.KINDS.values())
TOP_ROOMS: Final = (
    "rag_app.app",
    "rag_app.parts",
    "rag_app.cli",
    "rag_app.serving",
    "rag_app.evaluation",
)
SDKS: Final = frozenset(
    ["chromadb", "faiss", "lancedb", "pyarrow", "milvus_lite", "pymilvus", "pgvector", "psycopg"]
    + ["pinecone", "qdrant_client", "qdrant_edge", "weaviate", "grpc", "sqlalchemy", "redis"]
    + ["anthropic", "cohere", "google", "ollama", "openai", "langchain", "langchain_anthropic"]
    + ["langchain_cohere", "langchain_community", "langchain_google_genai", "langchain_huggingface"]
    + ["langchain_ollama", "langchain_openai", "huggingface_hub", "sentence_transformers", "torch"]
    + ["transformers", "boto3", "botocore", "docutils", "docx", "httpcore", "httpx", "lxml"]
    + ["openpyxl", "pptx", "pypdfium2", "trafilatura"]
)
WIRING: Final = frozenset(
    ["rag_app", "rag_app.app", "rag_app.parts", "rag_app.upkeep", "rag_app.migration"]
    + ["rag_app.check", "rag_app.catalogue"]
)


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.AST, *, at_import: bool = False) -> Iterator[str]:
    """Modules that `tree` imports; with `at_import` only those imported when it is."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_import and (_is_function(node) or _is_type_checking(node)):
            continue
        else:
            yield from _imports(node, at_import=at_import)


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _within(module: str, packages: tuple[str, ...] | frozenset[str]) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def _kind(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "chains":
        return "chains"
    return parts[1] if len(parts) > 1 and parts[1] in KIND_FOLDERS else None


@pytest.fixture(params=FILES, ids=IDS)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_imports_run_one_way(file: Path, tree: ast.Module) -> None:
    name = _name(file)
    ours = {m for m in _imports(tree) if m.startswith(("rag_app.", "chains."))}
    if name in {"rag_app.errors", "rag_app.types"}:
        assert not ours
    if kind := _kind(name):
        others = {m for m in ours if _kind(m) not in {None, kind}}
        assert not others, f"a {kind} backend imports another kind"
        forbidden = ("rag_app.registry", "rag_app.config", *TOP_ROOMS)
        assert not {m for m in ours if _within(m, forbidden)}, "parts are handed in, not fetched"
    elif name not in WIRING and not _within(name, TOP_ROOMS):
        assert not {m for m in ours if _within(m, TOP_ROOMS)}, "imports run from the top down"
    if name == "rag_app.registry":
        assert not {m for m in ours if _kind(m)}, "the registry imports no backend statically"


def test_importing_a_module_imports_no_vendor(file: Path, tree: ast.Module) -> None:
    if file.name.startswith("_") or _within(_name(file), ("rag_app.parsers",)):
        return  # imported inside a function by the backend it belongs to
    loaded = {m.partition(".")[0] for m in _imports(tree, at_import=True)}
    if _within(_name(file), ("rag_app.index",)):
        loaded.discard("sqlalchemy")  # the manifest's; no config needs it to be read
    assert not loaded & SDKS


def test_the_rooms_before_a_command_need_no_langchain(file: Path, tree: ast.Module) -> None:
    name = _name(file)
    early = ("rag_app.errors", "rag_app.types", "rag_app.options", "rag_app.registry")
    if _within(name, (*early, "rag_app.config", "rag_app.cli", "rag_app.spelling")):
        loaded = _imports(tree, at_import=True)
        assert not {m for m in loaded if m.startswith("langchain")}


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda c: c.stem)
def test_reading_a_config_imports_neither_langchain_nor_a_vendor(config: Path) -> None:
    code = (
        "import sys; from rag_app.config import load_config; load_config(sys.argv[1]); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, config],
        env={**os.environ, "OPENAI_API_KEY": "none", "DATABASE_URL": "postgresql://u:p@host/db"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if name.startswith(("langchain", "langsmith"))}
    assert not loaded & SDKS


def test_nothing_in_an_index_or_a_config_can_run_code(tree: ast.Module) -> None:
    imported = {m.partition(".")[0] for m in _imports(tree)}
    assert not imported & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jinja2"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__", "os.system"}
            assert not called.startswith(("yaml.load", "yaml.unsafe", "yaml.full"))
            words = {k.arg: k.value for k in node.keywords}
            assert "trust_remote_code" not in words or _is_false(words["trust_remote_code"])
            assert "shell" not in words or _is_false(words["shell"])
            if called.endswith("torch.load"):
                assert "weights_only" in words


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_code_is_short(file: Path, tree: ast.Module) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 350
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_nobody_prints_or_swallows(file: Path, tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) != "print", f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            silent = all(isinstance(inner, ast.Pass) for inner in node.body)
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            assert not (silent and broad), f"line {node.lineno} swallows every error"


def test_names_say_what_things_are(file: Path, tree: ast.Module) -> None:
    vague = ("Manager", "Helper", "Util", "Utils", "Base", "Handler", "Processor", "Service")
    named = [n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    assert not [n for n in named if n.endswith(vague)]
    assert not {file.stem, *file.relative_to(ROOT).parts} & {v.lower() for v in vague}
