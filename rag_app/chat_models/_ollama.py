"""The class behind `chat_models/ollama.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator  # noqa: TC003  (pydantic reads signatures)
from typing import TYPE_CHECKING, Any

from langchain_ollama import ChatOllama
from pydantic import SecretStr  # noqa: TC002  (pydantic reads it)

from rag_app._resending import AsyncResendingClient, ResendingClient
from rag_app.errors import ModelError

if TYPE_CHECKING:
    from langchain_core.outputs import ChatGenerationChunk

    from rag_app.chat_models.ollama import Config


class OllamaChatModel(ChatOllama):
    """LangChain's class, which notices a prompt that the server cut.

    A prompt that does not fit is cut by the server without a word; it then counts as many tokens as
    there is room for.
    """

    api_key: SecretStr | None = None

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


def connect(model: OllamaChatModel, config: Config, key: SecretStr | None) -> None:
    """Give the model clients that send again as the server asks, with that key or none."""
    model.api_key = key
    for ours, client in (
        (ResendingClient, model._client),
        (AsyncResendingClient, model._async_client),
    ):
        given = client._client
        headers = dict(given.headers)
        if not headers.get("authorization", "").startswith("Basic "):
            headers.pop("authorization", None)  # from the environment, meant for ollama.com
        if key is not None:
            headers["authorization"] = f"Bearer {key.get_secret_value()}"
        client._client = ours(
            config.max_retries, base_url=given.base_url, headers=headers, timeout=config.timeout
        )
