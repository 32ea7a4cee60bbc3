"""What the LanceDB store promises beyond the contract: files, lock, filters of many rows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import lancedb
import numpy as np
import pytest
from filelock import FileLock

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores import lancedb as lancedb_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lancedb"


@pytest.fixture
def open_store(folder: Path) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        config = lancedb_store.Config(**{"path": folder, **options})
        opened.append(lancedb_store.build(config, None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def make_rows(count: int, dimension: int = 8) -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, dimension))
    return [Row(f"id-{i}", f"text {i}", vectors[i], {"n": i}) for i in range(count)]


@pytest.mark.parametrize("least", [4800, 3000, 10])
def test_a_filter_of_many_rows_finds_the_nearest_of_them(
    open_store: Callable[..., Store], least: int
) -> None:
    rows = make_rows(5000)
    # The rows that match are those farthest from the query.
    rows.sort(key=lambda row: -row.vector[0] / np.linalg.norm(row.vector))
    rows = [Row(row.id, row.text, row.vector, {"n": n}) for n, row in enumerate(rows)]
    store = open_store()
    store.upsert(rows)
    found = store.search(np.eye(8)[0], 10, {"n": {"$gte": least}})
    assert [document.metadata["n"] for document, _ in found] == [*range(least, least + 10)]
    cosines = [
        float(rows[n].vector[0] / np.linalg.norm(rows[n].vector)) for n in (least, least + 9)
    ]
    assert [found[0][1], found[-1][1]] == pytest.approx(cosines, abs=1e-6)


def test_what_another_opening_changes_counts_in_the_next_filter(
    open_store: Callable[..., Store],
) -> None:
    one, two = open_store(), open_store()
    one.upsert(make_rows(3))
    assert len(one.search(np.ones(8), 9, {"n": {"$gte": 1}})) == 2
    two.upsert([Row("id-0", "", np.ones(8), {"n": 7})])
    assert [d.id for d, _ in one.search(np.ones(8), 1, {"n": 7})] == ["id-0"]
    two.drop()
    two.upsert([Row("other", "", np.ones(8), {"n": 1})])
    assert [d.id for d, _ in one.search(np.ones(8), 9, {"n": {"$gte": 1}})] == ["other"]


def test_many_small_writes_leave_few_files(open_store: Callable[..., Store], folder: Path) -> None:
    store = open_store()
    for row in make_rows(110):
        store.upsert([row])
    table = lancedb.connect(folder).open_table("docs")
    assert table.stats()["fragment_stats"]["num_fragments"] < 100
    assert {row.id for row in store.scan()} == {f"id-{i}" for i in range(110)}


def test_reads_need_not_wait_for_a_writer_and_a_writer_says_whom_it_waits_for(
    open_store: Callable[..., Store], folder: Path
) -> None:
    store = open_store(wait_seconds=0.1)
    store.upsert(make_rows(3))
    with FileLock(folder / "write.lock"):
        assert len(store.search(np.ones(8), 9)) == 3
        with pytest.raises(StoreError, match=r"been writing.*0\.1 seconds.*wait_seconds") as caught:
            store.upsert(make_rows(4))
    assert str(folder) in str(caught.value)
    store.upsert(make_rows(4))
    assert store.count() == 4


def test_two_openings_that_write_the_same_ids_at_once_write_each_once(
    open_store: Callable[..., Store],
) -> None:
    stores = [open_store() for _ in range(4)]
    threads = [threading.Thread(target=store.upsert, args=(make_rows(200),)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row.id for row in stores[0].scan()) == sorted(f"id-{i}" for i in range(200))


ENDLESS = """
import sys
from pathlib import Path
import numpy as np
from rag_app.store import Row
from rag_app.vector_stores import lancedb
store = lancedb.build(lancedb.Config(path=Path(sys.argv[1])), None, "docs")
for n in range(10**6):
    store.upsert([Row(f"{n}-{i}", "t", np.ones(8), {"batch": n}) for i in range(100)])
    print(n, flush=True)
"""


def test_a_killed_writer_loses_nothing_confirmed_and_leaves_no_half_batch(
    open_store: Callable[..., Store], folder: Path
) -> None:
    command = [sys.executable, "-c", ENDLESS, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        confirmed = [writer.stdout.readline() for _ in range(5)]
        os.kill(writer.pid, signal.SIGKILL)
        confirmed += writer.stdout.readlines()
    store = open_store()
    batches = [row.metadata["batch"] for row in store.scan()]
    assert set(batches) >= {int(line) for line in confirmed}
    assert {batches.count(batch) for batch in set(batches)} == {100}
    store.upsert(make_rows(1))


def test_refuses_a_table_of_another_program(open_store: Callable[..., Store], folder: Path) -> None:
    theirs = lancedb.connect(folder).create_table("docs", [{"id": "1", "vector": [1.0, 0.0]}])
    for use in (open_store().count, lambda: open_store().upsert(make_rows(1)), open_store().drop):
        with pytest.raises(StoreError, match="'docs'.*not written by rag-app.*another name"):
            use()
    assert theirs.count_rows() == 1


def test_a_deleted_folder_is_empty_and_a_damaged_one_is_an_error(
    open_store: Callable[..., Store], folder: Path
) -> None:
    store = open_store()
    store.upsert(make_rows(3))
    for file in (folder / "docs.lance" / "data").iterdir():
        file.write_bytes(b"x")
    with pytest.raises(StoreError, match=r"vector_store\.lancedb: LanceDB in .* failed"):
        store.search(np.ones(8), 3)
    shutil.rmtree(folder)
    assert (store.count(), store.dimension) == (0, None)
    store.upsert(make_rows(2, dimension=3))
    assert store.count() == 2


def test_a_path_that_is_a_file_is_an_error(
    open_store: Callable[..., Store], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    store = open_store(path=tmp_path / "file")
    with pytest.raises(StoreError, match="file"):
        store.upsert(make_rows(1))


def test_looking_makes_no_folder(open_store: Callable[..., Store], folder: Path) -> None:
    store = open_store()
    assert (store.count(), store.dimension, store.search(np.ones(8), 3)) == (0, None, [])
    assert not folder.exists()


def test_removed_rows_leave_the_disk_after_a_while(
    open_store: Callable[..., Store], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lancedb_store, "UNTIDY", 2)
    monkeypatch.setattr(lancedb_store, "READ_BY_NOW", timedelta(milliseconds=1))
    store = open_store()
    store.upsert([Row("a", "a secret text " * 9, np.ones(8), {}), *make_rows(3)])
    store.delete(["a"])
    for row in make_rows(4):
        store.upsert([row])
    held = b"".join(file.read_bytes() for file in folder.rglob("*.lance") if file.is_file())
    assert b"secret" not in held
    assert store.count() == 4
