"""Google's Gemini models by the Gemini API, or a gateway that speaks its protocol.

Protocol: https://ai.google.dev/api/generate-content, through the vendor's own client. Vertex AI is
another service: see the chat model `any`.

The config alone says where a question and a key go. `GOOGLE_GEMINI_BASE_URL` is refused where the
config names no address; `LANGSMITH_GATEWAY` and `GOOGLE_GENAI_USE_VERTEXAI` have no effect. The
variables `GOOGLE_API_KEY` and `GEMINI_API_KEY` are sent to Google only. The system's own proxy
(`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rag_app.chat_models._options import RemoteChatOptions, without_none
from rag_app.options import OPERATIONAL, Field, Secret
from rag_app.vendors import GOOGLE, Vendor

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(RemoteChatOptions):
    """Which model, where, and how it writes."""

    VENDOR: ClassVar[Vendor] = GOOGLE

    model: str = Field(
        "gemini-3.5-flash", min_length=1, description="The model's name at the Gemini API."
    )
    api_key: Secret | None = Field(
        None,
        description="The key, as ${VARIABLE}. Left out, it is the variable GOOGLE_API_KEY or "
        "GEMINI_API_KEY for Google itself, and none for any other base_url.",
        json_schema_extra=OPERATIONAL,
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 repeats itself, higher varies; the model's own if unset."
    )
    seed: int | None = Field(None, description="For replies as repeatable as the service offers.")


def build(config: Config) -> BaseChatModel:
    """A `ChatGoogleGenerativeAI`; nothing is sent yet.

    Raises:
        ModelError: Google itself is meant, and there is no key; or the environment names another
            server than the config.
    """
    from google.genai import Client
    from google.genai.types import HttpOptions
    from langchain_google_genai import ChatGoogleGenerativeAI

    from rag_app._resending import AsyncResendingClient, ResendingClient

    address, key = config.find_address(), config.find_key()
    made = ChatGoogleGenerativeAI(
        model=config.model,
        base_url=address,
        api_key=key,
        vertexai=False,
        temperature=config.temperature,
        timeout=config.timeout,
        max_retries=1,  # attempts: the clients below send again, as the server asks
        **config.for_langchain(),
        **without_none(max_tokens=config.max_tokens, seed=config.seed),
    )
    # LangChain's own would turn to Vertex AI by a variable, and wait no longer than it likes.
    made.client = Client(
        vertexai=False,
        api_key=key.get_secret_value(),
        http_options=HttpOptions(
            base_url=address,
            httpx_client=ResendingClient(config.max_retries),
            httpx_async_client=AsyncResendingClient(config.max_retries),
        ),
    )
    return made
