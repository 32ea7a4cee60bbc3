"""What the Qdrant store promises beyond the contract: its folder, its server, its graph."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.filters import matches, parse
from rag_app.store import Row, Store
from rag_app.vector_stores import qdrant
from tests.qdrant_server import MOST_BYTES, QdrantServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Open = Callable[..., Store]


@pytest.fixture(scope="module")
def opened() -> Iterator[list[Store]]:
    stores: list[Store] = []
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def open_store() -> Iterator[Open]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        opened.append(qdrant.build(qdrant.Config(**options), None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    """Strict, as Qdrant Cloud is, with a key."""
    with QdrantServer(tmp_path, "s3cr3t-key", read_key="r3ad-key", strict=True) as server:
        yield server


def make_rows(count: int, dimension: int = 8) -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, dimension))
    return [Row(str(i), f"text {i}", vector, {"n": i}) for i, vector in enumerate(vectors)]


ELSEWHERE = """
import json, os, signal, sys
import numpy as np
from pathlib import Path
from rag_app.errors import StoreError
from rag_app.store import Row
from rag_app.vector_stores import qdrant
store = qdrant.build(qdrant.Config(path=Path(sys.argv[1])), None, "docs")
if sys.argv[2:]:
    for batch in range(3):
        for i in range(40):
            vectors = np.random.default_rng(batch).standard_normal((40, 8))
        store.upsert([Row(f"{batch}-{i}", "t", vectors[i], {"n": i}) for i in range(40)])
        store.delete([f"{batch}-0"])
    print("written", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
said = []
for use in (store.count, lambda: store.upsert([Row("x", "", np.ones(8), {})])):
    try:
        said.append(use())
    except StoreError as error:
        said.append(str(error))
print(json.dumps(said))
store.close()
"""


def run_elsewhere(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


class TestFolder:
    def test_another_process_is_told_who_has_it(self, tmp_path: Path, open_store: Open) -> None:
        store = open_store(path=tmp_path)
        store.upsert(make_rows(3))
        said = json.loads(run_elsewhere(tmp_path).stdout)
        assert all(f"open in process {os.getpid()}" in words for words in said)
        assert all("vector_store.url" in words for words in said)
        store.close()
        assert json.loads(run_elsewhere(tmp_path).stdout) == [3, None]

    def test_a_killed_process_loses_nothing_that_was_confirmed(
        self, tmp_path: Path, open_store: Open
    ) -> None:
        killed = run_elsewhere(tmp_path, "die")
        assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "written\n")
        store = open_store(path=tmp_path)
        assert store.count() == 3 * 39
        ids = {f"{batch}-{i}" for batch in range(3) for i in range(1, 40)}
        assert {row.id for row in store.scan()} == ids
        wanted = np.random.default_rng(2).standard_normal((40, 8))[7]
        found = store.search(wanted, 1, {"n": {"$gte": 7}})
        assert [(d.id, pytest.approx(1.0)) for d, _ in found] == [("2-7", found[0][1])]

    def test_what_a_killed_process_left_half_made_is_no_collection(
        self, tmp_path: Path, open_store: Open
    ) -> None:
        (tmp_path / "docs.new" / "shard").mkdir(parents=True)
        (tmp_path / "docs.gone").mkdir()
        store = open_store(path=tmp_path)
        assert (store.count(), store.dimension) == (0, None)
        store.upsert(make_rows(3))
        store.drop()
        assert store.count() == 0
        assert sorted(file.name for file in tmp_path.iterdir()) == ["docs.lock"]

    def test_a_deleted_folder_is_made_anew(self, tmp_path: Path, open_store: Open) -> None:
        folder = tmp_path / "qdrant"
        old = open_store(path=folder)
        old.upsert(make_rows(3))
        shutil.rmtree(folder)
        with pytest.raises(StoreError, match="removed while it was open"):
            old.upsert(make_rows(1))
        new = open_store(path=folder)
        assert new.count() == 0
        new.upsert(make_rows(2))
        assert len(new.search(np.ones(8), 9)) == 2
        with pytest.raises(StoreError):
            old.count()

    def test_refuses_what_is_not_ours(self, tmp_path: Path, open_store: Open) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError, match="file"):
            open_store(path=tmp_path / "file").count()
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / "edge_config.json").write_text("{}")
        with pytest.raises(StoreError, match="of another program"):
            open_store(path=theirs).count()
        (tmp_path / "docs" / "shard").mkdir(parents=True)
        with pytest.raises(StoreError, match="not written by this rag-app"):
            open_store(path=tmp_path).count()

    def test_memory_leaves_nothing_behind(
        self, tmp_path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        one, two = open_store(path=None), open_store(path=None)
        one.upsert(make_rows(3))
        assert (one.count(), two.count()) == (3, 0)
        assert len(list(tmp_path.iterdir())) == 2
        one.close()
        two.close()
        assert list(tmp_path.iterdir()) == []


class TestGraph:
    def test_is_built_with_the_configs_options_once_there_are_many(
        self, tmp_path: Path, open_store: Open
    ) -> None:
        import qdrant_edge

        store = open_store(path=tmp_path, m=4, ef_construction=8, full_scan_threshold=20)
        store.upsert(make_rows(20_500, 128))
        assert len(store.search(np.ones(128), 10)) == 10
        store.close()
        shard = qdrant_edge.EdgeShard.load(str(tmp_path / "docs" / "shard"))
        assert shard.info().indexed_vectors_count >= 20_000
        shard.close()
        graph = json.loads((tmp_path / "docs" / "shard" / "edge_config.json").read_text())
        wanted = {"m": 4, "ef_construct": 8, "full_scan_threshold": 20}
        assert wanted.items() <= graph["hnsw_config"].items()

    @pytest.mark.parametrize("option", ["m", "ef_construction", "full_scan_threshold"])
    def test_made_otherwise_is_refused_not_ignored(
        self, tmp_path: Path, open_store: Open, server: QdrantServer, option: str
    ) -> None:
        for place in ({"path": tmp_path / "q"}, {"url": server.url, "api_key": server.key}):
            made = open_store(**place, **{option: 50})
            made.upsert(make_rows(3))
            made.close()
            with pytest.raises(StoreError, match=f"{option}: .*made with 50, .* asks for 1"):
                open_store(**place).count()
            searched = open_store(**place, **{option: 50}, ef_search=77)
            assert len(searched.search(np.ones(8), 9)) == 3

    def test_the_options_reach_the_server(self, open_store: Open, server: QdrantServer) -> None:
        fixed = {"m": 5, "ef_construction": 60, "full_scan_threshold": 700}
        store = open_store(url=server.url, api_key=server.key, ef_search=33, **fixed)
        store.upsert(make_rows(3))
        (made,) = [r.body for r in server.requests if "hnsw_config" in r.body]
        assert made["hnsw_config"] == {"m": 5, "ef_construct": 60, "full_scan_threshold": 700}
        store.search(np.ones(8), 1)
        assert server.requests[-1].body["params"]["hnsw_ef"] == 33


class TestPayloadIndexes:
    """One for each field that is compared by order, and none for a name that nobody has."""

    def test_in_a_folder(self, tmp_path: Path, open_store: Open) -> None:
        import qdrant_edge

        store = open_store(path=tmp_path)
        search_by_order(store)
        store.close()
        shard = qdrant_edge.EdgeShard.load(str(tmp_path / "docs" / "shard"))
        indexed = set(shard.info().payload_schema)
        shard.close()
        check_indexed(indexed)

    def test_on_a_server(self, tmp_path: Path, open_store: Open) -> None:
        from qdrant_client import QdrantClient

        with QdrantServer(tmp_path, "s3cr3t-key", strict=False) as server:
            search_by_order(open_store(url=server.url, api_key=server.key))
            headers = {"api-key": server.key}
            client = QdrantClient(url=server.url, headers=headers, check_compatibility=False)
            indexed = set(client.get_collection("docs").payload_schema)
            client.close()
        check_indexed(indexed)


def search_by_order(store: Store) -> None:
    store.upsert([Row(str(i), "", np.arange(1.0, 9.0), {"n": i, "a.b %": f"w{i}"}) for i in (1, 2)])
    for number in range(3):
        assert store.search(np.ones(8), 3, {f"made_up_{number}": {"$gt": 1}}) == []
    assert len(store.search(np.ones(8), 3, {"n": {"$gt": 1}})) == 1
    assert len(store.search(np.ones(8), 3, {"made_up_0": {"$exists": False}})) == 2
    store.upsert([Row("3", "", np.arange(1.0, 9.0), {"made_up_1": 5})])
    assert len(store.search(np.ones(8), 3, {"made_up_1": {"$gt": 1}})) == 1


def check_indexed(names: set[str]) -> None:
    assert any("n" in name.split(":")[-1] and "made" not in name for name in names - {"facts"})
    assert not any("made_up_0" in name or "made_up_2" in name for name in names)
    assert any("made_up_1" in name for name in names)


class TestServer:
    def test_says_where_nothing_answers(self, open_store: Open) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        store = open_store(url=url)  # opening connects to nothing
        with pytest.raises(StoreError, match="no Qdrant server answers.*docker run") as caught:
            store.count()
        assert url in str(caught.value)

    def test_a_silent_server_is_not_waited_for_without_end(self, open_store: Open) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(StoreError, match="timed out"):
                open_store(url=url, timeout=1).count()

    @pytest.mark.parametrize("key", ["wr0ng-key", None])
    def test_a_wrong_key_is_refused_and_not_shown(
        self, open_store: Open, server: QdrantServer, key: str | None
    ) -> None:
        store = open_store(url=server.url, api_key=key)
        with pytest.raises(StoreError, match=r"vector_store\.api_key: .*401") as caught:
            store.upsert(make_rows(1))
        assert server.requests[0].headers.get("api-key") == key
        assert "wr0ng-key" not in f"{caught.value!r} {caught.value} {store._rows!r}"

    def test_a_key_that_may_only_read(self, tmp_path: Path, open_store: Open) -> None:
        with QdrantServer(tmp_path, "s3cr3t-key", read_key="r3ad-key") as server:
            open_store(url=server.url, api_key="s3cr3t-key").upsert(make_rows(20))
            reader = open_store(url=server.url, api_key="r3ad-key")
            assert len(reader.search(np.ones(8), 99, {"n": {"$gt": 12}})) == 7
            with pytest.raises(StoreError, match=r"api_key: .*Forbidden.*403"):
                reader.upsert(make_rows(1))

    def test_asks_once_for_each_search(self, open_store: Open, server: QdrantServer) -> None:
        store = open_store(url=server.url, api_key=server.key)
        store.upsert(make_rows(20))
        before = len(server.requests)
        for _ in range(5):
            store.search(np.ones(8), 3, {"n": {"$in": [1, 2, 3, 4]}})
        assert len(server.requests) - before <= 6  # what the collection is, at most once

    def test_refuses_a_collection_of_another_program(
        self, open_store: Open, server: QdrantServer
    ) -> None:
        from qdrant_client import QdrantClient, models

        client = QdrantClient(
            server.url, headers={"api-key": "s3cr3t-key"}, check_compatibility=False
        )
        client.create_collection("docs", models.VectorParams(size=8, distance="Cosine"))
        client.close()
        store = open_store(url=server.url, api_key=server.key)
        for use in (
            store.count,
            lambda: store.search(np.ones(8), 1),
            lambda: store.upsert(make_rows(1)),
            store.drop,
        ):
            with pytest.raises(StoreError, match="not written by this rag-app"):
                use()

    def test_many_large_texts_are_cut_into_requests(
        self, open_store: Open, server: QdrantServer
    ) -> None:
        texts = ["Ω\x00" * 2_000_000, *(f"{i}" * 900_000 for i in range(9)), "\x00" * 5_000_000]
        store = open_store(url=server.url, api_key=server.key)
        rows = [Row(str(i), text, np.eye(11)[i], {}) for i, text in enumerate(texts)]
        store.upsert(rows)
        assert [row.text for row in store.fetch([row.id for row in rows])] == texts

    def test_a_text_larger_than_a_request_is_refused_before_anything_is_written(
        self, open_store: Open, server: QdrantServer
    ) -> None:
        store = open_store(url=server.url, api_key=server.key)
        rows = [*make_rows(600), Row("huge", "x" * MOST_BYTES, np.ones(8), {})]
        with pytest.raises(StoreError, match="'huge' is .* bytes.*smaller chunks"):
            store.upsert(rows)
        assert store.count() == 0


VALUES = (
    st.dates().map(str)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    | st.text("019-\x00é日", max_size=30)
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.sampled_from(["2024", "2024-0", "2024-05", "2024-05-01T00:00:00.000", "12345\x00"])
)
ORDERS = st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), VALUES, min_size=1)


class TestOrder:
    """Order is asked of the store by numbers; it is that of the values."""

    @settings(max_examples=12, deadline=None)
    @given(values=st.lists(VALUES, min_size=1, max_size=15), orders=st.lists(ORDERS, max_size=5))
    def test_is_that_of_the_definition(
        self, opened: list[Store], values: list[Any], orders: list[Any]
    ) -> None:
        if not opened:
            opened.append(qdrant.build(qdrant.Config(path=None), None, "order"))  # type: ignore[arg-type]
        store = opened[0]
        store.drop()
        name = 'a "field"/' + "x" * 300
        rows = [Row(str(i), "", np.ones(2), {name: value}) for i, value in enumerate(values)]
        store.upsert(rows)
        between = [{"$gt": value} for value in values] + [{"$lte": value} for value in values]
        for order in [*orders, *between, *({"$not": each} for each in orders)]:
            node = parse({name: order})
            wanted = {row.id for row in rows if matches(node, row.metadata)}
            assert {d.id for d, _ in store.search([1.0, 0.0], 99, {name: order})} == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "x", "url": "http://localhost"}, "exclude each other"),
        ({"api_key": "k"}, "api_key is a server's"),
        ({"url": "http://me:pw@localhost"}, "user name or password"),
        ({"url": "localhost:6333"}, "pattern"),
        ({"m": 1}, "greater than or equal"),
        ({"ef": 5}, "not permitted"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        qdrant.Config(**options)
    assert "pw@" not in str(caught.value)
