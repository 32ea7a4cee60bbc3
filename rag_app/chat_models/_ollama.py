"""The class behind `chat_models/ollama.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator  # noqa: TC003  (pydantic reads signatures)
from typing import TYPE_CHECKING, Any, Self

from langchain_ollama import ChatOllama
from pydantic import SecretStr, model_validator

from rag_app._resending import AsyncResendingClient, ResendingClient
from rag_app.errors import ModelError

if TYPE_CHECKING:
    from langchain_core.outputs import ChatGenerationChunk


class OllamaChatModel(ChatOllama):
    """LangChain's class, which notices a prompt that the server cut.

    A prompt that does not fit is cut by the server without a word; it then counts as many tokens as
    there is room for.
    """

    api_key: SecretStr | None = None
    timeout: float = 60
    max_retries: int = 2

    @model_validator(mode="after")
    def _connect(self) -> Self:
        """Clients that send again as the server asks, with the key of the config or none."""
        for ours, client in (
            (ResendingClient, self._client),
            (AsyncResendingClient, self._async_client),
        ):
            given = client._client
            headers = dict(given.headers)
            if not headers.get("authorization", "").startswith("Basic "):
                headers.pop("authorization", None)  # from the environment, meant for ollama.com
            if self.api_key is not None:
                headers["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
            client._client = ours(
                self.max_retries, base_url=given.base_url, headers=headers, timeout=self.timeout
            )
        return self

    def _iterate_over_stream(self, *args: Any, **options: Any) -> Iterator[ChatGenerationChunk]:
        for chunk in super()._iterate_over_stream(*args, **options):
            self._refuse_cut_prompt(chunk)
            yield chunk

    async def _aiterate_over_stream(
        self, *args: Any, **options: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._aiterate_over_stream(*args, **options):
            self._refuse_cut_prompt(chunk)
            yield chunk

    def _refuse_cut_prompt(self, chunk: ChatGenerationChunk) -> None:
        read = (chunk.generation_info or {}).get("prompt_eval_count") or 0
        if self.num_ctx is not None and read >= self.num_ctx:
            wrong = f"the prompt does not fit into {self.num_ctx} tokens, and the server cut it"
            remedy = "Raise it as far as the model and its memory allow, or lower the chain's "
            raise ModelError("chat_model.context_tokens", wrong, f"{remedy}context_chars.")
