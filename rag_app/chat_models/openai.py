"""OpenAI's chat models, and every server that speaks its protocol (set `base_url`).

Protocol: https://platform.openai.com/docs/api-reference/chat, through the vendor's own client.

The config alone says where a question and a key go. The variables with which the vendor's client
and LangChain would redirect them are refused (`OPENAI_BASE_URL`, `OPENAI_API_BASE`) or have no
effect (`LANGSMITH_GATEWAY`, `OPENAI_PROXY`), and what the environment holds for OpenAI
(`OPENAI_API_KEY`, organisation, project, headers) is sent to OpenAI only. The system's own proxy
(`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationInfo, model_validator

from rag_app.options import OPERATIONAL, Field, Options, Secret
from rag_app.vendors import OPENAI

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_WITHOUT_KEY: Final = ", or set base_url for a local server. Without a key, try chain: extractive."


class Config(Options):
    """Which model, where, and how it writes."""

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
    max_tokens: int | None = Field(
        None, ge=1, description="Longest reply in tokens, reasoning included."
    )
    seed: int | None = Field(None, description="For replies as repeatable as the server offers.")
    timeout: float = Field(
        60, gt=0, description="Seconds to wait for the server.", json_schema_extra=OPERATIONAL
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=20,
        description="How often a refused or failed request is sent again.",
        json_schema_extra=OPERATIONAL,
    )
    streaming: bool = Field(
        True,
        description="False for a server that cannot stream; the answer then comes in one piece.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        """So that the variable may stand in a `.env` file, which only the config's reader knows."""
        return OPENAI.take_key(given, info)


def build(config: Config) -> BaseChatModel:
    """A `ChatOpenAI`; nothing is sent yet.

    Raises:
        ModelError: OpenAI itself is meant, and there is no key; or the environment names another
            server than the config.
    """
    from langchain_openai import ChatOpenAI

    address = OPENAI.find_address("chat_model", config.base_url)
    key = OPENAI.find_key("chat_model", config.api_key, config.base_url, _WITHOUT_KEY)
    set_options: dict[str, Any] = {
        "temperature": config.temperature,
        "max_completion_tokens": config.max_tokens,
        "seed": config.seed,
    }
    made = ChatOpenAI(
        model=config.model,
        base_url=address,
        api_key=key,
        openai_proxy=None,
        timeout=config.timeout,
        max_retries=config.max_retries,
        stream_usage=True,
        disable_streaming=not config.streaming,
        **{name: value for name, value in set_options.items() if value is not None},
    )
    if not OPENAI.owns(address):
        for client in (made.root_client, made.root_async_client):
            # The client took these from the environment, where they are meant for OpenAI.
            client.organization = client.project = None
            client._custom_headers = {}
    return made
