"""A real HTTP server that speaks OpenAI's chat completions, for the vendor's own client to talk to.

Protocol: https://platform.openai.com/docs/api-reference/chat/create (JSON and server-sent events).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from tests.http_server import Answer, HttpServer, Refusal, Request, Stream, count_words, events

__all__ = ["OpenAIServer", "Refusal", "Request"]


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

    routes: ClassVar = {"POST /v1/chat/completions": complete_chat}


def _completion(request: Request, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    envelope = _envelope(request, "chat.completion")
    return {**envelope, "choices": [choice], "usage": _usage(request, text)}


def _chunks(request: Request, tokens: Iterable[str]) -> Iterator[Any]:
    envelope = _envelope(request, "chat.completion.chunk")
    written = []

    def chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**envelope, "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for token in tokens:
        written.append(token)
        yield chunk({"content": token})
    yield chunk({}, "stop")
    if request.body.get("stream_options", {}).get("include_usage"):
        yield {**envelope, "choices": [], "usage": _usage(request, "".join(written))}
    yield "[DONE]"


def _envelope(request: Request, kind: str) -> dict[str, Any]:
    model = request.body["model"]
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model}


def _usage(request: Request, text: str) -> dict[str, int]:
    read, written = count_words(content for _, content in request.messages), count_words([text])
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
