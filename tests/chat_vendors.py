"""Every chat model that is a remote service, and the server here that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI

from rag_app.chat_models import anthropic, cohere, google, ollama, openai
from rag_app.chat_models._cohere import CohereChatModel
from rag_app.chat_models._ollama import OllamaChatModel
from tests import anthropic_server, cohere_server, google_server
from tests.http_server import HttpServer, Request
from tests.ollama_server import OllamaServer
from tests.openai_server import OpenAIServer


@dataclass(frozen=True)
class ChatVendor:
    """One vendor.

    Attributes:
        module: the backend.
        server: speaks the protocol.
        made: the LangChain class that the backend builds.
        key: the environment variable of its key; `redirect` is that which would send it elsewhere.
        host: where its requests go unless the config says otherwise.
        read_prompt: role and text of what a request shows the model.
    """

    module: ModuleType
    server: type[HttpServer]
    made: type[BaseChatModel]
    key: str
    redirect: str
    host: str
    read_prompt: Callable[[Request], list[tuple[str, str]]]

    @property
    def name(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    def config(self, url: str | None = None, **options: Any) -> Any:
        """Options of the backend; `url` None for where requests go by default."""
        where = {} if url is None else {"base_url": url}
        return self.module.Config.model_validate({"model": "model-1", **where, **options})

    def build(self, url: str | None = None, **options: Any) -> Any:
        """The chat model."""
        return self.module.build(self.config(url, **options))


def _messages(request: Request) -> list[tuple[str, str]]:
    return request.messages


VENDORS = [
    ChatVendor(
        openai,
        OpenAIServer,
        ChatOpenAI,
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "api.openai.com",
        _messages,
    ),
    ChatVendor(
        anthropic,
        anthropic_server.AnthropicServer,
        ChatAnthropic,
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "api.anthropic.com",
        anthropic_server.read_prompt,
    ),
    ChatVendor(
        google,
        google_server.GoogleServer,
        ChatGoogleGenerativeAI,
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "generativelanguage.googleapis.com",
        google_server.read_prompt,
    ),
    ChatVendor(
        cohere,
        cohere_server.CohereServer,
        CohereChatModel,
        "CO_API_KEY",
        "CO_API_URL",
        "api.cohere.com",
        cohere_server.read_prompt,
    ),
    ChatVendor(
        ollama,
        OllamaServer,
        OllamaChatModel,
        "OLLAMA_API_KEY",
        "OLLAMA_HOST",
        "localhost",
        _messages,
    ),
]
