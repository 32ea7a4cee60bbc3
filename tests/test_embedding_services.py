"""Google's, Cohere's and Ollama's embeddings, each through the vendor's own client.

The servers are `tests/embedding_servers.py`. With RAG_APP_TEST_GOOGLE_KEY, RAG_APP_TEST_COHERE_KEY,
RAG_APP_TEST_OPENAI_KEY or RAG_APP_TEST_OLLAMA_URL in the environment, LangChain's tests run against
the real service. (What OpenAI's does in particular is in `test_remote.py`.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from rag_app import registry
from rag_app.errors import IncompleteError, ModelError, RagAppError, UsageError
from tests.embedding_servers import (
    CohereEmbeddingServer,
    EmbeddingRoutes,
    GoogleEmbeddingServer,
    OllamaEmbeddingServer,
    draw,
)
from tests.http_server import Refusal
from tests.openai_server import OpenAIServer

KEY = "AIza-this-is-no-real-key-0123456789"
SERVERS: dict[str, type[EmbeddingRoutes]] = {
    "google": GoogleEmbeddingServer,
    "cohere": CohereEmbeddingServer,
    "ollama": OllamaEmbeddingServer,
}
MODELS = {"google": "gemini-embedding-001", "cohere": "embed-v4.0", "ollama": "bge-m3"}
MODELS["openai"] = "text-embedding-3-small"
FULL = {"google": 3072, "cohere": 1536, "ollama": 1024}
FOR_DOCUMENTS = {"google": "RETRIEVAL_DOCUMENT", "cohere": "search_document", "ollama": ""}
FOR_QUESTIONS = {"google": "RETRIEVAL_QUERY", "cohere": "search_query", "ollama": ""}
VARIABLES = ["GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"]
VARIABLES += ["GOOGLE_GENAI_USE_VERTEXAI", "CO_API_KEY", "COHERE_API_KEY", "CO_API_URL"]
VARIABLES += ["OLLAMA_API_KEY", "OLLAMA_HOST"]

services = pytest.mark.parametrize("name", SERVERS)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def build(name: str, **options: Any) -> Any:
    options = {"model": MODELS[name], "max_retries": 0, **options}
    config = registry.config_class("embeddings", name)(**options)
    return registry.build("embeddings", name, config)


@contextmanager
def serve(name: str, **options: Any) -> Iterator[tuple[EmbeddingRoutes, Any]]:
    """A server and the embeddings that ask it."""
    with SERVERS[name](key=KEY) as server:
        yield server, build(name, **{"base_url": server.url, "api_key": KEY, **options})


# -- LangChain's own tests ------------------------------------------------------------------------


class _Standard:
    name: str

    @property
    def embeddings_class(self) -> Any:
        return lambda **options: build(self.name, **options)

    @pytest.fixture
    def place(self) -> Iterator[dict[str, Any]]:
        prefix = f"RAG_APP_TEST_{self.name.upper()}"
        url, key = os.environ.get(f"{prefix}_URL"), os.environ.get(f"{prefix}_KEY")
        if url or key:
            given = {"base_url": url, "api_key": key, "max_retries": 6}
            yield {option: value for option, value in given.items() if value}
            return
        with {**SERVERS, "openai": OpenAIServer}[self.name](key=KEY) as server:
            yield {"base_url": server.url, "api_key": KEY}

    @pytest.fixture
    def model(self, place: dict[str, Any]) -> Embeddings:
        made: Embeddings = build(self.name, **place)
        return made


class _Unit(_Standard):
    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"base_url": "http://127.0.0.1:9", "api_key": KEY}


class TestGoogleUnit(_Unit, EmbeddingsUnitTests):
    name = "google"


class TestGoogle(_Standard, EmbeddingsIntegrationTests):
    name = "google"


class TestCohereUnit(_Unit, EmbeddingsUnitTests):
    name = "cohere"


class TestCohere(_Standard, EmbeddingsIntegrationTests):
    name = "cohere"


class TestOllamaUnit(_Unit, EmbeddingsUnitTests):
    name = "ollama"


class TestOllama(_Standard, EmbeddingsIntegrationTests):
    name = "ollama"


class TestOpenAIUnit(_Unit, EmbeddingsUnitTests):
    name = "openai"


class TestOpenAI(_Standard, EmbeddingsIntegrationTests):
    name = "openai"


# -- what is sent and what comes back -------------------------------------------------------------


@services
def test_every_text_has_its_own_vector_whatever_the_batches(name: str) -> None:
    texts = [f"text {place}" for place in range(205)]
    with serve(name, dimensions=256 if name == "cohere" else None) as (server, embeddings):
        vectors = np.array(embeddings.embed_documents(texts))
        asked = np.array(embeddings.embed_query("text 3"))
    full = 256 if name == "cohere" else FULL[name]
    expected = np.array([draw(text, FOR_DOCUMENTS[name], FULL[name])[:full] for text in texts])
    question = draw("text 3", FOR_QUESTIONS[name], FULL[name])[:full]
    np.testing.assert_allclose(vectors, expected, atol=1e-9)
    np.testing.assert_allclose(asked, question, atol=1e-9)
    most = {"google": 100, "cohere": 96, "ollama": 64}[name]
    assert len(server.requests) == -(-205 // most) + 1
    assert embeddings.usage.requests == len(server.requests)
    assert embeddings.usage.texts == 206


@services
def test_tokens_are_counted_as_the_service_does_where_it_tells(name: str) -> None:
    with serve(name, price=2.0) as (_, embeddings):
        embeddings.embed_documents(["one two three", "four"])
    told = {"google": 4, "cohere": 4, "ollama": 4}[name]
    assert embeddings.usage.tokens == told
    assert embeddings.usage.cost == pytest.approx(told * 2e-6)


@pytest.mark.parametrize(("name", "length"), [("google", 768), ("cohere", 512)])
def test_shorter_vectors_are_asked_of_the_service(name: str, length: int) -> None:
    with serve(name, dimensions=length) as (_, embeddings):
        found = np.array(embeddings.embed_documents(["a text"])[0])
    full = draw("a text", FOR_DOCUMENTS[name], FULL[name])[:length]
    expected = full / np.linalg.norm(full) if name == "google" else full
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_an_ollama_model_without_a_card_may_be_shortened() -> None:
    with serve("ollama", model="unheard-of", dimensions=8) as (_, embeddings):
        found = embeddings.embed_query("a text")
    cut = draw("a text", "", 32)[:8]
    np.testing.assert_allclose(found, cut / np.linalg.norm(cut), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "length", "allowed"),
    [("google", 64, "128 to 3072"), ("cohere", 300, "1024, 512, 256"), ("ollama", 512, "It has")],
)
def test_a_length_that_the_model_has_not_is_refused_at_once(
    name: str, length: int, allowed: str
) -> None:
    with pytest.raises(UsageError, match=rf"no vectors of {length} dimensions.*{allowed}"):
        build(name, dimensions=length, base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(("name", "length"), [("google", 768), ("cohere", 512), ("ollama", 8)])
def test_a_server_that_ignores_the_length_is_found_out(name: str, length: int) -> None:
    model = "unheard-of" if name == "ollama" else MODELS[name]
    with serve(name, model=model, dimensions=length) as (server, embeddings):
        server.cuts = False
        with pytest.raises(ModelError, match=f"where {length} were asked for"):
            embeddings.embed_query("a text")


def test_googles_task_types_can_be_chosen() -> None:
    with serve("google", query_task="QUESTION_ANSWERING") as (server, embeddings):
        embeddings.embed_query("why?")
        embeddings.embed_documents(["so"])
        sent = [request.body["requests"][0]["taskType"] for request in server.requests]
    assert sent == ["QUESTION_ANSWERING", "RETRIEVAL_DOCUMENT"]
    config = registry.config_class("embeddings", "google")(query_task="QUESTION_ANSWERING")
    assert config.identity()["query_task"] == "QUESTION_ANSWERING"


def test_ollama_is_sent_the_cards_prefixes_for_it_adds_none() -> None:
    with serve("ollama", model="nomic-embed-text:latest") as (server, embeddings):
        embeddings.embed_query("why?")
        embeddings.embed_documents(["so"])
        sent = [request.body["input"] for request in server.requests]
        assert all(request.body["truncate"] is False for request in server.requests)
    assert sent == [["search_query: why?"], ["search_document: so"]]
    assert embeddings.identity["query_prefix"] == "search_query: "
    with serve("ollama", model="nomic-embed-text", query_prefix="") as (server, embeddings):
        embeddings.embed_query("why?")
        assert server.requests[0].body["input"] == ["why?"]
    assert embeddings.identity["query_prefix"] == ""


@pytest.mark.parametrize("name", ["cohere", "ollama"])
def test_a_text_over_the_window_is_refused_alone_and_never_cut(name: str) -> None:
    texts = ["fine", "long " * 60, "good"]
    refused = pytest.raises(IncompleteError, match="1 of 3 texts were refused")
    with serve(name) as (_, embeddings), refused as told:
        embeddings.embed_documents(texts)
    assert set(told.value.vectors) == {0, 2}
    assert set(told.value.refused) == {1}
    expected = draw("good", FOR_DOCUMENTS[name], FULL[name])
    np.testing.assert_allclose(told.value.vectors[2], expected, atol=1e-9)


def test_ollamas_window_can_be_widened() -> None:
    with serve("ollama", context_tokens=80) as (server, embeddings):
        assert len(embeddings.embed_documents(["long " * 60])) == 1
        assert server.requests[0].body["options"] == {"num_ctx": 80}


# -- what can go wrong ----------------------------------------------------------------------------


@services
def test_a_wrong_key_is_told_without_showing_it(name: str) -> None:
    with serve(name, api_key="sk-wrong-key-0123456789") as (_, embeddings):
        for ask in (embeddings.embed_query, lambda text: embeddings.embed_documents([text])):
            with pytest.raises(ModelError, match="refused the key") as told:
                ask("a text")
            assert told.value.where == "embeddings.api_key"
            assert "0123456789" not in str(told.value)


@services
def test_a_model_that_is_not_there_is_named(name: str) -> None:
    absent = pytest.raises(ModelError, match="has no model 'no-such'")
    with serve(name, model="no-such") as (_, embeddings), absent as told:
        embeddings.embed_query("a text")
    assert told.value.where == "embeddings.model"
    remedy = "ollama pull no-such" if name == "ollama" else "Choose a model the server offers"
    assert remedy in told.value.remedy


@services
def test_a_server_that_is_down_is_told(name: str) -> None:
    embeddings = build(name, base_url="http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9.*cannot be reached") as told:
        embeddings.embed_query("a text")
    assert told.value.where == "embeddings.base_url"
    assert ("ollama serve" in told.value.remedy) == (name == "ollama")


@pytest.mark.parametrize("name", ["google", "cohere"])
def test_a_busy_service_is_waited_for_as_long_as_it_says(name: str) -> None:
    header = "Retry-Delay" if name == "google" else "Retry-After"
    with serve(name, max_retries=2) as (server, embeddings):
        server.refusing = [Refusal(429, "slow down", {header: "1"}), Refusal(503, "overloaded")]
        assert len(embeddings.embed_query("a text")) == FULL[name]
        assert len(server.requests) == 3
        assert server.gaps[0] >= 1


@services
def test_one_attempt_is_one_request_the_clients_own_retries_are_off(name: str) -> None:
    with serve(name) as (server, embeddings):
        server.refusing = [Refusal(429, "slow down")] * 3
        with pytest.raises(ModelError, match=r"takes no more requests now \(429\): slow down"):
            embeddings.embed_query("a text")
        assert len(server.requests) == 1
        server.refusing = [Refusal(500, "it broke")]
        with pytest.raises(ModelError, match=r"failed \(500\): it broke"):
            embeddings.embed_query("a text")
        assert len(server.requests) == 2


# -- where requests and keys go -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable"), [("google", "GOOGLE_GEMINI_BASE_URL"), ("cohere", "CO_API_URL")]
)
def test_the_environment_cannot_send_texts_elsewhere(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://elsewhere.example")
    with pytest.raises(ModelError, match=f"{variable} names another server"):
        build(name, api_key=KEY)


def test_ollama_host_cannot_send_texts_elsewhere_and_its_key_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://elsewhere.example")
    with pytest.raises(ModelError, match="OLLAMA_HOST names another server"):
        build("ollama")
    monkeypatch.setenv("OLLAMA_API_KEY", "a-key-of-the-environment")
    with OllamaEmbeddingServer() as server:
        build("ollama", base_url=server.url).embed_query("a text")
        assert server.requests[0].header("Authorization") == ""


@pytest.mark.parametrize(
    ("name", "variable"), [("google", "GEMINI_API_KEY"), ("cohere", "COHERE_API_KEY")]
)
def test_the_environments_key_is_sent_to_the_vendor_alone(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="is not set"):
        build(name)
    monkeypatch.setenv(variable, "a-key-of-the-environment")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    build(name)
    with SERVERS[name]() as server:
        build(name, base_url=server.url).embed_query("a text")
        assert server.read_key(server.requests[0]) == "none"


@services
def test_a_redirect_is_not_followed_with_the_texts_and_the_key(name: str) -> None:
    with serve(name) as (elsewhere, _), serve(name) as (server, embeddings):
        server.refusing = [Refusal(308, "moved", {"Location": f"{elsewhere.url}/api/embed"})]
        with pytest.raises(RagAppError):
            embeddings.embed_query("a text")
        assert len(server.requests) == 1
        assert not elsewhere.requests
