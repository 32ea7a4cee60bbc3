"""What is deleted is what this run saw gone: after a kill, a refusal, a move and a rebuild too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rag_app.errors import IndexStateError
from tests.postgres_server import PostgresServer
from tests.reliability.losing import Losing
from tests.reliability.processes import in_process

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_records(path: Path, records: Iterable[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in records))


def write_rows(path: Path, names: Iterable[str]) -> None:
    path.write_text("id,text\n" + "".join(f"{name},The text of {name}.\n" for name in names))


def write_notes(docs: Path, count: int) -> None:
    docs.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (docs / f"{number:02}.md").write_text(f"The note {number} tells of it.\n")


def index_of(folder: Path) -> Losing:
    return Losing(folder, {"kind": "files", "path": str(folder / "docs")})


def csv_entry(path: Path) -> dict[str, Any]:
    options = {"file_path": str(path), "source_column": "id"}
    return {"kind": "community", "loader": "CSVLoader", "options": options}


def names(index: Losing) -> set[str]:
    return {source for source, _ in index.hold()}


def test_a_document_that_moves_to_another_origin_stays(tmp_path: Path) -> None:
    first, second = tmp_path / "open.csv", tmp_path / "closed.csv"
    write_rows(first, ["t1", "t2", "t3"])
    write_rows(second, ["t9"])
    index = Losing(tmp_path, csv_entry(first), csv_entry(second))
    index.ingest()
    for now, then in ((["t2"], ["t9", "t1", "t3"]), (["t2", "t1"], ["t9", "t3"])):
        write_rows(first, now)
        write_rows(second, then)
        report = index.ingest()
        assert (report.deleted, report.quarantined) == (0, 0)
        assert names(index) == {"t1", "t2", "t3", "t9"}
    assert index.ingest().unchanged == 4


def test_all_of_an_origin_moves_to_one_that_is_read_later(tmp_path: Path) -> None:
    first, second = tmp_path / "open.csv", tmp_path / "closed.csv"
    write_rows(first, ["t1"])
    write_rows(second, ["t9"])
    index = Losing(tmp_path, csv_entry(first), csv_entry(second))
    index.ingest()
    write_rows(first, [])
    write_rows(second, ["t9", "t1"])
    for _ in range(2):
        index.ingest()
        assert names(index) == {"t1", "t9"}
    assert (index.ingest().unchanged, index.ingest().deleted) == (2, 0)


def test_entries_in_another_order_keep_every_document(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.csv", [f"{name}{number}" for number in range(8)])
    index = Losing(tmp_path, csv_entry(tmp_path / "a.csv"), csv_entry(tmp_path / "b.csv"))
    index.ingest()
    before = names(index)
    index.sources.reverse()
    assert index.ingest().deleted == 0
    assert names(index) == before
    assert len(before) == 16
    assert index.ingest().unchanged == 16


@pytest.mark.parametrize("failpoint", ["planned", "staged"])
def test_a_record_deleted_is_gone_though_the_run_was_killed(tmp_path: Path, failpoint: str) -> None:
    records = tmp_path / "docs" / "a.jsonl"
    write_records(records, [("1", "one"), ("2", "two"), ("3", "three")])
    index = index_of(tmp_path)
    index.ingest()
    write_records(records, [("1", "one, edited"), ("3", "three")])
    assert in_process(index.ingest, failpoint) is None
    assert index.ingest().deleted == 1
    assert names(index) == {"a.jsonl#1", "a.jsonl#3"}
    report = index.ingest()
    assert (report.unchanged, report.deleted) == (2, 0)


def test_what_was_refused_is_deleted_by_no_later_run(tmp_path: Path) -> None:
    records = tmp_path / "docs" / "a.jsonl"
    write_records(records, [(str(number), f"word {number}") for number in range(40)])
    index = index_of(tmp_path)
    index.ingest()
    write_records(records, [("1", "word 1")])
    index.refuse(IndexStateError, "39 of 40 documents are gone")
    index.refuse(IndexStateError, "39 of 40 documents are gone")
    records.write_text("")
    index.quarantine("empty")
    assert len(names(index)) == 40


def test_what_a_killed_run_saw_gone_stays_when_its_file_breaks(tmp_path: Path) -> None:
    records = tmp_path / "docs" / "a.jsonl"
    write_records(records, [(str(number), f"word {number}") for number in range(6)])
    (tmp_path / "docs" / "b.md").write_text("One.")
    index = index_of(tmp_path)
    index.ingest()
    write_records(records, [("0", "word 0")])
    (tmp_path / "docs" / "b.md").write_text("Two.")
    assert in_process(index.ingest, "planned") is None
    records.write_text("")
    report = index.ingest()
    assert (report.deleted, report.indexed, report.quarantined) == (0, 1, 1)
    assert len(names(index)) == 7


def test_a_rebuild_asks_about_what_it_would_lose(tmp_path: Path) -> None:
    write_notes(tmp_path / "docs", 40)
    index = index_of(tmp_path)
    index.ingest()
    for path in sorted((tmp_path / "docs").iterdir())[:39]:
        path.unlink()
    index.refuse(IndexStateError, "39 of 40 documents are gone", rebuild=True)
    index.ingest(rebuild=True, allow_delete=True)
    assert len(names(index)) == 1


def test_a_rebuild_asks_about_what_it_cannot_read_now(tmp_path: Path) -> None:
    write_notes(tmp_path / "docs", 20)
    index = index_of(tmp_path)
    index.ingest()
    for path in sorted((tmp_path / "docs").iterdir())[:8]:
        path.write_text("")
    index.refuse(IndexStateError, "8 of 20 documents are gone", rebuild=True)


def test_a_rebuild_of_sources_that_are_whole_asks_nothing(tmp_path: Path) -> None:
    write_notes(tmp_path / "docs", 20)
    index = index_of(tmp_path)
    index.ingest()
    (tmp_path / "docs").rename(tmp_path / "notes")
    (tmp_path / "docs").mkdir()
    (tmp_path / "notes").rename(tmp_path / "docs" / "notes")
    index.ingest(rebuild=True)
    assert len(names(index)) == 20


def test_a_text_stands_for_one_document_that_is_gone_and_no_more(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    write_notes(docs, 10)
    for number in range(30):
        (docs / f"same{number}.md").write_text("To be written.")
    index = index_of(tmp_path)
    index.ingest()
    for path in docs.glob("same*.md"):
        path.unlink()
    (docs / "new.md").write_text("To be written.")
    index.refuse(IndexStateError, "29 of 40 documents are gone")


def test_a_renamed_folder_is_no_loss_after_a_kill_either(tmp_path: Path) -> None:
    write_notes(tmp_path / "docs" / "a", 20)
    index = index_of(tmp_path)
    index.ingest()
    (tmp_path / "docs" / "a").rename(tmp_path / "docs" / "b")
    assert in_process(index.ingest, "staged") is None
    assert index.ingest().deleted == 20
    assert {name[:2] for name in names(index)} == {"b/"}


@pytest.mark.parametrize("killed", [False, True])
def test_two_origins_that_offer_one_document_are_told(tmp_path: Path, killed: bool) -> None:
    write_records(tmp_path / "docs" / "a.jsonl", [("1", "One."), ("2", "Two.")])
    index = index_of(tmp_path)
    index.ingest()
    write_rows(tmp_path / "more.csv", ["a.jsonl#1"])
    index.sources.insert(0, csv_entry(tmp_path / "more.csv"))
    if killed:
        assert in_process(index.ingest, "planned") is None
    for _ in range(2):
        report = index.ingest()
        assert [each.source for each in report.quarantine] == ["a.jsonl#1"]
        assert "the same name" in report.quarantine[0].reason
        assert names(index) == {"a.jsonl#1", "a.jsonl#2"}


@pytest.mark.parametrize("manifest", ["sqlite", "postgresql"])
def test_a_nul_character_stops_no_other_document(tmp_path: Path, manifest: str) -> None:
    records = [("1", "One."), ("2", "Two \0 words."), ("x\0y", "Three.")]
    write_records(tmp_path / "docs" / "a.jsonl", records)

    def check(**options: str) -> None:
        index = index_of(tmp_path)
        index.index_options = options
        report = index.ingest()
        reasons = {each.source: each.reason for each in report.quarantine}
        assert reasons == {r"a.jsonl#x\0y": "its name holds a NUL character"}
        assert index.hold() == {("a.jsonl#1", "One."), ("a.jsonl#2", "Two \0 words.")}

    if manifest == "sqlite":
        check()
    else:
        with PostgresServer() as server:
            check(manifest_url=server.url)
