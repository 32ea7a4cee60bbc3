"""A real HTTP server that speaks Anthropic's Messages API, for the vendor's own client to talk to.

Protocol: https://docs.anthropic.com/en/api/messages (JSON and named server-sent events); errors:
https://docs.anthropic.com/en/api/errors. It wants the version header and `max_tokens`, and refuses
the sampling parameters that version 2026-10-21 has removed, as the service does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from tests.http_server import Answer, HttpServer, Refusal, Request, Stream, count_words, events

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicServer(HttpServer):
    """See `HttpServer`; its `url` is the one that `base_url` takes."""

    def read_key(self, request: Request) -> str:
        return request.header("X-Api-Key") or super().read_key(request)

    def refuse_key(self, given: str) -> Refusal:
        return Refusal(401, "invalid x-api-key")

    def write_error(self, refusal: Refusal) -> dict[str, Any]:
        error = {"type": _TYPES.get(refusal.status, "api_error"), "message": refusal.message}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def create_message(self, request: Request) -> Answer:
        body = request.body
        version = request.header("anthropic-version")
        if version not in ("2023-06-01", "2026-10-21"):
            return Refusal(400, "anthropic-version: header is required")
        if not isinstance(body.get("max_tokens"), int):
            return Refusal(400, "max_tokens: Field required")
        if version > "2023-06-01" and body.keys() & {"temperature", "top_p", "top_k"}:
            return Refusal(400, "temperature: Extra inputs are not permitted")
        if body["messages"][0]["role"] != "user":
            return Refusal(400, "messages: first message must use the user role")
        reply = self.reply(request)
        if isinstance(reply, Refusal):
            return reply
        tokens = [reply] if isinstance(reply, str) else reply
        if body.get("stream"):
            return Stream("text/event-stream", events(_events(request, tokens), named=True))
        return _message(request, "".join(tokens))

    routes: ClassVar = {"POST /v1/messages": create_message}


def read_prompt(request: Request) -> list[tuple[str, str]]:
    """Role and text of what the model is shown, the system's words first."""
    system = [("system", _text(request.body["system"]))] if request.body.get("system") else []
    return system + [(m["role"], _text(m["content"])) for m in request.body["messages"]]


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")


def _message(request: Request, text: str) -> dict[str, Any]:
    return {
        **_envelope(request),
        "content": [{"type": "text", "text": text}],
        "stop_reason": "max_tokens" if request.cut else "end_turn",
        "usage": _usage(request, text),
    }


def _events(request: Request, tokens: Iterable[str]) -> Iterator[dict[str, Any]]:
    usage = _usage(request, "")
    yield {"type": "message_start", "message": {**_envelope(request), "usage": usage}}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    written = ""
    for token in tokens:
        written += token
        delta = {"type": "text_delta", "text": token}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "max_tokens" if request.cut else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": _usage(request, written)}
    yield {"type": "message_stop"}


def _envelope(request: Request) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(request: Request, text: str) -> dict[str, int]:
    read = count_words(text for _, text in read_prompt(request))
    return {"input_tokens": read, "output_tokens": count_words([text])}
