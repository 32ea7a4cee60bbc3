"""SIGINT and SIGTERM, sent to real processes in every phase of their work.

The promise is two seconds. Here a process must have ended within `SOON`, while what it waits for
would take a minute or more.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.http_server import Answer, HttpServer, Refusal, Request
from tests.openai_server import OpenAIServer
from tests.test_loaders_files import slow_rst

TOOL: Final = str(Path(sys.executable).parent / "rag-app")
WORDS: Final = "Stopped. What was done is kept; the same command goes on from there."
SOON: Final = 15.0
"""Seconds: the promise, and room for a machine that does other things as well."""

signals = pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)


class Slow(OpenAIServer):
    """Answers the first `quick` requests; the others get no answer, or are put off for long."""

    def __init__(self, quick: int = 0, *, busy: bool = False) -> None:
        super().__init__()
        self.quick, self.busy = quick, busy
        self.reached, self.over = threading.Event(), threading.Event()
        self.embedded: Counter[str] = Counter()

    def answer(self, method: str, request: Request) -> Answer:
        if len(self.requests) <= self.quick:
            self.embedded.update(request.body["input"])
            return super().answer(method, request)
        self.reached.set()
        if self.busy:
            return Refusal(429, "Rate limit reached", {"Retry-After": "120"})
        self.over.wait(120)
        return Refusal(500, "too late")

    def __exit__(self, *error: object) -> None:
        self.over.set()
        super().__exit__(*error)


def write(folder: Path, documents: int = 8, **sections: Any) -> Path:
    """A folder with documents and a config."""
    folder.mkdir(exist_ok=True)
    (folder / "docs").mkdir(exist_ok=True)
    for number in range(documents):
        lines = [f"Line {line} of story {number} tells of {line * number}." for line in range(40)]
        (folder / "docs" / f"{number:03}.md").write_text("\n\n".join(lines), encoding="utf-8")
    config = {
        "name": "stories",
        "sources": [{"kind": "files", "path": "docs"}],
        "splitter": {"kind": "recursive", "chunk_size": 48, "chunk_overlap": 0},
        "embeddings": "hashing",
        "retriever": {"kind": "dense", "k": 5000},
        **sections,
    }
    (folder / "rag-app.yaml").write_text(json.dumps(config), encoding="utf-8")
    return folder


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    command = args or ("ingest",)
    return subprocess.Popen(
        [TOOL, *command],
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENAI_API_KEY": "none"},
    )


def stop(process: subprocess.Popen[str], *numbers: int) -> tuple[str, str]:
    """Send signals; what the process has said when it is gone, and its children with it."""
    children = psutil.Process(process.pid).children(recursive=True)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)  # two signals at once may be delivered as one
    out, err = process.communicate(timeout=SOON)
    _, alive = psutil.wait_procs(children, timeout=SOON)
    assert not alive
    return out, err


def require_stopped(process: subprocess.Popen[str], said: tuple[str, str], status: int) -> None:
    out, err = said
    assert process.returncode == status
    assert out == ""
    assert err.endswith(f"{WORDS}\n")
    assert err.count(WORDS) == 1
    assert "Traceback" not in err
    assert "Exception" not in err


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.01)


def require_whole(folder: Path) -> None:
    """The same command goes on and completes; then every word is found, once and in its place."""
    done = subprocess.run([TOOL, "ingest"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [TOOL, "search", "line of a story", "--json"], cwd=folder, capture_output=True, text=True
    )
    spans: dict[str, list[tuple[int, int]]] = {}
    for hit in json.loads(done.stdout)["hits"]:
        spans.setdefault(hit["source"], []).append((hit["start"], hit["end"]))
    for path in (folder / "docs").iterdir():
        text, end = path.read_text(encoding="utf-8"), 0
        for start, stop in sorted(spans.pop(path.name)):
            assert not text[end:start].strip(), f"{path.name} lacks {text[end:start]!r}"
            assert start >= end, f"{path.name} has {text[start:end]!r} twice"
            end = stop
        assert not text[end:].strip()
    assert not spans


def remote(server: HttpServer) -> dict[str, Any]:
    return {
        "kind": "openai",
        "model": "text-embedding-3-small",
        "base_url": server.url,
        "dimensions": 64,
        "batch_size": 16,
        "timeout": 120,
    }


@signals
def test_while_a_file_is_parsed_in_a_child(tmp_path: Path, number: int, status: int) -> None:
    folder = write(tmp_path, splitter="none")
    (folder / "docs" / "slow.rst").write_text(slow_rst(), encoding="utf-8")
    process = start(folder)
    me = psutil.Process(process.pid)

    def is_parsing() -> bool:
        return any(sum(child.cpu_times()[:2]) > 1 for child in me.children())

    wait_for(is_parsing)
    require_stopped(process, stop(process, number), status)


@pytest.mark.parametrize(
    ("busy", "number", "status"),
    [(False, signal.SIGINT, 130), (True, signal.SIGTERM, 143)],
    ids=["does not answer", "wants to be asked later"],
)
def test_while_a_service_is_waited_for(
    tmp_path: Path, busy: bool, number: int, status: int
) -> None:
    with Slow(quick=3, busy=busy) as server:
        folder = write(tmp_path, embeddings=remote(server))
        process = start(folder)
        assert server.reached.wait(60)
        require_stopped(process, stop(process, number), status)
        server.quick = 1000
        paid = Counter(server.embedded)
        require_whole(folder)
        stories = [text for text in server.embedded if "tells of" in text]
        assert any(paid[text] for text in stories)
        assert {server.embedded[text] for text in stories} == {1}


@pytest.mark.parametrize(
    ("model", "wait"), [("hashing", 0.0), ("hashing", 0.5), ("minilm", 0.3), ("minilm", 1.5)]
)
def test_while_a_local_model_embeds_and_the_store_writes(
    tmp_path: Path, model: str, wait: float
) -> None:
    documents = 200 if model == "hashing" else 20
    folder = write(tmp_path, documents, embeddings=model)
    process = start(folder)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("embedding"):
            break
    time.sleep(wait)  # the phases are passed through quickly: this lands in one or another
    said = stop(process, signal.SIGINT)
    if process.returncode == 0 or said[0]:
        assert "documents:" in said[0]  # it was through already
    else:
        require_stopped(process, said, 130)
    require_whole(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The embedding cache, held by somebody else for as long as the block lasts."""
    done = subprocess.run([TOOL, "ingest"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "docs" / "new.md").write_text("One more story.", encoding="utf-8")
    held = sqlite3.connect(folder / ".rag" / "embeddings.sqlite", isolation_level=None)
    try:
        held.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        held.close()


def test_while_it_waits_for_a_lock(tmp_path: Path) -> None:
    folder = write(tmp_path, index={"cache": True})
    with locked(folder):
        process = start(folder)
        time.sleep(5)  # it waits up to half a minute, and tells nobody
        assert process.poll() is None
        require_stopped(process, stop(process, signal.SIGINT), 130)
    require_whole(folder)


STUBBORN: Final = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from rag_app.cli import stopping
from rag_app.cli import main

stopping.GRACE = float(sys.argv.pop(1))

def refuse_to_end():
    print("begun", flush=True)
    while True:
        try:
            with ThreadPoolExecutor() as pool:
                pool.submit(threading.Event().wait).result()
        except BaseException:
            pass

import rag_app.cli.schema
rag_app.cli.schema.command.callback = refuse_to_end
main()
"""


@pytest.mark.parametrize(("grace", "times"), [("1.4", 1), ("600", 2)])
def test_what_swallows_interrupts_is_ended_by_force_and_by_a_second_signal_at_once(
    grace: str, times: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, grace, "schema"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    require_stopped(process, stop(process, *[signal.SIGINT] * times), 130)


def test_a_command_that_waits_for_its_user_is_stopped_as_well(tmp_path: Path) -> None:
    folder = write(tmp_path)
    subprocess.run([TOOL, "ingest"], cwd=folder, check=True, capture_output=True)
    process = start(folder, "chat", "--set", "chain=extractive")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("Of what does story 3 tell?\n")
    process.stdin.flush()
    assert process.stdout.readline() != ""
    _, err = stop(process, signal.SIGINT)
    assert process.returncode == 130
    assert err.endswith(f"{WORDS}\n")


def test_in_the_background_ctrl_c_is_for_others(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "docs" / "slow.rst").write_text(slow_rst(), encoding="utf-8")
    ignoring = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{ignoring}os.execv(sys.argv[1], sys.argv[1:])", TOOL, "ingest"],
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    me = psutil.Process(process.pid)
    wait_for(lambda: any(sum(child.cpu_times()[:2]) > 0.5 for child in me.children()))
    process.send_signal(signal.SIGINT)
    time.sleep(2.5)
    assert process.poll() is None
    require_stopped(process, stop(process, signal.SIGTERM), 143)
