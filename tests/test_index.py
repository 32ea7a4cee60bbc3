"""The index holds what the sources hold: through every change, stop and mistake."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

import rag_app
from rag_app.app import RagApp
from rag_app.index.ingest import ingest
from rag_app.index.read import Source

Write = Callable[[dict[str, str | None]], None]


def config(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "notes",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 4},
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(folder / "index" / "vectors.sqlite")},
        "retriever": "dense",
        "index": {"path": str(folder / "index")},
        **sections,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files under docs/ by name; None deletes one."""

    def put(files: dict[str, str | None]) -> None:
        for name, text in files.items():
            path = tmp_path / "docs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text, encoding="utf-8")

    return put


@pytest.fixture
def app(tmp_path: Path, write: Write) -> Iterator[RagApp]:
    write({"a.md": story("a"), "b.md": story("b"), "deep/c.txt": story("c")})
    with rag_app.load(config(tmp_path)) as opened:
        yield opened


def story(seed: str, words: int = 120) -> str:
    """Distinct text for a seed: sentences of made-up words."""
    rng = random.Random(seed)
    made = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(words)]
    return "\n\n".join(" ".join(made[i : i + 12]) + "." for i in range(0, words, 12))


def held(app: RagApp) -> dict[str, list[tuple[int, int, str]]]:
    """What the store holds, by source: spans and texts in order."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for row in app.store.scan():
        place = (row.metadata["start"], row.metadata["end"], row.text)
        found.setdefault(row.metadata["source"], []).append(place)
    return {source: sorted(places) for source, places in sorted(found.items())}


def test_every_document_is_counted_once_and_every_chunk_knows_its_span(
    app: RagApp, tmp_path: Path
) -> None:
    report = app.ingest()
    assert report.seen == report.indexed == 3
    assert report.chunks_total == app.store.count() == report.embedded > 10
    for source, places in held(app).items():
        text = (tmp_path / "docs" / source).read_text(encoding="utf-8")
        assert all(text[start:end] == chunk for start, end, chunk in places)
        assert "".join(text.split()) == "".join(
            "".join(text[a:b].split()) for a, b in _joined(places)
        )


def _joined(places: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """Spans without their overlaps."""
    spans: list[tuple[int, int]] = []
    for start, end, _ in places:
        spans.append((max(start, spans[-1][1] if spans else 0), end))
    return spans


def test_a_second_run_and_a_touch_embed_nothing(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    revision = app.index.revision
    for path in (tmp_path / "docs").rglob("*.*"):
        os.utime(path, (1, 1))
    again = app.ingest()
    assert (again.unchanged, again.indexed, again.embedded, again.chunks_written) == (3, 0, 0, 0)
    assert app.index.revision == revision


def test_a_changed_document_pays_only_for_its_new_chunks(app: RagApp, write: Write) -> None:
    first = app.ingest()
    write({"a.md": story("a") + "\n\nA new closing line."})
    report = app.ingest()
    assert (report.indexed, report.unchanged) == (1, 2)
    assert 1 <= report.embedded <= 2
    assert report.chunks_total == app.store.count() > first.chunks_total - 1


def test_a_deleted_document_leaves_nothing_and_comes_back(app: RagApp, write: Write) -> None:
    app.ingest()
    before = held(app)
    write({"b.md": None})
    report = app.ingest()
    assert report.deleted == 1
    assert report.chunks_deleted == len(before["b.md"])
    assert "b.md" not in held(app)
    write({"b.md": story("b")})
    app.ingest()
    assert held(app) == before


def test_a_source_that_vanished_deletes_nothing(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    before = held(app)
    (tmp_path / "docs").rename(tmp_path / "elsewhere")
    with pytest.raises(rag_app.SourceError, match="docs"):
        app.ingest()
    assert held(app) == before
    assert app.search("anything").hits


def test_a_document_that_broke_is_named_and_its_old_chunks_stay(
    app: RagApp, write: Write, tmp_path: Path
) -> None:
    app.ingest()
    before = held(app)
    (tmp_path / "docs" / "a.md").write_bytes(b"")
    write({"d.pdf": "this is no PDF"})
    report = app.ingest()
    assert {each.source for each in report.quarantine} == {"a.md", "d.pdf"}
    assert all(each.reason for each in report.quarantine)
    assert report.seen == report.indexed + report.unchanged + report.quarantined + report.excluded
    assert held(app) == before


def test_two_documents_of_one_name_are_not_mixed(tmp_path: Path, write: Write) -> None:
    write({"x/same.md": story("one"), "y/same.md": story("two")})
    sources = [{"kind": "files", "path": str(tmp_path / "docs" / part)} for part in "xy"]
    with rag_app.load(config(tmp_path, sources=sources)) as app:
        report = app.ingest()
        assert [each.source for each in report.quarantine] == ["same.md"]
        assert "prefix" in report.quarantine[0].reason
        assert all(text in story("one") for _, _, text in held(app)["same.md"])
    sources[1]["prefix"] = "y/"
    with rag_app.load(config(tmp_path, sources=sources)) as app:
        assert app.ingest().quarantined == 0
        assert set(held(app)) == {"same.md", "y/same.md"}


def test_another_model_is_refused_before_the_first_query_and_write(
    app: RagApp, tmp_path: Path, write: Write
) -> None:
    app.ingest()
    before = held(app)
    app.close()
    other = config(tmp_path, embeddings={"kind": "hashing", "dimension": 128})
    write({"new.md": story("new")})
    with rag_app.load(other) as changed:
        for use in (lambda: changed.search("x"), lambda: changed.ask("x"), changed.ingest):
            with pytest.raises(rag_app.IdentityError, match=r"dimension=128.*--rebuild"):
                use()
        assert held(changed) == before
        report = changed.ingest(rebuild=True)
        assert report.embedded == report.chunks_total == changed.store.count()
        assert changed.search("x").hits


@pytest.mark.parametrize("by", ["rebuild", "migrate"])
def test_other_splitter_options_are_refused_until_all_is_cut_anew(
    app: RagApp, tmp_path: Path, by: str
) -> None:
    app.ingest()
    app.close()
    cut = config(tmp_path, splitter={"kind": "recursive", "chunk_size": 48, "chunk_overlap": 0})
    with rag_app.load(cut) as changed:
        for use in (lambda: changed.search("x"), changed.ingest):
            with pytest.raises(rag_app.IdentityError, match=r"chunk_size=24.*chunk_size=48"):
                use()
        changed.ingest(rebuild=True) if by == "rebuild" else changed.migrate(cut)
        fresh = config(tmp_path / "fresh", splitter=cut["splitter"], sources=cut["sources"])
        with rag_app.load(fresh) as other:
            other.ingest()
            assert held(changed) == held(other)


def test_another_kind_of_store_is_refused_until_it_is_filled(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    app.close()
    chroma = {"kind": "chroma", "path": str(tmp_path / "chroma")}
    with rag_app.load(config(tmp_path, vector_store=chroma)) as other:
        for use in (lambda: other.search("x"), other.ingest):
            with pytest.raises(rag_app.IndexStateError, match="'memory'.*'chroma'.*--rebuild"):
                use()
        other.ingest(rebuild=True)
        assert other.search("x").hits


def test_a_store_that_somebody_else_filled_is_not_taken_over(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    before = held(app)
    app.close()
    elsewhere = config(tmp_path, index={"path": str(tmp_path / "another")})
    elsewhere["embeddings"] = {"kind": "hashing", "dimension": 128}
    with rag_app.load(elsewhere) as other:
        with pytest.raises(rag_app.IndexStateError, match="already holds"):
            other.ingest()
        assert held(other) == before
        assert other.ingest(rebuild=True).embedded == other.store.count()


def test_a_record_that_broke_and_was_mended_is_not_taken_for_unchanged(
    tmp_path: Path, write: Write
) -> None:
    good = '{"id": 1, "text": "apples cost 1"}\n{"id": 2, "text": "pears cost 2"}\n'
    write({"prices.jsonl": good})
    with rag_app.load(config(tmp_path)) as app:
        app.ingest()
        before = held(app)
        write({"prices.jsonl": '{"id": 1, "text": "apples cost 999"}\n{"id": 2, "text": \n'})
        report = app.ingest()
        assert (report.quarantined, report.deleted) == (1, 0)
        texts = {text for places in held(app).values() for *_, text in places}
        assert texts == {"apples cost 999", "pears cost 2"}
        write({"prices.jsonl": good})
        app.ingest()
        assert held(app) == before


def test_metadata_that_is_no_json_stops_one_record_only(tmp_path: Path, write: Write) -> None:
    write({"x.jsonl": '{"id": 1, "text": "far", "size": 1e999}\n{"id": 2, "text": "near"}\n'})
    with rag_app.load(config(tmp_path)) as app:
        report = app.ingest()
        assert (report.indexed, report.quarantined) == (1, 1)
        assert [hit.text for hit in app.search("near").hits] == ["near"]


def test_a_search_sees_what_was_published_while_an_ingest_writes(app: RagApp, write: Write) -> None:
    app.ingest()
    before = held(app)
    write({"a.md": story("other"), "new.md": story("new"), "b.md": None})
    seen: list[set[str]] = []

    def look(stage: str, _: int, __: int | None) -> None:
        if stage == "embedding":
            rows = app.index.read(lambda view: list(view.scan()))
            seen.append({row.id for row in rows})
            assert {hit.source for hit in app.search(story("a"), k=50).hits} == set(before)

    published = {row.id for row in app.store.scan()}
    app.ingest(progress=look)
    assert len(seen) >= 2
    assert all(each == published for each in seen)
    assert set(held(app)) == {"a.md", "new.md", "deep/c.txt"}


def test_a_search_that_a_prune_overlaps_is_done_again(app: RagApp, write: Write) -> None:
    app.ingest()
    write({"a.md": story("other")})
    sources: list[list[str]] = []

    def look(view: Any) -> None:
        if not sources:
            app.ingest()
        sources.append(
            sorted({row.text for row in view.scan() if row.metadata["source"] == "a.md"})
        )

    app.index.read(look)
    assert sources == [sorted(text for *_, text in held(app)["a.md"])]


def test_a_rebuild_that_cannot_read_its_sources_drops_nothing(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    before = held(app)
    (tmp_path / "docs").rename(tmp_path / "elsewhere")
    with pytest.raises(rag_app.SourceError):
        app.ingest(rebuild=True)
    assert held(app) == before
    assert app.search("anything").hits


def test_an_index_in_ram_says_that_it_starts_empty(tmp_path: Path, write: Write) -> None:
    write({"a.md": story("a")})
    with rag_app.load(config(tmp_path, vector_store={"kind": "memory", "path": None})) as app:
        with pytest.raises(rag_app.IndexStateError, match="kept in RAM"):
            app.search("x")
        app.ingest()
        assert app.search("x").hits
    assert not (tmp_path / "index").exists()


def test_an_empty_index_says_so(app: RagApp) -> None:
    with pytest.raises(rag_app.IndexStateError, match="rag-app ingest"):
        app.search("x")


def test_a_store_that_lost_chunks_is_noticed(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    app.store.delete([next(app.store.scan()).id])
    app.close()
    with rag_app.load(config(tmp_path)) as reopened:
        with pytest.raises(rag_app.IndexStateError, match=r"holds \d+ chunks where \d+ were"):
            reopened.search("x")
        with pytest.raises(rag_app.IndexStateError, match="doctor --fix"):
            reopened.ingest()
        reopened.ingest(rebuild=True)
        assert reopened.search("x").hits


class _Failing(Embeddings):
    """A model that fails after a number of texts, as a remote one does."""

    def __init__(self, inner: Embeddings, texts: int) -> None:
        self.inner, self.left = inner, texts

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.left -= len(texts)
        if self.left < 0:
            raise rag_app.ModelError("embeddings", "the server went away", "Run it again.")
        return self.inner.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        return self.inner.embed_query(text)


def test_a_first_run_that_failed_half_way_serves_nothing_and_is_finished_by_the_next(
    tmp_path: Path, write: Write
) -> None:
    write({f"{i:03}.md": story(str(i)) for i in range(40)})
    with rag_app.load(config(tmp_path)) as app:
        app.index.embeddings = _Failing(app.embeddings, 140)
        with pytest.raises(rag_app.ModelError, match="went away"):
            app.ingest()
        assert app.store.count() > 0
        with pytest.raises(rag_app.IndexStateError, match="first ingest has not ended"):
            app.search("x")
    with rag_app.load(config(tmp_path)) as app:
        report = app.ingest()
        assert report.indexed + report.unchanged == 40
        assert 0 < report.embedded < report.chunks_total
        assert app.search("x").hits
        with rag_app.load(config(tmp_path / "fresh", sources=app_sources(tmp_path))) as other:
            other.ingest()
            assert held(app) == held(other)


def app_sources(folder: Path) -> list[dict[str, str]]:
    return [{"kind": "files", "path": str(folder / "docs")}]


def test_a_second_writer_is_turned_away(app: RagApp, tmp_path: Path) -> None:
    app.ingest()
    lock = tmp_path / "index" / "notes" / "writer.lock"
    hold = f"""
import sys, filelock
with filelock.FileLock({str(lock)!r}):
    print("held", flush=True)
    sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(rag_app.LockedError, match="another process"):
            app.ingest()
        other.communicate("\n")
    app.ingest()


def test_any_langchain_loader_is_a_source(app: RagApp) -> None:
    from langchain_core.document_loaders import BaseLoader
    from langchain_core.documents import Document

    class Two(BaseLoader):
        def lazy_load(self) -> Iterator[Document]:
            yield Document(story("one"), metadata={"source": "one"})
            yield Document(story("two"), metadata={"source": "two"})

    for expected in ((2, 0), (0, 2)):
        report = ingest(app.index, [Source("two", "{}", Two())], app.splitter)
        assert (report.indexed, report.unchanged) == expected
    assert set(held(app)) == {"one", "two"}

    class Down(BaseLoader):
        def lazy_load(self) -> Iterator[Document]:
            raise OSError("the server is down")

    report = ingest(app.index, [Source("two", '{"changed": 1}', Down())], app.splitter)
    assert [each.reason for each in report.quarantine] == ["OSError: the server is down"]
    assert set(held(app)) == {"one", "two"}


names = st.sampled_from(["a.md", "b.md", "sub/c.md", "sub/d.txt"])
texts = st.one_of(st.none(), st.integers(0, 5).map(lambda n: story(str(n), 40)))


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rounds=st.lists(st.dictionaries(names, texts, min_size=1), min_size=1, max_size=4))
def test_after_any_edits_the_index_equals_a_fresh_one(
    rounds: list[dict[str, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("edits")
    docs = folder / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "always.md").write_text(story("always", 40))
    with rag_app.load(config(folder)) as app:
        for number, files in enumerate(rounds):
            for name, text in files.items():
                if text is None:
                    (docs / name).unlink(missing_ok=True)
                else:
                    (docs / name).write_text(text)
            report = app.ingest(allow_delete=True)  # an emptied folder may be a lost mount
            sources = app_sources(folder)
            with rag_app.load(config(folder / f"fresh{number}", sources=sources)) as fresh:
                fresh.ingest()
                assert held(app) == held(fresh)
                assert report.seen == len(held(app))
                assert chunk_metadata(app) == chunk_metadata(fresh)


def chunk_metadata(app: RagApp) -> list[dict[str, Any]]:
    """Metadata of every chunk, but for the time of the last edit, which does not make a change."""
    found = [{**row.metadata, "modified": None} for row in app.store.scan()]
    return sorted(found, key=lambda each: (each["source"], each["start"]))


@pytest.mark.parametrize("retriever", ["bm25", "hybrid"])
def test_words_are_those_of_what_was_published_last(
    tmp_path: Path, write: Write, retriever: str
) -> None:
    """By the process that published it, and by another: what one keeps, the other reads."""
    write({"a.md": "The zebra sleeps.", "b.md": "The walrus sleeps."})
    made = config(tmp_path, retriever=retriever)

    def found(app: RagApp, word: str) -> list[str]:
        return [hit.source for hit in app.search(word).hits if "bm25" in hit.ranks]

    with rag_app.load(made) as app, rag_app.load(made) as reader:
        app.ingest()
        assert found(app, "zebra") == found(reader, "zebra") == ["a.md"]
        write({"a.md": "The ocelot sleeps.", "b.md": None, "c.md": "A lynx."})
        app.ingest()
        for each in (app, reader):
            assert found(each, "zebra") == found(each, "walrus") == []
            assert (found(each, "ocelot"), found(each, "lynx")) == (["a.md"], ["c.md"])
    with rag_app.load(made) as later:
        assert (found(later, "ocelot"), found(later, "lynx")) == (["a.md"], ["c.md"])


def test_an_app_that_was_closed_says_so(app: RagApp) -> None:
    app.ingest()
    app.search("x")
    app.close()
    with pytest.raises(rag_app.UsageError, match="it was closed"):
        app.search("x")


@pytest.mark.parametrize("wrong", [None, 3, "  "])
def test_a_question_that_is_none_is_refused(app: RagApp, wrong: Any) -> None:
    for use in (app.search, app.ask):
        with pytest.raises(rag_app.UsageError, match="question"):
            use(wrong)
    with pytest.raises(rag_app.UsageError, match="no config"):
        rag_app.load(3)  # type: ignore[arg-type]
