"""Cohere's chat models, or a gateway that speaks the protocol of its chat API.

Protocol: https://docs.cohere.com/v2/reference/chat, through the vendor's own client.

The config alone says where a question and a key go: `CO_API_URL` is refused where the config names
no address, and the variables `CO_API_KEY` and `COHERE_API_KEY` are sent to Cohere only. The
system's own proxy (`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rag_app.chat_models._options import RemoteChatOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import COHERE, Vendor

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(RemoteChatOptions):
    """Which model, where, and how it writes."""

    VENDOR: ClassVar[Vendor] = COHERE

    model: str = Field("command-a-03-2025", min_length=1, description="The model's name at Cohere.")
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable CO_API_KEY or "
        "COHERE_API_KEY for Cohere itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )
    temperature: float | None = Field(
        None, ge=0, le=1, description="0 repeats itself, higher varies; the model's own if unset."
    )
    seed: int | None = Field(
        None, ge=0, description="For replies as repeatable as the service offers."
    )


def build(config: Config) -> BaseChatModel:
    """A `ChatCohere`; nothing is sent yet.

    Raises:
        ModelError: Cohere itself is meant, and there is no key; or the environment names another
            server than the config.
    """
    from rag_app.chat_models._cohere import CohereChatModel

    address, key = config.find_address(), config.find_key()
    return CohereChatModel(
        model=config.model,
        base_url=address,
        cohere_api_key=key,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        seed=config.seed,
        timeout_seconds=config.timeout,
        max_retries=config.max_retries,
        **config.for_langchain(),
    )
