"""Each text is paid for once: at a real server of OpenAI's protocol, which sees every text sent.

A killed run may lose what was under way, 128 texts at most; what it had done is not sent again.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import rag_app
from rag_app.index.identity import PROBES
from tests.openai_server import OpenAIServer
from tests.reliability.errands import Errands

BATCH = 128
PLACES = ("embedded", "upserted", "confirmed", "staged")


def write_paragraph(number: int) -> str:
    """Fifteen words; two of them are longer than a chunk."""
    return f"Entry {number} of the ledger holds the sum word{number} and nothing else that matters"


class Ledger:
    """Documents of many paragraphs, and what was sent to be embedded."""

    def __init__(self, folder: Path, server: OpenAIServer) -> None:
        self.folder, self.server = folder, server
        self.docs = folder / "docs"
        self.docs.mkdir()

    def write(self, name: str, paragraphs: list[int]) -> None:
        text = "\n\n".join(map(write_paragraph, paragraphs))
        (self.docs / name).write_text(text, encoding="utf-8")

    def config(self, **sections: Any) -> dict[str, Any]:
        return {
            "name": "ledger",
            "sources": [{"kind": "files", "path": str(self.docs)}],
            "splitter": {
                "kind": "recursive",
                "chunk_size": 26,
                "chunk_overlap": 0,
            },
            "embeddings": {
                "kind": "openai",
                "model": "word-places",
                "dimensions": 32,
                "base_url": self.server.url,
            },
            "vector_store": {"kind": "memory", "path": str(self.folder / "vectors.sqlite")},
            "index": {"path": str(self.folder / "index")},
            **sections,
        }

    def sent(self) -> Counter[str]:
        """How often each text was sent, but for the probe sentences; and forget it."""
        found = Counter(
            text
            for request in list(self.server.requests)
            for text in request.body["input"]
            if text not in PROBES
        )
        self.server.requests.clear()
        return found

    def look_at_store(self) -> list[Any]:
        """Every row of every table of the store's file, with the counters of its changes."""
        with closing(sqlite3.connect(self.folder / "vectors.sqlite")) as file:
            tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master ORDER BY 1")]
            listed = [t for t in tables if not t.startswith(("sqlite_", "idx"))]
            return [(t, file.execute(f'SELECT rowid, * FROM "{t}"').fetchall()) for t in listed]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with OpenAIServer() as server:
        yield Ledger(tmp_path, server)


@pytest.fixture(scope="module")
def errands() -> Iterator[Errands]:
    with Errands("openai", "rag_app.embeddings.openai", "rag_app.embeddings._remote") as opened:
        yield opened


def ingest(config: dict[str, Any], **given: Any) -> rag_app.IngestReport:
    with rag_app.load(config) as app:
        return app.ingest(**given)


@pytest.mark.parametrize(
    ("kills", "cache"), [(1, True), (2, False), (3, True), (4, True), (5, True), (5, False)]
)
def test_killed_runs_pay_for_a_batch_each_at_most(
    ledger: Ledger, errands: Errands, kills: int, cache: bool
) -> None:
    rng = random.Random(f"{kills} {cache}")
    for number in range(8):
        twice = [3, 7] if cache else []  # some texts are in every document
        ledger.write(f"{number}.txt", [*twice, *range(1000 * number, 1000 * number + 70)])
    config = ledger.config(index={"path": str(ledger.folder / "index"), "cache": cache})
    died, in_flight = 0, 0
    for _ in range(100):
        if died == kills:
            break
        point: str | float = f"{rng.choice(PLACES)}:{rng.randint(1, 2)}"
        if rng.random() < 0.5:
            point = rng.uniform(0.0, 0.6)
        ended = errands.do(config, "ingest", {}, point)
        if not ended.killed:
            break
        died += 1
        in_flight += isinstance(point, float) or (not cache and not point.startswith("staged"))
    assert died
    ended = errands.do(config, "ingest", {}, "")
    assert ended.made["chunks_total"] == 8 * (72 if cache else 70)
    sent = ledger.sent()
    assert set(sent) == {text for text in published(config)}
    assert sum(sent.values()) <= len(sent) + BATCH * in_flight
    again = errands.do(config, "ingest", {}, "")
    assert (again.made["embedded"], again.made["chunks_written"]) == (0, 0)
    assert not ledger.sent()


def published(config: dict[str, Any]) -> list[str]:
    with rag_app.load(config) as app:
        return app.index.read(lambda view: [row.text for row in view.scan()])


@pytest.mark.parametrize("cache", [True, False])
def test_how_far_a_stopped_run_had_come_is_told(
    ledger: Ledger, errands: Errands, cache: bool
) -> None:
    ledger.write("a.txt", list(range(600)))
    config = ledger.config(index={"path": str(ledger.folder / "index"), "cache": cache})
    assert errands.do(config, "ingest", {}, "staged:2").killed
    first = ledger.sent()
    ended = errands.do(config, "ingest", {}, "")
    paid = ", 0 paid twice" if cache else ""  # without a cache nobody can promise it
    assert ended.made["resuming"] == [f"resuming: 256 of 600 done{paid}"]
    second = ledger.sent()
    assert (len(first), len(second)) == (256, 344)
    assert not first & second


@pytest.mark.parametrize("cache", [True, False])
def test_what_did_not_change_is_neither_sent_nor_written(ledger: Ledger, cache: bool) -> None:
    for number in range(3):
        ledger.write(f"{number}.txt", list(range(1000 * number, 1000 * number + 50)))
    config = ledger.config(index={"path": str(ledger.folder / "index"), "cache": cache})
    assert ingest(config).embedded == 150
    assert sum(ledger.sent().values()) == 150
    held = ledger.look_at_store()
    for seconds in (0, 1000):
        for path in ledger.docs.iterdir() if seconds else ():
            os.utime(path, (path.stat().st_mtime + seconds,) * 2)
        report = ingest(config)
        assert (report.unchanged, report.indexed, report.embedded) == (3, 0, 0)
        assert (report.chunks_written, report.chunks_deleted) == (0, 0)
        assert not ledger.sent()
        assert ledger.look_at_store() == held


@pytest.mark.parametrize("cache", [True, False])
def test_of_a_long_document_what_changed_is_sent_alone(ledger: Ledger, cache: bool) -> None:
    config = ledger.config(index={"path": str(ledger.folder / "index"), "cache": cache})
    ledger.write("a.txt", list(range(1000)))
    assert ingest(config).chunks_total == 1000
    ledger.sent()
    ledger.write("a.txt", [*range(500), 7777, *range(501, 1000)])
    report = ingest(config)
    assert (report.embedded, report.chunks_total) == (1, 1000)
    assert ledger.sent() == {write_paragraph(7777): 1}
    ledger.write("a.txt", [*range(600, 1000), *range(500), 7777, *range(501, 600)])
    report = ingest(config)  # a part has moved
    assert (report.embedded, report.chunks_total) == (0, 1000)
    assert not ledger.sent()
    assert sorted(published(config)) == sorted(
        write_paragraph(n) for n in [*range(500), 7777, *range(501, 1000)]
    )


def test_renamed_documents_are_not_sent_again(ledger: Ledger) -> None:
    for number in range(10):
        ledger.write(f"{number}.txt", list(range(1000 * number, 1000 * number + 20)))
    assert ingest(ledger.config()).embedded == 200
    ledger.sent()
    for path in list(ledger.docs.iterdir()):
        path.rename(path.with_stem(f"renamed-{path.stem}"))
    report = ingest(ledger.config())
    assert (report.indexed, report.deleted, report.embedded) == (10, 10, 0)
    assert report.cached == report.chunks_total == 200
    assert not ledger.sent()


def test_indexes_that_share_a_cache_send_each_text_once(ledger: Ledger) -> None:
    ledger.write("a.txt", list(range(200)))
    assert ingest(ledger.config()).embedded == 200
    ledger.write("a.txt", list(range(100, 300)))
    other = {"kind": "memory", "path": str(ledger.folder / "other.sqlite")}
    report = ingest(ledger.config(name="other", vector_store=other))
    assert (report.embedded, report.cached) == (100, 100)
    sent = ledger.sent()
    assert len(sent) == 300
    assert set(sent.values()) == {1}
