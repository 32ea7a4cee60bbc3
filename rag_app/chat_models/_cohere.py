"""The class behind `chat_models/cohere.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator  # noqa: TC003  (pydantic reads signatures)
from typing import TYPE_CHECKING, Any, Self

import cohere
from langchain_cohere import ChatCohere
from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import model_validator

from rag_app._resending import AsyncResendingClient, ResendingClient

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult


class CohereChatModel(ChatCohere):
    """LangChain's class with what it leaves out: options, a stream's tokens, the model's name.

    LangChain counts the tokens of a reply only if the reply names its model.
    """

    max_tokens: int | None = None
    seed: int | None = None
    max_retries: int = 2

    @model_validator(mode="after")
    def _connect(self) -> Self:
        """Clients that send again as the server asks, in place of the vendor's usual ones."""
        key = self.cohere_api_key.get_secret_value() if self.cohere_api_key else ""
        options: dict[str, Any] = {
            "api_key": key,
            "base_url": self.base_url,
            "client_name": "rag-app",
            "timeout": self.timeout_seconds,
        }
        self.client = cohere.Client(httpx_client=ResendingClient(self.max_retries), **options)
        self.async_client = cohere.AsyncClient(
            httpx_client=AsyncResendingClient(self.max_retries), **options
        )
        return self

    def _complete(self, options: dict[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {"max_tokens": self.max_tokens, "seed": self.seed}
        own = {name: value for name, value in own.items() if value is not None}
        # The HTTP client sends again, for streams too; this one would do so on top.
        return {"request_options": {"max_retries": 0}, **own, **options}

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        made = super()._generate(messages, *args, **self._complete(options))
        self._name(made.generations[0])
        return made

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> ChatResult:
        made = await super()._agenerate(messages, *args, **self._complete(options))
        self._name(made.generations[0])
        return made

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in super()._stream(messages, *args, **self._complete(options)):
            self._count(chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, *args, **self._complete(options)):
            self._count(chunk)
            yield chunk

    def _name(self, made: ChatGeneration) -> None:
        if isinstance(made.message, AIMessage):
            made.message.response_metadata["model_name"] = self.model

    def _count(self, chunk: ChatGenerationChunk) -> None:
        """Only the last piece has counts, as floats."""
        counted = (chunk.generation_info or {}).get("token_count")
        if counted and isinstance(chunk.message, AIMessageChunk):
            read, written = (int(counted[f"{way}_tokens"]) for way in ("input", "output"))
            chunk.message.usage_metadata = {
                "input_tokens": read,
                "output_tokens": written,
                "total_tokens": read + written,
            }
            self._name(chunk)
