"""Every config of configs/ runs end to end: ingest, search, and an answer that cites.

Services are servers of their documented protocol, PostgreSQL is real, and models of the Hugging
Face hub are of a few random weights; everything else is as the file says.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import rag_app
from tests.embedding_servers import (
    CohereEmbeddingServer,
    GoogleEmbeddingServer,
    OllamaEmbeddingServer,
)
from tests.http_server import HttpServer
from tests.openai_server import OpenAIServer
from tests.pinecone_server import open_pinecone
from tests.postgres_server import PostgresServer
from tests.tiny_models import (
    add_sparse_head,
    describe_sentences,
    make_bert,
    make_cross_encoder,
    make_qwen3,
)

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PAGES = ("hybrid_search.md", "sources.md", "glossary.md")
QUESTION = "How are the two lists of a hybrid search fused?"
REPLY = "They are fused by their ranks [1]."
KEYS = {
    **{"OPENAI_API_KEY": "any", "PINECONE_API_KEY": "any", "GEMINI_API_KEY": "any"},
    **{"CO_API_KEY": "any", "DATABASE_URL": "postgresql://u:p@localhost/d"},
}

DRAWN = {"hybrid-rerank", "qwen3-faiss"}
"""Configs in which a model of random weights decides alone which chunks come first."""

Prepare = Callable[[ExitStack, Path, pytest.MonkeyPatch], dict[str, Any]]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configs beside a guide of three pages, with every key set."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    guide = tmp_path / "rag_app" / "guide"
    guide.mkdir(parents=True)
    for page in PAGES:
        shutil.copy(ROOT / "rag_app" / "guide" / page, guide)
    for variable, value in KEYS.items():
        monkeypatch.setenv(variable, value)
    return tmp_path


def serve(stack: ExitStack, server: HttpServer, *parts: str) -> dict[str, Any]:
    """Overrides that send these parts of a config to `server`, which answers every question."""
    server.reply = lambda _: REPLY
    stack.enter_context(server)
    return {f"{part}.base_url": server.url for part in parts}


def prepare_openai_chroma(stack: ExitStack, *_: Any) -> dict[str, Any]:
    return {
        **serve(stack, OpenAIServer(), "embeddings", "chat_model"),
        "embeddings.requests_per_minute": 6000,
    }


def prepare_openai_pinecone(stack: ExitStack, *_: Any) -> dict[str, Any]:
    pinecone = stack.enter_context(open_pinecone())
    return {
        **serve(stack, OpenAIServer(), "embeddings", "chat_model"),
        **{f"vector_store.{name}": value for name, value in pinecone.items()},
    }


def prepare_gemini_pgvector(
    stack: ExitStack, _: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setenv("DATABASE_URL", stack.enter_context(PostgresServer()).url)
    return serve(stack, GoogleEmbeddingServer(), "embeddings", "chat_model")


def prepare_cohere_weaviate(
    stack: ExitStack, _: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    from tests.weaviate_server import WeaviateServer  # its packages take a while to import

    weaviate = stack.enter_context(WeaviateServer()).options
    monkeypatch.setenv("WEAVIATE_URL", weaviate.pop("url"))
    return {
        **serve(stack, CohereEmbeddingServer(), "embeddings", "reranker", "chat_model"),
        **{f"vector_store.{name}": value for name, value in weaviate.items()},
        "splitter.chunk_size": 32,  # the server's window is short
        "splitter.chunk_overlap": 0,
    }


def prepare_ollama_nomic_qdrant(stack: ExitStack, *_: Any) -> dict[str, Any]:
    return {
        **serve(stack, OllamaEmbeddingServer(), "embeddings", "chat_model"),
        "splitter.chunk_size": 32,
        "splitter.chunk_overlap": 0,
    }


def prepare_bge_m3_milvus(_: ExitStack, folder: Path, __: Any) -> dict[str, Any]:
    return _with_small_window(
        add_sparse_head(describe_sentences(make_bert(folder / "model"), "cls"))
    )


def prepare_qwen3_faiss(_: ExitStack, folder: Path, __: Any) -> dict[str, Any]:
    return {
        **_with_small_window(describe_sentences(make_qwen3(folder / "model"), "lasttoken")),
        "embeddings.dimensions": 16,
    }


def prepare_chinese(_: ExitStack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (folder / "documents").mkdir()
    (folder / "documents" / "年假.md").write_text("每位员工每年有二十天年假。", encoding="utf-8")
    monkeypatch.setenv("DOCUMENTS", str(folder / "documents"))
    return _with_small_window(describe_sentences(make_bert(folder / "model"), "cls"))


def prepare_hybrid_rerank(_: ExitStack, folder: Path, __: Any) -> dict[str, Any]:
    return {"reranker.model": str(make_cross_encoder(folder / "cross-encoder"))}


def prepare_local_server(
    stack: ExitStack, _: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setenv("CHAT_BASE_URL", serve(stack, OpenAIServer(), "x")["x.base_url"])
    return {}


def prepare_quickstart(*_: Any) -> dict[str, Any]:
    return {}


def _with_small_window(model: Path) -> dict[str, Any]:
    return {
        "embeddings.model": str(model),
        "splitter.chunk_size": 40,
        "splitter.chunk_overlap": 0,
    }


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def running(
    request: pytest.FixtureRequest, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[rag_app.RagApp]:
    name = request.param.name
    prepare: Prepare = globals()[f"prepare_{request.param.stem.replace('-', '_')}"]
    with ExitStack() as stack:
        overrides = prepare(stack, clone, monkeypatch)
        with rag_app.load(clone / "configs" / name, overrides) as app:
            yield app


def test_ingests_searches_and_answers_with_citations(running: rag_app.RagApp, clone: Path) -> None:
    chinese = running.config.name == "chinese"
    question = "年假有多少天" if chinese else QUESTION
    report = running.ingest()
    assert report.quarantined == 0
    assert report.indexed == (1 if chinese else len(PAGES))
    assert report.chunks_total >= report.indexed
    assert running.search(question).hits
    answer = running.ask(question)
    if running.config.name not in DRAWN:
        assert answer.citations, answer.answer
    folder = clone / "documents" if chinese else clone / "rag_app" / "guide"
    for citation in answer.citations:
        text = (folder / citation.source).read_text(encoding="utf-8")
        assert text[citation.start : citation.end] == citation.quote
    if running.config.chat_model is not None:
        assert answer.answer == REPLY
    assert running.ingest().chunks_written == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_says_what_to_install_and_how_to_begin(config: Path) -> None:
    """The head of a config has its own name in every command, and the extras of its backends."""
    head, _, body = config.read_text(encoding="utf-8").partition("\nname:")
    assert body.startswith(f" {config.stem}")
    assert f"-c configs/{config.name}" in head
    assert head.count("-c configs/") == head.count(f"-c configs/{config.name}")
