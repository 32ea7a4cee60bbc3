"""OpenAI's embedding models, and every server that speaks their protocol (set `base_url`).

Protocol: https://platform.openai.com/docs/api-reference/embeddings, through the vendor's own
client. Texts are sent as strings, so no tokenizer is downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationInfo, model_validator

from rag_app.embeddings._remote_options import RemoteEmbeddingOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import OPENAI

if TYPE_CHECKING:
    from rag_app.embeddings._remote import RemoteEmbeddings

MAX_TEXTS: Final = 2048
MAX_REQUEST_TOKENS: Final = 250_000
"""OpenAI takes 300,000 in one request; the rest is for the estimate's error."""

_WITHOUT_KEY: Final = ", or set base_url for a local server. Without a key, try embeddings: minilm."


class Config(RemoteEmbeddingOptions):
    """Which model, where, and how long its vectors are."""

    model: str = Field(
        "text-embedding-3-small", min_length=1, description="The model's name at the server."
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Shorter vectors, for models that can shorten them; the model's own length "
        "when left out.",
    )
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of a compatible server, such as http://localhost:8000/v1; OpenAI's "
        "own when left out. A local server needs no key.",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable OPENAI_API_KEY for "
        "OpenAI itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        return OPENAI.take_key(given, info)


def build(config: Config) -> RemoteEmbeddings:
    """The service as embeddings; nothing is sent yet.

    Raises:
        ModelError: OpenAI itself is meant and there is no key, or the environment names another
            server than the config.
        UsageError: the model is known not to have vectors of that many dimensions.
    """
    from dataclasses import replace

    from openai import DefaultHttpxClient, OpenAI, omit

    from rag_app._staying import open_client
    from rag_app.embeddings._remote import Limits, Purpose, RemoteEmbeddings, Sent
    from rag_app.model_cards import check_dimension, find_card
    from rag_app.model_errors import Endpoint, show_address
    from rag_app.remote import Caller

    card = find_card(config.model)
    check_dimension(card, config.dimensions)
    address = OPENAI.find_address("embeddings", config.base_url)
    key = OPENAI.find_key("embeddings", config.api_key, config.base_url, _WITHOUT_KEY)
    client = OpenAI(
        api_key=key.get_secret_value(),
        base_url=address,
        timeout=config.timeout,
        max_retries=0,
        http_client=open_client(DefaultHttpxClient, config.timeout),
    )
    if not OPENAI.owns(address):
        card = replace(card, price=None)  # OpenAI's, not this server's
        # The client took these from the environment, where they are meant for OpenAI.
        client.organization = client.project = None
        client._custom_headers = {}

    def send(texts: list[str], _: Purpose) -> Sent:
        reply = client.embeddings.create(
            model=config.model, input=texts, dimensions=config.dimensions or omit
        )
        ordered = sorted(reply.data, key=lambda each: each.index)
        counted = reply.usage.prompt_tokens if reply.usage else None
        return Sent([each.embedding for each in ordered], counted)

    endpoint = Endpoint(
        "embeddings",
        show_address(address),
        config.model,
        OPENAI.key_variables[0],
        (key.get_secret_value(),),
        server=OPENAI.name_server(address),
    )
    return RemoteEmbeddings(
        send,
        Caller(endpoint, config),
        card,
        config,
        Limits(MAX_TEXTS, MAX_REQUEST_TOKENS),
        config.dimensions,
    )
