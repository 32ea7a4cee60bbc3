"""Embedding models that an Ollama server runs.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings, through the
vendor's own client. A text over the server's window is refused (`truncate: false`), where the
server's default is to cut it and say nothing. Ollama adds no prefix: the model card's are.

`OLLAMA_HOST` is refused where the config names no address, unless it is this machine's usual one,
and `OLLAMA_API_KEY` is sent to ollama.com only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationInfo, model_validator

from rag_app.embeddings._remote_options import RemoteEmbeddingOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import NO_KEY, OLLAMA

if TYPE_CHECKING:
    from rag_app.embeddings._remote import RemoteEmbeddings

MAX_TEXTS: Final = 64
MAX_REQUEST_TOKENS: Final = 32_000
"""Ollama has no such limits; it computes a request's texts before it answers, within `timeout`."""

_WITHOUT_KEY: Final = ", or leave base_url out for the server on this machine."


class Config(RemoteEmbeddingOptions):
    """Which model, where, and how long its vectors are."""

    model: str = Field(
        min_length=1, description="A model that `ollama list` shows, such as nomic-embed-text."
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Shorter vectors, for models that can shorten them; the model's own length "
        "when left out.",
    )
    context_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens of a text that the server makes room for (num_ctx); the server's own "
        "when left out. A text of more is refused.",
        json_schema_extra=OPERATIONAL,
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

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        return OLLAMA.take_key(given, info)


def build(config: Config) -> RemoteEmbeddings:
    """The server's model as embeddings; nothing is sent yet.

    Raises:
        ModelError: the environment names another server than the config.
        UsageError: the model is known not to have vectors of that many dimensions.
    """
    import weakref
    from dataclasses import replace

    from ollama import Client

    from rag_app.embeddings._remote import Limits, Purpose, RemoteEmbeddings, Sent
    from rag_app.model_cards import check_dimension, find_card
    from rag_app.model_errors import Endpoint, show_address
    from rag_app.remote import Caller

    card = find_card(config.model)
    check_dimension(card, config.dimensions)
    address = OLLAMA.find_address("embeddings", config.base_url)
    if not OLLAMA.owns(address):
        card = replace(card, price=0.0)  # a machine of the user's
    key = OLLAMA.find_key("embeddings", config.api_key, config.base_url, _WITHOUT_KEY)
    secret = "" if key is NO_KEY else key.get_secret_value()
    client = Client(host=address, timeout=config.timeout, follow_redirects=False)
    http = client._client
    http.headers.pop("Authorization", None)  # from the environment, whatever the address
    if secret:
        http.headers["Authorization"] = f"Bearer {secret}"
    options = {} if config.context_tokens is None else {"num_ctx": config.context_tokens}

    def send(texts: list[str], _: Purpose) -> Sent:
        reply = client.embed(
            model=config.model,
            input=texts,
            truncate=False,
            dimensions=config.dimensions,
            options=options or None,
        )
        return Sent(reply.embeddings, reply.prompt_eval_count)

    endpoint = Endpoint(
        "embeddings",
        show_address(address),
        config.model,
        OLLAMA.key_variables[0],
        (secret,) if secret else (),
        server=OLLAMA.name_server(address),
        start="" if OLLAMA.owns(address) else "ollama serve",
        obtain=f"ollama pull {config.model}",
    )
    limits = Limits(MAX_TEXTS, MAX_REQUEST_TOKENS)
    made = RemoteEmbeddings(send, Caller(endpoint, config), card, config, limits, config.dimensions)
    weakref.finalize(made, http.close)
    return made
