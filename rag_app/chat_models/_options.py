"""What the `Config` of every chat model that is a remote service has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationInfo, model_validator

from rag_app.options import OPERATIONAL, Field, Options, Secret

if TYPE_CHECKING:
    from langchain_core.rate_limiters import InMemoryRateLimiter

    from rag_app.vendors import Vendor


class ChatPrice(Options):
    """What a chat model costs, in US dollars per million tokens."""

    input: float = Field(ge=0, description="Of what is sent.")
    output: float = Field(ge=0, description="Of what is written, reasoning included.")


class RemoteChatOptions(Options):
    """Which model, where, and how it is called."""

    VENDOR: ClassVar[Vendor]
    WITHOUT_KEY: ClassVar[str] = ". Without a key, try chain: extractive."

    model: str = Field(min_length=1, description="The model's name at the service.")
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of a gateway that speaks the service's protocol; the service's own "
        "when left out.",
        json_schema_extra=OPERATIONAL,
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the service's usual variable for the "
        "service itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Longest reply in tokens, reasoning included."
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
    price: ChatPrice | None = Field(
        None,
        description="US dollars per million tokens, {input: …, output: …}; without it, evaluation "
        "tells tokens and no money.",
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
        return cls.VENDOR.take_key(given, info)

    def find_address(self) -> str:
        """Where requests go.

        Raises:
            ModelError: the environment names another server than the config.
        """
        return self.VENDOR.find_address("chat_model", self.base_url)

    def find_key(self) -> Secret:
        """The key to send.

        Raises:
            ModelError: the service itself is meant, and there is no key.
        """
        return self.VENDOR.find_key("chat_model", self.api_key, self.base_url, self.WITHOUT_KEY)

    def for_langchain(self) -> dict[str, Any]:
        """What every LangChain chat model takes alike: pace and streaming."""
        return {
            "rate_limiter": limit(self.requests_per_minute),
            "disable_streaming": not self.streaming,
        }


def limit(requests_per_minute: float | None) -> InMemoryRateLimiter | None:
    """LangChain's limiter of that pace, shared by the threads of this process; None for no limit.

    The first request goes at once, further ones evenly spread.
    """
    if requests_per_minute is None:
        return None
    from langchain_core.rate_limiters import InMemoryRateLimiter

    limiter = InMemoryRateLimiter(
        requests_per_second=requests_per_minute / 60, check_every_n_seconds=0.02, max_bucket_size=1
    )
    limiter.available_tokens = 1.0
    return limiter


def without_none(**options: Any) -> dict[str, Any]:
    """The options that are set; the others are left to the vendor."""
    return {name: value for name, value in options.items() if value is not None}
