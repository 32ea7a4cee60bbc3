"""A real HTTP server that speaks Ollama's protocol, for the vendor's own client to talk to.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md (JSON, one object a line when
streaming). As the real one does, it cuts a prompt longer than `num_ctx` without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from tests.http_server import Answer, HttpServer, Refusal, Request, Stream, count_words


class OllamaServer(HttpServer):
    """See `HttpServer`; its `url` is the one that `base_url` takes."""

    def refuse_key(self, given: str) -> Refusal:
        return Refusal(401, "unauthorized")

    def write_error(self, refusal: Refusal) -> dict[str, Any]:
        return {"error": refusal.message}

    def chat(self, request: Request) -> Answer:
        unknown = request.body.keys() - _FIELDS
        if unknown:
            return Refusal(400, f"unknown fields: {sorted(unknown)}")
        reply = self.reply(request)
        if isinstance(reply, Refusal):
            return reply
        tokens = [reply] if isinstance(reply, str) else reply
        if request.body.get("stream", True):
            lines = (f"{json.dumps(value)}\n" for value in _parts(request, tokens))
            return Stream("application/x-ndjson", lines)
        text = "".join(tokens)
        message = {"role": "assistant", "content": text}
        return {**_envelope(request), "message": message, **_ended(request, text)}

    routes: ClassVar = {"POST /api/chat": chat}


_FIELDS = {"model", "messages", "tools", "format", "options", "stream", "keep_alive", "think"}


def _parts(request: Request, tokens: Iterable[str]) -> Iterator[dict[str, Any]]:
    written = ""
    for token in tokens:
        written += token
        message = {"role": "assistant", "content": token}
        yield {**_envelope(request), "message": message, "done": False}
    message = {"role": "assistant", "content": ""}
    yield {**_envelope(request), "message": message, **_ended(request, written)}


def _envelope(request: Request) -> dict[str, Any]:
    return {"model": request.body["model"], "created_at": "2026-01-01T00:00:00.000000Z"}


def _ended(request: Request, text: str) -> dict[str, Any]:
    read = count_words(content for _, content in request.messages)
    return {
        "done": True,
        "done_reason": "length" if request.cut else "stop",
        "total_duration": 3_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": min(read, request.body.get("options", {}).get("num_ctx", 4096)),
        "prompt_eval_duration": 1_000_000,
        "eval_count": count_words([text]),
        "eval_duration": 1_000_000,
    }
