"""OpenAI's chat models, and every server that speaks its protocol (set `base_url`).

Protocol: https://platform.openai.com/docs/api-reference/chat, through the vendor's own client.

The config alone says where a question and a key go. The variables with which the vendor's client
and LangChain would redirect them are refused (`OPENAI_BASE_URL`, `OPENAI_API_BASE`) or have no
effect (`LANGSMITH_GATEWAY`, `OPENAI_PROXY`), and what the environment holds for OpenAI
(`OPENAI_API_KEY`, organisation, project, headers) is sent to OpenAI only. The system's own proxy
(`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rag_app.chat_models._options import RemoteChatOptions, without_none
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import OPENAI, Vendor

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(RemoteChatOptions):
    """Which model, where, and how it writes."""

    VENDOR: ClassVar[Vendor] = OPENAI
    WITHOUT_KEY: ClassVar[str] = (
        ", or set base_url for a local server. Without a key, try chain: extractive."
    )

    model: str = Field("gpt-5-mini", min_length=1, description="The model's name at the server.")
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of a compatible server, such as http://localhost:11434/v1; "
        "OpenAI's own when left out. A local server needs no key.",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable OPENAI_API_KEY for "
        "OpenAI itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 repeats itself, higher varies; the model's own if unset."
    )
    seed: int | None = Field(None, description="For replies as repeatable as the server offers.")


def build(config: Config) -> BaseChatModel:
    """A `ChatOpenAI`; nothing is sent yet.

    Raises:
        ModelError: OpenAI itself is meant, and there is no key; or the environment names another
            server than the config.
    """
    from langchain_openai import ChatOpenAI
    from openai import DEFAULT_CONNECTION_LIMITS, DefaultAsyncHttpxClient, DefaultHttpxClient

    from rag_app._staying import open_async_client, open_client

    address = config.find_address()
    made = ChatOpenAI(
        model=config.model,
        base_url=address,
        api_key=config.find_key(),
        openai_proxy=None,
        http_client=open_client(DefaultHttpxClient, config.timeout),
        http_async_client=open_async_client(
            DefaultAsyncHttpxClient, DEFAULT_CONNECTION_LIMITS, config.timeout
        ),
        timeout=config.timeout,
        max_retries=config.max_retries,
        stream_usage=True,
        **config.for_langchain(),
        **without_none(
            temperature=config.temperature,
            max_completion_tokens=config.max_tokens,
            seed=config.seed,
        ),
    )
    if not OPENAI.owns(address):
        for client in (made.root_client, made.root_async_client):
            # The client took these from the environment, where they are meant for OpenAI.
            client.organization = client.project = None
            client._custom_headers = {}
    return made
