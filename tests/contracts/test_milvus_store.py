"""What the Milvus store promises beyond the contract: its folder, its server, its index."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores import milvus
from rag_app.vector_stores._milvus_folder import FLUSH_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Open = Callable[..., Store]


@pytest.fixture
def open_store() -> Iterator[Open]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        opened.append(milvus.build(milvus.Config(**options), None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=["folder", "server"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Where one of each kind lives."""
    if request.param == "folder":
        return {"path": tmp_path / "milvus"}
    given: dict[str, Any] = request.getfixturevalue("milvus_options")
    return given


def make_foreign(name: str, options: dict[str, Any]) -> None:
    """A collection as another program makes it, with Milvus's own client."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from pymilvus import MilvusClient

    with contextlib.ExitStack() as undo:
        if "url" in options:
            url = options["url"]
        else:
            server, database, port = start_server_in_thread(str(options["path"]))
            undo.callback(database.close)
            undo.callback(lambda: server.stop(None).wait(10))
            url = f"http://127.0.0.1:{port}"
        client = MilvusClient(uri=url, token=options.get("api_key", ""), dedicated=True)
        undo.callback(client.close)
        client.create_collection(name, dimension=2)


def make_rows(count: int, seed: int = 0) -> list[Row]:
    vectors = np.random.default_rng(seed).standard_normal((count, 8))
    return [Row(str(i), f"text {i}", vector, {"n": i}) for i, vector in enumerate(vectors)]


def name_one() -> str:
    return f"milvus_{time.time_ns()}"


OTHER_PROCESS = """
import json, sys
from pathlib import Path
from rag_app.errors import StoreError
from rag_app.vector_stores import milvus
store = milvus.build(milvus.Config(path=Path(sys.argv[1])), None, "docs")
try:
    said = store.count()
except StoreError as error:
    said = str(error)
store.close()
print(json.dumps(said))
"""


def try_elsewhere(path: Path) -> Any:
    ran = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(path)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    return json.loads(ran.stdout)


class TestFolder:
    def test_its_process_keeps_others_out_and_is_named_until_it_closes(
        self, tmp_path: Path, open_store: Open
    ) -> None:
        one, two = open_store(path=tmp_path), open_store(path=tmp_path)
        one.upsert(make_rows(3))
        said = try_elsewhere(tmp_path)
        assert f"held by process {os.getpid()}" in said
        assert "vector_store.url" in said
        one.close()
        assert two.count() == 3
        two.close()
        assert try_elsewhere(tmp_path) == 3

    def test_what_a_killed_process_wrote_is_there(self, tmp_path: Path, open_store: Open) -> None:
        code = (
            "import os, sys, numpy as np\n"
            "from pathlib import Path\n"
            "from rag_app.store import Row\n"
            "from rag_app.vector_stores import milvus\n"
            "store = milvus.build(milvus.Config(path=Path(sys.argv[1])), None, 'docs')\n"
            "rows = [Row(str(i), 't', v, {'n': i}) for i, v in enumerate(np.eye(8))]\n"
            "store.upsert(rows)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        with tempfile.TemporaryDirectory() as left:  # its socket stays behind
            environment = os.environ | {"TMPDIR": left}
            ran = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path)],
                env=environment, timeout=120, check=False,
            )  # fmt: skip
        assert ran.returncode == -9
        store = open_store(path=tmp_path)
        assert store.count() == 8
        assert [d.id for d, _ in store.search(np.eye(8)[5], 1)] == ["5"]

    def test_a_deleted_folder_is_made_anew(self, tmp_path: Path, open_store: Open) -> None:
        folder = tmp_path / "milvus"
        old = open_store(path=folder)
        old.upsert(make_rows(3))
        shutil.rmtree(folder)
        new = open_store(path=folder)
        assert new.count() == 0
        new.upsert(make_rows(2))
        assert len(new.search(np.ones(8), 9)) == 2
        with pytest.raises(StoreError, match="was deleted or replaced while it was open"):
            old.count()
        old.close()
        new.close()
        assert open_store(path=folder).count() == 2

    def test_refuses_a_file_of_an_older_version(self, tmp_path: Path, open_store: Open) -> None:
        (tmp_path / "milvus.db").write_bytes(b"SQLite format 3\x00")
        with pytest.raises(StoreError, match=r"milvus\.db.*is a file.*Give another path"):
            open_store(path=tmp_path / "milvus.db").count()

    def test_a_search_while_many_rows_are_moved_into_files_misses_none(
        self, tmp_path: Path, open_store: Open
    ) -> None:
        store = open_store(path=tmp_path)
        rows = make_rows(3 * FLUSH_AT)
        store.upsert(rows[:50])
        found: list[int] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                found.append(len(store.search(np.ones(8), 50)))

        readers = [threading.Thread(target=look) for _ in range(3)]
        for reader in readers:
            reader.start()
        for start in range(50, len(rows), 290):
            store.upsert(rows[start : start + 290])
        stop.set()
        for reader in readers:
            reader.join()
        assert found
        assert set(found) == {50}
        assert store.count() == len(rows)

    def test_no_socket_is_left(self, tmp_path: Path, open_store: Open) -> None:
        before = set(read_sockets())
        store = open_store(path=tmp_path)
        store.upsert(make_rows(2))
        mine = {each for each in read_sockets() if "/rag-app-" in each} - before
        assert mine
        store.close()
        assert not mine & set(read_sockets())
        assert not any(os.path.exists(each) for each in mine)

    def test_is_exact(self, tmp_path: Path, open_store: Open) -> None:
        store = open_store(path=tmp_path)
        rows = make_rows(3000)
        store.upsert(rows)
        vectors = np.stack([row.vector for row in rows])
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        for query in np.random.default_rng(1).standard_normal((20, 8)):
            wanted = np.argsort(-(vectors @ query))[:10]
            assert [d.metadata["n"] for d, _ in store.search(query, 10)] == wanted.tolist()


def read_sockets() -> list[str]:
    """The Unix sockets of this machine that have a name."""
    with open("/proc/net/unix", encoding="utf-8") as file:
        return [line.split()[7] for line in file if len(line.split()) > 7]


class TestServer:
    def test_says_where_nothing_answers(self, open_store: Open) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        store = open_store(url=url, api_key="root:s3cr3t")  # opening connects to nothing
        with pytest.raises(StoreError, match=r"no server answers.*127\.0\.0\.1.*Start") as caught:
            store.count()
        assert url in str(caught.value)
        assert "s3cr3t" not in str(caught.value)

    def test_does_not_wait_long_for_a_silent_one(self, open_store: Open) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            store = open_store(url=url, api_key="root:s3cr3t")
            with pytest.raises(StoreError, match=r"Milvus at 'http://127\.0\.0\.1") as caught:
                store.count()
        assert "s3cr3t" not in str(caught.value)

    def test_a_database_that_is_not_there_is_named(
        self, milvus_options: dict[str, Any], open_store: Open
    ) -> None:
        with pytest.raises(StoreError, match="nowhere"):
            open_store(**milvus_options, database="nowhere").count()

    def test_more_rows_than_one_search_may_give(
        self, milvus_options: dict[str, Any], open_store: Open
    ) -> None:
        store = open_store(name_one(), **milvus_options)
        rows = make_rows(16_500)
        store.upsert(rows)
        found = store.search(np.ones(8), 16_450)
        vectors = np.stack([row.vector for row in rows])
        cosines = vectors @ np.ones(8) / np.linalg.norm(vectors, axis=1)
        wanted = {str(i) for i in np.argsort(-cosines)[:16_450]}
        assert {document.id for document, _ in found} == wanted
        store.drop()

    def test_more_text_than_one_answer_may_hold(
        self, milvus_options: dict[str, Any], open_store: Open
    ) -> None:
        store = open_store(name_one(), **milvus_options)
        rows = [
            Row(str(i), chr(97 + i % 26) * 1_200_000, vector, {})
            for i, vector in enumerate(np.random.default_rng(0).standard_normal((70, 8)))
        ]
        store.upsert(rows)
        assert {row.id: row.text for row in store.scan()} == {row.id: row.text for row in rows}
        assert len(store.fetch([row.id for row in rows])) == 70
        found = store.search(np.ones(8), 70)
        assert sum(len(document.page_content) for document, _ in found) == 70 * 1_200_000
        store.drop()

    def test_strong_reading_works_too(
        self, milvus_options: dict[str, Any], open_store: Open
    ) -> None:
        store = open_store(name_one(), **milvus_options, consistency="strong")
        store.upsert(make_rows(20))
        assert len(store.search(np.ones(8), 5, {"n": {"$lt": 3}})) == 3
        store.drop()


class TestConfig:
    def test_what_does_not_go_together_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="exclude each other"):
            milvus.Config(path=tmp_path, url="http://localhost:19530")
        with pytest.raises(ValidationError, match="give its url"):
            milvus.Config(path=tmp_path, api_key="x")  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="user:password") as caught:
            milvus.Config(url="http://root:s3cr3t@localhost:19530")
        assert "s3cr3t" not in str(caught.value)


class TestCollection:
    @pytest.mark.parametrize("index", ["flat", "hnsw", "ivf_flat"])
    def test_every_index_tells_the_exact_cosine(
        self, index: str, options: dict[str, Any], open_store: Open
    ) -> None:
        store = open_store(name_one(), **options, index=index)
        rows = make_rows(1500)
        store.upsert(rows)
        vectors = np.stack([row.vector for row in rows])
        exact = vectors @ vectors[3] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[3])
        for sign in (1, -1):
            found = store.search(sign * 1e-3 * vectors[3], 200)
            assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)
            assert [c for _, c in found] == pytest.approx(
                [sign * exact[document.metadata["n"]] for document, _ in found], abs=1e-5
            )
            assert len(found) == 200
            assert all(-1 <= cosine <= 1 for _, cosine in found)
        store.drop()

    def test_refuses_one_that_another_program_made(
        self, options: dict[str, Any], open_store: Open
    ) -> None:
        name = name_one()
        make_foreign(name, options)
        store = open_store(name, **options)
        for use in (store.count, lambda: store.search(np.ones(2), 1), store.drop):
            with pytest.raises(StoreError, match="not written by this rag-app"):
                use()

    @pytest.mark.parametrize(
        ("made", "asked", "words"),
        [
            ({"index": "hnsw", "m": 8}, {"index": "hnsw"}, "vector_store.m: .*8, .*asks for 16"),
            (
                {"index": "hnsw", "ef_construction": 64},
                {"index": "hnsw"},
                "vector_store.ef_construction: .*64, .*asks for 200",
            ),
            ({"index": "ivf_flat"}, {"index": "flat"}, "index: .*ivf_flat, .*asks for flat"),
            (
                {"index": "ivf_flat", "nlist": 4},
                {"index": "ivf_flat"},
                "nlist: .*4, .*asks for 128",
            ),
        ],
    )
    def test_an_index_made_otherwise_is_refused_not_ignored(
        self,
        tmp_path: Path,
        open_store: Open,
        made: dict[str, Any],
        asked: dict[str, Any],
        words: str,
    ) -> None:
        store = open_store(path=tmp_path, **made)
        store.upsert(make_rows(3))
        with pytest.raises(StoreError, match=words):
            open_store(path=tmp_path, **asked).count()
        assert len(open_store(path=tmp_path, **made).search(np.ones(8), 9)) == 3

    def test_the_options_reach_milvus(
        self, milvus_options: dict[str, Any], open_store: Open
    ) -> None:
        from pymilvus import MilvusClient

        client = MilvusClient(uri=milvus_options["url"])
        for index, told in (
            ({"index": "hnsw", "m": 9, "ef_construction": 77}, {"M": "9", "efConstruction": "77"}),
            ({"index": "ivf_flat", "nlist": 33}, {"nlist": "33"}),
            ({"index": "flat"}, {}),
        ):
            name = name_one()
            store = open_store(name, **milvus_options, **index)
            store.upsert(make_rows(100))
            made = client.describe_index(name, "vector")
            assert (made["index_type"], made["metric_type"]) == (index["index"].upper(), "COSINE")
            assert told.items() <= made.items()
            assert len(store.search(np.ones(8), 100)) == 100
            store.drop()
        client.close()

    def test_a_collection_whose_making_was_cut_off_is_finished(
        self, milvus_options: dict[str, Any], open_store: Open
    ) -> None:
        from pymilvus import MilvusClient

        name = name_one()
        store = open_store(name, **milvus_options)
        store.upsert(make_rows(5))
        client = MilvusClient(uri=milvus_options["url"])
        client.release_collection(name)
        client.drop_index(name, "vector")
        client.close()
        again = open_store(name, **milvus_options)
        assert len(again.search(np.ones(8), 9)) == 5
        again.drop()

    def test_metadata_of_thousands_of_values_is_filtered_exactly(
        self, options: dict[str, Any], open_store: Open
    ) -> None:
        store = open_store(name_one(), **options)
        vectors = np.random.default_rng(0).standard_normal((30, 8))
        rows = [
            Row(
                str(i),
                "",
                vector,
                {
                    "tags": [f"tag {n}" for n in range(5000 * (i % 2), 5000 * (i % 2) + 5000)],
                    "title": "x" * 300 + str(i % 3),
                    "half": i % 2,
                },
            )
            for i, vector in enumerate(vectors)
        ]
        store.upsert(rows)
        for filter, count in (
            ({"tags": {"$contains": "tag 7000"}}, 15),
            ({"half": 1}, 15),
            ({"half": {"$ne": 1}}, 15),
            ({"title": {"$gt": "x" * 300 + "0"}}, 20),
            ({"title": {"$gte": "x" * 300 + "2"}, "half": 0}, 5),
        ):
            assert len(store.search(np.ones(8), 30, filter)) == count
            assert len(store.search(np.ones(8), 2, filter)) == 2
        store.drop()

    def test_an_id_that_milvus_cannot_hold_is_refused_before_anything_is_written(
        self, tmp_path: Path, open_store: Open
    ) -> None:
        store = open_store(path=tmp_path)
        rows = [*make_rows(2), Row("語" * 30_000, "", np.ones(8), {})]
        with pytest.raises(StoreError, match=r"65,535 bytes.*shorter"):
            store.upsert(rows)
        assert store.count() == 0
        store.upsert([Row("語" * 20_000, "", np.ones(8), {})])
        assert [row.id for row in store.scan()] == ["語" * 20_000]

    def test_its_name_may_be_anything(self, options: dict[str, Any], open_store: Open) -> None:
        names = ["a-b", "a_b", "Ünï/§", "9", "x" * 400]
        stores = [open_store(name, **options) for name in names[: 5 if "path" in options else 3]]
        for i, store in enumerate(stores):
            store.upsert([Row("same", f"of {i}", np.ones(2), {})])
        assert [s.fetch(["same"])[0].text for s in stores] == [
            f"of {i}" for i in range(len(stores))
        ]
        for store in stores:
            store.drop()
