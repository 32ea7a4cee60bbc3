"""An export is one published state, whole, readable by anybody; an import is that or nothing."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from click.testing import CliRunner

import rag_app
from rag_app.app import RagApp
from rag_app.cli.groups import group
from rag_app.errors import IdentityError, IndexStateError, LockedError, RagAppError, UsageError
from rag_app.index.ingest import ingest
from rag_app.types import SearchResult
from tests.postgres_server import PostgresServer

QUESTIONS: Final = ("ferry harbour captain", "mortgage interest", "violin concerto", "tulip bulbs")
PARTS: Final = ("documents.jsonl", "chunks.jsonl", "vectors.npy", "origins.jsonl", "probes.npy")

_WORDS: Final = [
    *("ferry", "harbour", "captain", "anchor", "tide", "lantern", "mortgage", "interest", "lender"),
    *("notary", "violin", "concerto", "orchestra", "cello", "tulip", "bulbs", "greenhouse", "soil"),
    *("gardener", "winter", "summer", "market", "copper", "kettle", "bridge", "river", "letter"),
    *("window", "teacher", "mountain", "railway", "ticket", "morning", "evening", "silver"),
]


def story(seed: str, words: int = 150) -> str:
    rng = random.Random(seed)
    made = rng.choices(_WORDS, k=words)
    return "\n\n".join(" ".join(made[i : i + 10]) + "." for i in range(0, words, 10))


def write(folder: Path, edition: str = "", count: int = 40) -> Path:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        text = f"Edition {edition}.\n\n" * bool(edition) + story(f"{edition}{number}")
        (folder / "docs" / f"{number:03}.md").write_text(text, encoding="utf-8")
    return folder


def config(folder: Path, name: str = "here", **sections: Any) -> dict[str, Any]:
    """An index of `folder/docs` that lies in `folder/name`."""
    return {
        "name": "notes",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 4},
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(folder / name / "vectors.sqlite")},
        "retriever": {"kind": "dense", "k": 10},
        "index": {"path": str(folder / name)},
        **sections,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, their index in `here`, and its export in `out` and `out.zip`."""
    folder = write(tmp_path_factory.mktemp("made"))
    with rag_app.load(config(folder)) as app:
        assert app.ingest().chunks_total > 300
        app.export_index(folder / "out")
        app.export_index(folder / "out.zip")
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


@pytest.fixture
def new(made: Path, tmp_path: Path) -> Iterator[RagApp]:
    """An empty index of the same config."""
    with rag_app.load(new_config(made, tmp_path)) as app:
        yield app


def new_config(made: Path, tmp_path: Path, **sections: Any) -> dict[str, Any]:
    return {**config(tmp_path, "there"), "sources": config(made)["sources"], **sections}


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "index.json").read_text("utf-8"))
    return found


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    with (folder / name).open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def search(app: RagApp) -> list[SearchResult]:
    return [app.search(question) for question in QUESTIONS]


def assert_same_hits(before: list[SearchResult], after: list[SearchResult]) -> None:
    """The same similarity at every rank, and of every chunk; equal ones may change places."""
    for one, other in zip(before, after, strict=True):
        there = {hit.id: hit.similarity or 0.0 for hit in one.hits}
        here = {hit.id: hit.similarity or 0.0 for hit in other.hits}
        assert len(there) == len(here) == 10
        assert list(there.values()) == pytest.approx(list(here.values()), abs=1e-5)
        last = min(there.values()) + 1e-5
        assert {id for id, cosine in there.items() if cosine > last} <= here.keys()
        assert all(here[id] == pytest.approx(there[id], abs=1e-5) for id in there.keys() & here)
        texts = {hit.id: (hit.source, hit.text, hit.start, hit.end) for hit in one.hits}
        for hit in other.hits:
            assert texts.get(hit.id, ()) in ((), (hit.source, hit.text, hit.start, hit.end))


def assert_nothing_served(app: RagApp) -> None:
    assert [each.state for each in app.generations() if each.state == "served"] == []
    with pytest.raises(IndexStateError):
        app.search("ferry")


# -- the round trip --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with PostgresServer() as server:
        yield server.url


def test_an_index_moves_from_store_to_store_and_the_next_ingest_has_nothing_to_do(
    made: Path, tmp_path: Path, postgres: str
) -> None:
    with rag_app.load(config(made)) as app:
        before, kept = search(app), {row.id: row for row in app.store.scan()}
    source = made / "out"
    for kind in ("faiss", "chroma", "pgvector", "memory"):
        place = {"url": postgres} if kind == "pgvector" else {"path": str(tmp_path / kind / "s")}
        store = {"kind": kind, **place}
        index = {"path": str(tmp_path / kind / "rag")}
        with rag_app.load(new_config(made, tmp_path, vector_store=store, index=index)) as app:
            served = app.import_index(source)
            assert (served.state, served.store, served.documents) == ("served", kind, 40)
            assert served.chunks == app.store.count() == len(kept)
            assert_same_hits(before, search(app))
            report = app.ingest()
            assert (report.embedded, report.cached, report.chunks_written) == (0, 0, 0)
            assert (report.unchanged, report.chunks_deleted) == (40, 0)
            source = tmp_path / f"{kind}.zip"
            app.export_index(source)
    for row in app_rows(new_config(made, tmp_path, vector_store=store, index=index)):
        assert (row.text, row.metadata) == (kept[row.id].text, kept[row.id].metadata)
        assert row.vector @ kept[row.id].vector == pytest.approx(1, abs=1e-5)


def app_rows(given: dict[str, Any]) -> list[Any]:
    with rag_app.load(given) as app:
        return list(app.store.scan())


def test_exports_of_one_state_hold_the_same_whatever_the_store(made: Path, new: RagApp) -> None:
    new.import_index(made / "out.zip")
    again = Path(new.config.index.path) / "again"
    new.export_index(again)
    for name in ("documents.jsonl", "chunks.jsonl", "origins.jsonl", "probes.npy"):
        assert (again / name).read_bytes() == (made / "out" / name).read_bytes()
    with zipfile.ZipFile(made / "out.zip") as packed:
        assert packed.testzip() is None
        assert packed.read("chunks.jsonl") == (again / "chunks.jsonl").read_bytes()


def test_a_manifest_at_a_server_is_exported_and_imported(
    made: Path, tmp_path: Path, postgres: str
) -> None:
    index = {"path": str(tmp_path / "rag"), "manifest_url": postgres}
    given = new_config(made, tmp_path, index=index)
    with rag_app.load(given) as app:
        app.import_index(made / "out.zip")
        app.export_index(tmp_path / "again")
        assert app.ingest().unchanged == 40
        assert app.describe_generation()["manifest"]["bytes"] > 10_000
    assert read(tmp_path / "again")["counts"] == read(made / "out")["counts"]
    found = lines(tmp_path / "again", "chunks.jsonl")
    key = str.casefold  # the server's order of names may be another
    assert sorted(map(str, found), key=key) == sorted(
        map(str, lines(made / "out", "chunks.jsonl")), key=key
    )


def test_numpy_and_json_alone_find_what_the_index_finds(made: Path) -> None:
    header = read(made / "out")
    chunks = lines(made / "out", "chunks.jsonl")
    vectors = np.load(made / "out" / "vectors.npy", allow_pickle=False)
    counts = header["counts"]
    assert vectors.shape == (counts["chunks"], header["dimension"]) == (len(chunks), 256)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    with rag_app.load(config(made)) as app:
        for question in QUESTIONS:
            vector = np.array(app.embeddings.embed_query(question))
            cosines = vectors @ (vector / np.linalg.norm(vector))
            for hit, row in zip(app.search(question).hits, np.argsort(-cosines), strict=False):
                assert hit.similarity == pytest.approx(cosines[row], abs=1e-5)
            row_of = {chunk["id"]: row for row, chunk in enumerate(chunks)}
            for hit in app.search(question).hits:
                row = row_of[hit.id]
                assert cosines[row] == pytest.approx(hit.similarity, abs=1e-5)
                assert (chunks[row]["text"], chunks[row]["source"]) == (hit.text, hit.source)


def test_documents_are_whole_and_chunks_stand_in_their_order(made: Path) -> None:
    documents = lines(made / "out", "documents.jsonl")
    chunks = iter(lines(made / "out", "chunks.jsonl"))
    for document in documents:
        text = (made / "docs" / document["source"]).read_text("utf-8")
        assert document["text"] == text
        starts = []
        for _ in range(document["chunks"]):
            chunk = next(chunks)
            start, end = chunk["metadata"]["start"], chunk["metadata"]["end"]
            assert (chunk["source"], chunk["text"]) == (document["source"], text[start:end])
            starts.append(start)
        assert starts == sorted(starts)
    assert next(chunks, None) is None


def test_the_guide_s_example_prints_the_nearest_chunks(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(rag_app.__file__).parent / "guide" / "portable_index.md").read_text("utf-8")
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / "rag-app.yaml").write_text(json.dumps(config(made)), "utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(found[1], "portable_index.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 10
    first = lines(tmp_path / "exported", "chunks.jsonl")[0]
    assert printed[0].split()[:2] == ["1.000", first["source"]]


def test_what_was_quarantined_stays_so_and_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path, count=3)
    (tmp_path / "docs" / "bad.pdf").write_bytes(b"%PDF-1.4 of no use")
    with rag_app.load(config(tmp_path)) as app:
        assert app.ingest().quarantined == 1
        app.export_index(tmp_path / "out")
    with rag_app.load(config(tmp_path, "there")) as app:
        app.import_index(tmp_path / "out")
        report = app.ingest()
        assert (report.unchanged, report.quarantined, report.chunks_written) == (3, 1, 0)
        assert report.quarantine[0].source == "bad.pdf"


def test_many_documents_of_one_origin_move_and_no_secret_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hidden-place.sqlite"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE notes (id INTEGER, text TEXT)")
        odd = " \u2028 line \u0085 next \r\n return \x0c feed \x00 nought \U0001f600 北京"
        rows = [(number, story(str(number), 40) + odd) for number in range(300)]
        database.executemany("INSERT INTO notes VALUES (?, ?)", rows)
    monkeypatch.setenv("NOTES_URL", f"sqlite:///{file}")
    source = {"kind": "sql", "url": "${NOTES_URL}", "query": "SELECT id, text FROM notes"}
    with rag_app.load(config(tmp_path, sources=[source])) as app:
        app.ingest()
        held = {row.id: (row.text, row.metadata) for row in app.store.scan()}
        assert any("\u2028" in text for text, _ in held.values())
        report = app.export_index(tmp_path / "out")
    assert (report.documents, len(lines(tmp_path / "out", "origins.jsonl"))) == (300, 1)
    for path in (tmp_path / "out").iterdir():
        assert b"hidden-place" not in path.read_bytes()
    with rag_app.load(config(tmp_path, "there", sources=[source])) as app:
        assert app.import_index(tmp_path / "out").chunks == report.chunks == len(held)
        assert {row.id: (row.text, row.metadata) for row in app.store.scan()} == held
        again = app.ingest()
        assert (again.unchanged, again.embedded, again.chunks_written) == (300, 0, 0)
        assert "hidden-place" not in json.dumps(app.describe_generation())


def test_an_index_of_which_everything_was_deleted_is_exported_and_imported(tmp_path: Path) -> None:
    write(tmp_path, count=1)
    with rag_app.load(config(tmp_path)) as app:
        app.ingest()
        ingest(app.index, [], app.splitter, allow_delete=True)
        report = app.export_index(tmp_path / "out")
    assert (report.documents, report.chunks) == (0, 0)
    assert np.load(tmp_path / "out" / "vectors.npy").shape == (0, 256)
    with rag_app.load(config(tmp_path, "there")) as app:
        assert app.import_index(tmp_path / "out").chunks == 0


# -- one moment ------------------------------------------------------------------------------------


def editions(folder: Path) -> set[str]:
    """The editions that an export's documents and chunks are of."""
    found = {line["text"].partition(".")[0] for line in lines(folder, "documents.jsonl")}
    begins = [c["text"] for c in lines(folder, "chunks.jsonl") if c["metadata"]["start"] == 0]
    return found | {text.partition(".")[0] for text in begins}


def test_what_is_published_and_pruned_during_an_export_is_exported_whole(tmp_path: Path) -> None:
    write(tmp_path, "one")
    told: list[int] = []
    with rag_app.load(config(tmp_path)) as app, rag_app.load(config(tmp_path)) as other:
        app.ingest()

        def edit(_: str, done: int, __: int | None) -> None:
            told.append(done)
            if len(told) == 1:
                write(tmp_path, "two")
                assert other.ingest().chunks_deleted > 300

        app.export_index(tmp_path / "out", progress=edit)
    assert editions(tmp_path / "out") == {"Edition two"}
    assert told.count(told[0]) == 2, "the files were begun anew"
    with rag_app.load(config(tmp_path, "there")) as app:
        app.import_index(tmp_path / "out")
        assert app.ingest().chunks_written == 0


def test_what_is_published_during_an_export_and_prunes_nothing_is_not_in_it(tmp_path: Path) -> None:
    write(tmp_path)
    added = tmp_path / "docs" / "added.md"
    with rag_app.load(config(tmp_path)) as app, rag_app.load(config(tmp_path)) as other:
        app.ingest()

        def add(*_: object) -> None:
            if not added.exists():
                added.write_text("A word that is new.\n")
                assert other.ingest().indexed == 1

        app.export_index(tmp_path / "out", progress=add)
    assert len(lines(tmp_path / "out", "documents.jsonl")) == 40


def test_exports_beside_a_busy_ingest_show_one_state_each(tmp_path: Path) -> None:
    write(tmp_path, "0", count=20)
    with rag_app.load(config(tmp_path)) as app:
        app.ingest()
    failures: list[BaseException] = []
    over = threading.Event()

    def edit() -> None:
        try:
            with rag_app.load(config(tmp_path)) as app:
                for edition in range(1, 6):
                    write(tmp_path, str(edition), count=20)
                    app.ingest()
        except BaseException as error:
            failures.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=edit)
    thread.start()
    seen = []
    with rag_app.load(config(tmp_path)) as app:
        last = False
        while not last:
            last = over.is_set()
            app.export_index(tmp_path / "out", force=True)
            found = editions(tmp_path / "out")
            assert len(found) == 1
            seen += found
    thread.join()
    assert not failures
    assert seen[-1] == "Edition 5"
    assert seen == sorted(seen)


def test_an_edit_that_was_not_published_is_read_after_an_import(tmp_path: Path) -> None:
    write(tmp_path, count=3)
    with rag_app.load(config(tmp_path)) as app:
        app.ingest()
    (tmp_path / "docs" / "001.md").write_text("It was edited.\n")
    (tmp_path / "docs" / "new.md").write_text("It is new.\n")
    die(config(tmp_path), "staged", "app.ingest()")
    with rag_app.load(config(tmp_path)) as app:
        app.export_index(tmp_path / "out")
    assert [each["source"] for each in lines(tmp_path / "out", "documents.jsonl")] == [
        *("000.md", "001.md", "002.md")
    ]
    with rag_app.load(config(tmp_path, "there")) as app:
        app.import_index(tmp_path / "out")
        report = app.ingest()
        assert (report.indexed, report.unchanged) == (2, 2)


# -- whole or not at all ---------------------------------------------------------------------------


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["new", "new.zip", "old", "old.zip"])
def test_a_stopped_export_leaves_what_was_there(made: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with rag_app.load(config(made)) as app:
        before = None
        if name.startswith("old"):
            app.export_index(target)
            before = snapshot(target)
        with pytest.raises(KeyboardInterrupt):
            app.export_index(target, force=True, progress=stop)
        assert snapshot(target) == before
        assert [path.name for path in tmp_path.iterdir()] == [name] * (before is not None)


def snapshot(target: Path) -> Any:
    if not target.exists():
        return None
    if target.is_dir():
        return {path.name: path.read_bytes() for path in target.iterdir()}
    return target.read_bytes()


def test_only_an_export_is_replaced_and_only_by_force(made: Path, tmp_path: Path) -> None:
    with rag_app.load(config(made)) as app:
        for name in ("out", "out.zip"):
            app.export_index(tmp_path / name)
            with pytest.raises(UsageError, match=r"it is there already\. .*--force"):
                app.export_index(tmp_path / name)
            old = read(tmp_path / "out")["files"]
            app.export_index(tmp_path / name, force=True)
            assert read(tmp_path / "out")["files"] == old
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        (tmp_path / "mine.zip").write_text("no zip")
        for name in ("mine", "mine.zip"):
            with pytest.raises(UsageError, match="is no export"):
                app.export_index(tmp_path / name, force=True)
        assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
        with pytest.raises(IndexStateError, match="cannot be written: No such file"):
            app.export_index(tmp_path / "nowhere" / "out")


def test_an_empty_index_is_not_exported(new: RagApp, tmp_path: Path) -> None:
    with pytest.raises(IndexStateError, match="it is empty"):
        new.export_index(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_index_that_lost_chunks_is_not_exported(tmp_path: Path) -> None:
    write(tmp_path, count=3)
    with rag_app.load(config(tmp_path)) as app:
        app.ingest()
        app.store.delete([next(app.store.scan()).id])
        with pytest.raises(IndexStateError, match="doctor --fix"):
            app.export_index(tmp_path / "out")
    with rag_app.load(config(tmp_path)) as app:
        app.store.add_texts(["not of the index"], [{"source": "x"}])  # the count is right again
        with pytest.raises(IndexStateError, match=r"1 of \d+ chunks asked for are missing"):
            app.export_index(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "here"]


# -- killed ----------------------------------------------------------------------------------------


def die(given: dict[str, Any], failpoint: str, call: str) -> None:
    """Run `call` on the app in a process that dies there."""
    code = f"import json, sys, rag_app\nwith rag_app.load(json.loads(sys.argv[1])) as app: {call}"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        env={**os.environ, "RAG_APP_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "failpoint",
    [
        *("generation-begun", "probes-kept", "planned", "embedded", "upserted:2", "confirmed:2"),
        *("staged:2", "published", "contents-swept"),
    ],
)
def test_a_killed_import_is_ended_by_the_same_command(
    made: Path, tmp_path: Path, failpoint: str
) -> None:
    given = new_config(made, tmp_path)
    die(given, failpoint, f"app.import_index({str(made / 'out.zip')!r})")
    with rag_app.load(given) as app:
        if failpoint not in {"published", "contents-swept"}:
            assert_nothing_served(app)
        told: list[str] = []
        served = app.import_index(made / "out.zip", progress=lambda stage, *_: told.append(stage))
        assert (served.state, served.documents) == ("served", 40)
        assert served.chunks == app.store.count() == read(made / "out")["counts"]["chunks"]
        if failpoint == "staged:2":
            assert any(stage.startswith("resuming: 256 of") for stage in told)
        assert [each.number for each in app.generations()] == [served.number]
        assert app.ingest().chunks_written == 0
        with rag_app.load(config(made)) as original:
            assert_same_hits(search(original), search(app))
    assert not [*Path(given["index"]["path"]).rglob("import-*")]


def test_another_export_is_not_mixed_with_a_killed_import(made: Path, tmp_path: Path) -> None:
    given = new_config(made, tmp_path)
    die(given, "staged:2", f"app.import_index({str(made / 'out')!r})")
    write(tmp_path, "other", count=5)
    with rag_app.load(config(tmp_path)) as app:
        app.ingest()
        app.export_index(tmp_path / "other")
    with rag_app.load({**given, "sources": config(tmp_path)["sources"]}) as app:
        served = app.import_index(tmp_path / "other")
        assert served.documents == 5
        assert served.chunks == app.store.count()
        assert {row.metadata["source"] for row in app.store.scan()} == {
            f"{number:03}.md" for number in range(5)
        }


def test_an_ingest_after_a_killed_import_is_whole(made: Path, tmp_path: Path) -> None:
    given = new_config(made, tmp_path)
    die(given, "staged:2", f"app.import_index({str(made / 'out')!r})")
    with rag_app.load(given) as app:
        report = app.ingest()
        assert (report.indexed, report.chunks_total) == (40, app.store.count())
        with rag_app.load(config(made)) as original:
            assert_same_hits(search(original), search(app))


# -- what is served already ------------------------------------------------------------------------


def test_what_is_served_is_replaced_on_demand_alone_and_kept(made: Path, tmp_path: Path) -> None:
    write(tmp_path, "old", count=3)
    with rag_app.load(config(tmp_path, splitter=config(made)["splitter"])) as app:
        app.ingest()
        before = search(app)
        with pytest.raises(IndexStateError, match=r"it serves \d+ chunks already.*--replace"):
            app.import_index(made / "out")
        assert_same_hits(before, search(app))
        served = app.import_index(made / "out", replace=True)
        assert [each.state for each in app.generations()] == ["kept", "served"]
        with rag_app.load(config(made)) as original:
            assert_same_hits(search(original), search(app))
        assert app.import_index(made / "out") == served, "it is there already"
        assert app.rollback().number == 1
        assert_same_hits(before, search(app))


def test_rows_that_nobody_knows_of_are_not_dropped(made: Path, tmp_path: Path) -> None:
    given = new_config(made, tmp_path)
    with rag_app.load(given) as app:
        app.open_store("notes_g1").add_texts(["mine"], [{"source": "mine"}])
        with pytest.raises(IndexStateError, match="already holds 1 chunks that this index knows"):
            app.import_index(made / "out")
        assert app.open_store("notes_g1").count() == 1
        assert app.import_index(made / "out", replace=True).state == "served"


def test_an_import_waits_for_nobody(made: Path, new: RagApp) -> None:
    with new.index.writing(), pytest.raises(LockedError):
        new.import_index(made / "out")
    assert_nothing_served(new)


# -- refusals --------------------------------------------------------------------------------------


def sign(folder: Path, **changes: Any) -> None:
    """Let `index.json` say of the files what they are."""
    import hashlib

    header = {**read(folder), **changes}
    header["files"] = {
        name: {
            "bytes": (folder / name).stat().st_size,
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        }
        for name in PARTS
    }
    (folder / "index.json").write_text(json.dumps(header), "utf-8")


def edit_lines(folder: Path, name: str, edit: Callable[[list[Any]], object]) -> None:
    listed = lines(folder, name)
    edit(listed)
    words = [each if isinstance(each, str) else json.dumps(each) for each in listed]
    (folder / name).write_text("".join(word + "\n" for word in words), "utf-8")
    counts = dict(read(folder)["counts"])
    if name.removesuffix(".jsonl") in counts:
        counts[name.removesuffix(".jsonl")] = len(listed)
    sign(folder, counts=counts)


def edit_vectors(folder: Path, edit: Callable[[Any], Any], name: str = "vectors.npy") -> None:
    vectors = np.load(folder / name)
    made = edit(vectors)
    np.save(folder / name, vectors if made is None else made)
    sign(folder)


def cut(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


def flip(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def replace_header(folder: Path, **changes: Any) -> None:
    (folder / "index.json").write_text(json.dumps({**read(folder), **changes}), "utf-8")


def set_at(place: tuple[Any, ...], value: Any) -> Callable[[Any], None]:
    def edit(listed: Any) -> None:
        inner = listed
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value

    return edit


def share_a_text(folder: Path) -> None:
    edit_lines(folder, "chunks.jsonl", lambda c: c[9].__setitem__("text", c[1]["text"]))


DAMAGE: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "no header": (lambda f: (f / "index.json").unlink(), "no index.json can be read"),
    "header cut": (lambda f: cut(f, "index.json"), "index.json is not JSON"),
    "another format": (lambda f: replace_header(f, format="faiss"), "not that of an index"),
    "a later version": (
        lambda f: replace_header(f, version=2),
        "version 2 of the format.* reads 1",
    ),
    "an unknown field": (lambda f: replace_header(f, more=1), "index.json: more: extra inputs"),
    "a wrong field": (lambda f: replace_header(f, dimension="256"), "dimension: .*valid integer"),
    "another file": (lambda f: replace_header(f, files={}), "names the files"),
    **{
        f"{name} missing": (lambda f, n=name: (f / n).unlink(), f"{name} is missing")
        for name in PARTS
    },
    **{
        f"{name} cut": (lambda f, n=name: cut(f, n), rf"{name} has [\d,]+ bytes, index.json says")
        for name in PARTS
    },
    **{
        f"{name} damaged": (lambda f, n=name: flip(f, n), f"{name} is damaged: its SHA-256")
        for name in PARTS
    },
    "a document twice": (
        lambda f: edit_lines(f, "documents.jsonl", lambda d: d.insert(1, {**d[0], "chunks": 0})),
        r"documents.jsonl, line 2: the document '000\.md' is there twice",
    ),
    "a document lost": (
        lambda f: edit_lines(f, "documents.jsonl", lambda d: d.pop(3)),
        "does not have its 11 chunks at their place|does not have its",
    ),
    "the last document lost": (
        lambda f: edit_lines(f, "documents.jsonl", lambda d: d.pop()),
        "chunks.jsonl goes on after the last document",
    ),
    "an id twice": (
        lambda f: edit_lines(f, "chunks.jsonl", lambda c: c[7].__setitem__("id", c[2]["id"])),
        "chunks.jsonl, line 8: the id .* is there twice",
    ),
    "another's chunk": (
        lambda f: edit_lines(f, "chunks.jsonl", lambda c: c.insert(0, c.pop())),
        "line 1: chunks.jsonl does not have its",
    ),
    "a chunk lost": (
        lambda f: edit_lines(f, "chunks.jsonl", lambda c: c.pop()),
        r"vectors.npy is of shape \(\d+, 256\), float32, C order; \(\d+, 256\)",
    ),
    "a source that is not its metadata's": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4, "metadata", "source"), "x")),
        "line 5: metadata.source is not the source",
    ),
    "a field too many": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4, "score"), 1)),
        "line 5 has the fields id, source, text, metadata, score",
    ),
    "a field of another type": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4, "text"), 1)),
        "line 5: text is of type int",
    ),
    "an empty id": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4, "id"), "")),
        "line 5: id is empty",
    ),
    "NaN among the metadata": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4, "metadata", "x"), float("nan"))),
        "line 5: metadata.x: nan is not a JSON number",
    ),
    "half a character": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4, "text"), "\ud800")),
        "line 5: text: holds half of a character",
    ),
    "no JSON": (
        lambda f: edit_lines(f, "chunks.jsonl", set_at((4,), "{")),
        "chunks.jsonl, line 5 is not JSON",
    ),
    "no object": (
        lambda f: edit_lines(f, "documents.jsonl", set_at((4,), [])),
        "documents.jsonl, line 5 is no object",
    ),
    "counts that are not those": (
        lambda f: replace_header(f, counts={**read(f)["counts"], "origins": 7}),
        "origins.jsonl has 40 lines, index.json says 7",
    ),
    "an origin lost": (
        lambda f: edit_lines(f, "origins.jsonl", lambda o: o.pop(2)),
        r"origins.jsonl lacks '002\.md'",
    ),
    "an origin twice": (
        lambda f: edit_lines(f, "origins.jsonl", lambda o: o.append(o[2])),
        r"origins.jsonl names '002\.md' twice",
    ),
    "one text, two vectors": (share_a_text, "have the same text, and vectors of different"),
    "NaN": (
        lambda f: edit_vectors(f, set_at((5, 3), np.nan)),
        "row 5 of vectors.npy has the norm nan",
    ),
    "infinity": (lambda f: edit_vectors(f, set_at((5, 3), np.inf)), "row 5 .* has the norm inf"),
    "a zero vector": (lambda f: edit_vectors(f, set_at((6,), 0)), "row 6 .* has the norm 0, not 1"),
    "a long vector": (lambda f: edit_vectors(f, lambda v: v * 2), "row 0 .* has the norm 2, not 1"),
    "a vector lost": (lambda f: edit_vectors(f, lambda v: v[:-1]), r"vectors.npy is of shape"),
    "other dimensions": (lambda f: edit_vectors(f, lambda v: v[:, :128]), r"of shape \(\d+, 128\)"),
    "float64": (lambda f: edit_vectors(f, lambda v: v.astype("f8")), "float64, C order"),
    "big endian": (lambda f: edit_vectors(f, lambda v: v.astype(">f4")), "vectors.npy is of shape"),
    "by column": (lambda f: edit_vectors(f, np.asfortranarray), "Fortran order"),
    "one row": (lambda f: edit_vectors(f, np.ravel), "vectors.npy is of shape"),
    "objects": (
        lambda f: edit_vectors(f, lambda v: np.array([{"a": 1}])),
        "vectors.npy is of shape .*object",
    ),
    "no NumPy file": (
        lambda f: ((f / "vectors.npy").write_bytes(b"x" * 999), sign(f)),
        "vectors.npy is no NumPy file",
    ),
    "vectors too few for their header": (
        lambda f: (cut(f, "vectors.npy"), sign(f)),
        "vectors.npy has [\\d,]+ bytes, other than its shape takes",
    ),
    "other probe sentences": (
        lambda f: replace_header(f, probes=["What?", *read(f)["probes"][1:]]),
        "its probe sentences are not those of this version",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_export_is_refused_and_nothing_is_served(
    out: Path, new: RagApp, damage: str
) -> None:
    spoil, words = DAMAGE[damage]
    spoil(out)
    with pytest.raises(IndexStateError, match=words) as caught:
        new.import_index(out)
    assert caught.value.where == str(out)
    assert caught.value.remedy
    assert new.generations() == []
    assert new.store.count() == 0
    assert_nothing_served(new)


def test_another_model_is_refused_and_both_are_named(made: Path, tmp_path: Path) -> None:
    other = {"kind": "hashing", "dimension": 128}
    with rag_app.load(new_config(made, tmp_path, embeddings=other)) as app:
        with pytest.raises(IdentityError, match=r"hashing \(dimension=256\).*dimension=128") as it:
            app.import_index(made / "out")
        assert it.value.exit_status == 5
        assert app.generations() == []


def test_a_model_that_answers_otherwise_is_refused(out: Path, new: RagApp) -> None:
    edit_vectors(out, lambda v: np.roll(v, 1, axis=1), "probes.npy")
    with pytest.raises(IdentityError, match="answers otherwise than when the index was made"):
        new.import_index(out)
    assert new.generations() == []


def test_another_splitter_is_refused_and_the_option_named(made: Path, tmp_path: Path) -> None:
    other = {"kind": "recursive", "chunk_size": 48, "chunk_overlap": 4}
    with rag_app.load(new_config(made, tmp_path, splitter=other)) as app:
        with pytest.raises(IndexStateError, match="chunk_size 24, here 48") as caught:
            app.import_index(made / "out")
        assert not isinstance(caught.value, IdentityError)
        assert app.generations() == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-200]), "no index.json can be read"),
        (lambda p: p.write_bytes(b""), "no index.json can be read"),
        (lambda p: p.unlink(), "it does not exist"),
        (lambda p: repack(p, without="origins.jsonl"), "origins.jsonl cannot be unpacked"),
        (
            lambda p: repack(p, longer="origins.jsonl"),
            "origins.jsonl has [0-9,]+ bytes, index.json",
        ),
    ],
)
def test_a_damaged_zip_is_refused(
    made: Path, tmp_path: Path, new: RagApp, spoil: Callable[[Path], object], words: str
) -> None:
    packed = Path(shutil.copy(made / "out.zip", tmp_path / "copy.zip"))
    spoil(packed)
    with pytest.raises(IndexStateError, match=words):
        new.import_index(packed)
    assert new.generations() == []
    assert not [*Path(new.config.index.path).rglob("import-*")]


def repack(packed: Path, without: str = "", longer: str = "") -> None:
    with zipfile.ZipFile(packed) as old:
        held = {name: old.read(name) for name in old.namelist() if name != without}
    if longer:
        held[longer] += b" " * 50_000_000
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in held.items():
            new.writestr(name, data)


def test_other_files_of_a_zip_are_not_touched(made: Path, tmp_path: Path, new: RagApp) -> None:
    packed = Path(shutil.copy(made / "out.zip", tmp_path / "copy.zip"))
    with zipfile.ZipFile(packed, "a") as added:
        added.writestr("../evil.txt", "x")
        added.writestr("readme.txt", "x")
    assert new.import_index(packed).state == "served"
    assert not [*tmp_path.rglob("evil.txt")]


def test_every_refusal_is_ours(made: Path, new: RagApp) -> None:
    for source in (made / "docs", made / "docs" / "000.md", Path("/dev/null"), Path("/")):
        with pytest.raises(RagAppError):
            new.import_index(source)


# -- the command line ------------------------------------------------------------------------------


def test_the_commands_move_an_index_between_two_configs(made: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.yaml", tmp_path / "there.yaml"
    here.write_text(json.dumps(config(made)), "utf-8")
    there.write_text(json.dumps(new_config(made, tmp_path)), "utf-8")

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        tool = Path(sys.executable).parent / "rag-app"
        return subprocess.run(
            [tool, "index", *args], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    def call(*args: str | Path) -> Any:
        """The same in this process: its output, or its error."""
        done = CliRunner().invoke(group, ["index", *map(str, args)], standalone_mode=False)
        return done.exception or done.stdout

    exported = json.loads(run("export", "moved.zip", "-c", here, "--json").stdout)
    assert exported["documents"] == 40
    assert isinstance(call("export", tmp_path / "moved.zip", "-c", here), UsageError)
    done = run("import", "moved.zip", "-c", there)
    assert done.stdout.startswith("served: generation 1 (memory, hashing")
    assert "writing" in done.stderr
    wrong = ("--set", "embeddings.dimension=64")
    assert run("import", "moved.zip", "-c", there, *wrong).returncode == 5
    listed = json.loads(call("list", "-c", there, "--json"))["generations"]
    assert [(each["state"], each["chunks"]) for each in listed] == [("served", exported["chunks"])]
    assert [line.split()[:3] for line in call("list", "-c", there).splitlines()] == [
        ["generation", "state", "store"],
        ["1", "served", "memory"],
    ]
    shown = json.loads(call("show", "-c", there, "--json"))
    assert (shown["purpose"], shown["embeddings"]["kind"]) == ("import", "hashing")
    assert shown["manifest"]["bytes"] > 10_000
    assert "  kind: hashing" in call("show", "1", "-c", there).splitlines()
    assert isinstance(call("show", "7", "-c", there), UsageError)
    assert json.loads(call("gc", "-c", there, "--json")) == {"removed": []}
    assert "no earlier generation" in str(call("rollback", "-c", there))
