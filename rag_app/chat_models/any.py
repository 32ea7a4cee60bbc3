"""Any chat model that LangChain's `init_chat_model` knows, from the package of its vendor.

`model: groq:llama-3.3-70b-versatile` needs the package langchain-groq. Options are those of the
class there. Its client also reads its vendor's environment variables; those of the vendors that
have a backend of their own here are refused when they would send questions elsewhere, as there.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from rag_app.chat_models._options import limit
from rag_app.errors import ModelError
from rag_app.options import OPERATIONAL, Field, Options, Secret
from rag_app.vendors import ANTHROPIC, COHERE, GOOGLE, OLLAMA, OPENAI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel

_VENDORS: Final = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "google_genai": GOOGLE,
    "cohere": COHERE,
    "ollama": OLLAMA,
}
_ADDRESS: Final = re.compile(r"(?:base_url|api_base|api_url|endpoint)\Z")
_KEY: Final = re.compile(r"(?:key|token)\Z")
_GATEWAY: Final = "LANGSMITH_GATEWAY"


class Config(Options):
    """Which model of which provider, and the options of its class."""

    model: str = Field(
        pattern=r"^[a-z][a-z0-9_]*:\S",
        description="provider:name, with a provider of LangChain's init_chat_model, as in "
        "groq:llama-3.3-70b-versatile.",
    )
    options: dict[str, Any] = Field(
        {}, description="Options of the provider's LangChain class, as in {temperature: 0}."
    )
    secrets: dict[str, Secret] = Field(
        {},
        description="Those of its options that are secret, as in {api_key: ${GROQ_API_KEY}}; left "
        "out, the class reads the provider's own variable. With an address among the options that "
        "is not the provider's own the key must stand here.",
        json_schema_extra=OPERATIONAL,
    )
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="Never ask more often than this; no limit when left out. Requests that are "
        "sent again do not count.",
        json_schema_extra=OPERATIONAL,
    )
    streaming: bool = Field(
        True,
        description="False for a server that cannot stream; the answer then comes in one piece.",
        json_schema_extra=OPERATIONAL,
    )

    @field_validator("model")
    @classmethod
    def _refuse_local_pipelines(cls, model: str) -> str:
        """That provider's options could run code from a model's folder."""
        if model.startswith("huggingface:"):
            raise PydanticCustomError("provider", "Use the chat model `huggingface` for those")
        return model


def build(config: Config) -> BaseChatModel:
    """The provider's chat model; nothing is sent yet.

    Raises:
        MissingPackageError: the provider's package is not installed.
        ModelError: there is no such provider, its class has no such option or refuses one, or the
            environment names another server than the config, or its key would be sent to one
            that is not the provider's.
    """
    from rag_app.chat_models._any import make

    _refuse_redirects(config)
    _refuse_to_send_keys_elsewhere(config)
    return make(
        config.model,
        {**config.options, **config.secrets},
        frozenset(config.secrets),
        rate_limiter=limit(config.requests_per_minute),
        disable_streaming=not config.streaming,
    )


def _refuse_redirects(config: Config) -> None:
    if "base_url" in config.options:
        return
    vendor = _VENDORS.get(config.model.partition(":")[0])
    if vendor is not None:
        vendor.find_address("chat_model.options", None)
    if os.environ.get(_GATEWAY, "false").lower() not in ("", "false", "0", "no"):
        wrong = f"environment variable {_GATEWAY} sends questions elsewhere, the config does not"
        raise ModelError("chat_model.options", wrong, "Unset it, or write base_url under options.")


def _refuse_to_send_keys_elsewhere(config: Config) -> None:
    """A key that the environment holds for a provider is sent to that provider only."""
    if any(_KEY.search(name) for name in config.secrets):
        return
    provider = config.model.partition(":")[0]
    vendor = _VENDORS.get(provider)
    for name, address in _list_addresses(config.options):
        if vendor and (vendor.owns(address) or re.fullmatch(vendor.usual, str(address))):
            continue
        if vendor is OLLAMA and not any(map(os.environ.get, OLLAMA.key_variables)):
            continue  # the only one here that needs no key
        raise ModelError(
            f"chat_model.options.{name}",
            f"not an address of {provider!r} itself, to which the key in the environment may go",
            "Give secrets: {api_key: ${VARIABLE}} with the key of that server"
            + (f", or unset {OLLAMA.key_variables[0]}." if vendor is OLLAMA else "."),
        )


def _list_addresses(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _list_addresses(value)
        elif value is not None and _ADDRESS.search(name):
            yield name, value
