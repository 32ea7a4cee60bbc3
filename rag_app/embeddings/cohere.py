"""Cohere's embedding models.

Protocol: https://docs.cohere.com/reference/embed (version 2), through the vendor's own client.
Cohere tells questions from documents by an input type, not by a prefix. A text over the model's
window is refused (`truncate: NONE`), where the service's default is to cut it and say nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationInfo, model_validator

from rag_app.embeddings._remote_options import RemoteEmbeddingOptions
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import COHERE

if TYPE_CHECKING:
    from rag_app.embeddings._remote import RemoteEmbeddings

MAX_TEXTS: Final = 96
MAX_REQUEST_TOKENS: Final = 128_000
"""One text of the longest window; Cohere documents no limit of a request's tokens."""

_WITHOUT_KEY: Final = ". Without a key, try embeddings: minilm."
_INPUT_TYPES: Final = {"document": "search_document", "query": "search_query"}


class Config(RemoteEmbeddingOptions):
    """Which model, and how long its vectors are."""

    model: str = Field("embed-v4.0", min_length=1, description="The model's name at Cohere.")
    dimensions: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Shorter vectors, which embed-v4.0 has: 256, 512, 1024 or 1536; the model's "
        "own length when left out.",
    )
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of a gateway that speaks Cohere's protocol; Cohere's own when left "
        "out.",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable CO_API_KEY or "
        "COHERE_API_KEY for Cohere itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        return COHERE.take_key(given, info)


def build(config: Config) -> RemoteEmbeddings:
    """The service as embeddings; nothing is sent yet.

    Raises:
        ModelError: Cohere itself is meant and there is no key, or the environment names another
            server than the config.
        UsageError: the model is known not to have vectors of that many dimensions.
    """
    import weakref

    import httpx
    from cohere import ClientV2

    from rag_app.embeddings._remote import Limits, Purpose, RemoteEmbeddings, Sent
    from rag_app.model_cards import check_dimension, find_card
    from rag_app.model_errors import Endpoint, show_address
    from rag_app.remote import Caller

    card = find_card(config.model)
    check_dimension(card, config.dimensions)
    address = COHERE.find_address("embeddings", config.base_url)
    key = COHERE.find_key("embeddings", config.api_key, config.base_url, _WITHOUT_KEY)
    # The vendor's own client of HTTP would follow a server elsewhere, with the key.
    http = httpx.Client(timeout=config.timeout, follow_redirects=False)
    client = ClientV2(
        api_key=key.get_secret_value(),
        base_url=address,
        timeout=config.timeout,
        httpx_client=http,
        log_warning_experimental_features=False,
    )
    shortened: dict[str, Any] = {"output_dimension": n} if (n := config.dimensions) else {}

    def send(texts: list[str], purpose: Purpose) -> Sent:
        reply = client.embed(
            model=config.model,
            texts=texts,
            input_type=_INPUT_TYPES[purpose],
            embedding_types=["float"],
            truncate="NONE",
            request_options={"max_retries": 0},
            **shortened,
        )
        billed = reply.meta.billed_units if reply.meta else None
        tokens = int(billed.input_tokens) if billed and billed.input_tokens is not None else None
        return Sent(reply.embeddings.float_ or [], tokens)

    endpoint = Endpoint(
        "embeddings",
        show_address(address),
        config.model,
        COHERE.key_variables[0],
        (key.get_secret_value(),),
        server=COHERE.name_server(address),
    )
    limits = Limits(MAX_TEXTS, MAX_REQUEST_TOKENS)
    made = RemoteEmbeddings(send, Caller(endpoint, config), card, config, limits, config.dimensions)
    weakref.finalize(made, http.close)
    return made
