"""A real Milvus server on a free loopback port: the Go and C++ server of the package `milvus`.

It is version 2.3.5, the one that comes as a Python package; its data, its logs and the 527 MB it is
unpacked to lie in the folder that is given. It takes its time over SIGTERM, so it is killed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 120
"""How long it may take to come up."""


@contextlib.contextmanager
def open_milvus_server(folder: Path) -> Iterator[str]:
    """The URL of a server that keeps everything under `folder`."""
    import milvus

    config = milvus.MilvusServerConfig(data_dir=str(folder))
    wanted = [name for name in config.configurable_items if name.endswith("_port")]
    ports = _find_ports(len(wanted) + 1)
    metrics = str(ports.pop())
    config.update(**dict(zip(wanted, ports, strict=True)))
    config.resolve()
    milvus._initialize_data_files(str(folder))
    program = folder / "bin" / "milvus"
    settings = {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": metrics,
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": str(program.parent),
    }
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            [str(program), "run", "standalone"],
            cwd=folder, env=os.environ | settings, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait_for(f"http://127.0.0.1:{metrics}/healthz", server)
            yield f"http://127.0.0.1:{config.get('proxy_port')}"
        finally:
            server.kill()
            server.wait(20)


def _find_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"Milvus ended with {server.returncode}; see log.txt in its folder")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
            if b"OK" in reply.read():
                return
        time.sleep(0.1)
    raise TimeoutError(f"Milvus did not come up within {SECONDS} s")
