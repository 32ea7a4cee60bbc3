"""Models that an Ollama server runs, by its own protocol.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md, through the vendor's own client.

The config alone says where a question and a key go: `OLLAMA_HOST` is refused where the config names
no address, unless it is this machine's usual one, and `OLLAMA_API_KEY` is sent to ollama.com only.
The system's own proxy (`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rag_app.chat_models._options import RemoteChatOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import NO_KEY, OLLAMA, Vendor

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(RemoteChatOptions):
    """Which model, where, and how it writes."""

    VENDOR: ClassVar[Vendor] = OLLAMA

    model: str = Field(
        min_length=1, description="A model that `ollama list` shows, such as qwen3:8b."
    )
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of the server; http://localhost:11434 when left out.",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}, where the server wants one. Left out, it is the "
        "variable OLLAMA_API_KEY for https://ollama.com, and none for any other server.",
        json_schema_extra=OPERATIONAL,
    )
    context_tokens: int = Field(
        16_384,
        ge=256,
        description="Tokens of prompt and reply together that the server makes room for (num_ctx); "
        "a longer prompt is an error.",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 repeats itself, higher varies; the model's own if unset."
    )
    seed: int | None = Field(None, description="For replies as repeatable as the model offers.")
    keep_alive: str | None = Field(
        None,
        pattern=r"^-?\d+(\.\d+)?(ms|s|m|h)$",
        description="How long the server keeps the model loaded, such as 30m; -1m for ever. The "
        "server's own, five minutes, when left out.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config) -> BaseChatModel:
    """A `ChatOllama`; nothing is sent yet.

    Raises:
        ModelError: ollama.com is meant, and there is no key; or the environment names another
            server than the config.
    """
    from rag_app.chat_models._ollama import OllamaChatModel

    address, key = config.find_address(), config.find_key()
    return OllamaChatModel(
        model=config.model,
        base_url=address,
        temperature=config.temperature,
        num_predict=config.max_tokens,
        num_ctx=config.context_tokens,
        seed=config.seed,
        keep_alive=config.keep_alive,
        api_key=None if key is NO_KEY else key,
        timeout=config.timeout,
        max_retries=config.max_retries,
        **config.for_langchain(),
    )
