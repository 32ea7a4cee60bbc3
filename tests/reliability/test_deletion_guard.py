"""A loss that looks like a complete listing is asked about; a real deletion needs no asking."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from rag_app.errors import IndexStateError
from tests.reliability.losing import Losing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASKS = r"allow.delete"


def fill(folder: Path, count: int, word: str = "note") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{word}{number:02}.md").write_text(f"The {word} {number} tells of it.\n")
    return folder


def make_index(folder: Path, count: int, **options: Any) -> Losing:
    index = Losing(folder, {"kind": "files", "path": str(fill(folder / "docs", count)), **options})
    assert index.ingest().indexed == count
    return index


def remove(docs: Path, count: int) -> None:
    for path in sorted(docs.rglob("*.md"))[:count]:
        path.unlink()


def lose_the_path(index: Losing) -> None:
    index.sources[0]["path"] = str(fill(index.folder / "other", 12, "draft"))


def widen_exclude(index: Losing) -> None:
    index.sources[0]["exclude"] = ["*1*"]


def narrow_include(index: Losing) -> None:
    index.sources[0]["include"] = ["*0.md"]


def hide_a_folder(index: Losing) -> None:
    docs = index.folder / "docs"
    fill(docs, 1, "left")
    for path in docs.glob("note0*.md"):
        (docs / ".trash").mkdir(exist_ok=True)
        path.rename(docs / ".trash" / path.name)


WAYS: dict[str, Callable[[Losing], None]] = {
    "another folder": lose_the_path,
    "a wide exclude": widen_exclude,
    "a narrow include": narrow_include,
    "a folder moved away": hide_a_folder,
    "half the files": lambda index: remove(index.folder / "docs", 15),
}


@pytest.mark.parametrize("way", WAYS)
def test_more_than_a_fifth_gone_is_refused_unless_allowed(tmp_path: Path, way: str) -> None:
    index = make_index(tmp_path, 30)
    WAYS[way](index)
    before = index.hold()
    index.refuse(IndexStateError, ASKS)
    index.refuse(IndexStateError, ASKS)
    report = index.ingest(allow_delete=True)
    assert report.deleted >= 7
    assert not before <= index.hold()


def test_a_refused_ingest_writes_nothing_either(tmp_path: Path) -> None:
    index = make_index(tmp_path, 30)
    remove(tmp_path / "docs", 15)
    (tmp_path / "docs" / "new.md").write_text("This is new.\n")
    index.refuse(IndexStateError, ASKS)
    assert not any(source == "new.md" for source, _ in index.hold())


def test_files_put_back_after_a_refusal_need_no_permission(tmp_path: Path) -> None:
    index = make_index(tmp_path, 30)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "docs", kept)
    remove(tmp_path / "docs", 15)
    index.refuse(IndexStateError, ASKS)
    shutil.copytree(kept, tmp_path / "docs", dirs_exist_ok=True)
    report = index.ingest()
    assert (report.unchanged, report.deleted) == (30, 0)


@pytest.mark.parametrize(("count", "gone"), [(3, 1), (2, 1), (30, 6), (30, 1)])
def test_files_that_were_deleted_leave_the_index_without_asking(
    tmp_path: Path, count: int, gone: int
) -> None:
    index = make_index(tmp_path, count)
    remove(tmp_path / "docs", gone)
    report = index.ingest()
    assert (report.deleted, report.unchanged) == (gone, count - gone)
    assert len({source for source, _ in index.hold()}) == count - gone


def test_documents_that_got_other_names_are_not_gone(tmp_path: Path) -> None:
    index = make_index(tmp_path, 30)
    index.sources[0]["prefix"] = "docs/"
    report = index.ingest()
    assert (report.deleted, report.indexed) == (30, 30)
    assert ("docs/note07.md", "The note 7 tells of it.") in index.hold()


def test_a_folder_that_was_deleted_leaves_the_index_without_asking(tmp_path: Path) -> None:
    fill(tmp_path / "docs" / "old", 3)
    index = Losing(tmp_path, {"kind": "files", "path": str(fill(tmp_path / "docs", 30))})
    index.ingest()
    shutil.rmtree(tmp_path / "docs" / "old")
    assert index.ingest().deleted == 3


def test_all_of_one_entry_is_refused_however_little_it_is(tmp_path: Path) -> None:
    """Its path leads to another folder now, which is there and holds files."""
    big = {"kind": "files", "path": str(fill(tmp_path / "big", 30)), "prefix": "big/"}
    small = {"kind": "files", "path": str(fill(tmp_path / "small", 2)), "prefix": "small/"}
    index = Losing(tmp_path, big, small)
    assert index.ingest().indexed == 32
    index.sources[1] = {**small, "path": str(fill(tmp_path / "other", 2, "draft"))}
    index.refuse(IndexStateError, ASKS)
    assert index.ingest(allow_delete=True).deleted == 2


def test_all_of_one_entry_is_refused_beside_one_of_the_same_options(tmp_path: Path) -> None:
    """Two folders that only their paths tell apart."""
    entries = [
        {"kind": "files", "path": str(fill(tmp_path / name, count, name))}
        for name, count in (("big", 30), ("small", 2))
    ]
    index = Losing(tmp_path, *entries)
    assert index.ingest().indexed == 32
    entries[1]["path"] = str(fill(tmp_path / "other", 2, "draft"))
    index.sources = entries
    index.refuse(IndexStateError, ASKS)


def test_all_of_a_small_index_is_refused_again_and_again(tmp_path: Path) -> None:
    """What the refused run had read of the new documents is nothing that the index held."""
    index = make_index(tmp_path, 2)
    lose_the_path(index)
    index.refuse(IndexStateError, ASKS)
    index.refuse(IndexStateError, ASKS)


@pytest.mark.parametrize("stage", ["embedding", "indexing words"])
def test_renamed_documents_are_not_gone_when_the_run_before_was_stopped(
    tmp_path: Path, stage: str
) -> None:
    index = make_index(tmp_path, 30)
    for path in sorted((tmp_path / "docs").iterdir())[:15]:
        path.rename(path.with_stem(f"renamed-{path.stem}"))

    def stop(at: str, *_: object) -> None:
        if at == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.ingest(progress=stop)
    report = index.ingest()
    assert (report.indexed, report.deleted, report.unchanged) == (15, 15, 15)


def test_a_document_that_was_never_published_is_not_counted_as_deleted(tmp_path: Path) -> None:
    index = make_index(tmp_path, 3)
    (tmp_path / "docs" / "new.md").write_text("This is new.\n")

    def stop(at: str, *_: object) -> None:
        if at == "embedding":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.ingest(progress=stop)
    (tmp_path / "docs" / "new.md").unlink()
    report = index.ingest()
    assert (report.deleted, report.unchanged, report.chunks_total) == (0, 3, 3)


def test_records_cut_off_between_two_lines_are_asked_about(tmp_path: Path) -> None:
    """Nothing in such a file says that it once was longer."""
    file = tmp_path / "docs" / "records.jsonl"
    file.parent.mkdir()
    lines = [f'{{"id": "r{number}", "text": "record {number}"}}\n' for number in range(30)]
    file.write_text("".join(lines))
    index = Losing(tmp_path, {"kind": "files", "path": str(file.parent)})
    index.ingest()
    file.write_text("".join(lines[:15]))
    index.refuse(IndexStateError, ASKS)
    file.write_text("".join(lines[:28]))
    assert index.ingest().deleted == 2


def test_a_table_that_lost_most_rows_is_asked_about(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "notes.db") as database:
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        rows = [(number, f"The note {number}.") for number in range(30)]
        database.executemany("INSERT INTO notes VALUES (?, ?)", rows)
    index = Losing(
        tmp_path,
        {
            **{"kind": "sql", "url": f"sqlite:///{tmp_path / 'notes.db'}"},
            "query": "SELECT id, text FROM notes",
        },
    )
    index.ingest()
    database.execute("DELETE FROM notes WHERE id = 7")
    database.commit()
    assert index.ingest().deleted == 1
    database.execute("DELETE FROM notes WHERE id < 15")
    database.commit()
    database.close()
    index.refuse(IndexStateError, ASKS)
    assert index.ingest(allow_delete=True).deleted == 14
