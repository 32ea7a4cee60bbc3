"""What a server says is not taken on trust: which one it is, why it refuses, why it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

import rag_app
from rag_app import registry
from rag_app.answering import write
from rag_app.errors import IdentityError, IncompleteError, ModelError, RagAppError
from rag_app.model_errors import Endpoint, explain, read_wait
from tests.embedding_servers import (
    CohereEmbeddingServer,
    GoogleEmbeddingServer,
    OllamaEmbeddingServer,
)
from tests.http_server import HttpServer, Refusal, Request
from tests.openai_server import OpenAIServer

SERVERS: dict[str, Callable[[], HttpServer]] = {
    "openai": OpenAIServer,
    "google": GoogleEmbeddingServer,
    "cohere": CohereEmbeddingServer,
    "ollama": OllamaEmbeddingServer,
}
MODELS = {
    "openai": "text-embedding-3-small",
    "google": "gemini-embedding-001",
    "cohere": "embed-v4.0",
    "ollama": "bge-m3",
}
VARIABLES = ["OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "CO_API_KEY", "COHERE_API_KEY"]
services = pytest.mark.parametrize("kind", SERVERS)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, "OLLAMA_API_KEY", "OLLAMA_HOST", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)


def build(kind: str, **options: Any) -> Any:
    config = registry.config_class("embeddings", kind)(
        **{"model": MODELS[kind], "max_retries": 0, **options}
    )
    return registry.build("embeddings", kind, config)


def load(folder: Path, kind: str, url: str, index: str = "index") -> rag_app.RagApp:
    """An app over three files, whose texts are embedded at `url`; indexes share the cache."""
    docs = folder / "docs"
    docs.mkdir(exist_ok=True)
    for place in range(3):
        (docs / f"{place}.txt").write_text(f"The text of file {place}.", encoding="utf-8")
    config = {
        "name": index,
        "sources": [{"kind": "files", "path": str(docs)}],
        "embeddings": {"kind": kind, "model": MODELS[kind], "base_url": url, "max_retries": 0},
        "vector_store": {"kind": "memory", "path": str(folder / f"{index}.sqlite")},
        "index": {"path": str(folder / "rag"), "cache": True},
        "retriever": {"kind": "dense", "k": 2},
        "chain": "extractive",
    }
    path = folder / f"{index}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return rag_app.load(path)


# -- which server it is ---------------------------------------------------------------------------


@services
def test_an_index_made_at_one_server_is_refused_with_another(kind: str, tmp_path: Path) -> None:
    with SERVERS[kind]() as one, SERVERS[kind]() as other:
        with load(tmp_path, kind, one.url) as app:
            assert app.ingest().indexed == 3
        with load(tmp_path, kind, other.url) as app:
            with pytest.raises(IdentityError):
                app.search("file 1")
            with pytest.raises(IdentityError):
                app.ingest()
        with load(tmp_path, kind, f"{one.url}/") as app:  # the same server
            assert app.search("file 1")
    assert other.requests == []


@services
def test_vectors_of_one_server_are_not_found_for_another(kind: str, tmp_path: Path) -> None:
    with SERVERS[kind]() as one, SERVERS[kind]() as other:
        for server, index in ((one, "first"), (other, "second"), (one, "third")):
            with load(tmp_path, kind, server.url, index) as app:
                app.ingest()
    # A request for the document; one for the probe sentences of each index.
    assert len(other.requests) == 1 + 1
    assert len(one.requests) == 1 + 2


@pytest.mark.parametrize(
    ("kind", "options", "server"),
    [
        ("openai", {"api_key": "k"}, None),
        ("openai", {"api_key": "k", "base_url": "https://eu.api.openai.com/v1"}, None),
        (
            "openai",
            {"base_url": "http://me:secret@box:8000/v1/?key=secret"},
            "http://box:8000/v1",
        ),
        ("google", {"api_key": "k"}, None),
        ("google", {"base_url": "https://gateway.example"}, "https://gateway.example"),
        ("cohere", {"api_key": "k"}, None),
        ("cohere", {"base_url": "https://gateway.example"}, "https://gateway.example"),
        ("ollama", {}, "http://localhost:11434"),
        ("ollama", {"base_url": "http://127.0.0.1:11434/"}, "http://localhost:11434"),
        ("ollama", {"base_url": "https://ollama.com", "api_key": "k"}, None),
    ],
)
def test_the_identity_names_every_server_but_the_vendors(
    kind: str, options: dict[str, Any], server: str | None
) -> None:
    assert build(kind, **options).identity.get("server") == server


def test_another_server_has_not_openais_price() -> None:
    assert build("openai", api_key="k").price is not None
    assert build("openai", base_url="http://127.0.0.1:9/v1").price is None
    assert build("openai", base_url="http://127.0.0.1:9/v1", price=0.5).price == 0.5


def test_openais_client_follows_no_redirect() -> None:
    class Moved(OpenAIServer):
        def answer(self, method: str, request: Request) -> Any:
            super().answer(method, request)
            return Refusal(307, "moved", {"Location": f"{elsewhere.url}/embeddings"})

    with OpenAIServer() as elsewhere, Moved() as server:
        with pytest.raises(RagAppError):
            build("openai", base_url=server.url).embed_query("a text")
        assert elsewhere.requests == []


# -- why it refuses -------------------------------------------------------------------------------

INVALID = "API key not valid. Please pass a valid API key."
EXPIRED = "API key expired. Please renew the API key."


@pytest.mark.parametrize("message", [INVALID, EXPIRED])
def test_a_key_that_is_revoked_on_the_way_is_no_fault_of_the_texts(message: str) -> None:
    with GoogleEmbeddingServer() as server:
        embeddings = build("google", base_url=server.url, batch_size=2)
        embeddings.embed_documents(["a", "b"])
        server.next_refusal = lambda: Refusal(400, message)  # type: ignore[method-assign]
        with pytest.raises(ModelError, match="refused the key") as caught:
            embeddings.embed_documents(["c", "d", "e"])
        assert caught.value.where == "embeddings.api_key"
        assert not isinstance(caught.value, IncompleteError)
        assert len(server.requests) == 2


def test_an_account_that_is_closed_on_the_way_is_no_fault_of_the_texts() -> None:
    with GoogleEmbeddingServer() as server:
        embeddings = build("google", base_url=server.url, batch_size=2)
        refusals: Iterator[Refusal | None] = iter([None])
        closed = Refusal(400, "User location is not supported.")
        server.next_refusal = lambda: next(refusals, closed)  # type: ignore[method-assign]
        with pytest.raises(IncompleteError, match="User location") as caught:
            embeddings.embed_documents([f"text {place}" for place in range(20)])
        assert caught.value.stopped
        assert set(caught.value.vectors) == {0, 1}
        assert caught.value.refused == {}
        assert len(server.requests) == 5  # the first, a pair, its two, and the plainest


def test_texts_that_are_refused_in_a_row_do_not_stop_the_others() -> None:
    with CohereEmbeddingServer() as server:
        embeddings = build("cohere", base_url=server.url)
        texts = ["fine", *["long " * 60] * 4, "good"]
        with pytest.raises(IncompleteError, match="4 of 6 texts were refused") as caught:
            embeddings.embed_documents(texts)
        assert set(caught.value.vectors) == {0, 5}
        sent = [request.body["texts"] for request in server.requests]
        assert sent.count(["a"]) == 2  # before the first vector, and once for the row


class Refused(Exception):
    """As vendors' errors are."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status_code, self.body, self.headers = status, {"message": message}, headers or {}


def test_a_secret_at_the_end_of_a_long_message_is_not_shown_in_part() -> None:
    secret = "quiet-" + "0123456789" * 4
    for start in range(255, 300):
        error = Refused(400, "x" * start + secret + " was wrong")
        told = explain(error, Endpoint("embeddings", "'here'", "m", secrets=(secret,)))
        assert "quiet" not in str(told)
        assert len(told.wrong) < 400


@pytest.mark.parametrize("zone", ["", " -0000", " GMT", " +0000"])
def test_a_date_to_wait_for_is_in_utc_where_it_names_no_zone(zone: str) -> None:
    when = datetime.now(UTC) + timedelta(hours=1)
    given = when.strftime("%a, %d %b %Y %H:%M:%S") + zone
    assert read_wait(Refused(429, "later", {"Retry-After": given})) == pytest.approx(3600, abs=60)


# -- why it ended ---------------------------------------------------------------------------------


class Ending(GenericFakeChatModel):
    """A model that says why it ended, as `metadata`."""

    metadata: dict[str, Any]
    text: str = "Two months [1]."

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content=self.text))
        yield ChatGenerationChunk(
            message=AIMessageChunk(content="", response_metadata=self.metadata)
        )


def end(text: str = "Two months [1].", **metadata: Any) -> BaseChatModel:
    return Ending(messages=iter([]), metadata=metadata, text=text)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"finish_reason": None},
        {"finish_reason": "stop"},
        {"finish_reason": "STOP"},
        {"finish_reason": "FinishReason.STOP"},
        {"finish_reason": "COMPLETE"},
        {"finish_reason": "eos_token"},
        {"stop_reason": "end_turn"},
        {"stop_reason": "stop_sequence"},
        {"done_reason": "stop"},
    ],
)
def test_an_answer_that_ended_well_is_given(metadata: dict[str, Any]) -> None:
    assert "".join(write(end(**metadata), [])) == "Two months [1]."


@pytest.mark.parametrize(
    "reason",
    ["length", "MAX_TOKENS", "max_tokens", "model_context_window_exceeded", "error_limit"],
)
def test_an_answer_that_was_cut_off_names_the_option(reason: str) -> None:
    with pytest.raises(ModelError, match="cut off") as caught:
        list(write(end(finish_reason=reason), []))
    assert caught.value.where == "chat_model.max_tokens"


@pytest.mark.parametrize(
    "reason",
    [
        *("tool_calls", "tool_use", "pause_turn", "ERROR", "error_toxic", "OTHER", "BLOCKLIST"),
        *("PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "insufficient_system_resource"),
        *("content_filter", "SAFETY", "refusal", "load", "abort", "something new"),
    ],
)
@pytest.mark.parametrize("text", ["Two months [1].", ""])
def test_an_answer_that_ended_for_another_reason_is_an_error(reason: str, text: str) -> None:
    with pytest.raises(ModelError, match=reason.lower()):
        list(write(end(text, finish_reason=reason), []))
