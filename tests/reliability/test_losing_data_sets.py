"""Data sets that lose a file or a part of one: what the index holds of them stays."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from rag_app.errors import IndexStateError, SourceError
from tests.reliability.losing import Losing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


LINES = [
    json.dumps({"_id": f"d{number}", "title": "", "text": f"The record {number} of many."}) + "\n"
    for number in range(30)
]


def make_corpus(folder: Path) -> tuple[Losing, Path]:
    """The index of thirty documents, and their file."""
    corpus = folder / "set" / "corpus.jsonl"
    corpus.parent.mkdir()
    corpus.write_text("".join(LINES))
    index = Losing(folder, {"kind": "beir", "path": str(corpus.parent)})
    assert index.ingest().indexed == 30
    return index, corpus


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut in a line": (
        lambda path: path.write_text("".join(LINES)[:700]),
        "corpus.jsonl: is cut off in line",
    ),
    "emptied": (lambda path: path.write_bytes(b""), "corpus.jsonl: is empty"),
    "blank": (lambda path: path.write_bytes(b"\n\n"), "corpus.jsonl: no text"),
    "a pointer of Git LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is the pointer of Git LFS",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is not a regular file"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
    "another record": (
        lambda path: path.write_text("".join(["{}\n", *LINES[1:]])),
        "#line=1: has no '_id'",
    ),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_corpus_that_is_broken_keeps_all_documents(tmp_path: Path, way: str) -> None:
    index, corpus = make_corpus(tmp_path)
    lose, words = BROKEN[way]
    lose(corpus)
    index.quarantine(words)


def test_a_corpus_that_is_gone_is_refused(tmp_path: Path) -> None:
    index, corpus = make_corpus(tmp_path)
    corpus.unlink()
    index.refuse(SourceError, "holds neither corpus.jsonl nor")
    shutil.rmtree(corpus.parent)
    index.refuse(SourceError, "does not exist")


def test_a_corpus_that_ends_between_two_lines_is_refused(tmp_path: Path) -> None:
    index, corpus = make_corpus(tmp_path)
    corpus.write_text("".join(LINES[:15]))
    index.refuse(IndexStateError, "15 of 30 documents are gone")


def test_a_corpus_that_is_packed_or_cut_then_is_the_same_corpus(tmp_path: Path) -> None:
    index, corpus = make_corpus(tmp_path)
    packed = gzip.compress(corpus.read_bytes())
    corpus.unlink()
    (corpus.parent / "corpus.jsonl.gz").write_bytes(packed)
    report = index.ingest()
    assert (report.unchanged, report.indexed, report.deleted) == (30, 0, 0)
    (corpus.parent / "corpus.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    index.quarantine("its gzip stream is damaged")


def test_a_corpus_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    index, corpus = make_corpus(tmp_path)
    corpus.write_text("".join(LINES) + '{"_id": "new", "text": "A new record."}\n')

    def change(stage: str, done: int, total: int | None) -> None:
        corpus.write_text("".join(LINES) + '{"_id": "new", "text": "A newer record."}\n')

    index.quarantine("was changed while it was being read", progress=change)
    report = index.ingest()
    assert report.quarantined == 0
    assert ("new", "A newer record.") in index.hold()


def test_a_record_that_is_gone_is_deleted_and_one_that_is_empty_stays(tmp_path: Path) -> None:
    index, corpus = make_corpus(tmp_path)
    corpus.write_text("".join([*LINES[:28], '{"_id": "d29", "text": ""}\n']))
    report = index.ingest()
    assert report.deleted == 1
    assert [(each.source, each.reason) for each in report.quarantine] == [("d29", "no text")]
    assert {"d0", "d27", "d29"} <= {source for source, _ in index.hold()}
    assert "d28" not in {source for source, _ in index.hold()}


def test_a_squad_file_that_is_cut_keeps_all_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    paragraphs = [{"context": f"The paragraph {number}."} for number in range(20)]
    whole = json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]})
    file.write_text(whole)
    index = Losing(tmp_path, {"kind": "squad", "path": str(file)})
    assert index.ingest().indexed == 20
    file.write_text(whole[: len(whole) // 2])
    index.quarantine("dev.json: is not JSON: .* it may be cut off")
    file.write_text('{"data": []}')
    index.quarantine("dev.json: no text")
    file.unlink()
    index.refuse(SourceError, "does not exist")


def test_a_corpus_that_is_asked_about_and_gone_is_not_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "corpora").mkdir(parents=True)
    questions = folder / "questions_df.csv"
    table = "question,references,corpus_id\n" + "".join(f"Q{n}?,[],c{n}\n" for n in range(3))
    questions.write_text(table)
    for number in range(3):
        (folder / "corpora" / f"c{number}.md").write_text(f"The corpus {number}.")
    index = Losing(tmp_path, {"kind": "chunking_evaluation", "path": str(folder)})
    assert index.ingest().indexed == 3
    (folder / "corpora" / "c1.md").unlink()
    index.refuse(IndexStateError, "asks about corpora/c1.md, which is not there")
    questions.unlink()
    index.refuse(IndexStateError, "questions_df.csv, which names the corpora, cannot be read")
    questions.write_text(table.replace("Q1?,[],c1\n", ""))
    assert index.ingest().deleted == 1
    shutil.rmtree(folder / "corpora")
    index.refuse(SourceError, "cannot be listed")
