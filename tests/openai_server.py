"""A real HTTP server that speaks OpenAI's protocol, for the vendor's own client to talk to.

https://platform.openai.com/docs/api-reference/chat/create (JSON and server-sent events) and
https://platform.openai.com/docs/api-reference/embeddings/create, with its limits.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from tests.http_server import (
    Answer,
    HttpServer,
    Refusal,
    Request,
    Stream,
    count_words,
    embed_words,
    events,
)

__all__ = ["OpenAIServer", "Refusal", "Request"]

DIMENSION, MAX_TEXTS, MAX_TOKENS = 1536, 2048, 8192
"""The service's own limits; a word counts as a token here."""


class OpenAIServer(HttpServer):
    """See `HttpServer`; its `url` is the one that `base_url` takes."""

    prefix = "/v1"

    def refuse_key(self, given: str) -> Refusal:
        return Refusal(401, f"Incorrect API key provided: {given}")

    def write_error(self, refusal: Refusal) -> dict[str, Any]:
        error = {"message": refusal.message, "type": "invalid_request_error", "code": None}
        return {"error": error}

    def complete_chat(self, request: Request) -> Answer:
        reply = self.reply(request)
        if isinstance(reply, Refusal):
            return reply
        tokens = [reply] if isinstance(reply, str) else reply
        if request.body.get("stream"):
            return Stream("text/event-stream", events(_chunks(request, tokens)))
        return _completion(request, "".join(tokens))

    def embed(self, request: Request) -> Answer:
        texts = request.body["input"]
        texts = [texts] if isinstance(texts, str) else texts
        if not texts or len(texts) > MAX_TEXTS or not all(isinstance(t, str) and t for t in texts):
            return Refusal(400, f"'$.input' is invalid: 1 to {MAX_TEXTS} strings, none empty.")
        if any(count_words([text]) > MAX_TOKENS for text in texts):
            return Refusal(400, f"This model's maximum context length is {MAX_TOKENS} tokens.")
        length = request.body.get("dimensions", DIMENSION)
        vectors = [embed_words(text, length) for text in texts]
        if request.body.get("encoding_format") == "base64":
            vectors = [b64encode(np.array(v, "<f4").tobytes()).decode() for v in vectors]
        listed = [
            {"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)
        ]
        read = count_words(texts)
        return {
            "object": "list",
            "data": listed,
            "model": request.body["model"],
            "usage": {"prompt_tokens": read, "total_tokens": read},
        }

    routes: ClassVar = {
        "POST /v1/chat/completions": complete_chat,
        "POST /v1/embeddings": embed,
    }


def _completion(request: Request, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": _end(request)}
    envelope = _envelope(request, "chat.completion")
    return {**envelope, "choices": [choice], "usage": _usage(request, text)}


def _chunks(request: Request, tokens: Iterable[str]) -> Iterator[Any]:
    envelope = _envelope(request, "chat.completion.chunk")
    written = []

    def chunk(delta: dict[str, str], ended: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": ended}
        return {**envelope, "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for token in tokens:
        written.append(token)
        yield chunk({"content": token})
    yield chunk({}, _end(request))
    if request.body.get("stream_options", {}).get("include_usage"):
        yield {**envelope, "choices": [], "usage": _usage(request, "".join(written))}
    yield "[DONE]"


def _end(request: Request) -> str:
    return "length" if request.cut else "stop"


def _envelope(request: Request, kind: str) -> dict[str, Any]:
    model = request.body["model"]
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model}


def _usage(request: Request, text: str) -> dict[str, int]:
    read, written = count_words(content for _, content in request.messages), count_words([text])
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
