"""What the memory store promises beyond the contract: its file."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(path: Path, collection: str = "docs", **options: Any) -> Store:
        config = memory.Config(path=path, **options)
        opened.append(memory.build(config, None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def make_row(id: str, vector: list[float] | None = None) -> Row:
    return Row(id, f"text of {id}", np.array(vector or [1.0, 0.0]), {"id": id})


def test_refuses_another_programs_database_and_leaves_it_alone(
    tmp_path: Path, open_store: Callable[..., Store]
) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (words TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        open_store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to be taken for one" * 50, b"\0" * 4096]
)
def test_refuses_a_file_that_is_no_database(
    tmp_path: Path, open_store: Callable[..., Store], content: bytes
) -> None:
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"vectors\.sqlite.*another path"):
        open_store(path)
    assert path.read_bytes() == content


def test_refuses_a_folder_and_a_newer_format(
    tmp_path: Path, open_store: Callable[..., Store]
) -> None:
    with pytest.raises(StoreError, match=r"vector_store\.path"):
        open_store(tmp_path)
    open_store(tmp_path / "new.sqlite").close()
    with sqlite3.connect(tmp_path / "new.sqlite") as newer:
        newer.execute("PRAGMA user_version = 3")
    newer.close()
    with pytest.raises(StoreError, match="format 3, this rag-app reads 2"):
        open_store(tmp_path / "new.sqlite")


def test_a_damaged_file_is_an_error_of_ours(
    tmp_path: Path, open_store: Callable[..., Store]
) -> None:
    path = tmp_path / "vectors.sqlite"
    store = open_store(path)
    store.upsert([make_row(str(i), [1.0, *[0.5] * 63]) for i in range(2000)])
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(os.urandom(size // 2))
    with pytest.raises(StoreError, match="damaged"):
        list(open_store(path).scan())


def test_names_the_lock_of_another_writer(tmp_path: Path, open_store: Callable[..., Store]) -> None:
    path = tmp_path / "vectors.sqlite"
    store = open_store(path, wait_seconds=0.1)
    store.upsert([make_row("a")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.count() == 1  # readers are not kept out
    with pytest.raises(StoreError, match="wait_seconds"):
        store.upsert([make_row("b")])
    other.execute("ROLLBACK")
    other.close()
    store.upsert([make_row("b")])
    assert store.count() == 2


def test_a_full_disk_is_told_as_such_and_leaves_what_was_there(
    tmp_path: Path, open_store: Callable[..., Store]
) -> None:
    store = open_store(tmp_path / "store.sqlite")
    store.upsert([make_row("a")])
    connection = store._rows._connection  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own disk of that size
    large = Row("b", "word " * 20_000, np.array([0.0, 1.0]), {})
    with pytest.raises(StoreError, match=r"disk is full\. Make room on the disk"):
        store.upsert([large])
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.upsert([make_row("c")])
    assert sorted(row.id for row in store.scan()) == ["a", "c"]


def test_two_programs_replace_and_delete_in_turn(
    tmp_path: Path, open_store: Callable[..., Store]
) -> None:
    one, two = open_store(tmp_path / "v.sqlite"), open_store(tmp_path / "v.sqlite")
    draw = np.random.default_rng(0)
    truth: dict[str, Any] = {}
    for step in range(200):
        writer = (one, two)[draw.integers(2)]
        id = f"id-{draw.integers(15)}"
        if draw.random() < 0.4:
            writer.delete([id])
            truth.pop(id, None)
        else:
            vector = draw.standard_normal(4)
            writer.upsert([Row(id, "", vector, {"step": step})])
            truth[id] = (step, vector / np.linalg.norm(vector))
        query = draw.standard_normal(4)
        query /= np.linalg.norm(query)
        for reader in (one, two)[: draw.integers(1, 3)]:
            found = {d.id: (d.metadata["step"], s) for d, s in reader.search(query, 99)}
            assert found == {
                id: (when, pytest.approx(float(vector @ query), abs=1e-6))
                for id, (when, vector) in truth.items()
            }


KILLED = """
import json, os, sys
import numpy as np
from pathlib import Path
from rag_app.store import Row
from rag_app.vector_stores import memory
store = memory.build(memory.Config(path=Path(sys.argv[1])), None, "docs")
for batch in range(10_000):
    store.upsert([Row(f"{batch}-{i}", "t" * 2000, np.ones(64), {}) for i in range(20)])
    print(batch, flush=True)
"""


def test_batches_survive_a_kill_whole_or_not_at_all(
    tmp_path: Path, open_store: Callable[..., Store]
) -> None:
    path = tmp_path / "vectors.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer.stdout as lines:
        acknowledged = [int(next(lines)) for _ in range(15)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in lines]
    writer.wait(20)
    store = open_store(path)
    held = json.loads(json.dumps(sorted(row.id for row in store.scan())))
    batches = {int(id.split("-")[0]) for id in held}
    assert set(acknowledged) <= batches
    assert len(held) == 20 * len(batches)
