"""A real browser without a window, driven by its DevTools protocol: Chromium, or Qt's build of it.

The one that `RAG_APP_CHROMIUM` names, else a `chromium` or `google-chrome` on the PATH, else the
engine of the package `pyside6-addons`, in a process of its own.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
LISTENING = re.compile(r"DevTools listening on ws://([\d.]+:\d+)/")
WAIT = 60.0

QT = """
import sys
from PySide6.QtCore import QUrl
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication
application = QApplication(sys.argv[:1])
view = QWebEngineView()
view.load(QUrl("about:blank"))
view.show()
application.exec()
"""


class Page:
    """A tab. `problems`: what its console said and what it threw; `requests`: all it asked for."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._sent = 0
        self._loaded = False
        self.problems: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def open(self, path: Path) -> None:
        """Load a file and wait for it."""
        self._loaded = False
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + WAIT
        while not self._loaded:
            self._receive(until)

    def run(self, script: str) -> Any:
        """The value, as JSON has it, of an expression or of the promise it gives."""
        given = {"expression": script, "returnByValue": True, "awaitPromise": True}
        made = self.send("Runtime.evaluate", **given)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the window in CSS pixels, and what its owner prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", **size, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, code: int) -> None:
        """A key, down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        how = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **how, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **how)

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        self._connection.send(json.dumps(message))
        until = time.monotonic() + WAIT
        while True:
            received = self._receive(until)
            if received.get("id") == self._sent:
                assert "error" not in received, (method, received["error"])
                return dict(received["result"])

    def _receive(self, until: float) -> dict[str, Any]:
        left = max(0.0, until - time.monotonic())
        received: dict[str, Any] = json.loads(self._connection.recv(timeout=left))
        params = received.get("params", {})
        match received.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled":
                self.problems.append(json.dumps(params))
        return received


def find_command(profile: Path) -> tuple[list[str], dict[str, str]] | None:
    """What starts a browser, and its environment; None where there is none."""
    named = os.environ.get("RAG_APP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if named:
        port = "--remote-debugging-port=0"
        return [named, *FLAGS, port, f"--user-data-dir={profile}", "about:blank"], {}
    if importlib.util.find_spec("PySide6") is None:
        return None
    if importlib.util.find_spec("PySide6.QtWebEngineWidgets") is None:
        return None
    environment = {
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_REMOTE_DEBUGGING": f"127.0.0.1:{_find_free_port()}",
        "QTWEBENGINE_DISABLE_SANDBOX": "1",
        "QTWEBENGINE_CHROMIUM_FLAGS": "--disable-gpu --hide-scrollbars",
        "HOME": str(profile),
    }
    return [sys.executable, "-c", QT], environment


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def start_browser() -> Iterator[Page | None]:
    """A tab of a browser that is stopped afterwards; None where there is no browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = find_command(Path(folder))
        if found is None:
            yield None
            return
        command, environment = found
        if missing := _find_missing(command):
            pytest.skip(f"no browser can be loaded here: {missing}")
        said = Path(folder) / "said.txt"
        with said.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **environment}
            )
        try:
            with connect(_find_tab(process, said), max_size=None) as connection:
                yield Page(connection)
        finally:
            process.terminate()
            process.wait(30)


def _find_missing(command: list[str]) -> str:
    """The system's library that Qt's engine needs and this machine lacks; empty for none."""
    if command[0] != sys.executable:
        return ""
    modules = "PySide6.QtWebEngineWidgets, PySide6.QtWidgets"
    done = subprocess.run(
        [sys.executable, "-c", f"import {modules}"], capture_output=True, text=True, check=False
    )
    found = re.search(r"ImportError: (\S+: cannot open shared object file)", done.stderr)
    return found[1] if found else ""


def _find_tab(process: subprocess.Popen[bytes], said: Path) -> str:
    until = time.monotonic() + WAIT
    while time.monotonic() < until and process.poll() is None:
        if found := LISTENING.search(said.read_text(errors="replace")):
            with urllib.request.urlopen(f"http://{found[1]}/json", timeout=WAIT) as answer:
                tabs = [each for each in json.load(answer) if each["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise RuntimeError(f"the browser did not start: {said.read_text(errors='replace')[-2000:]}")
