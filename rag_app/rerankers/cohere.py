"""Reads question and chunk together with a Rerank model of Cohere, at Cohere or a gateway.

Protocol: https://docs.cohere.com/v2/reference/rerank, through the vendor's own client.

The config alone says where texts and a key go: `CO_API_URL` is refused where the config names no
address, and the variables `CO_API_KEY` and `COHERE_API_KEY` are sent to Cohere only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo, model_validator

from rag_app.options import OPERATIONAL, Field, Options, Secret
from rag_app.vendors import COHERE

if TYPE_CHECKING:
    from rag_app.rerankers._cohere import CohereReranker


class Config(Options):
    """Which model, where, and how much it reads."""

    model: str = Field(
        "rerank-v3.5", min_length=1, description="The model's name, such as rerank-v4.0-pro."
    )
    k: int = Field(4, ge=1, le=10_000, description="How many chunks to keep.")
    max_tokens_per_doc: int | None = Field(
        None,
        ge=1,
        description="Tokens of a chunk that are read; 4096 if unset.",
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
    timeout: float = Field(
        60, gt=0, description="Seconds to wait for the server.", json_schema_extra=OPERATIONAL
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=20,
        description="How often a refused or failed request is sent again; a wait that the server "
        "asks for is kept.",
        json_schema_extra=OPERATIONAL,
    )
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="Never ask more often than this; no limit when left out. Requests that are "
        "sent again do not count.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_key_of_environment(cls, given: Any, info: ValidationInfo) -> Any:
        """So that the variable may stand in a `.env` file, which only the config's reader knows."""
        return COHERE.take_key(given, info)


def build(config: Config) -> CohereReranker:
    """The reranker; nothing is sent yet.

    Raises:
        ModelError: Cohere itself is meant, and there is no key; or the environment names another
            server than the config.
    """
    from rag_app.rerankers._cohere import CohereModel, CohereReranker

    address = COHERE.find_address("reranker", config.base_url)
    key = COHERE.find_key("reranker", config.api_key, config.base_url, ".")
    return CohereReranker(model=CohereModel(config, address, key), k=config.k)
