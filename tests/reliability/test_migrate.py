"""Another model, splitter or store, while the index is served; and back again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rag_app
from rag_app.app import RagApp
from tests.postgres_server import PostgresServer

DOCUMENTS = 12


def story(seed: str, words: int = 120) -> str:
    rng = random.Random(seed)
    made = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(words)]
    return "\n\n".join(" ".join(made[i : i + 12]) + "." for i in range(0, words, 12))


def config(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "notes",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 4},
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(folder / "vectors.sqlite")},
        "retriever": {"kind": "hybrid", "k": 5},
        "index": {"path": str(folder / "index"), "cache": True},
        **sections,
    }


CHANGES: dict[str, dict[str, Any]] = {
    "model": {"embeddings": "minilm"},
    "dimension": {"embeddings": {"kind": "hashing", "dimension": 128}},
    "splitter": {"splitter": {"kind": "recursive", "chunk_size": 48, "chunk_overlap": 0}},
    "store": {"vector_store": {"kind": "faiss", "path": "FOLDER/faiss"}},
    "place": {"vector_store": {"kind": "memory", "path": "FOLDER/other.sqlite"}},
    "all": {
        "embeddings": "minilm",
        "splitter": {"kind": "sentences"},
        "vector_store": {"kind": "chroma", "path": "FOLDER/chroma"},
    },
}


def changed(folder: Path, what: str) -> dict[str, Any]:
    written = json.dumps(CHANGES[what]).replace("FOLDER", str(folder))
    return config(folder, **json.loads(written))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for number in range(DOCUMENTS):
        (tmp_path / "docs" / f"{number:02}.md").write_text(story(str(number)))
    return tmp_path


@pytest.fixture
def app(folder: Path) -> Iterator[RagApp]:
    with rag_app.load(config(folder)) as opened:
        opened.ingest()
        yield opened


def shown(app: RagApp) -> list[tuple[str, int, str]]:
    rows = app.index.read(lambda view: list(view.scan()))
    return sorted((r.metadata["source"], r.metadata["start"], r.text) for r in rows)


def search_all(app: RagApp) -> list[list[tuple[str, str]]]:
    questions = [" ".join(story(str(n)).split()[20:28]) for n in range(DOCUMENTS)]
    return [[(hit.source, hit.text) for hit in app.search(q).hits] for q in questions]


@pytest.mark.parametrize("what", CHANGES)
def test_the_new_generation_is_what_a_fresh_ingest_makes(
    app: RagApp, folder: Path, what: str
) -> None:
    before, chunks = search_all(app), app.store.count()
    to = changed(folder, what)
    plan = app.plan_migration(to)
    report = app.migrate(to)
    assert (report.before, report.generation, report.documents) == (1, 2, DOCUMENTS)
    assert (plan.chunks, plan.documents) == (report.chunks, DOCUMENTS)
    assert (plan.copied, plan.embed) == (report.copied, report.embedded)
    if what in ("store", "place"):
        assert (report.copied, report.embedded) == (chunks, 0)
    assert search_all(app) == before  # opened before the switch: it goes on with what it searches
    with rag_app.load(to) as opened:
        fresh = {**to, "name": "fresh"}
        with rag_app.load(fresh) as other:
            other.ingest()
            assert shown(opened) == shown(other)
            assert search_all(opened) == search_all(other)
        again = opened.ingest()
        assert (again.indexed, again.embedded, again.chunks_written) == (0, 0, 0)
        assert again.unchanged == DOCUMENTS


def test_rolled_back_it_answers_as_before(app: RagApp, folder: Path) -> None:
    before = search_all(app)
    to = changed(folder, "model")
    app.migrate(to)
    with pytest.raises(rag_app.IdentityError, match="migrate"), rag_app.load(config(folder)) as old:
        old.search("x")
    assert [each.state for each in app.generations()] == ["kept", "served"]
    assert app.rollback().number == 1
    with rag_app.load(config(folder)) as old:
        assert search_all(old) == before
    with pytest.raises(rag_app.IdentityError), rag_app.load(to) as new:
        new.search("x")


def test_garbage_is_collected_and_then_there_is_no_way_back(app: RagApp, folder: Path) -> None:
    to = changed(folder, "store")
    app.migrate(to)
    with rag_app.load(to) as new:
        after = search_all(new)
        assert [each.number for each in new.gc()] == [1]
        assert search_all(new) == after
        with pytest.raises(rag_app.IndexStateError, match="no earlier generation"):
            new.rollback()
        assert [each.number for each in new.generations()] == [2]
    assert app.open_store("notes_g1").count() == 0


def test_a_reader_of_the_old_generation_is_refused_once_the_new_one_changed(
    app: RagApp, folder: Path
) -> None:
    app.search("x")
    to = changed(folder, "model")
    app.migrate(to)
    app.search("x")
    (folder / "docs" / "new.md").write_text(story("new"))
    with rag_app.load(to) as new:
        new.ingest()
    with pytest.raises(rag_app.IdentityError):
        app.search("x")


def test_a_new_generation_that_finds_less_is_not_served(app: RagApp, folder: Path) -> None:
    quotes = {f"{n:02}.md": " ".join(story(str(n)).split()[24:36]) for n in range(DOCUMENTS)}
    cases = folder / "cases.jsonl"
    lines = [
        {"id": source, "question": quote, "evidence": [{"source": source, "quote": quote}]}
        for source, quote in quotes.items()
    ]
    cases.write_text("\n".join(map(json.dumps, lines)))
    worse = config(folder, retriever={"kind": "bm25", "k": 1, "tokenizer": "words"})
    worse["splitter"] = {"kind": "recursive", "chunk_size": 200, "chunk_overlap": 0}
    worse["retriever"] = {"kind": "dense", "k": 1, "min_similarity": 0.999}
    with pytest.raises(rag_app.IndexStateError, match=r"from 1\.000 to 0\.\d+"):
        app.migrate(worse, cases=cases)
    assert [each.state for each in app.generations()] == ["served", "filling"]
    report = app.migrate(worse, cases=cases, accept_worse=True)
    assert report.recall is not None
    assert report.recall[0] == 1
    assert report.recall[1] < 1
    assert report.embedded == 0


@pytest.mark.parametrize(
    ("evidence", "wrong"),
    [
        ({"source": "00.md", "start": "x", "end": 5}, "`start` is 'x'"),
        ({"source": "00.md", "start": 5, "end": 5}, "0 <= start < end"),
        ({"source": "00.md", "start": 0, "end": 10**6}, "and no 0-1000000"),
        ({"source": "00.md", "quote": 5}, "`quote` is 5"),
        ({"source": "00.md", "quote": ""}, "`quote` is ''"),
        ({"source": "00.md", "quote": "nowhere"}, "'00.md' does not hold the quote"),
        ({"quote": "x"}, "names no `source`"),
        ({"source": "none.md", "start": 0, "end": 5}, "no document 'none.md' is indexed"),
        ("00.md", "names no `source`"),
    ],
)
def test_evidence_that_cannot_be_found_is_refused_with_its_line(
    app: RagApp, folder: Path, evidence: Any, wrong: str
) -> None:
    cases = folder / "cases.jsonl"
    good = {"id": "a", "question": "x", "evidence": [{"source": "00.md", "start": 0, "end": 5}]}
    lines = good, {"id": "b", "question": "x", "evidence": [evidence]}
    cases.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(rag_app.UsageError, match=re.escape(wrong)) as refused:
        app.migrate(changed(folder, "splitter"), cases=cases)
    assert refused.value.where == f"{cases}:2"
    assert [each.state for each in app.generations()] == ["served"]


def test_work_that_was_not_published_is_not_taken_for_done(app: RagApp, folder: Path) -> None:
    (folder / "docs" / "00.md").write_text(story("edited"))
    (folder / "docs" / "99.md").write_text(story("added"))

    def stop(stage: str, *_: Any) -> None:
        if stage == "embedding":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.ingest(progress=stop)
    to = changed(folder, "model")
    app.migrate(to)
    with rag_app.load(to) as new:
        assert new.ingest().indexed == 2
        assert story("edited")[:13] in {text[:13] for _, _, text in shown(new)}


@pytest.mark.parametrize(
    ("to", "wrong"),
    [
        ({"name": "other"}, "name differs"),
        ({"index": {"path": "elsewhere"}}, "index.path differs"),
        ({}, "already is"),
    ],
)
def test_what_is_no_migration_is_refused(
    app: RagApp, folder: Path, to: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(rag_app.UsageError, match=wrong):
        app.migrate(config(folder, **to))


def test_a_rollback_leads_to_what_was_served_before_and_not_to_what_was_rolled_back(
    app: RagApp, folder: Path
) -> None:
    app.migrate(changed(folder, "splitter"))
    app.rollback()
    (folder / "docs" / "new.md").write_text(story("new"))
    app.ingest()
    served = shown(app)
    app.migrate(changed(folder, "dimension"))
    assert app.rollback().number == 1
    assert shown(app) == served
    with pytest.raises(rag_app.IndexStateError, match="no earlier generation"):
        app.rollback()


def test_a_store_whose_address_was_written_out_is_not_guessed(folder: Path) -> None:
    with PostgresServer() as server:
        written = config(folder, vector_store={"kind": "pgvector", "url": server.url})
        with rag_app.load(written) as app:
            app.ingest()
            before = shown(app)
            elsewhere = changed(folder, "store")
            with pytest.raises(rag_app.UsageError, match=r"written out .* \$\{VARIABLE\}"):
                app.migrate(elsewhere)
            assert shown(app) == before
            smaller = {**written, "embeddings": {"kind": "hashing", "dimension": 64}}
            app.migrate(smaller)
        with rag_app.load(smaller) as app:
            assert shown(app) == before
            assert server.url not in json.dumps(app.describe_generation())
