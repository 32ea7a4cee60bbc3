"""A real HTTP server that speaks the Gemini API, for the vendor's own client to talk to.

Protocol: https://ai.google.dev/api/generate-content (JSON and server-sent events); errors:
https://ai.google.dev/gemini-api/docs/troubleshooting. As the service does, it answers a wrong key
with 400, and says how long to wait in the body (`RetryInfo`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from tests.http_server import Answer, HttpServer, Refusal, Request, Stream, count_words, events

_STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_BAD_KEY = "API key not valid. Please pass a valid API key."


class GoogleServer(HttpServer):
    """See `HttpServer`; its `url` is the one that `base_url` takes.

    A refusal with the header `Retry-Delay: 2` says so in its body, as the service does, and sends
    no such header.
    """

    def read_key(self, request: Request) -> str:
        return request.header("x-goog-api-key")

    def refuse_key(self, given: str) -> Refusal:
        return Refusal(400, _BAD_KEY)

    def write_error(self, refusal: Refusal) -> dict[str, Any]:
        details: list[dict[str, Any]] = []
        if delay := refusal.headers.pop("Retry-Delay", None):
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{delay}s"})
        if refusal.message == _BAD_KEY:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": kind, "reason": "API_KEY_INVALID"})
        error = {
            "code": refusal.status,
            "message": refusal.message,
            "status": _STATUSES.get(refusal.status, "UNKNOWN"),
        }
        return {"error": {**error, "details": details}}

    def generate(self, request: Request) -> Answer:
        reply = self.reply(request)
        if isinstance(reply, Refusal):
            return reply
        tokens = [reply] if isinstance(reply, str) else reply
        text = "".join(tokens)
        return _response(request, text, count_words([text]), _end(request))

    def stream(self, request: Request) -> Answer:
        reply = self.reply(request)
        if isinstance(reply, Refusal):
            return reply
        if not request.path.endswith("alt=sse"):
            return Refusal(400, "only alt=sse is spoken here")
        tokens = [reply] if isinstance(reply, str) else reply
        return Stream("text/event-stream", events(_chunks(request, tokens)))

    routes: ClassVar = {
        r"POST /v1beta/models/[\w.-]+:generateContent": generate,
        r"POST /v1beta/models/[\w.-]+:streamGenerateContent": stream,
    }


def model_of(request: Request) -> str:
    """The model that the path names."""
    found = re.search(r"/models/([\w.-]+):", request.path)
    assert found is not None
    return found[1]


def read_prompt(request: Request) -> list[tuple[str, str]]:
    """Role and text of what the model is shown, the system's words first."""
    system = request.body.get("systemInstruction")
    said = [*([{**system, "role": "system"}] if system else []), *request.body["contents"]]
    return [(c["role"], "".join(part.get("text", "") for part in c["parts"])) for c in said]


def _chunks(request: Request, tokens: Iterable[str]) -> Iterator[dict[str, Any]]:
    written = ""
    for token in tokens:
        written += token
        yield _response(request, token, count_words([written]), None)
    yield _response(request, "", count_words([written]), _end(request))


def _end(request: Request) -> str:
    return "MAX_TOKENS" if request.cut else "STOP"


def _response(request: Request, text: str, written: int, finish: str | None) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    read = count_words(said for _, said in read_prompt(request))
    return {
        "candidates": [
            {"content": content, "index": 0, **({"finishReason": finish} if finish else {})}
        ],
        "usageMetadata": {
            "promptTokenCount": read,
            "candidatesTokenCount": written,
            "totalTokenCount": read + written,
        },
        "modelVersion": model_of(request),
        "responseId": "response-1",
    }
