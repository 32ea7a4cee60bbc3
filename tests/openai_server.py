"""A real HTTP server that speaks OpenAI's chat completions, for the vendor's own client to talk to.

Protocol: https://platform.openai.com/docs/api-reference/chat/create (JSON and server-sent events).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Refusal:
    """An error reply in the protocol's shape."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(m["role"], m["content"]) for m in self.body["messages"]]


Script = Callable[[Request], str | Iterable[str] | Refusal]


class OpenAIServer:
    """Serves on a free port of this machine while the `with` block lasts.

    `reply` decides on each request: a text, the tokens of one (a generator may wait between them),
    or a refusal. `requests` holds everything received. With `key` set, another key gets a 401.
    """

    def __init__(self, reply: Script | str, *, key: str | None = None) -> None:
        self.reply: Script = (lambda _: reply) if isinstance(reply, str) else reply
        self.key = key
        self.requests: list[Request] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: OpenAIServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, dict(self.headers.items()), body)
        self.owner.requests.append(request)
        reply = self._decide(request)
        if isinstance(reply, Refusal):
            self._refuse(reply)
        elif body.get("stream"):
            self._stream(request, [reply] if isinstance(reply, str) else reply)
        else:
            self._answer(request, reply if isinstance(reply, str) else "".join(reply))

    def _decide(self, request: Request) -> str | Iterable[str] | Refusal:
        if request.path != "/v1/chat/completions":
            return Refusal(404, f"no such address: {request.path}")
        given = self.headers.get("Authorization", "")
        if self.owner.key is not None and given != f"Bearer {self.owner.key}":
            return Refusal(401, f"Incorrect API key provided: {given.removeprefix('Bearer ')}")
        return self.owner.reply(request)

    def _send_json(self, status: int, value: Any, headers: dict[str, str]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, refusal: Refusal) -> None:
        error = {"message": refusal.message, "type": "invalid_request_error", "code": None}
        self._send_json(refusal.status, {"error": error}, refusal.headers)

    def _answer(self, request: Request, text: str) -> None:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        usage = _usage(request, text)
        whole = {**_envelope(request, "chat.completion"), "choices": [choice], "usage": usage}
        self._send_json(200, whole, {})

    def _stream(self, request: Request, tokens: Iterable[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in _events(request, tokens):
            data = f"data: {event}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _events(request: Request, tokens: Iterable[str]) -> Iterator[str]:
    envelope = _envelope(request, "chat.completion.chunk")
    written = []

    def chunk(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return json.dumps({**envelope, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    for token in tokens:
        written.append(token)
        yield chunk({"content": token})
    yield chunk({}, "stop")
    if request.body.get("stream_options", {}).get("include_usage"):
        usage = _usage(request, "".join(written))
        yield json.dumps({**envelope, "choices": [], "usage": usage})
    yield "[DONE]"


def _envelope(request: Request, kind: str) -> dict[str, Any]:
    model = request.body["model"]
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model}


def _usage(request: Request, text: str) -> dict[str, int]:
    """A word is a token."""
    read = sum(len(content.split()) for _, content in request.messages)
    written = len(text.split())
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
