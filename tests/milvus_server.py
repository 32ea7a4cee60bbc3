"""A real Milvus server on free loopback ports: the Go and C++ server of the package `milvus`.

It is version 2.3.5, the one that comes as a Python package; its data, its logs and the 527 MB it is
unpacked to lie in the folder that is given. It takes its time over SIGTERM, so it is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 120
"""How long it may take to come up."""

QUICK = {
    # section: milliseconds instead of Milvus's default
    "proxy": {"timeTickInterval": 50},  # 200: how soon a write can be read
    # 1000, 1000, 1000, 500, 200: how soon a collection is loaded
    "queryCoord": {
        "checkInterval": 50,
        "checkChannelInterval": 50,
        "checkSegmentInterval": 50,
        "distPullInterval": 50,
        "collectionObserverInterval": 50,
    },
}
"""Intervals at which its parts look at each other; nothing else is changed."""

ETCD = """\
name: milvus
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: milvus=http://127.0.0.1:{peer}
"""
"""Ports of the etcd inside it, which would otherwise take the same two for every server."""


@contextlib.contextmanager
def open_milvus_server(folder: Path) -> Iterator[str]:
    """The URL of a server that keeps everything under `folder`, which is emptied at the end."""
    program, url, health = _unpack(folder)
    settings = {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": health.rpartition(":")[2],
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": str(program.parent),
    }
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            [str(program), "run", "standalone"],
            cwd=folder, env=os.environ | settings, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait_for(f"{health}/healthz", server)
            yield url
        finally:
            server.kill()
            server.wait(20)
    shutil.rmtree(folder)


def _unpack(folder: Path) -> tuple[Path, str, str]:
    """The program, and the addresses at which it will answer and tell how it is."""
    import milvus

    config = milvus.MilvusServerConfig(data_dir=str(folder))
    wanted = [name for name in config.configurable_items if name.endswith("_port")]
    metrics, client, peer, *ports = _find_ports(3 + len(wanted))
    config.update(**dict(zip(wanted, ports, strict=True)))
    config.resolve()
    etcd = folder / "configs" / "etcd.yaml"
    etcd.write_text(ETCD.format(client=client, peer=peer), "utf-8")
    written = folder / "configs" / "milvus.yaml"
    settings = yaml.safe_load(written.read_text("utf-8"))
    for section, values in QUICK.items():
        settings[section] |= values
    settings["etcd"]["config"] = {"path": str(etcd)}
    written.write_text(yaml.safe_dump(settings), "utf-8")
    milvus._initialize_data_files(str(folder))
    url = f"http://127.0.0.1:{config.get('proxy_port')}"
    return folder / "bin" / "milvus", url, f"http://127.0.0.1:{metrics}"


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
