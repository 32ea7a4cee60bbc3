"""What the config and `check` say of an embedding model that would do worse than it could."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import rag_app
from rag_app.check import check
from rag_app.config import load_config
from rag_app.model_cards import find_card
from rag_app.model_report import describe_model, measure_cjk, warn_of_language
from tests.embedding_servers import OllamaEmbeddingServer

CHINESE = "员工每年有三十天带薪年假，申请须提前两周提交。" * 3


def load(tmp_path: Path, embeddings: Any, **sections: Any) -> Any:
    (tmp_path / "docs").mkdir(exist_ok=True)
    given = {
        "name": "test",
        "sources": [{"kind": "files", "path": "docs"}],
        "embeddings": embeddings,
        "vector_store": {"kind": "memory", "path": None},
        "chain": "extractive",
        **sections,
    }
    (tmp_path / "rag-app.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    return load_config(tmp_path / "rag-app.yaml")


@pytest.mark.parametrize(
    ("embeddings", "words"),
    [
        (
            {"kind": "ollama", "model": "nomic-embed-text", "query_prefix": ""},
            "embeddings.query_prefix: it is empty, but nomic-embed-text was trained with "
            "'search_query: ' before a question",
        ),
        (
            {"kind": "huggingface", "model": "intfloat/e5-base-v2", "document_prefix": " "},
            "embeddings.document_prefix: it is empty, but intfloat/e5-base-v2 was trained with "
            "'passage: ' before a chunk",
        ),
        (
            {"kind": "huggingface", "model": "BAAI/bge-small-en-v1.5", "pooling": "mean"},
            "embeddings.pooling: 'mean', but BAAI/bge-small-en-v1.5 was trained with 'cls'",
        ),
    ],
)
def test_a_model_that_would_not_get_what_it_was_trained_with_is_told(
    tmp_path: Path, embeddings: dict[str, Any], words: str
) -> None:
    (told,) = load(tmp_path, embeddings).warnings
    assert told.startswith(words)


@pytest.mark.parametrize(
    "embeddings",
    [
        {"kind": "ollama", "model": "nomic-embed-text"},
        {"kind": "ollama", "model": "bge-m3", "query_prefix": ""},
        {"kind": "ollama", "model": "unheard-of", "query_prefix": ""},
        {"kind": "huggingface", "model": "intfloat/e5-base-v2", "query_prefix": "Instruct: "},
        "minilm",
        "hashing",
    ],
)
def test_nothing_is_said_where_nothing_is_wrong(tmp_path: Path, embeddings: Any) -> None:
    assert load(tmp_path, embeddings).warnings == ()


def test_a_chunk_over_the_window_of_the_card_is_told(tmp_path: Path) -> None:
    sizes = {"splitter": {"kind": "recursive", "chunk_size": 600}}
    model = {"kind": "huggingface", "model": "intfloat/e5-base-v2"}
    (told,) = load(tmp_path, model, **sizes).warnings
    assert "600 tokens are more than 'intfloat/e5-base-v2' reads (512)" in told
    assert not load(tmp_path, {**model, "max_tokens": 600}, **sizes).warnings
    assert not load(tmp_path, {"kind": "ollama", "model": "bge-m3"}, **sizes).warnings


def test_the_share_of_chinese_is_of_the_letters() -> None:
    assert measure_cjk("123 … ! " * 50) is None
    assert measure_cjk("English words and nothing else") == 0
    assert measure_cjk(CHINESE) == 1
    assert measure_cjk("中文字母" * 5 + "a" * 20) == pytest.approx(0.5)


def test_a_model_of_another_language_is_told() -> None:
    english, chinese = find_card("all-MiniLM-L6-v2"), find_card("BAAI/bge-large-zh-v1.5")
    assert "is an English model, and 100% of the letters" in warn_of_language(english, CHINESE)
    assert "is a Chinese model" in warn_of_language(chinese, "Every employee has vacation. " * 9)
    assert not warn_of_language(chinese, CHINESE)
    assert not warn_of_language(english, "Every employee has vacation. " * 9)
    assert not warn_of_language(find_card("bge-m3"), CHINESE)


@pytest.mark.parametrize(("retriever", "warned"), [("hybrid", True), ("bm25", False)])
def test_check_reads_a_document_and_looks_at_its_language(
    tmp_path: Path, retriever: str, warned: bool
) -> None:
    load(tmp_path, "minilm", retriever=retriever)
    (tmp_path / "docs" / "a.md").write_text(CHINESE, encoding="utf-8")
    with rag_app.load(tmp_path / "rag-app.yaml") as app:
        told = {each.part: each for each in check(app)}["embeddings (minilm)"]
    assert told.ok
    assert ("English model" in told.remedy) is warned


def test_check_shows_what_is_in_force(tmp_path: Path) -> None:
    with OllamaEmbeddingServer() as server:
        model = {"kind": "ollama", "model": "nomic-embed-text", "base_url": server.url}
        load(tmp_path, {**model, "price": 0.5})
        with rag_app.load(tmp_path / "rag-app.yaml") as app:
            told = {each.part: each.detail for each in check(app)}["embeddings (ollama)"]
        load(tmp_path, {**model, "model": "unheard-of"})
        with rag_app.load(tmp_path / "rag-app.yaml") as app:
            unknown = describe_model(app.embeddings, 32)
    assert told == (
        "768 dimensions, window 2048 tokens, 'search_query: ' before a question, "
        "'search_document: ' before a chunk, US$ 0.5 per million tokens"
    )
    assert unknown == (
        "32 dimensions, window unknown, not in the table of models, so no prefix is known for it"
    )


@pytest.mark.parametrize("kind", ["openai", "google", "cohere", "ollama", "huggingface"])
def test_reading_a_config_imports_no_client(tmp_path: Path, kind: str) -> None:
    load(tmp_path, {"kind": kind, "model": "bge-m3"})
    code = (
        "import sys; from rag_app.config import load_config; load_config(sys.argv[1]); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rag-app.yaml")],
        capture_output=True,
        text=True,
        check=True,
    )
    clients = {"openai", "google", "cohere", "ollama", "sentence_transformers", "torch", "httpx"}
    assert not set(done.stdout.split()) & {*clients, "langchain_core", "transformers"}
