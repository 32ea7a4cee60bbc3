"""What the Chroma store promises beyond the contract: its folder, its server, its graph."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores import chroma

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        opened.append(chroma.build(chroma.Config(**options), None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def make_rows(count: int) -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, 8))
    return [Row(str(i), f"text {i}", vector, {"n": i}) for i, vector in enumerate(vectors)]


OTHER_PROCESS = """
import json, sys
import numpy as np
from pathlib import Path
from rag_app.errors import StoreError
from rag_app.store import Row
from rag_app.vector_stores import chroma
store = chroma.build(chroma.Config(path=Path(sys.argv[1])), None, "docs")
said = []
for use in (store.count, lambda: store.upsert([Row("x", "", np.ones(8), {})])):
    try:
        said.append(use())
    except StoreError as error:
        said.append(str(error))
print(json.dumps(said))
store.close()
"""


def try_elsewhere(path: Path) -> list[Any]:
    ran = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(path)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said: list[Any] = json.loads(ran.stdout)
    return said


class TestFolder:
    def test_a_writer_keeps_others_out_and_is_named(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(path=tmp_path)
        store.upsert(make_rows(3))
        said = try_elsewhere(tmp_path)
        assert all(f"held by process {os.getpid()}" in words for words in said)
        assert all("chroma run" in words for words in said)
        store.close()
        assert try_elsewhere(tmp_path) == [3, None]

    def test_a_reader_does_not_keep_readers_out(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        writer = open_store(path=tmp_path)
        writer.upsert(make_rows(3))
        writer.close()
        reader = open_store(path=tmp_path)
        assert reader.count() == 3
        counted, refused = try_elsewhere(tmp_path)
        assert counted == 3
        assert "open in another process" in refused
        reader.upsert([Row("mine", "", np.ones(8), {})])
        assert reader.count() == 4

    def test_a_deleted_folder_is_made_anew(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        folder = tmp_path / "chroma"
        old = open_store(path=folder)
        old.upsert(make_rows(3))
        shutil.rmtree(folder)
        new = open_store(path=folder)
        assert new.count() == 0
        new.upsert(make_rows(2))
        assert len(new.search(np.ones(8), 9)) == 2
        with pytest.raises(StoreError):
            old.count()

    def test_refuses_a_path_that_is_no_folder(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError, match="file"):
            open_store(path=tmp_path / "file").count()


class TestServer:
    def test_says_where_nothing_answers(self, open_store: Callable[..., Store]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        store = open_store(url=url)  # opening connects to nothing
        with pytest.raises(StoreError, match=r"127\.0\.0\.1.*chroma run") as caught:
            store.count()
        assert url in str(caught.value)

    def test_says_so_when_it_is_no_chroma_and_keeps_the_key(
        self, open_store: Callable[..., Store]
    ) -> None:
        keys: list[str | None] = []

        class Refusing(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.append(self.headers.get("x-chroma-token"))
                self.send_error(401, "no")

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
            threading.Thread(target=server.serve_forever).start()
            store = open_store(url=f"http://127.0.0.1:{server.server_port}", api_key="s3cr3t-key")
            with pytest.raises(StoreError) as caught:
                store.count()
            server.shutdown()
        assert keys[0] == "s3cr3t-key"
        assert "s3cr3t-key" not in str(caught.value)

    def test_many_clients_see_each_others_writes(
        self, chroma_url: str, open_store: Callable[..., Store]
    ) -> None:
        one, two = (open_store("seen-by-two", url=chroma_url) for _ in range(2))
        one.upsert(make_rows(50))
        two.delete(["0"])
        two.upsert([Row("1", "replaced", np.ones(8), {"new": True})])
        assert one.count() == 49
        assert one.search(np.ones(8), 1)[0][0].page_content == "replaced"
        one.drop()
        assert two.search(np.ones(8), 1) == []

    def test_path_and_url_exclude_each_other(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="exclude each other"):
            chroma.Config(path=tmp_path, url="http://localhost:8000")


class TestCollection:
    def test_refuses_one_that_another_program_made(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        import chromadb

        client = chromadb.PersistentClient(path=str(tmp_path))
        client.create_collection("docs", embedding_function=None).add(
            ids=["a"], embeddings=[[1.0, 2.0]], documents=["theirs"]
        )
        client.close()
        store = open_store(path=tmp_path)
        for use in (store.count, lambda: store.search(np.ones(2), 1), store.drop):
            with pytest.raises(StoreError, match="not written by this rag-app"):
                use()

    def test_a_graph_made_otherwise_is_refused_not_ignored(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        made = open_store(path=tmp_path, max_neighbors=8)
        made.upsert(make_rows(3))
        made.close()
        with pytest.raises(StoreError, match="made with 8, the config asks for 16"):
            open_store(path=tmp_path).count()
        searched = open_store(path=tmp_path, max_neighbors=8, ef_search=77)
        assert len(searched.search(np.ones(8), 9)) == 3

    def test_a_filter_that_chroma_cannot_express_finds_more_rows_than_sqlite_takes_values(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(path=tmp_path)
        vectors = np.random.default_rng(0).standard_normal((12_000, 2))
        store.upsert([Row(str(i), "", v, {"day": f"{i % 2}"}) for i, v in enumerate(vectors)])
        assert len(store.search(np.ones(2), 20_000, {"day": {"$gte": "0"}})) == 12_000
        assert len(store.search(np.ones(2), 10, {"day": {"$gt": "0"}})) == 10

    @pytest.mark.parametrize("where", [None, {"group": 19}, {"part": {"$lt": 2}}, {"day": "a"}])
    def test_all_that_match_are_found_where_the_graph_leads_to_fewer(
        self, tmp_path: Path, open_store: Callable[..., Store], where: dict[str, Any] | None
    ) -> None:
        """Crowds of nearly the same vector: HNSW's links stay inside them."""
        random = np.random.default_rng(0)
        centres = np.repeat(random.standard_normal((20, 32)), 200, axis=0)
        vectors = centres + 0.0005 * random.standard_normal((4000, 32))
        rows = [
            Row(str(i), "", v, {"group": i // 200, "part": i % 3, "day": "ab"[i % 2]})
            for i, v in enumerate(vectors)
        ]
        store = open_store(path=tmp_path)
        store.upsert(rows)
        store.delete([row.id for row in rows[500:3500]])
        left = [*rows[:500], *rows[3500:]]
        matching = {
            None: lambda _: True,
            "group": lambda data: data["group"] == 19,
            "part": lambda data: data["part"] < 2,
            "day": lambda data: data["day"] == "a",
        }[next(iter(where)) if where else None]
        wanted = {row.id for row in left if matching(row.metadata)}
        found = store.search(vectors[0], 3000, where)
        assert {document.id for document, _ in found} == wanted
