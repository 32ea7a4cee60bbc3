"""What the FAISS store promises beyond the contract: its saved index, its kinds, its options."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores import faiss as faiss_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS: list[dict[str, Any]] = [
    {"index": "flat"},
    {"index": "hnsw", "m": 8},
    {"index": "ivf", "nlist": 10},
]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        config = faiss_store.Config(**{"path": tmp_path / "faiss", **options})
        opened.append(faiss_store.build(config, None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind["index"]))
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = request.param
    return options


def draw(count: int, seed: int = 0, dimension: int = 16) -> Any:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_rows(count: int, seed: int = 0) -> list[Row]:
    vectors = draw(count, seed)
    return [Row(f"{seed}-{i}", f"t {i}", vectors[i], {"n": i}) for i in range(count)]


def saved_files(folder: Path) -> list[Path]:
    return sorted((folder / "faiss").glob("*.faiss"))


def read_saved(folder: Path) -> Any:
    (file,) = saved_files(folder)
    return faiss.read_index(str(file))


def require_exact(store: Store) -> None:
    """Searches find exactly the rows that are there, each with its own cosine."""
    held = {row.id: row.vector.astype(np.float64) for row in store.scan()}
    for query in draw(3, seed=99):
        found = {document.id: cosine for document, cosine in store.search(query, 10**6)}
        assert found == {
            id: pytest.approx(float(vector @ query), abs=1e-5) for id, vector in held.items()
        }


class TestSavedIndex:
    def test_is_written_by_faiss_and_read_again(
        self, tmp_path: Path, open_store: Callable[..., Store], kind: dict[str, Any]
    ) -> None:
        store = open_store(**kind)
        store.upsert(make_rows(1500))
        assert saved_files(tmp_path) == []  # the rows are safe in SQLite; saving waits
        store.close()
        assert read_saved(tmp_path).ntotal == 1500
        require_exact(open_store(**kind))

    def test_a_small_commit_does_not_write_it_anew_and_is_not_forgotten(
        self, tmp_path: Path, open_store: Callable[..., Store], kind: dict[str, Any]
    ) -> None:
        store = open_store(**kind)
        store.upsert(make_rows(1500))
        store.close()
        before = [(file.name, file.stat().st_mtime_ns) for file in saved_files(tmp_path)]
        for seed in (1, 2):
            store = open_store(**kind)
            store.upsert(make_rows(1, seed))
            store.upsert([Row("0-7", "replaced", draw(1, seed=50 + seed)[0], {})])
            store.delete([f"0-{seed}"])
            store.close()
        assert [(file.name, file.stat().st_mtime_ns) for file in saved_files(tmp_path)] == before
        store = open_store(**kind)
        assert store.count() == 1500
        assert store.search(draw(1, seed=52)[0], 1)[0][0].page_content == "replaced"
        require_exact(store)

    @pytest.mark.parametrize("harm", ["damage", "remove", "swap"])
    def test_one_that_is_not_what_was_written_is_made_anew(
        self, tmp_path: Path, open_store: Callable[..., Store], kind: dict[str, Any], harm: str
    ) -> None:
        store = open_store(**kind)
        store.upsert(make_rows(1500))
        store.close()
        (file,) = saved_files(tmp_path)
        if harm == "remove":
            file.unlink()
        elif harm == "damage":
            with file.open("r+b") as opened:
                opened.seek(file.stat().st_size // 2)
                opened.write(os.urandom(64))
        else:
            other = faiss.IndexIDMap(faiss.IndexFlatIP(16))
            other.add_with_ids(draw(1500, 5).astype(np.float32), np.arange(1, 1501))
            faiss.write_index(other, str(file))
        store = open_store(**kind)
        require_exact(store)
        store.close()
        assert len(saved_files(tmp_path)) == 1
        assert read_saved(tmp_path).ntotal == 1500

    def test_of_a_store_whose_rows_were_removed_is_not_used(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store()
        store.upsert(make_rows(1500))
        store.close()
        (tmp_path / "faiss" / "rows.sqlite").unlink()
        store = open_store()
        assert store.count() == 0
        store.upsert(make_rows(1200, seed=3))
        require_exact(store)
        store.close()
        assert read_saved(tmp_path).ntotal == 1200

    def test_goes_with_its_collection(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        for name in ("one", "two"):
            store = open_store(name)
            store.upsert(make_rows(1200))
            store.close()
        assert len(saved_files(tmp_path)) == 2
        open_store("one").drop()
        assert len(saved_files(tmp_path)) == 1
        require_exact(open_store("two"))

    def test_says_so_when_it_cannot_be_written_and_keeps_the_rows(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store()
        store.upsert(make_rows(1500))
        code = (
            "import resource, signal, sys; from pathlib import Path\n"
            "from rag_app.errors import StoreError\n"
            "from rag_app.vector_stores import faiss\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "store = faiss.build(faiss.Config(path=Path(sys.argv[1])), None, 'docs')\n"
            "store.search([1.0] * 16, 1)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
            "try: store.close()\n"
            "except StoreError as error: print(error)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "faiss")],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert "could not be saved" in ran.stdout
        assert "All rows are safe" in ran.stdout
        assert saved_files(tmp_path) == []
        require_exact(store)


KILLED = """
import json, sys
import numpy as np
from pathlib import Path
from rag_app.store import Row
from rag_app.vector_stores import _faiss_rows, faiss
_faiss_rows.WORTH_A_PAUSE = 60  # so that it saves all the time
options = json.loads(sys.argv[2])
store = faiss.build(faiss.Config(path=Path(sys.argv[1]), **options), None, "docs")
draw = np.random.default_rng(int(sys.argv[3]))
for batch in range(10_000):
    rows = [
        Row(f"{sys.argv[3]}-{batch}-{i}", "t" * 500, draw.standard_normal(16), {"batch": batch})
        for i in range(30)
    ]
    store.upsert(rows)
    if batch % 3 == 2:
        store.delete([rows[0].id])
        store.upsert([Row(rows[1].id, "again", draw.standard_normal(16), {"batch": batch})])
    print(batch, flush=True)
"""


def test_killed_at_any_moment_it_finds_what_was_written(
    tmp_path: Path, open_store: Callable[..., Store], kind: dict[str, Any]
) -> None:
    for turn in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "faiss"), json.dumps(kind), str(turn)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert writer.stdout is not None
        with writer.stdout as lines:
            acknowledged = [int(next(lines)) for _ in range(6 + 5 * turn)]
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged += [int(line) for line in lines]
        writer.wait(20)
        store = open_store(**kind)
        held = {row.id for row in store.scan()}
        for batch in acknowledged:
            wanted = {f"{turn}-{batch}-{i}" for i in range(batch % 3 == 2, 30)}
            assert wanted <= held
        require_exact(store)
        store.close()
    store = open_store(**kind)
    store.upsert(make_rows(1500))
    store.close()
    assert len(saved_files(tmp_path)) == 1  # nothing is left behind of those that were killed
    require_exact(open_store(**kind))


class TestKinds:
    def test_options_reach_faiss(self, tmp_path: Path, open_store: Callable[..., Store]) -> None:
        made: dict[str, Any] = {}
        for options in (
            {"index": "flat"},
            {"index": "hnsw", "m": 7, "ef_construction": 55},
            {"index": "ivf", "nlist": 13},
        ):
            folder = tmp_path / str(options["index"])
            store = open_store(path=folder / "faiss", **options)
            store.upsert(make_rows(1500))
            store.close()
            made[str(options["index"])] = read_saved(folder)
        assert isinstance(faiss.downcast_index(made["flat"].index), faiss.IndexFlatIP)
        graph = faiss.downcast_index(made["hnsw"].index).hnsw
        assert (graph.nb_neighbors(1), graph.efConstruction) == (7, 55)
        assert (type(made["ivf"]), made["ivf"].nlist) == (faiss.IndexIVFFlat, 13)

    @pytest.mark.parametrize(
        ("little", "much"),
        [
            ({"index": "hnsw", "m": 4, "ef_search": 1}, {"index": "hnsw", "m": 4}),
            ({"index": "ivf", "nlist": 50, "nprobe": 1}, {"index": "ivf", "nlist": 50}),
        ],
    )
    def test_a_narrow_search_misses_but_never_misreports(
        self, open_store: Callable[..., Store], little: dict[str, Any], much: dict[str, Any]
    ) -> None:
        rows = make_rows(3000)
        vectors = np.stack([row.vector for row in rows])
        store = open_store(**little)
        store.upsert(rows)
        recalls = []
        for options in (little, much):  # the second opening needs no other index
            store.close()
            store = open_store(**options)
            hits = 0
            for query in draw(30, seed=1):
                cosines = vectors @ query
                found = store.search(query, 10)
                assert len(found) == 10
                for document, cosine in found:
                    assert cosine == pytest.approx(cosines[document.metadata["n"]], abs=1e-5)
                nearest = set(np.argsort(-cosines)[:10].tolist())
                hits += len(nearest & {document.metadata["n"] for document, _ in found})
            recalls.append(hits / 300)
        assert recalls[0] < 0.9 < 0.99 <= recalls[1]

    @pytest.mark.parametrize(
        "options",
        [
            {"index": "hnsw", "m": 4, "ef_search": 1},
            {"index": "ivf", "nlist": 50, "nprobe": 1},
        ],
    )
    def test_a_filter_finds_all_even_where_the_search_is_narrow(
        self, open_store: Callable[..., Store], options: dict[str, Any], monkeypatch: Any
    ) -> None:
        from rag_app.vector_stores import _faiss_index

        monkeypatch.setattr(_faiss_index, "EXACT", 0)  # as if there were millions of rows
        store = open_store(**options)
        store.upsert(make_rows(3000))
        store.delete([f"0-{n}" for n in range(0, 3000, 7)])
        for bound in (20, 200, 1500, 2900):
            wanted = {f"0-{n}" for n in range(bound) if n % 7}
            found = store.search(draw(1, seed=4)[0], 5000, {"n": {"$lt": bound}})
            assert {document.id for document, _ in found} == wanted
            assert len(store.search(draw(1, seed=4)[0], 15, {"n": {"$lt": bound}})) == 15
        assert len(store.search(draw(1, seed=4)[0], 5000)) == store.count()

    def test_a_graph_passes_over_what_was_removed_and_does_not_grow_without_end(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(index="hnsw")
        store.upsert(make_rows(1200))
        store.delete([f"0-{n}" for n in range(100)])
        assert "0-5" not in {d.id for d, _ in store.search(make_rows(1200)[5].vector, 1200)}
        for _ in range(5):
            store.upsert(make_rows(1200))
        require_exact(store)
        store.close()
        assert read_saved(tmp_path).ntotal <= 1500

    def test_clusters_come_with_the_rows_and_grow_with_them(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(index="ivf", nlist=30)
        store.upsert(make_rows(1100))
        require_exact(store)
        store.close()
        assert isinstance(read_saved(tmp_path), faiss.IndexIDMap)  # 39 for each are not there yet
        store = open_store(index="ivf", nlist=30)
        store.upsert(make_rows(100, seed=1))
        store.close()
        assert isinstance(read_saved(tmp_path), faiss.IndexIVFFlat)
        store = open_store(index="ivf", nlist=30)
        store.upsert(make_rows(4000, seed=2))
        assert store._rows._searched.trained_on == 5200  # type: ignore[attr-defined]
        require_exact(store)

    def test_another_kind_is_made_of_the_same_rows(self, open_store: Callable[..., Store]) -> None:
        for options in (*KINDS, {"index": "hnsw", "m": 16}, {"index": "flat"}):
            store = open_store(**options)
            store.upsert(make_rows(1500))
            require_exact(store)
            store.close()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"nprobe": 8}, "nprobe is an option of index: ivf, the config asks for flat"),
            ({"index": "ivf", "m": 8}, "m is an option of index: hnsw, the config asks for ivf"),
            ({"index": "hnsw", "nlist": None}, "nlist is an option of index: ivf"),
            ({"index": "pq"}, "flat"),
        ],
    )
    def test_options_of_other_kinds_are_refused(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            faiss_store.Config(**options)


class TestFolder:
    def test_refuses_a_file_and_another_programs_database(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError, match=r"vector_store\.path"):
            open_store(path=tmp_path / "file")
        (tmp_path / "other").mkdir()
        with sqlite3.connect(tmp_path / "other" / "rows.sqlite") as other:
            other.execute("CREATE TABLE notes (words TEXT)")
        other.close()
        with pytest.raises(StoreError, match="another program"):
            open_store(path=tmp_path / "other")

    def test_one_writes_at_a_time_and_readers_go_on(
        self, tmp_path: Path, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(wait_seconds=0.1)
        store.upsert(make_rows(10))
        other = sqlite3.connect(tmp_path / "faiss" / "rows.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert len(store.search(draw(1)[0], 20)) == 10
        with pytest.raises(StoreError, match="wait_seconds"):
            store.upsert(make_rows(1, seed=1))
        other.execute("ROLLBACK")
        other.close()
        store.upsert(make_rows(1, seed=1))
        require_exact(store)

    def test_openings_in_turn_replace_delete_and_save(
        self, open_store: Callable[..., Store], kind: dict[str, Any], monkeypatch: Any
    ) -> None:
        from rag_app.vector_stores import _faiss_rows

        monkeypatch.setattr(_faiss_rows, "WORTH_A_PAUSE", 40)
        stores = [open_store(**kind) for _ in range(2)]
        chance = np.random.default_rng(0)
        for step in range(60):
            writer = stores[chance.integers(2)]
            vectors = draw(10, seed=1000 + step)
            ids = chance.choice(200, 10, replace=False)
            writer.upsert(
                [Row(f"r{id}", "", vectors[i], {"step": step}) for i, id in enumerate(ids)]
            )
            if chance.random() < 0.4:
                stores[chance.integers(2)].delete([f"r{chance.integers(200)}" for _ in range(9)])
            if chance.random() < 0.1:
                which = int(chance.integers(2))
                stores[which].close()
                stores[which] = open_store(**kind)
            require_exact(stores[chance.integers(2)])


def test_a_thread_waits_until_another_has_imported_faiss(tmp_path: Path) -> None:
    """The package here tells when it has begun, and goes on when the second thread was started."""
    (tmp_path / "faiss.py").write_text(
        "import builtins, time\n"
        "builtins.begun.set()\n"
        "builtins.second_started.wait()\n"
        "time.sleep(0.3)\n"
        "whole = True\n"
    )
    script = (
        "import builtins, threading\n"
        "from rag_app.vector_stores._faiss_index import load_faiss\n"
        "builtins.begun, builtins.second_started = threading.Event(), threading.Event()\n"
        "first = threading.Thread(target=load_faiss)\n"
        "first.start()\n"
        "builtins.begun.wait()\n"
        "builtins.second_started.set()\n"
        "print(hasattr(load_faiss(), 'whole'))\n"
        "first.join()\n"
    )
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "True\n", found.stderr
