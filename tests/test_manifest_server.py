"""The manifest in a PostgreSQL database: machines that share nothing else fill one index in turn.

Machines are folders here. The database is a real one (`tests/postgres_server.py`).
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest

import rag_app
from rag_app.errors import ConfigError, IndexStateError, LockedError
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


@pytest.fixture(params=["memory", "pgvector"])
def make(
    request: pytest.FixtureRequest, server: PostgresServer, tmp_path: Path
) -> Callable[[str], dict[str, Any]]:
    """`make(machine)`: the config of one index on a machine of that name, all of one test alike."""
    name = f"shared-{next(_numbers)}"
    store = {"kind": "memory", "path": str(tmp_path / "share" / "vectors.sqlite")}
    if request.param == "pgvector":
        store = {"kind": "pgvector", "url": server.url}
    (tmp_path / "docs").mkdir()

    def config(machine: str) -> dict[str, Any]:
        return {
            "name": name,
            "sources": [{"kind": "files", "path": str(tmp_path / "docs")}],
            "embeddings": "hashing",
            "vector_store": store,
            "retriever": "hybrid",
            "chain": "extractive",
            "index": {"path": str(tmp_path / machine), "manifest_url": server.url},
        }

    return config


@pytest.fixture
def docs(make: object, tmp_path: Path) -> Path:  # noqa: ARG001  (makes the folder)
    folder = tmp_path / "docs"
    (folder / "zebra.md").write_text("A zebra has stripes.")
    (folder / "walrus.md").write_text("A walrus has tusks.")
    return folder


def find(config: dict[str, Any], word: str) -> list[str]:
    with rag_app.load(config) as app:
        return [hit.source for hit in app.search(word).hits if "bm25" in hit.ranks]


def test_what_one_machine_writes_the_other_reads_and_goes_on_with(
    make: Callable[[str], dict[str, Any]], docs: Path, tmp_path: Path
) -> None:
    with rag_app.load(make("one")) as app:
        report = app.ingest()
        assert (report.indexed, report.chunks_total) == (2, 2)
    assert find(make("two"), "zebra") == ["zebra.md"]

    (docs / "zebra.md").write_text("An ocelot has spots.")
    (docs / "lynx.md").write_text("A lynx has tufts.")
    (docs / "walrus.md").unlink()
    with rag_app.load(make("two")) as app:
        assert len(app.plan().added) == 1
        report = app.ingest()
        assert (report.indexed, report.deleted, report.embedded) == (2, 1, 2)
        assert app.store.count() == 2
        assert (app.ingest().unchanged, app.ingest().embedded) == (2, 0)
    assert find(make("one"), "zebra") == find(make("one"), "walrus") == []
    assert (find(make("one"), "ocelot"), find(make("one"), "lynx")) == (["zebra.md"], ["lynx.md"])

    with rag_app.load(make("one")) as app:
        before = app.search("lynx").hits
        report = app.ingest(rebuild=True)
        assert (report.indexed, report.chunks_total) == (2, 2)
        assert [hit.id for hit in app.search("lynx").hits] == [hit.id for hit in before]
        assert app.index.manifest.served().number == 2  # type: ignore[union-attr]
    assert find(make("two"), "lynx") == ["lynx.md"]
    assert not list(tmp_path.rglob("manifest.sqlite"))


def test_readers_see_what_was_published_last_while_another_machine_writes(
    make: Callable[[str], dict[str, Any]], docs: Path
) -> None:
    with rag_app.load(make("one")) as writer, rag_app.load(make("two")) as reader:
        writer.ingest()
        (docs / "zebra.md").write_text("An ocelot has spots.")
        seen: list[set[str]] = []

        def look(stage: str, *_: object) -> None:
            if stage == "embedding":
                seen.append({hit.text for hit in reader.search("zebra").hits})

        writer.ingest(progress=look)
        assert len(seen) >= 2
        assert all(each == {"A zebra has stripes.", "A walrus has tusks."} for each in seen)
        texts = {hit.text for hit in reader.search("zebra").hits}
        assert texts == {"An ocelot has spots.", "A walrus has tusks."}


_WRITER = """
import json, sys, rag_app

def wait(stage, done, total):
    if stage == "embedding":
        print("writing", flush=True)
        sys.stdin.readline()

with rag_app.load(json.loads(sys.argv[1])) as app:
    app.ingest(progress=wait)
"""


def test_a_second_writer_is_told_who_writes_and_a_killed_ones_lock_is_free_at_once(
    make: Callable[[str], dict[str, Any]], docs: Path
) -> None:
    command = [sys.executable, "-c", _WRITER, json.dumps(make("one"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        with rag_app.load(make("two")) as app:
            with pytest.raises(LockedError) as caught:
                app.ingest()
            assert f"process {writer.pid} on {socket.gethostname()}" in str(caught.value)
            with pytest.raises(IndexStateError, match="first ingest has not ended"):
                app.search("zebra")
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait(30)
            report = app.ingest()
            assert (report.indexed, report.chunks_total) == (2, 2)
            assert {hit.source for hit in app.search("zebra").hits} == {"zebra.md", "walrus.md"}
            assert len(list(docs.iterdir())) == app.store.count()


def test_another_index_of_the_database_has_a_record_and_a_lock_of_its_own(
    make: Callable[[str], dict[str, Any]], docs: Path, tmp_path: Path
) -> None:
    other = {**make("one"), "name": f"other-{next(_numbers)}"}
    other["vector_store"] = {"kind": "memory", "path": str(tmp_path / "other.sqlite")}
    with rag_app.load(make("one")) as app, rag_app.load(other) as beside:

        def fill_the_other(stage: str, *_: object) -> None:
            if stage == "embedding" and not beside.index.revision:
                assert beside.ingest().indexed == 2

        assert app.ingest(progress=fill_the_other).indexed == 2
        (docs / "lynx.md").write_text("A lynx has tufts.")
        assert beside.ingest().indexed == 1
        assert app.plan().added == ("lynx.md",)


def test_a_lost_lock_publishes_nothing(
    make: Callable[[str], dict[str, Any]], docs: Path, server: PostgresServer
) -> None:
    """The server ends the connection that holds the lock: another may have taken it since."""
    with rag_app.load(make("one")) as app:
        app.ingest()
        (docs / "zebra.md").write_text("An ocelot has spots.")

        def cut(stage: str, *_: object) -> None:
            if stage == "embedding":
                with psycopg.connect(server.url, autocommit=True) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                    )

        with pytest.raises(LockedError, match="lost"):
            app.ingest(progress=cut)
        assert {hit.source for hit in app.search("zebra").hits if "bm25" in hit.ranks} == {
            "zebra.md"
        }
        assert app.ingest().indexed == 1
    assert find(make("two"), "zebra") == []


class TestSecrets:
    """The password stands in no message, nor in the record of the config."""

    def test_of_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        told = self.fail(tmp_path, f"postgresql://me:open%2Fsesame@127.0.0.1:{port}/db")
        assert f"127.0.0.1:{port}" in told

    def test_of_a_wrong_password(self, server: PostgresServer, tmp_path: Path) -> None:
        there = urlsplit(server.url)
        host = f"{there.hostname}:{there.port}"
        self.fail(tmp_path, f"postgresql://owner:open%2Fsesame@{host}/postgres")

    def fail(self, folder: Path, url: str) -> str:
        (folder / "a.md").write_text("words")
        config = {
            "name": "secret",
            "sources": [{"kind": "files", "path": str(folder / "a.md")}],
            "embeddings": "hashing",
            "vector_store": {"kind": "memory", "path": str(folder / "vectors.sqlite")},
            "chain": "extractive",
            "index": {"path": str(folder / "rag"), "manifest_url": url},
        }
        with rag_app.load(config) as app, pytest.raises(IndexStateError) as caught:
            app.ingest()
        told = "".join(traceback.format_exception(caught.value))
        assert "sesame" not in told
        assert "sesame" not in repr(app.config)
        return told

    def test_of_the_record(
        self, make: Callable[[str], dict[str, Any]], docs: Path, server: PostgresServer
    ) -> None:
        assert docs.is_dir()
        password = urlsplit(server.url).password or ""
        with rag_app.load(make("one")) as app:
            app.ingest()
            (held,) = app.index.manifest.generations()
            assert password not in held.config
            assert password not in repr(app.config)

    @pytest.mark.parametrize("url", ["sqlite:///sesame", "redis://u:sesame@h:6379/0"])
    def test_an_address_that_is_no_postgresql_is_refused(self, url: str, tmp_path: Path) -> None:
        config = {
            "name": "secret",
            "sources": [{"kind": "files", "path": str(tmp_path)}],
            "embeddings": "hashing",
            "vector_store": {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")},
            "chain": "extractive",
            "index": {"path": str(tmp_path / "rag"), "manifest_url": url},
        }
        with pytest.raises(ConfigError, match="manifest_url") as caught:
            rag_app.load(config)
        assert "sesame" not in str(caught.value)
