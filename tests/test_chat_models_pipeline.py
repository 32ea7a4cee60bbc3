"""Every chain answers with every chat model, from a config to a cited answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rag_app
from rag_app.errors import ModelError
from tests.chat_vendors import VENDORS
from tests.http_server import HttpServer, Request

QUESTION = "How many days of vacation are there?"
FACT = "Every employee has 30 days of paid vacation a year."
HISTORY = [
    {"role": "user", "content": "Who works here?"},
    {"role": "assistant", "content": "Employees [1]."},
]


def reply(request: Request) -> list[str]:
    """An answer with a mark; a standalone question where a question is to be rewritten."""
    if "rewrite" in str(request.body):
        return ["How many days of ", "vacation are there?"]
    return ["Every employee has ", "30 days [1]", "."]


def ask(tmp_path: Path, chain: str, chat_model: dict[str, Any]) -> Any:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(f"# Vacation\n\n{FACT}\n")
    config = {
        "sources": [{"kind": "files", "path": str(tmp_path / "docs")}],
        "vector_store": {"kind": "memory", "path": str(tmp_path / "vectors")},
        "retriever": "bm25",
        "chat_model": chat_model,
        "chain": chain,
        "index": {"path": str(tmp_path / ".rag")},
    }
    with rag_app.load(config) as app:
        app.ingest()
        pieces = "".join(piece.get("answer", "") for piece in app.stream(QUESTION))
        answer = app.ask(QUESTION, chat_history=HISTORY if chain == "conversational" else ())
    return pieces, answer


@pytest.mark.parametrize("chain", ["qa", "conversational"])
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.name)
def test_it_answers_with_a_citation_and_counts_its_tokens(
    vendor: Any, chain: str, tmp_path: Path
) -> None:
    server: HttpServer
    with vendor.server(reply) as server:
        chat_model = {"kind": vendor.name, "model": "model-1", "base_url": server.url}
        streamed, answer = ask(tmp_path, chain, chat_model)
    assert streamed == answer.answer == "Every employee has 30 days [1]."
    assert [citation.quote for citation in answer.citations] == [FACT]
    assert answer.usage["output_tokens"] >= 6
    assert FACT in vendor.read_prompt(server.requests[-1])[-1][1]
    assert len(server.requests) == (3 if chain == "conversational" else 2)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.name)
def test_an_answer_that_was_cut_off_is_no_answer(
    vendor: Any, streaming: bool, tmp_path: Path
) -> None:
    server: HttpServer
    with vendor.server(reply) as server:
        server.cut = True
        chat_model = {"kind": vendor.name, "model": "model-1", "base_url": server.url}
        with pytest.raises(ModelError, match=r"chat_model\.max_tokens: the answer was cut off"):
            ask(tmp_path, "qa", {**chat_model, "streaming": streaming})


def test_it_answers_with_any(tmp_path: Path) -> None:
    vendor = VENDORS[0]
    with vendor.server(reply) as server:
        given = {"options": {"base_url": server.url}, "secrets": {"api_key": "none"}}
        _, answer = ask(tmp_path, "qa", {"kind": "any", "model": "openai:model-1", **given})
    assert [citation.quote for citation in answer.citations] == [FACT]
