"""A real HTTP server on this machine, for vendors' own clients to talk to: the part all share.

A protocol is a subclass with `routes` (patterns of paths, and what answers there), the shape of its
errors, and where its clients put the key. Adding an endpoint is adding a route.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

import numpy as np


@dataclass(frozen=True)
class Refusal:
    """An error reply; the server writes it in its protocol's shape."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the client sent.

    `at` is when, in seconds of the monotonic clock; `cut` whether the server shall say that its
    reply ended at the longest one allowed.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = 0.0
    cut: bool = False

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and text of each message, of bodies that have `messages` of plain strings."""
        return [(m["role"], m["content"]) for m in self.body["messages"]]

    def header(self, name: str) -> str:
        """The header of that name in any case, else an empty string."""
        found = (text for given, text in self.headers.items() if given.lower() == name.lower())
        return next(found, "")


@dataclass(frozen=True)
class Stream:
    """A reply in pieces: each is sent as it comes."""

    content_type: str
    pieces: Iterable[str]


@dataclass(frozen=True)
class Hangup:
    """No reply at all: the connection is reset."""


Answer = dict[str, Any] | Stream | Refusal | Hangup
Route = Callable[[Any, Request], Answer]
Script = Callable[[Request], str | Iterable[str] | Refusal]


class HttpServer:
    """Serves on a free port of this machine while the `with` block lasts.

    `reply` decides on each chat request: a text, the tokens of one (a generator may wait between
    them), or a refusal. `requests` holds everything received. With `key` set, another key gets a
    401.
    """

    routes: ClassVar[Mapping[str, Route]] = {}
    """Method and pattern of a path, `"POST /v1/chat"`, and the method of the class that answers."""

    cut: bool = False
    """Whether replies of chat models end at the longest one allowed."""

    prefix: ClassVar[str] = ""
    """What `url` ends with."""

    def __init__(self, reply: Script | str = "", *, key: str | None = None) -> None:
        self.reply: Script = (lambda _: reply) if isinstance(reply, str) else reply
        self.key = key
        self.requests: list[Request] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}{self.prefix}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # -- what a protocol decides ----------------------------------------------------------------

    def read_key(self, request: Request) -> str:
        """The key as this protocol's clients send it."""
        return request.header("Authorization").removeprefix("Bearer ")

    def refuse_key(self, given: str) -> Refusal:
        """The reply to a wrong key."""
        return Refusal(401, f"invalid api key: {given}")

    def write_error(self, refusal: Refusal) -> Any:
        """The body of an error."""
        return {"error": {"message": refusal.message}}

    # -- what all do alike ----------------------------------------------------------------------

    @property
    def gaps(self) -> list[float]:
        """Seconds between the requests."""
        times = [request.at for request in self.requests]
        return [after - before for before, after in zip(times, times[1:], strict=False)]

    def answer(self, method: str, request: Request) -> Answer:
        """The reply to a request: of the first route whose pattern is the whole path."""
        place = f"{method} {request.path.partition('?')[0]}"
        for pattern, route in self.routes.items():
            if re.fullmatch(pattern, place):
                if self.key is not None and (given := self.read_key(request)) != self.key:
                    return self.refuse_key(given)
                answer: Answer = route(self, request)
                return answer
        return Refusal(404, f"no such address: {request.path}")


class _Handler(BaseHTTPRequestHandler):
    owner: HttpServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has given up
            super().handle()

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("POST", json.loads(body) if body else {})

    def _answer(self, method: str, body: dict[str, Any]) -> None:
        request = Request(
            self.path, dict(self.headers.items()), body, time.monotonic(), self.owner.cut
        )
        self.owner.requests.append(request)
        answer = self.owner.answer(method, request)
        if isinstance(answer, Refusal):
            self._send_json(answer.status, self.owner.write_error(answer), answer.headers)
        elif isinstance(answer, Stream):
            self._stream(answer)
        elif isinstance(answer, Hangup):
            # Lingering for no time makes closing a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        else:
            self._send_json(200, answer, {})

    def _send_json(self, status: int, value: Any, headers: dict[str, str]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", stream.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in stream.pieces:
            data = piece.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def count_words(texts: Iterable[str]) -> int:
    """How these servers count tokens: a word is one."""
    return sum(len(text.split()) for text in texts)


def embed_words(text: str, dimension: int) -> list[float]:
    """How these servers embed: texts are near that share words. Of length 1."""
    vector = np.zeros(dimension)
    for word in re.findall(r"\w+", text.casefold()):
        place = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        vector[(place >> 1) % dimension] += 1 if place & 1 else -1
    length = np.linalg.norm(vector)
    return (vector / length if length else np.eye(1, dimension)[0]).tolist()  # type: ignore[no-any-return]


def events(values: Iterable[Any], *, named: bool = False) -> Iterator[str]:
    """Server-sent events of JSON values; `named` puts each value's `type` as the event's name.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    for value in values:
        name = f"event: {value['type']}\n" if named else ""
        data = value if isinstance(value, str) else json.dumps(value)
        yield f"{name}data: {data}\n\n"
