"""`ingest --watch`: real processes and threads, real files, and what the index says afterwards."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import pytest

import rag_app
from rag_app.types import IngestReport
from tests.http_server import Answer, Request
from tests.openai_server import OpenAIServer

TOOL: Final = str(Path(sys.executable).parent / "rag-app")
SECONDS: Final = 60.0
"""After which a test gives up."""


def config(**sections: Any) -> dict[str, Any]:
    return {
        "name": "notes",
        "sources": [{"kind": "files", "path": "docs", "include": ["**/*.md", "**/*.pdf"]}],
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": "vectors.sqlite"},
        "retriever": {"kind": "dense", "k": 100},
        **sections,
    }


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Twelve documents beside a config."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.md").write_text(f"Note {number}.")
    (tmp_path / "rag-app.yaml").write_text(json.dumps(config()))
    return folder


class Watching:
    """`rag-app ingest --watch --json` beside `docs`; its reports and messages as they come."""

    def __init__(self, docs: Path, *args: str) -> None:
        self._process = subprocess.Popen(
            [TOOL, "ingest", "--watch", "--json", *args],
            cwd=docs.parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OPENAI_API_KEY": "none"},
        )
        self._out: queue.Queue[str] = queue.Queue()
        self._err: queue.Queue[str] = queue.Queue()
        self._threads = [
            threading.Thread(target=_read, args=pair)
            for pair in ((self._process.stdout, self._out), (self._process.stderr, self._err))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            assert self._process.wait(SECONDS) == 130
        finally:
            self._process.kill()
            for thread in self._threads:
                thread.join()
            for pipe in (self._process.stdout, self._process.stderr):
                assert pipe is not None
                pipe.close()

    def next_report(self) -> dict[str, Any]:
        """The next line on stdout."""
        report: dict[str, Any] = json.loads(self._out.get(timeout=SECONDS))
        return report

    def next_message(self, words: str) -> str:
        """The next line on stderr that holds `words`."""
        while words not in (line := self._err.get(timeout=SECONDS)):
            pass
        return line

    def said(self) -> int:
        """Reports that nobody has asked for."""
        return self._out.qsize()


def _read(pipe: Any, lines: queue.Queue[str]) -> None:
    for line in pipe:
        lines.put(line)


def indexed(docs: Path) -> dict[str, str]:
    """The documents that a search finds, with their texts."""
    with rag_app.load(docs.parent / "rag-app.yaml") as app:
        return {hit.source: hit.text for hit in app.search("a note").hits}


def on_disk(docs: Path) -> dict[str, str]:
    return {path.relative_to(docs).as_posix(): path.read_text() for path in docs.rglob("*.md")}


def test_each_way_to_change_a_file_is_seen(docs: Path) -> None:
    with Watching(docs) as watching:
        assert watching.next_report()["documents"]["indexed"] == 12

        (docs / "0.md").write_text("Edited in place.")
        assert watching.next_report()["documents"]["indexed"] == 1
        assert indexed(docs) == on_disk(docs)

        (docs / ".1.md.swp").write_text("Saved as editors do.")
        (docs / ".1.md.swp").replace(docs / "1.md")
        assert watching.next_report()["documents"]["indexed"] == 1
        assert indexed(docs) == on_disk(docs)

        (docs / "new" / "deep").mkdir(parents=True)
        (docs / "new" / "deep" / "note.md").write_text("In a new folder.")
        assert watching.next_report()["documents"]["indexed"] == 1
        (docs / "new" / "deep" / "note.md").write_text("Edited in a new folder.")
        assert watching.next_report()["documents"]["indexed"] == 1
        assert indexed(docs) == on_disk(docs)

        (docs / "2.md").unlink()
        assert watching.next_report()["documents"]["deleted"] == 1
        (docs / "new").rename(docs.parent / "elsewhere")
        assert watching.next_report()["documents"]["deleted"] == 1
        assert indexed(docs) == on_disk(docs)


def test_a_burst_of_saves_is_one_ingest_and_what_does_not_concern_the_index_is_none(
    docs: Path,
) -> None:
    with Watching(docs) as watching:
        watching.next_report()
        (docs / "build.log").write_text("matches no pattern")
        (docs / ".hidden").mkdir()
        (docs / ".hidden" / "note.md").write_text("hidden")
        for number in range(100, 130):
            (docs / f"{number}.md").write_text("begun")
            (docs / f"{number}.md").write_text(f"Note {number}.")
        report = watching.next_report()
        assert report["documents"]["indexed"] == 30
        assert indexed(docs).keys() == on_disk(docs).keys() - {".hidden/note.md"}
        (docs / "build.log").write_text("matches no pattern still")
        (docs / "last.md").write_text("the end of the test")
        assert watching.next_report()["documents"]["indexed"] == 1
        assert watching.said() == 0


def test_an_index_inside_the_watched_folder_does_not_wake_it(docs: Path) -> None:
    inside = config(
        index={"path": "docs/index"}, vector_store={"kind": "memory", "path": "docs/v/x.sqlite"}
    )
    (docs.parent / "rag-app.yaml").write_text(json.dumps(inside))
    with Watching(docs) as watching:
        watching.next_report()
        for number in range(3):  # were it woken by what it writes, there would be more reports
            (docs / "0.md").write_text(f"Edited {number}.")
            assert watching.next_report()["documents"]["indexed"] == 1
        assert watching.said() == 0


def test_errors_are_told_and_watching_goes_on(docs: Path) -> None:
    away = docs.parent / "away"
    with Watching(docs) as watching:
        watching.next_report()

        (docs / "half.pdf").write_bytes(b"%PDF-1.4 and then nothing")
        assert watching.next_report()["documents"]["quarantined"] == 1
        assert "half.pdf" in watching.next_message("quarantined")
        (docs / "half.pdf").unlink()
        assert watching.next_report()["documents"]["quarantined"] == 0

        away.mkdir()
        for number in range(8):
            (docs / f"{number}.md").rename(away / f"{number}.md")
        assert "8 of 12" in watching.next_message("are gone from the sources")
        assert watching.next_message("till watching")
        assert len(indexed(docs)) == 12
        for path in away.iterdir():
            path.rename(docs / path.name)
        (docs / "0.md").write_text("Edited after that.")
        assert watching.next_report()["documents"]["indexed"] == 1

        docs.rename(away / "docs")
        assert "does not exist" in watching.next_message("docs")
        shutil.copytree(away / "docs", docs)
        (docs / "1.md").write_text("Edited in another folder of that name.")
        assert watching.next_report()["documents"]["seen"] == 12
        (docs / "2.md").write_text("Edited later.")
        reports = iter(watching.next_report, None)
        assert any(report["documents"]["indexed"] == 1 for report in reports)
        assert indexed(docs) == on_disk(docs)


def test_a_large_deletion_that_is_allowed_is_done(docs: Path) -> None:
    with Watching(docs, "--allow-delete") as watching:
        watching.next_report()
        for number in range(11):
            (docs / f"{number}.md").unlink()
        deleted = 0
        while deleted < 11:
            deleted += watching.next_report()["documents"]["deleted"]
        assert indexed(docs) == {"11.md": "Note 11."}


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_others_can_search_between_bursts_where_the_folder_is_locked(kind: str, docs: Path) -> None:
    place = {"kind": kind, "path": "store"}
    (docs.parent / "rag-app.yaml").write_text(json.dumps(config(vector_store=place)))
    with Watching(docs) as watching:
        assert watching.next_report()["documents"]["indexed"] == 12
        assert indexed(docs) == on_disk(docs)
        (docs / "0.md").write_text("Edited in place.")
        assert watching.next_report()["documents"]["indexed"] == 1
        assert indexed(docs) == on_disk(docs)


def test_a_line_for_people_begins_with_the_time_of_day(docs: Path) -> None:
    process = subprocess.Popen(
        [TOOL, "ingest", "--watch"], cwd=docs.parent, text=True, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert re.match(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d 12 indexed, 0 deleted", line)


class Gated(OpenAIServer):
    """Lets a request with the word "slow" wait until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.reached = threading.Event(), threading.Event()

    def answer(self, method: str, request: Request) -> Answer:
        if any("slow" in text for text in request.body["input"]):
            self.reached.set()
            self.gate.wait(SECONDS)
        return super().answer(method, request)


def test_what_changes_during_an_ingest_is_in_the_next(docs: Path) -> None:
    with Gated() as server:
        model = {"kind": "openai", "model": "text-embedding-3-small", "base_url": server.url}
        sections = config(embeddings={**model, "dimensions": 32})
        (docs.parent / "rag-app.yaml").write_text(json.dumps(sections))
        with Watching(docs) as watching:
            watching.next_report()
            (docs / "0.md").write_text("Edited, and slow to embed.")
            assert server.reached.wait(SECONDS)
            (docs / "1.md").write_text("Edited meanwhile.")
            server.gate.set()
            assert watching.next_report()["documents"]["indexed"] == 1
            assert watching.next_report()["documents"]["indexed"] == 1
            docs_then = on_disk(docs)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OPENAI_API_KEY", "none")
            assert indexed(docs) == docs_then


# -- from Python ------------------------------------------------------------------------------


@pytest.fixture
def watching(docs: Path) -> Iterator[Callable[..., queue.Queue[IngestReport]]]:
    """Starts `app.watch` in a thread; what it reports. It is stopped at the end."""
    stop = threading.Event()
    threads = []

    def start(**given: Any) -> queue.Queue[IngestReport]:
        reports: queue.Queue[IngestReport] = queue.Queue()

        def run() -> None:
            with rag_app.load(docs.parent / "rag-app.yaml", given) as app:
                app.watch(report=reports.put, stop=stop)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return reports

    yield start
    stop.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_a_source_of_one_file_is_watched(
    docs: Path, watching: Callable[..., queue.Queue[IngestReport]]
) -> None:
    reports = watching(**{"sources[0].path": str(docs / "0.md")})
    assert reports.get(timeout=SECONDS).indexed == 1
    (docs / "1.md").write_text("The one beside it.")
    for words in ("Edited once.", "Edited twice."):
        (docs / "new").write_text(words)
        (docs / "new").replace(docs / "0.md")
        assert reports.get(timeout=SECONDS).indexed == 1
    assert reports.empty()


def test_what_has_no_folder_is_refused_by_name(docs: Path) -> None:
    page = {"kind": "web", "urls": ["https://example.com"]}
    given = {**config(), "sources": [{"kind": "files", "path": str(docs)}, page]}
    with (
        rag_app.load(given) as app,
        pytest.raises(rag_app.UsageError, match=r"sources\[1\] \(web\)"),
    ):
        app.watch()
    given["sources"] = [{"kind": "files", "path": str(docs / "nowhere")}]
    with rag_app.load(given) as app, pytest.raises(rag_app.SourceError, match="nowhere"):
        app.watch()
