"""OpenAI's chat models, and every server that speaks its protocol (set `base_url`).

Protocol: https://platform.openai.com/docs/api-reference/chat, through the vendor's own client.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rag_app.errors import ModelError
from rag_app.options import OPERATIONAL, Field, Options, Secret

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_KEY_VARIABLE = "OPENAI_API_KEY"
_ADDRESS_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


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
        description="The key, as ${VARIABLE}; the variable OPENAI_API_KEY when left out.",
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


def build(config: Config) -> BaseChatModel:
    """A `ChatOpenAI`; nothing is sent yet.

    Raises:
        ModelError: OpenAI itself is meant, and there is no key.
    """
    from langchain_openai import ChatOpenAI

    set_options: dict[str, Any] = {
        "temperature": config.temperature,
        "max_completion_tokens": config.max_tokens,
        "seed": config.seed,
        "base_url": config.base_url,
    }
    return ChatOpenAI(
        model=config.model,
        api_key=_find_key(config),
        timeout=config.timeout,
        max_retries=config.max_retries,
        stream_usage=True,
        disable_streaming=not config.streaming,
        **{name: value for name, value in set_options.items() if value is not None},
    )


def _find_key(config: Config) -> Secret | None:
    if config.api_key is not None or os.environ.get(_KEY_VARIABLE):
        return config.api_key
    if config.base_url is not None or any(map(os.environ.get, _ADDRESS_VARIABLES)):
        return Secret("none")
    raise ModelError(
        "chat_model.api_key",
        f"environment variable {_KEY_VARIABLE} is not set",
        "Set it, or set base_url for a local server. Without a key, try chain: extractive.",
    )
