"""A gate before an S3 service of the tests: requests pass, and chosen answers come back damaged."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Fault(NamedTuple):
    """What comes back in place of the service's answer; `promised` bytes, if fewer are sent."""

    status: int
    body: bytes
    promised: int | None = None


class S3Gate:
    """Forwards GET requests to `service` while the `with` block lasts.

    `fault` sees each path with its query, and the service's answer; None lets that pass.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.fault: Callable[[str, bytes], Fault | None] = lambda path, body: None
        handler = type("Handler", (_Handler,), {"gate": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    gate: S3Gate

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        asked = urllib.request.Request(self.gate.service + self.path)
        for name in ("Authorization", "If-Match", "x-amz-date", "x-amz-content-sha256"):
            if name in self.headers:
                asked.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(asked) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, body = error.code, error.headers, error.read()
        fault = self.gate.fault(self.path, body)
        if fault is not None:
            status, body = fault.status, fault.body
        self.send_response(status)
        for name in ("Content-Type", "ETag", "Last-Modified"):
            if name in headers:
                self.send_header(name, headers[name])
        promised = fault.promised if fault is not None and fault.promised else len(body)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body)
