"""The class behind `chat_models/scripted.py`; apart, so that listing the backends stays cheap."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from rag_app.sentences import sentence_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage

_PIECE = re.compile(r"\S+\s*|\s+")
_QUESTION = re.compile(r"question: (.*)\Z", re.IGNORECASE | re.DOTALL)


class ScriptedChatModel(BaseChatModel):
    """Replies from `responses` in turn, from the start again after the last.

    Without responses it writes the first sentence of the first passage in the prompt with its
    mark, or, where no passage is, the question.
    """

    responses: list[str] = Field(default_factory=list)
    model_name: str = "scripted"
    stop: list[str] | None = None
    max_tokens: int | None = None
    _turns: Iterator[int] = PrivateAttr(default_factory=itertools.count)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "responses": self.responses}

    def get_token_ids(self, text: str) -> list[int]:
        """A token is a word; its id is its length. Never asks a hub for a tokenizer."""
        return [len(word) for word in text.split()]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        pieces = self._reply(messages, stop, kwargs)
        message = AIMessage(
            "".join(pieces),
            response_metadata={"model_name": self.model_name},
            usage_metadata=_count(messages, len(pieces)),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        pieces = self._reply(messages, stop, kwargs)
        for piece in pieces:
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager is not None:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        last = AIMessageChunk(
            content="",
            response_metadata={"model_name": self.model_name},
            usage_metadata=_count(messages, len(pieces)),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    def _reply(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> list[str]:
        text = self._choose(messages)
        for word in stop or self.stop or ():
            text = text.partition(word)[0]
        return _PIECE.findall(text)[: options.get("max_tokens", self.max_tokens)]

    def _choose(self, messages: list[BaseMessage]) -> str:
        if self.responses:
            return self.responses[next(self._turns) % len(self.responses)]
        shown = messages[-1].text
        for line in shown.splitlines():
            if line.startswith('{"number":'):
                return _quote_first_sentence(json.loads(line))
        question = _QUESTION.search(shown)
        return question[1] if question else shown


def _quote_first_sentence(passage: dict[str, Any]) -> str:
    text = passage["text"]
    sentences = [text[start:end] for start, end in sentence_spans(text)]
    first = next((s for s in sentences if not s.startswith("#")), text)
    return f"{first} [{passage['number']}]"


def _count(messages: list[BaseMessage], written: int) -> UsageMetadata:
    read = sum(len(message.text.split()) for message in messages)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
