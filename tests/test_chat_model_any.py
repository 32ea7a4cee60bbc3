"""The chat model `any`: LangChain's own providers, their options checked."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from rag_app import registry
from rag_app.chat_models import any as anyone
from rag_app.errors import MissingPackageError, ModelError
from tests.chat_vendors import VENDORS
from tests.http_server import Refusal
from tests.openai_server import OpenAIServer

PROVIDERS = {"google": "google_genai"}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in VENDORS:
        monkeypatch.delenv(vendor.key, raising=False)
        monkeypatch.delenv(vendor.redirect, raising=False)
    monkeypatch.delenv("LANGSMITH_GATEWAY", raising=False)


@pytest.fixture(autouse=True)
def _collect_clients() -> Iterator[None]:
    """LangChain's classes never close their vendors' clients: what they leave open ends here."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


def build(model: str, **options: Any) -> Any:
    config = anyone.Config.model_validate({"model": model, **options})
    return registry.build("chat_models", "any", config)


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.name)
def test_it_answers_with_each_provider(vendor: Any) -> None:
    provider = PROVIDERS.get(vendor.name, vendor.name)
    key = {"cohere": "cohere_api_key"}.get(vendor.name, "api_key")
    secrets = {} if vendor.name == "ollama" else {key: "right"}
    with vendor.server("Yes.", key=None if vendor.name == "ollama" else "right") as server:
        model = build(f"{provider}:model-1", options={"base_url": server.url}, secrets=secrets)
        text = "".join(chunk.text for chunk in model.stream("?"))
        for client in (getattr(model, "_client", None), getattr(model, "client", None)):
            close = getattr(client, "close", None)
            if callable(close):
                close()
    assert text == "Yes."


def test_the_name_may_hold_colons_and_options_arrive() -> None:
    with OpenAIServer("Yes.") as server:
        options = {"base_url": server.url, "temperature": 0.25}
        model = build("openai:qwen3:8b", options=options, secrets={"api_key": "none"})
        assert model.invoke("?").text == "Yes."
    body = server.requests[0].body
    assert (body["model"], body["temperature"]) == ("qwen3:8b", 0.25)


def test_pace_and_streaming_are_passed_on() -> None:
    with OpenAIServer(lambda _: ["Yes", "."]) as server:
        model = build(
            "openai:model-1",
            options={"base_url": server.url},
            secrets={"api_key": "none"},
            streaming=False,
            requests_per_minute=30,
        )
        for _ in range(2):
            assert [chunk.text for chunk in model.stream("?") if chunk.text] == ["Yes."]
    assert sum(server.gaps) >= 1  # two seconds between them as they are sent


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google_genai", "cohere", "ollama"])
def test_an_unknown_option_is_refused_with_the_nearest(provider: str) -> None:
    secrets = {"cohere_api_key" if provider == "cohere" else "api_key": "right"}
    if provider == "ollama":
        secrets = {}
    with pytest.raises(ModelError, match=r"options.temprature: not an option.*'temperature'"):
        build(f"{provider}:model-1", options={"temprature": 0}, secrets=secrets)


def test_a_value_of_the_wrong_kind_is_refused_without_the_key() -> None:
    with pytest.raises(ModelError, match=r"options.temperature: .*valid number") as raised:
        build("openai:m", options={"temperature": "hot"}, secrets={"api_key": "sk-secret-1"})
    assert "secret" not in str(raised.value)


def test_a_secret_among_the_options_is_refused() -> None:
    with pytest.raises(ModelError, match=r"secret among the options.*secrets: {api_key:") as raised:
        build("openai:model-1", options={"api_key": "sk-secret-1"})
    assert "sk-secret" not in str(raised.value)


def test_a_missing_package_comes_with_its_command() -> None:
    with pytest.raises(MissingPackageError, match="pip install langchain-groq"):
        build("groq:llama")


def test_an_unknown_provider_is_named_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="'opnai' is not one of anthropic.*mean 'openai'"):
        build("opnai:model-1")


def test_a_missing_key_is_an_error_of_ours() -> None:
    with pytest.raises(ModelError, match=r"'openai' does not take them:.*OPENAI_API_KEY"):
        build("openai:model-1")


@pytest.mark.parametrize("model", ["model-1", "huggingface:model-1", "openai:", ":model-1"])
def test_a_model_without_a_provider_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="model"):
        build(model)


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai:m", "OPENAI_BASE_URL"),
        ("anthropic:m", "ANTHROPIC_BASE_URL"),
        ("google_genai:m", "GOOGLE_GEMINI_BASE_URL"),
        ("cohere:m", "CO_API_URL"),
        ("ollama:m", "OLLAMA_HOST"),
        ("groq:m", "LANGSMITH_GATEWAY"),
    ],
)
def test_the_environment_cannot_redirect_it(
    model: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://elsewhere.example.org")
    with pytest.raises(ModelError, match=variable):
        build(model, secrets={"api_key": "right"})


def test_errors_while_asking_are_ours() -> None:
    from rag_app.model_errors import chat_model_errors

    with OpenAIServer(lambda _: Refusal(404, "none")) as server:
        options = {"base_url": server.url, "max_retries": 0}
        model = build("openai:model-1", options=options, secrets={"api_key": "none"})
        with pytest.raises(ModelError, match="has no model 'model-1'"), chat_model_errors(model):
            model.invoke("?")


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.name)
@pytest.mark.parametrize("nested", [False, True])
def test_the_environments_key_is_not_sent_to_another_server(
    vendor: Any, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = PROVIDERS.get(vendor.name, vendor.name)
    monkeypatch.setenv(vendor.key, "sk-environment")
    options = {"base_url": "http://elsewhere.example.org"}
    given = {"client_options": {"api_endpoint": "x.example.org"}} if nested else options
    words = r"not an address of '\w+' itself.*secrets: \{api_key: \$\{VARIABLE\}\}"
    with pytest.raises(ModelError, match=words) as raised:
        build(f"{provider}:model-1", options=given)
    assert "sk-environment" not in str(raised.value)


def test_the_environments_key_is_sent_to_the_vendor_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    model = build("openai:model-1", options={"base_url": "https://api.openai.com/v1"})
    assert model.openai_api_key.get_secret_value() == "sk-environment"


def test_an_address_of_a_provider_without_a_backend_here_needs_its_key() -> None:
    with pytest.raises(ModelError, match="not an address of 'groq' itself"):
        build("groq:m", options={"base_url": "https://elsewhere.example.org"})
