"""A real HTTP server that gives out models as the Hugging Face hub does, for the hub's own client.

Protocol: https://huggingface.co/docs/hub/api (`GET /api/models/…`) and the downloads of
`https://huggingface.co/OWNER/NAME/resolve/COMMIT/FILE`, with the headers that the client asks for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves one model on a free port of this machine while the `with` block lasts.

    Attributes:
        fetched: the files that were downloaded.
        refusals: statuses by the model's name, for others than the one there is.
    """

    def __init__(self, name: str, folder: Path, refusals: dict[str, int] | None = None) -> None:
        self.name, self.folder = name, folder
        self.refusals = refusals or {}
        self.fetched: list[str] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def list_files(self) -> list[str]:
        """Every file of the model."""
        found = self.folder.rglob("*")
        return sorted(p.relative_to(self.folder).as_posix() for p in found if p.is_file())


class _Handler(BaseHTTPRequestHandler):
    owner: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path, owner = unquote(self.path.partition("?")[0]), self.owner
        if path == f"/api/models/{owner.name}/tree/{COMMIT}":
            self._list()
            return
        if path.startswith("/api/models/"):
            self._tell(path.removeprefix("/api/models/").partition("/revision/")[0])
            return
        at, _, file = path.removeprefix(f"/{owner.name}/resolve/").partition("/")
        if at not in {"main", COMMIT} or file not in owner.list_files():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        content = (owner.folder / file).read_bytes()
        if with_body:
            owner.fetched.append(file)
        etag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
        self._send(200, content, headers, with_body=with_body)

    def _tell(self, name: str) -> None:
        owner = self.owner
        if name != owner.name:
            status = owner.refusals.get(name, 404)
            code = {"X-Error-Code": "RepoNotFound"} if status in (401, 404) else {}
            self._send(status, json.dumps({"error": "no"}).encode(), code)
            return
        files = [{"rfilename": file} for file in owner.list_files()]
        told = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "private": False}
        headers = {"Content-Type": "application/json"}
        self._send(200, json.dumps({**told, "tags": [], "downloads": 0}).encode(), headers)

    def _list(self) -> None:
        files = [
            {
                "type": "file",
                "path": file,
                "size": size,
                "oid": hashlib.sha1(bytes(size)).hexdigest(),
            }
            for file in self.owner.list_files()
            if (size := (self.owner.folder / file).stat().st_size) >= 0
        ]
        self._send(200, json.dumps(files).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
