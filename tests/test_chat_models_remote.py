"""What every chat model that is a remote service does alike, through the vendors' own clients."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from pydantic import SecretStr

import rag_app
from rag_app.errors import ModelError
from rag_app.model_errors import chat_model_errors, describe_chat_model
from tests.chat_vendors import VENDORS, ChatVendor
from tests.http_server import Refusal, Request

SECRET = "sk-secret-12345678"
ADDRESSES = ("OPENAI_API_BASE", "ANTHROPIC_API_URL", *(v.redirect for v in VENDORS))
KEYS = ("COHERE_API_KEY", "GEMINI_API_KEY", *(v.key for v in VENDORS))


@pytest.fixture(params=VENDORS, ids=lambda v: v.name)
def vendor(request: pytest.FixtureRequest) -> ChatVendor:
    found: ChatVendor = request.param
    return found


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*ADDRESSES, *KEYS):
        monkeypatch.delenv(variable, raising=False)


# -- replies --------------------------------------------------------------------------------------


def test_a_stream_comes_in_pieces_and_counts_its_tokens(vendor: ChatVendor) -> None:
    with vendor.server(lambda _: ["One ", "two ", "three"]) as server:
        chunks = list(vendor.build(server.url).stream("How many words?"))
    assert [chunk.text for chunk in chunks if chunk.text] == ["One ", "two ", "three"]
    usage = sum(chunks[1:], start=chunks[0]).usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (3, 3)


async def test_it_can_be_awaited(vendor: ChatVendor) -> None:
    with vendor.server(lambda _: ["One ", "two"]) as server:
        model = vendor.build(server.url)
        assert (await model.ainvoke("?")).text == "One two"
        assert "".join([chunk.text async for chunk in model.astream("?")]) == "One two"


def test_a_token_arrives_before_the_last_is_written(vendor: ChatVendor) -> None:
    first_was_read = threading.Event()

    def write(_: Request) -> Any:
        yield "One "
        assert first_was_read.wait(20)
        yield "two"

    with vendor.server(write) as server:
        text = ""
        for chunk in vendor.build(server.url).stream("?"):
            text += chunk.text
            if text:
                first_was_read.set()
    assert text == "One two"


def test_streaming_off_gives_one_piece(vendor: ChatVendor) -> None:
    with vendor.server(lambda _: ["One ", "two"]) as server:
        pieces = [c.text for c in vendor.build(server.url, streaming=False).stream("?") if c.text]
    assert pieces == ["One two"]


def test_the_model_sees_the_messages_and_the_options(vendor: ChatVendor) -> None:
    with vendor.server("Yes.") as server:
        options: dict[str, Any] = {"max_tokens": 77}
        if vendor.name != "anthropic":
            options |= {"temperature": 0.25, "seed": 33}
        vendor.build(server.url, **options).invoke([SystemMessage("Be brief."), HumanMessage("?")])
    request = server.requests[0]
    assert vendor.read_prompt(request) == [("system", "Be brief."), ("user", "?")]
    sent = f"{request.path} {json.dumps(request.body)}"
    assert all(str(value) in sent for value in ("model-1", *options.values()))


def test_anthropic_takes_no_temperature() -> None:
    with pytest.raises(ValueError, match="temperature"):
        next(v for v in VENDORS if v.name == "anthropic").config(temperature=0)


# -- where requests and keys go -------------------------------------------------------------------


def test_without_key_the_error_names_the_variable(vendor: ChatVendor) -> None:
    if vendor.name == "ollama":
        with pytest.raises(ModelError, match="OLLAMA_API_KEY is not set"):
            vendor.build("https://ollama.com")
    else:
        with pytest.raises(ModelError, match=f"{vendor.key} is not set.*extractive"):
            vendor.build()


def test_the_key_of_the_config_goes_to_the_server(
    vendor: ChatVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in KEYS:
        monkeypatch.setenv(variable, "another-key")
    with vendor.server("Yes.", key="right-key") as server:
        assert vendor.build(server.url, api_key=SecretStr("right-key")).invoke("?").text == "Yes."


OF_ENVIRONMENT = {
    **dict.fromkeys(KEYS, "private-key"),
    "OPENAI_CUSTOM_HEADERS": "Authorization: private-header",
    "ANTHROPIC_CUSTOM_HEADERS": "Authorization: private-header",
    "ANTHROPIC_AUTH_TOKEN": "private-token",
    "LANGSMITH_GATEWAY_API_KEY": "private-gateway",
}


async def test_what_the_environment_holds_goes_to_no_other_server(
    vendor: ChatVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in OF_ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    with vendor.server("Yes.") as server:
        model = vendor.build(server.url)
        assert model.invoke("?").text == "Yes."
        assert (await model.ainvoke("?")).text == "Yes."
    assert len(server.requests) == 2
    assert "private" not in str([request.headers for request in server.requests])


def test_a_key_of_a_dotenv_file_is_taken_for_the_vendor_only(
    vendor: ChatVendor, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"{vendor.key}=in-the-file\n")
    lines = ["sources: [{kind: files, path: .}]", "chat_model:", f"  kind: {vendor.name}"]
    own = ["  base_url: https://ollama.com"] if vendor.name == "ollama" else []
    for where, taken in ((own, True), (["  base_url: https://other.example.org"], False)):
        (tmp_path / "c.yaml").write_text("\n".join([*lines, "  model: model-1", *where]))
        with rag_app.load(tmp_path / "c.yaml") as app:
            assert "in-the-file" not in json.dumps(app.config.describe()) + repr(app.config)
            assert ("in-the-file" in describe_chat_model(app.chat_model).secrets) is taken  # type: ignore[arg-type]


def test_the_environment_cannot_redirect_a_model(
    vendor: ChatVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(vendor.key, "private-key")
    with vendor.server("Yes.") as elsewhere, vendor.server("Yes.") as server:
        for variable in ("LANGSMITH_GATEWAY", "OPENAI_PROXY", "ANTHROPIC_PROXY"):
            monkeypatch.setenv(variable, elsewhere.url)
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        assert vendor.build(server.url).invoke("?").text == "Yes."
        assert vendor.host in describe_chat_model(vendor.build()).address
        assert f"//{vendor.host}" in find_address(vendor.build())
        monkeypatch.setenv(vendor.redirect, elsewhere.url)
        assert vendor.build(server.url).invoke("?").text == "Yes."
        with pytest.raises(
            ModelError, match=rf"base_url.*{vendor.redirect}.*\${{{vendor.redirect}}}"
        ):
            vendor.build()
    assert elsewhere.requests == []


def find_address(model: Any) -> str:
    """Where the vendor's client itself sends requests, from what it holds."""
    match model._llm_type:
        case "openai-chat":
            return str(model.root_client.base_url)
        case "anthropic-chat":
            return str(model._client.base_url)
        case "chat-google-generative-ai":
            return str(model.client._api_client._http_options.base_url)
        case "cohere-chat":
            return str(model.client._client_wrapper.get_base_url())
    return str(model._client._client.base_url)


@pytest.mark.parametrize("usual", ["localhost", "127.0.0.1:11434", "http://0.0.0.0:11434", ""])
def test_an_ollama_host_that_is_this_machine_is_no_redirection(
    usual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", usual)
    model = next(v for v in VENDORS if v.name == "ollama").build()
    assert find_address(model).rstrip("/") == "http://localhost:11434"


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda v: v.name, indirect=True)
async def test_no_redirection_is_followed(vendor: ChatVendor) -> None:
    with vendor.server("Yes.") as elsewhere:
        moved = Refusal(307, "moved", {"Location": elsewhere.url})
        with vendor.server(lambda _: moved) as server:
            model = vendor.build(server.url, max_retries=0)
            with pytest.raises(ModelError), chat_model_errors(model):
                model.invoke("?")
            with pytest.raises(ModelError), chat_model_errors(model):
                await model.ainvoke("?")
    assert elsewhere.requests == []


# -- errors and retries ---------------------------------------------------------------------------

ERRORS = [
    (401, f"Incorrect key: {SECRET}", "chat_model.api_key", "refused the key"),
    (404, "There is no such model", "chat_model.model", "has no model 'model-1'"),
    (429, f"Rate limit of {SECRET}", "chat_model", "takes no more requests"),
    (500, "boom", "chat_model", "boom.*max_retries"),
    (400, "seed is not supported", "chat_model", "seed is not supported"),
    (504, "slow", "chat_model.timeout", "did not answer in time"),
]


@pytest.mark.parametrize(("status", "message", "where", "words"), ERRORS)
def test_errors_name_the_option_and_no_secret(
    vendor: ChatVendor, status: int, message: str, where: str, words: str
) -> None:
    with vendor.server(lambda _: Refusal(status, message)) as server:
        model = vendor.build(server.url, api_key=SecretStr(SECRET), max_retries=0)
        with pytest.raises(ModelError, match=words) as raised, chat_model_errors(model):
            list(model.stream("?"))
    assert raised.value.where == where
    assert server.url in str(raised.value)
    assert "secret" not in str(raised.value)
    assert len(server.requests) == 1


def test_a_wrong_key_is_told_as_such(vendor: ChatVendor) -> None:
    with vendor.server("Yes.", key="right") as server:
        model = vendor.build(server.url, api_key=SecretStr(SECRET))
        with pytest.raises(ModelError, match=vendor.key) as raised, chat_model_errors(model):
            model.invoke("?")
    assert raised.value.where == "chat_model.api_key"


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_a_wait_that_the_server_asks_for_is_kept(vendor: ChatVendor, how: str) -> None:
    replies: list[Any] = [Refusal(429, "slow down", {"Retry-After": "1"}), "Yes."]
    with vendor.server(lambda _: replies.pop(0)) as server:
        reply = getattr(vendor.build(server.url, max_retries=1), how)("?")
        text = reply.text if how == "invoke" else "".join(chunk.text for chunk in reply)
    assert text == "Yes."
    assert [gap >= 0.99 for gap in server.gaps] == [True]


async def test_a_wait_is_kept_when_awaited_too(vendor: ChatVendor) -> None:
    replies: list[Any] = [Refusal(429, "slow down", {"Retry-After": "1"}), "Yes."]
    with vendor.server(lambda _: replies.pop(0)) as server:
        assert (await vendor.build(server.url, max_retries=1).ainvoke("?")).text == "Yes."
    assert [gap >= 0.99 for gap in server.gaps] == [True]


def test_google_asks_to_wait_in_the_body() -> None:
    google = next(v for v in VENDORS if v.name == "google")
    replies: list[Any] = [Refusal(429, "quota", {"Retry-Delay": "1"}), "Yes."]
    with google.server(lambda _: replies.pop(0)) as server:
        assert google.build(server.url, max_retries=1).invoke("?").text == "Yes."
    assert [gap >= 0.99 for gap in server.gaps] == [True]


def test_retries_end(vendor: ChatVendor) -> None:
    refusal = Refusal(503, "busy", {"Retry-After": "0"})
    with vendor.server(lambda _: refusal) as server:
        model = vendor.build(server.url, max_retries=1)
        with pytest.raises(ModelError, match="busy"), chat_model_errors(model):
            model.invoke("?")
    assert len(server.requests) == 2


def test_nobody_listening_names_the_address(vendor: ChatVendor) -> None:
    with vendor.server() as server:
        model = vendor.build(server.url, max_retries=0)
    with pytest.raises(ModelError, match="127.0.0.1.*cannot be reached"), chat_model_errors(model):
        model.invoke("?")


def test_a_silent_server_times_out(vendor: ChatVendor) -> None:
    release = threading.Event()

    def wait(_: Request) -> str:
        release.wait(30)
        return ""

    with vendor.server(wait) as server:
        model = vendor.build(server.url, max_retries=0, timeout=0.3)
        with pytest.raises(ModelError, match="did not answer in time"), chat_model_errors(model):
            model.invoke("?")
        release.set()


def test_the_pace_is_kept(vendor: ChatVendor) -> None:
    with vendor.server("Yes.") as server:
        model = vendor.build(server.url, requests_per_minute=300)
        for _ in range(3):
            model.invoke("?")
    assert len(server.requests) == 3
    assert sum(server.gaps) >= 0.35  # two gaps of a fifth of a second


# -- Ollama cuts prompts without a word -----------------------------------------------------------


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_a_prompt_that_ollama_cut_is_an_error(how: str) -> None:
    ollama = next(v for v in VENDORS if v.name == "ollama")
    with ollama.server("Yes.") as server:
        model = ollama.build(server.url, context_tokens=300)
        assert model.invoke("word " * 299).text == "Yes."
        with pytest.raises(ModelError, match="does not fit into 300 tokens"):
            list(getattr(model, how)("word " * 301))
    assert server.requests[0].body["options"]["num_ctx"] == 300
