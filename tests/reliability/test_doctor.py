"""The doctor: every kind of damage is done to a real index, named with its documents, mended."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import rag_app
from rag_app.index.identity import PROBES
from rag_app.index.read import name_chunk
from rag_app.kept_folders import save_folder
from rag_app.store import Row
from tests.openai_server import OpenAIServer
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rag_app.app import RagApp
    from rag_app.types import Diagnosis, Finding

RAG_APP: Final = str(Path(sys.executable).with_name("rag-app"))
MEND: Final = ("memory", "faiss", "chroma", "pgvector")
EMBEDDED: Final = ("memory", "faiss", "chroma", "milvus", "qdrant", "lancedb")
QUESTIONS: Final = ("abacus kettle", "walnut lantern river", "copper saddle", "orchid", "glacier")
WORDS: Final = (
    *("abacus", "kettle", "walnut", "lantern", "river", "copper", "saddle", "orchid", "glacier"),
    *("fog", "meadow", "turnip", "violin", "anchor", "barley", "canyon", "dagger", "ember"),
    *("falcon", "garnet", "harbor", "indigo", "jasper", "kernel", "lilac", "marble"),
)


def story(seed: str) -> str:
    words = random.Random(seed).choices(WORDS, k=120)
    return "\n\n".join(" ".join(words[i : i + 12]) + "." for i in range(0, len(words), 12))


def write(docs: Path, **texts: str) -> None:
    """Documents by name, without their ending."""
    docs.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (docs / f"{name}.md").write_text(text, encoding="utf-8")


def make_config(folder: Path, store: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "sample",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 4},
        "embeddings": "hashing",
        "vector_store": store,
        "retriever": {"kind": "hybrid", "k": 200},
        "index": {"path": str(folder / "index"), "cache": True},
    }


@dataclass
class Sick:
    """An index of eight documents, and what is done to it."""

    folder: Path
    config: dict[str, Any]

    @contextmanager
    def open(self, **sections: Any) -> Iterator[RagApp]:
        with rag_app.load({**self.config, **sections}) as app:
            yield app

    def ingest(self, **given: Any) -> None:
        with self.open() as app:
            app.ingest(**given)

    def examine(self, **sections: Any) -> Diagnosis:
        with self.open(**sections) as app:
            return app.doctor()

    def mend(self, **sections: Any) -> Diagnosis:
        with self.open(**sections) as app:
            return app.doctor(fix=True)

    def rows(self) -> list[Row]:
        with self.open() as app:
            return sorted(app.store.scan(), key=lambda row: row.id)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        path = self.folder / "index" / "sample" / "manifest.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def answers(self) -> list[Any]:
        """What some questions find, with scores, and all rows there are."""
        found: list[Any] = [[(row.id, row.text, row.metadata) for row in self.rows()]]
        for kind in ("dense", "bm25"):  # apart: fusing them ranks what is equally near
            with self.open(retriever={"kind": kind, "k": 200}) as app:
                for question in QUESTIONS:
                    hits = app.search(question).hits
                    assert hits
                    found.append({h.id: (h.text, pytest.approx(h.score, abs=1e-5)) for h in hits})
        return found


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Sick]:
    """An index in a store, filled."""

    def fill(kind: str) -> Sick:
        write(tmp_path / "docs", **{name: story(name) for name in "abcdefgh"})
        store = {"kind": kind, "path": str(tmp_path / "index" / f"{kind}-vectors")}
        if kind == "pgvector":
            schema = f"s{abs(hash(str(tmp_path))):x}"
            monkeypatch.setenv("DOCTOR_URL", request.getfixturevalue("postgres").url)
            store = {"kind": kind, "url": "${DOCTOR_URL}", "schema_name": schema}
        sick = Sick(tmp_path, make_config(tmp_path, store))
        sick.ingest()
        return sick

    return fill


@pytest.fixture(params=MEND)
def sick(request: pytest.FixtureRequest, make: Callable[[str], Sick]) -> Sick:
    return make(request.param)


@pytest.fixture
def plain(make: Callable[[str], Sick]) -> Sick:
    """An index in one file: for what does not depend on the store."""
    return make("memory")


def damage(found: Diagnosis) -> dict[str, Finding]:
    return {each.kind: each for each in found.findings if each.severity == "damage"}


def notes(found: Diagnosis) -> dict[str, Finding]:
    return {each.kind: each for each in found.findings if each.severity == "note"}


def only(found: Diagnosis, kind: str) -> Finding:
    """The one damage there is."""
    assert list(damage(found)) == [kind], found.findings
    return damage(found)[kind]


def source(row: Row) -> str:
    return str(row.metadata["source"])


def sources(rows: list[Row]) -> tuple[str, ...]:
    return tuple(sorted({source(row) for row in rows}))


def change(row: Row, **changes: Any) -> Row:
    held = {"id": row.id, "text": row.text, "vector": row.vector, "metadata": row.metadata}
    return Row(**{**held, **changes})


def require_healed(sick: Sick, before: list[Any], *, embedded: int = 0) -> Diagnosis:
    """Mend it: nothing is left, so many texts were embedded, and answers are as they were."""
    mended = sick.mend()
    assert mended.sound, mended.findings
    assert mended.embedded == embedded
    assert not damage(sick.examine())
    assert sick.answers() == before
    return mended


@pytest.mark.parametrize("kind", [*EMBEDDED, "pgvector"])
def test_a_sound_index_has_no_findings(make: Callable[[str], Sick], kind: str) -> None:
    sick = make(kind)
    found = sick.examine()
    assert (found.findings, found.sound) == ((), True)
    assert (found.documents, found.chunks) == (8, len(sick.rows()))
    before = sick.answers()
    mended = sick.mend()
    assert (mended.findings, mended.mended, mended.written, mended.deleted) == ((), (), 0, 0)
    assert sick.answers() == before


class TestTheStore:
    def test_rows_that_were_deleted(self, sick: Sick) -> None:
        before = sick.answers()
        lost = sick.rows()[::5]
        with sick.open() as app:
            app.store.delete([row.id for row in lost])
            with pytest.raises(rag_app.IndexStateError, match="doctor --fix"):
                app.search("abacus")
        finding = only(sick.examine(), "missing-chunks")
        assert (finding.count, finding.documents) == (len(lost), sources(lost))
        mended = require_healed(sick, before)
        assert (mended.written, mended.cached) == (len(lost), len(lost))
        assert [each.kind for each in mended.mended] == ["missing-chunks"]

    def test_a_collection_that_was_dropped(self, sick: Sick) -> None:
        before, rows = sick.answers(), sick.rows()
        with sick.open() as app:
            app.store.drop()
        finding = only(sick.examine(), "missing-chunks")
        assert (finding.count, finding.documents) == (len(rows), sources(rows))
        require_healed(sick, before)

    @pytest.mark.parametrize("kind", EMBEDDED)
    def test_a_folder_that_was_deleted(self, make: Callable[[str], Sick], kind: str) -> None:
        sick = make(kind)
        before, rows = sick.answers(), sick.rows()
        path = Path(sick.config["vector_store"]["path"])
        for part in [path, *path.parent.glob(f"{path.name}-*")]:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        assert only(sick.examine(), "missing-chunks").count == len(rows)
        require_healed(sick, before)

    def test_rows_of_nobody(self, sick: Sick) -> None:
        before, rows = sick.answers(), sick.rows()
        made = Row("f" * 32, "abacus", rows[0].vector, {"source": "theirs.md"})
        nameless = Row("stray", "kettle", rows[0].vector, {})
        with sick.open() as app:
            app.store.upsert([made, nameless])
        finding = only(sick.examine(), "unknown-rows")
        assert (finding.count, finding.documents) == (2, ("row stray", "theirs.md"))
        mended = require_healed(sick, before)
        assert (mended.deleted, mended.written) == (2, 0)

    def test_most_rows_are_of_nobody(self, sick: Sick) -> None:
        rows = sick.rows()
        theirs = [Row(f"theirs-{n}", f"text {n}", rows[0].vector, {}) for n in range(len(rows) + 1)]
        with sick.open() as app:
            app.store.upsert(theirs)
        finding = only(sick.examine(), "foreign-rows")
        assert finding.count == len(theirs)
        mended = sick.mend()
        assert only(mended, "foreign-rows").count == len(theirs)
        assert (mended.deleted, len(sick.rows())) == (0, 2 * len(rows) + 1)

    def test_a_copy_of_a_row(self, sick: Sick) -> None:
        before, rows = sick.answers(), sick.rows()
        with sick.open() as app:
            app.store.upsert([change(rows[3], id="copy")])
        finding = only(sick.examine(), "copied-rows")
        assert (finding.count, finding.documents) == (1, (source(rows[3]),))
        assert require_healed(sick, before).deleted == 1

    def test_one_id_twice(self, make: Callable[[str], Sick]) -> None:
        """Only LanceDB, whose tables have no keys, holds such rows."""
        sick = make("lancedb")
        before, rows = sick.answers(), sick.rows()
        with sick.open() as app:
            table: Any = app.store._rows._open()  # type: ignore[attr-defined]
            held = table.search().where(f"id = '{rows[2].id}'").to_arrow()
            table.add(held)
        finding = only(sick.examine(), "duplicate-rows")
        assert finding.documents == (source(rows[2]),)
        require_healed(sick, before)

    @pytest.mark.parametrize("what", ["text", "metadata", "both"])
    def test_rows_that_were_altered(self, sick: Sick, what: str) -> None:
        before, row = sick.answers(), sick.rows()[4]
        changes: dict[str, Any] = {}
        if what != "metadata":
            changes["text"] = "It never said so."
        if what != "text":
            changes["metadata"] = {**row.metadata, "start": 7, "title": "another"}
        with sick.open() as app:
            app.store.upsert([change(row, **changes)])
        finding = only(sick.examine(), "altered-rows")
        assert (finding.count, finding.documents) == (1, (source(row),))
        mended = require_healed(sick, before)
        assert mended.written == 1
        assert mended.cached == (0 if what == "metadata" else 1)

    def test_words_of_altered_rows_leave_the_word_index(self, plain: Sick) -> None:
        before, row = plain.answers(), plain.rows()[4]
        with plain.open() as app:
            app.store.upsert([change(row, text="Zeppelin zeppelin.")])
            shutil.rmtree(plain.folder / "index" / "sample" / "bm25")
            hits = app.search("zeppelin").hits
            assert any("bm25" in hit.ranks for hit in hits)
            assert app.doctor(fix=True).sound
            assert not any("bm25" in hit.ranks for hit in app.search("zeppelin").hits)
        assert plain.answers() == before

    def test_a_row_without_text(self, sick: Sick) -> None:
        before, row = sick.answers(), sick.rows()[4]
        with sick.open() as app:
            app.store.upsert([change(row, text=" ")])
        assert only(sick.examine(), "empty-rows").documents == (source(row),)
        require_healed(sick, before)

    @pytest.mark.parametrize("factor", [0.0, 3.0])
    def test_vectors_that_are_no_directions(self, sick: Sick, factor: float) -> None:
        """As another program could write them: our own store refuses such vectors."""
        before, row = sick.answers(), sick.rows()[4]
        with sick.open() as app:
            app.store._rows.upsert([change(row, vector=row.vector * np.float32(factor))])
        assert only(sick.examine(), "bad-vectors").documents == (source(row),)
        require_healed(sick, before)

    def test_a_vector_that_is_not_of_its_text(self, sick: Sick) -> None:
        before, rows = sick.answers(), sick.rows()
        with sick.open() as app:
            app.store.upsert([change(rows[4], vector=rows[5].vector)])
        finding = only(sick.examine(), "foreign-vectors")
        assert (finding.count, finding.documents) == (1, (source(rows[4]),))
        mended = require_healed(sick, before)
        assert (mended.written, mended.cached) == (1, 1)

    def test_vectors_of_another_dimension(self, sick: Sick) -> None:
        before, rows = sick.answers(), sick.rows()
        with sick.open() as app:
            app.store.drop()
            app.store.upsert([change(row, vector=row.vector[:64] + np.float32(1)) for row in rows])
        finding = only(sick.examine(), "wrong-dimension")
        assert (finding.count, finding.documents) == (len(rows), sources(rows))
        require_healed(sick, before)

    def test_without_a_cache_only_what_is_wrong_is_embedded(self, plain: Sick) -> None:
        before, rows = plain.answers(), plain.rows()
        plain.config["index"] = {**plain.config["index"], "cache": False}
        with plain.open() as app:
            app.store.delete([rows[0].id])
            app.store.upsert([change(rows[1], metadata={"source": source(rows[1])})])
            app.store.upsert([change(rows[2], vector=rows[3].vector)])
        kinds = {"missing-chunks": 0, "altered-rows": 1, "foreign-vectors": 2}
        found = damage(plain.examine())
        assert {kind: found[kind].documents for kind in found} == {
            kind: (source(rows[place]),) for kind, place in kinds.items()
        }
        mended = require_healed(plain, before, embedded=2)
        assert mended.written == 3

    def test_good_copies_in_another_generation_are_used(self, plain: Sick) -> None:
        config = {**plain.config, "vector_store": {**plain.config["vector_store"]}}
        config["vector_store"]["path"] = str(plain.folder / "index" / "other.sqlite")
        with plain.open() as app:
            app.migrate(config)
        plain.config = config
        before = plain.answers()
        plain.config["index"] = {**plain.config["index"], "cache": False}
        with plain.open() as app:
            app.store.drop()
        require_healed(plain, before, embedded=0)

    def test_a_store_that_cannot_be_read(self, plain: Sick) -> None:
        row = plain.rows()[0]
        path = plain.config["vector_store"]["path"]
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE rows SET text = 'damaged' WHERE id = ?", (row.id,))
        finding = only(plain.examine(), "store-unreadable")
        assert row.id in finding.detail
        assert "doctor --fix" in finding.remedy
        assert not plain.mend().sound
        for part in Path(path).parent.glob("memory-vectors*"):
            part.unlink()
        assert plain.mend().sound

    def test_chunks_longer_than_the_window_are_noted(self, tmp_path: Path) -> None:
        with OpenAIServer() as server:
            sick = Sick(tmp_path, make_config(tmp_path, {"kind": "memory", "path": None}))
            sick.config |= {"embeddings": {**remote(server), "max_tokens": 20}}
            sick.config["splitter"] = {"kind": "recursive", "chunk_size": 60}
            write(tmp_path / "docs", short="A word.", long=story("long"))
            with sick.open() as app:
                app.ingest()
                found = app.doctor()
        assert found.sound
        assert notes(found)["long-chunks"].documents == ("long.md",)


def remote(server: OpenAIServer, **options: Any) -> dict[str, Any]:
    del options
    return {
        "kind": "openai",
        "model": "text-embedding-3-small",
        "base_url": server.url,
        "dimensions": 64,
    }


def embedded(server: OpenAIServer) -> Counter[str]:
    """How often each text was sent, but for the probe sentences."""
    sent = (text for request in server.requests for text in request.body["input"])
    return Counter(text for text in sent if text not in PROBES)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Sick, OpenAIServer]]:
    """An index whose model is a service, with 80 chunks and a cache."""
    with OpenAIServer() as server:
        names = [f"d{number}" for number in range(16)]
        write(tmp_path / "docs", **{name: story(name) for name in names})
        path = str(tmp_path / "index" / "memory-vectors")
        sick = Sick(tmp_path, make_config(tmp_path, {"kind": "memory", "path": path}))
        sick.config["embeddings"] = remote(server)
        sick.ingest()
        server.requests.clear()
        yield sick, server


class TestTheModel:
    """What a service is asked, counted by the service."""

    def test_a_wiped_store_is_restored_from_the_cache_alone(
        self, served: tuple[Sick, OpenAIServer]
    ) -> None:
        sick, server = served
        with sick.open() as app:
            app.store.drop()
        mended = sick.mend()
        assert (mended.sound, mended.embedded, mended.written) == (True, 0, mended.chunks)
        assert not embedded(server)

    def test_of_texts_that_the_cache_lacks_a_sample_is_asked_for(
        self, served: tuple[Sick, OpenAIServer]
    ) -> None:
        sick, server = served
        sick.config["index"] = {**sick.config["index"], "cache": False}
        found = sick.examine()
        assert found.sound
        assert sum(embedded(server).values()) == 50 < found.chunks
        assert found.compared == 50 + len(PROBES)

    def test_when_the_sample_is_wrong_all_of_them_are_made_anew(
        self, served: tuple[Sick, OpenAIServer]
    ) -> None:
        """Another model wrote a third of the rows behind everybody's back."""
        sick, server = served
        before, rows = sick.answers(), sick.rows()
        with sick.open() as app:
            turned = [change(row, vector=row.vector[::-1]) for row in rows[::3]]
            app.store.upsert(turned)
        sick.config["index"] = {**sick.config["index"], "cache": False}
        finding = only(sick.examine(), "foreign-vectors")
        assert 0 < finding.count <= len(turned)
        assert set(finding.documents) <= set(sources(turned))
        mended = sick.mend()
        assert (mended.sound, mended.embedded) == (True, len(rows))
        assert sick.answers() == before

    def test_when_the_cache_is_what_is_wrong_it_is_put_right(
        self, served: tuple[Sick, OpenAIServer]
    ) -> None:
        sick, server = served
        before, row = sick.answers(), sick.rows()[0]
        with sick.open() as app:
            assert app.index.cache is not None
            app.index.cache.keep({row.text: row.vector[::-1]})
        finding = only(sick.examine(), "foreign-cached-vectors")
        assert finding.documents == (source(row),)
        mended = require_healed(sick, before)
        assert mended.written == 0
        with sick.open() as app:
            assert app.index.cache is not None
            kept = app.index.cache.find([row.text])[row.text]
            assert kept @ row.vector / np.linalg.norm(kept) == pytest.approx(1, abs=1e-5)

    def test_a_model_that_answers_otherwise(self, plain: Sick) -> None:
        (probes,) = plain.sql("SELECT probes FROM generations")[0]
        turned = np.frombuffer(probes, "<f4").reshape(8, -1)[:, ::-1].astype("<f4").tobytes()
        plain.sql("UPDATE generations SET probes = ?", turned)
        found = plain.mend()
        assert only(found, "changed-model").remedy.startswith("Its provider has changed it")
        assert found.written == 0

    def test_a_model_that_cannot_be_asked_is_noted(self, served: tuple[Sick, OpenAIServer]) -> None:
        sick, server = served
        sick.config["embeddings"] |= {"max_retries": 0}
        server.__exit__()
        found = sick.examine()
        assert found.sound
        assert "unasked-model" in notes(found)

    def test_another_model_in_the_config(self, plain: Sick) -> None:
        found = plain.mend(embeddings={"kind": "hashing", "dimension": 128})
        assert "dimension=128" in only(found, "other-model").detail

    def test_another_store_in_the_config(self, plain: Sick) -> None:
        place = {"kind": "faiss", "path": str(plain.folder / "faiss")}
        assert "'faiss'" in only(plain.mend(vector_store=place), "other-store").detail

    def test_another_splitter_in_the_config(self, plain: Sick) -> None:
        other = {"kind": "recursive", "chunk_size": 40, "chunk_overlap": 4}
        found = plain.examine(splitter=other)
        assert "rag-app migrate" in only(found, "other-splitter").remedy
        assert notes(found)["changed-documents"].count == 8

    def test_rows_are_restored_from_themselves_under_another_splitter(self, plain: Sick) -> None:
        before, rows = plain.answers(), plain.rows()
        with plain.open() as app:
            app.store.upsert([change(rows[0], vector=rows[1].vector)])
        found = plain.mend(splitter={"kind": "recursive", "chunk_size": 40, "chunk_overlap": 4})
        assert only(found, "other-splitter")
        assert found.written == 1
        assert plain.answers() == before


class TestTheManifest:
    def test_a_damaged_file(self, plain: Sick) -> None:
        path = plain.folder / "index" / "sample" / "manifest.sqlite"
        data = bytearray(path.read_bytes())
        page = int.from_bytes(data[16:18], "big")
        for start in range(4 * page, len(data), page):
            data[start : start + 64] = bytes(64)
        path.write_bytes(data)
        assert only(plain.mend(), "manifest-damaged").remedy.startswith("Restore")

    @pytest.mark.parametrize("data", [None, b"no zlib", zlib.compress(b"Another text.")])
    def test_documents_whose_content_is_gone_or_unreadable(
        self, plain: Sick, data: bytes | None
    ) -> None:
        before = plain.answers()
        key = "(SELECT content FROM documents WHERE source = 'c.md')"
        if data is None:
            plain.sql(f"DELETE FROM contents WHERE key = {key}")
        else:
            plain.sql(f"UPDATE contents SET data = ? WHERE key = {key}", data)
        finding = only(plain.examine(), "damaged-contents")
        assert (finding.documents, finding.remedy.endswith("rag-app ingest")) == (("c.md",), True)
        assert only(plain.mend(), "to-read-again").documents == ("c.md",)
        plain.ingest()
        assert not plain.examine().findings
        assert plain.answers() == before

    def test_content_and_chunks_both_lost(self, plain: Sick) -> None:
        before = plain.answers()
        lost = [row for row in plain.rows() if source(row) == "c.md"][:2]
        plain.sql(
            "DELETE FROM contents WHERE key = (SELECT content FROM documents WHERE source = 'c.md')"
        )
        with plain.open() as app:
            app.store.delete([row.id for row in lost])
        assert set(damage(plain.examine())) == {"missing-chunks", "damaged-contents"}
        assert only(plain.mend(), "to-read-again").documents == ("c.md",)
        with plain.open() as app:
            assert app.ingest().embedded == 0
        assert not plain.examine().findings
        assert plain.answers() == before

    def test_chunks_that_do_not_follow_from_their_document(self, plain: Sick) -> None:
        """As when a library splits otherwise than it did."""
        before, row = plain.answers(), next(r for r in plain.rows() if source(r) == "e.md")
        words = "Words of another cut."
        other = change(row, id=name_chunk("e.md", words, row.metadata), text=words)
        with plain.open() as app:
            app.store.delete([row.id])
            other = change(other, vector=np.array(app.embeddings.embed_query(words), np.float32))
            app.store.upsert([other])
        plain.sql("UPDATE chunks SET id = ? WHERE id = ?", other.id, row.id)
        shutil.rmtree(plain.folder / "index" / "sample" / "bm25")
        assert only(plain.examine(), "splitter-drift").documents == ("e.md",)
        assert only(plain.mend(), "to-read-again").documents == ("e.md",)
        plain.ingest()
        assert not plain.examine().findings
        assert plain.answers() == before

    def test_a_document_without_chunks(self, plain: Sick) -> None:
        before = plain.answers()
        plain.sql("DELETE FROM chunks WHERE source = 'f.md'")
        found = damage(plain.examine())
        assert found["documents-without-chunks"].documents == ("f.md",)
        assert found["unknown-rows"].documents == ("f.md",)
        assert only(plain.mend(), "to-read-again").documents == ("f.md",)
        plain.ingest()
        assert not plain.examine().findings
        assert plain.answers() == before

    def test_chunks_without_their_document(self, plain: Sick) -> None:
        before = plain.answers()
        plain.sql("DELETE FROM documents WHERE source = 'f.md'")
        assert damage(plain.examine())["chunks-without-document"].documents == ("f.md",)
        mended = plain.mend()
        assert mended.sound
        assert notes(mended)["new-documents"].documents == ("f.md",)
        plain.ingest()
        assert not plain.examine().findings
        assert plain.answers() == before

    def test_an_index_that_was_never_filled(self, plain: Sick) -> None:
        shutil.rmtree(plain.folder / "index")
        found = plain.examine()
        assert only(found, "nothing-published").remedy == "Run: rag-app ingest"
        assert set(notes(found)) == {"new-documents"}
        assert not plain.mend().sound

    def test_a_lost_manifest_leaves_rows_that_are_not_deleted(self, sick: Sick) -> None:
        rows = sick.rows()
        shutil.rmtree(sick.folder / "index" / "sample")
        found = damage(sick.mend())
        assert set(found) == {"foreign-rows", "nothing-published"}
        assert found["foreign-rows"].count == len(rows)
        assert "ingest --rebuild" in found["nothing-published"].remedy
        assert len(sick.rows()) == len(rows)

    def test_a_generation_that_was_never_published(self, plain: Sick) -> None:
        killed(plain, "embedded:1", "--rebuild")
        found = plain.examine()
        assert found.sound
        assert "2 (rebuild)" in notes(found)["unfinished-generation"].detail


def killed(sick: Sick, failpoint: str, *options: str, command: str = "ingest") -> None:
    """`rag-app` on the index, killed at a failpoint."""
    path = sick.folder / "sample.json"
    path.write_text(json.dumps(sick.config))
    done = subprocess.run(
        [RAG_APP, command, "-c", str(path), *options],
        env={**os.environ, "RAG_APP_FAILPOINT": failpoint},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


class TestInterruptedRuns:
    @pytest.fixture
    def edited(self, sick: Sick) -> Sick:
        write(sick.folder / "docs", a=story("a, edited"), new=story("new"))
        (sick.folder / "docs" / "h.md").unlink()
        return sick

    @pytest.mark.parametrize("failpoint", ["upserted", "rows-deleted"])
    def test_what_a_killed_ingest_left_is_a_note(self, edited: Sick, failpoint: str) -> None:
        killed(edited, failpoint)
        found = edited.examine()
        assert found.sound, found.findings
        left = notes(found)
        if failpoint == "upserted":
            assert left["unfinished-ingest"].documents == ("a.md", "new.md")
            assert left["gone-documents"].documents == ("h.md",)
        else:
            assert left["unpruned-rows"].documents == ("a.md", "h.md")
        edited.ingest()
        assert not edited.examine().findings

    def test_chunks_noted_as_written_that_are_gone(self, edited: Sick) -> None:
        killed(edited, "staged")
        with edited.open() as app:
            ids = [r.id for r in app.store.scan() if source(r) in ("a.md", "new.md")]
            app.store.delete(ids)
        found = damage(edited.examine())
        assert found["unconfirmed-chunks"].documents == ("a.md", "new.md")
        assert edited.mend().sound
        edited.ingest()
        assert not edited.examine().findings

    @pytest.mark.parametrize("failpoint", ["prune-begun", "upserted"])
    def test_a_killed_doctor_goes_on(self, plain: Sick, failpoint: str) -> None:
        before = plain.answers()
        with plain.open() as app:
            app.store.drop()
        killed(plain, failpoint, "--fix", command="doctor")
        require_healed(plain, before)

    def test_it_does_not_mend_while_another_process_writes(self, plain: Sick) -> None:
        with plain.open() as app, app.index.writing():
            with plain.open() as other:
                assert other.doctor().sound
            code = "import rag_app, sys; rag_app.load(eval(sys.argv[1])).doctor(fix=True)"
            command = [sys.executable, "-c", code, repr(plain.config)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "LockedError" in done.stderr


class TestWhatIsDerived:
    def test_a_damaged_word_index(self, plain: Sick) -> None:
        before = plain.answers()
        file = next(plain.folder.glob("index/sample/bm25/*/*/ids.json"))
        file.write_text(file.read_text().replace("a", "b", 1))
        assert only(plain.examine(), "damaged-words").count == 1
        require_healed(plain, before)

    def test_a_word_index_of_other_chunks(self, plain: Sick) -> None:
        before = plain.answers()
        folder = next(plain.folder.glob("index/sample/bm25/*/*"))
        kept = {file.name: file.read_bytes() for file in folder.iterdir()}
        ids = json.loads(kept["ids.json"])
        kept["ids.json"] = json.dumps([*ids[:-1], "f" * 32]).encode()
        del kept["digests.json"]
        shutil.rmtree(folder)

        def fill(place: Path) -> None:
            for name, data in kept.items():
                (place / name).write_bytes(data)

        save_folder(folder, fill)
        assert only(plain.examine(), "stale-words").count == 1
        require_healed(plain, before)

    def test_a_damaged_cache_is_put_aside_and_filled_from_the_store(self, plain: Sick) -> None:
        before = plain.answers()
        file = plain.folder / "index" / "embeddings.sqlite"
        file.write_bytes(b"This is no database at all. " * 400)
        assert str(file) in only(plain.examine(), "damaged-cache").detail
        require_healed(plain, before)
        assert file.with_name("embeddings.sqlite.damaged").exists()
        with plain.open() as app:
            app.store.drop()
        require_healed(plain, before)

    def test_values_of_the_cache_that_are_no_vectors(self, plain: Sick) -> None:
        file = plain.folder / "index" / "embeddings.sqlite"
        with closing(sqlite3.connect(file)) as db, db:
            db.execute(
                "UPDATE vectors SET vector = x'00' WHERE key = (SELECT min(key) FROM vectors)"
            )
        found = plain.examine()
        assert found.sound
        assert notes(found)["bad-cached-vectors"].count == 1
        assert not plain.mend().findings


class TestTheSources:
    def test_what_an_ingest_would_do_is_a_note(self, plain: Sick) -> None:
        docs = plain.folder / "docs"
        write(docs, a=story("other"), new=story("new"))
        (docs / "b.md").unlink()
        (docs / "c.md").write_bytes(b"")
        (docs / "broken.pdf").write_bytes(b"no PDF")
        found = plain.mend()
        assert found.sound
        told = notes(found)
        assert told["changed-documents"].documents == ("a.md",)
        assert told["new-documents"].documents == ("new.md",)
        assert told["gone-documents"].documents == ("b.md",)
        reasons = {e.documents: e.detail for e in found.findings if e.kind == "quarantined"}
        assert set(reasons) == {("c.md",), ("broken.pdf",)}
        assert "no text" in reasons["c.md",] or "empty" in reasons["c.md",]

    def test_sources_that_cannot_be_listed(self, plain: Sick) -> None:
        (plain.folder / "docs").rename(plain.folder / "elsewhere")
        found = plain.examine()
        assert found.sound
        assert "docs" in notes(found)["unlisted-sources"].detail


class TestTheCommand:
    def run(self, sick: Sick, *options: str) -> subprocess.CompletedProcess[str]:
        path = sick.folder / "sample.json"
        path.write_text(json.dumps(sick.config))
        command = [RAG_APP, "doctor", "-c", str(path), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_status_and_words(self, plain: Sick) -> None:
        done = self.run(plain)
        assert (done.returncode, done.stdout[:6]) == (0, "sound:")
        rows = plain.rows()
        with plain.open() as app:
            app.store.drop()
        done = self.run(plain)
        assert done.returncode == 7
        assert f"damage  missing-chunks: {len(rows)} chunks of 8 documents" in done.stdout
        assert "a.md, b.md, c.md" in done.stdout
        done = self.run(plain, "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["sound"]) == (7, False)
        assert told["findings"][0]["documents"] == [f"{name}.md" for name in "abcdefgh"]
        done = self.run(plain, "--fix")
        assert (done.returncode, "mended  missing-chunks" in done.stdout) == (0, True)
        assert self.run(plain).returncode == 0

    def test_a_cost_without_mending_is_refused(self, plain: Sick) -> None:
        done = self.run(plain, "--max-cost", "1")
        assert (done.returncode, "Add --fix" in done.stderr) == (2, True)
