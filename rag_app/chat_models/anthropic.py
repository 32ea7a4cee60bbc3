"""Anthropic's chat models, or a gateway that speaks the protocol of its Messages API.

Protocol: https://docs.anthropic.com/en/api/messages, through the vendor's own client. Since its
version 2026-10-21 the API takes no temperature.

The config alone says where a question and a key go. The variables with which the vendor's client
and LangChain would redirect them are refused (`ANTHROPIC_BASE_URL`, `ANTHROPIC_API_URL`) or have no
effect (`LANGSMITH_GATEWAY`, `ANTHROPIC_PROXY`, `ANTHROPIC_AUTH_TOKEN`, profiles), and what the
environment holds for Anthropic (`ANTHROPIC_API_KEY`, headers) is sent to Anthropic only. The
system's own proxy (`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rag_app.chat_models._options import RemoteChatOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import ANTHROPIC, Vendor

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(RemoteChatOptions):
    """Which model, where, and how it writes."""

    VENDOR: ClassVar[Vendor] = ANTHROPIC

    model: str = Field(
        "claude-haiku-5-5", min_length=1, description="The model's name at Anthropic."
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable ANTHROPIC_API_KEY for "
        "Anthropic itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )
    max_tokens: int = Field(
        8192, ge=1, description="Longest reply in tokens, reasoning included; the API wants one."
    )


def build(config: Config) -> BaseChatModel:
    """A `ChatAnthropic`; nothing is sent yet.

    Raises:
        ModelError: Anthropic itself is meant, and there is no key; or the environment names another
            server than the config.
    """
    from anthropic import (
        DEFAULT_CONNECTION_LIMITS,
        AsyncClient,
        Client,
        DefaultAsyncHttpxClient,
        DefaultHttpxClient,
    )
    from langchain_anthropic import ChatAnthropic

    from rag_app._staying import open_async_client, open_client

    address = config.find_address()
    made = ChatAnthropic(
        model_name=config.model,
        base_url=address,
        api_key=config.find_key(),
        anthropic_proxy=None,
        max_tokens_to_sample=config.max_tokens,
        timeout=config.timeout,
        max_retries=config.max_retries,
        **config.for_langchain(),
    )
    # As LangChain makes them, which leaves no choice of the HTTP client.
    http = open_client(DefaultHttpxClient, config.timeout)
    made.__dict__["_client"] = Client(**made._client_params, http_client=http)
    http = open_async_client(DefaultAsyncHttpxClient, DEFAULT_CONNECTION_LIMITS, config.timeout)
    made.__dict__["_async_client"] = AsyncClient(**made._client_params, http_client=http)
    if not ANTHROPIC.owns(address):
        for client in (made._client, made._async_client):
            # The client took these from the environment, where they are meant for Anthropic.
            client._custom_headers = {}
    return made
