"""Readers that are open while the index is damaged, mended, or written by another user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rag_app
from rag_app import IndexStateError
from rag_app.index import database
from rag_app.sqlite_files import connect, has_changed

NOBODY = 65534


def make_config(folder: Path, documents: int, **sections: Any) -> dict[str, Any]:
    (folder / "docs").mkdir(exist_ok=True)
    for number in range(documents):
        (folder / "docs" / f"{number}.txt").write_text(f"word {number}")
    return {
        "name": "faults",
        "index": {"path": str(folder / "index")},
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(folder / "index" / "vectors.sqlite")},
        "retriever": {"kind": "dense", "k": 5},
        **sections,
    }


def test_an_open_reader_says_that_the_store_lost_rows(tmp_path: Path) -> None:
    config = make_config(tmp_path, 5)
    with rag_app.load(config) as writer, rag_app.load(config) as reader:
        writer.ingest()
        assert len(reader.search("word").hits) == 5
        assert len(reader.search("word", filter={"source": "0.txt"}).hits) == 1
        writer.store.delete([row.id for row in writer.store.scan()][:3])
        with pytest.raises(IndexStateError, match=r"holds 2 of 5 .*doctor --fix"):
            reader.search("word")
        with pytest.raises(IndexStateError, match="holds 2 of 5"):
            reader.search("word", filter={"source": "0.txt"})
        writer.doctor(fix=True)
        assert len(reader.search("word").hits) == 5


def spoil_dimension(app: Any) -> None:
    rows = list(app.store.scan())
    app.store.drop()
    app.store.upsert([replace(row, vector=np.ones(8, np.float32)) for row in rows])


def test_a_collection_that_is_refilled_answers_nobody(tmp_path: Path) -> None:
    config = make_config(tmp_path, 300)
    seen: list[int | str] = []
    with rag_app.load(config) as writer, rag_app.load(config) as reader:
        writer.ingest()
        assert len(reader.search("word").hits) == 5
        spoil_dimension(writer)

        def look(stage: str, done: int, total: int | None) -> None:
            if stage == "mending" and 0 < done < 300:
                with pytest.raises(IndexStateError) as refused:
                    reader.search("word")
                seen.append(refused.value.remedy)

        assert writer.doctor(fix=True, progress=look).sound
        assert len(seen) == 2
        assert len(reader.search("word").hits) == 5


def test_a_refill_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    config = make_config(tmp_path, 300)
    with rag_app.load(config) as writer:
        writer.ingest()
        spoil_dimension(writer)

        def stop(stage: str, done: int, total: int | None) -> None:
            if stage == "mending" and done:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            writer.doctor(fix=True, progress=stop)
    with rag_app.load(config) as app:
        assert "unfinished-mending" in {each.kind for each in app.doctor().findings}
        with pytest.raises(IndexStateError):
            app.search("word")
        assert app.doctor(fix=True).sound
        assert len(app.search("word").hits) == 5


def test_what_fails_inside_is_not_blamed_on_the_manifest(tmp_path: Path) -> None:
    opened = database.open_file(tmp_path / "manifest.sqlite", "faults")
    with pytest.raises(ConnectionRefusedError), opened.reading():
        raise ConnectionRefusedError(111, "Connection refused")
    with pytest.raises(ConnectionRefusedError), opened.writing():
        raise ConnectionRefusedError(111, "Connection refused")
    opened.close()


READER = """
import json, os, sys
import rag_app
config = json.loads(sys.argv[1])
with rag_app.load({{**config, "vector_store": {{"kind": "memory", "path": None}}}}) as app:
    app.ingest()  # loads every module, which the other user may not be able to read
    app.search("word")
os.setgid({nobody})
os.setuid({nobody})
app = rag_app.load(config)
for _ in sys.stdin:
    print(sorted({{hit.text.split()[-1] for hit in app.search("word").hits}}), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_reader_of_another_user_sees_what_is_written() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        config = make_config(folder, 0)
        file = folder / "docs" / "a.txt"
        file.write_text("word first")
        with rag_app.load(config) as app:
            app.ingest()
        subprocess.run(["chmod", "-R", "a+rX", place], check=True)
        code = READER.format(nobody=NOBODY)
        with subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=place,
            env={**os.environ, "HOME": place, "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None

            def ask() -> str:
                print(file=reader.stdin, flush=True)
                return str(reader.stdout.readline()).strip()  # type: ignore[union-attr]

            assert ask() == "['first']"
            for word in ("second", "third"):
                file.write_text(f"word {word}")
                with rag_app.load(config) as app:
                    app.ingest()
                    assert ask() == f"['{word}']"
                assert ask() == f"['{word}']"
            reader.stdin.close()
            assert reader.wait() == 0


def test_a_file_that_is_taken_to_change_no_more_and_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.sqlite"
    writer = connect(path, 1)
    writer.execute("CREATE TABLE one (a)")
    monkeypatch.setattr("rag_app.sqlite_files.is_read_only", lambda path: True)
    frozen = connect(path, 1)
    assert not has_changed(frozen)
    assert not has_changed(writer)
    writer.executemany("INSERT INTO one VALUES (?)", [("x" * 5000,)] * 9)
    assert has_changed(frozen)
    frozen.close()
    writer.close()


@pytest.mark.parametrize(
    ("file", "kind"),
    [("faults/manifest.sqlite", "manifest-damaged"), ("vectors.sqlite", "store-unreadable")],
)
def test_the_doctor_names_a_file_that_cannot_be_opened(
    file: str, kind: str, tmp_path: Path
) -> None:
    config = make_config(tmp_path, 3)
    with rag_app.load(config) as app:
        app.ingest()
    damaged = tmp_path / "index" / file
    damaged.write_bytes(b"this is no database" * 1000)
    with rag_app.load(config) as app:
        (finding,) = app.doctor().findings
    assert (finding.kind, finding.severity) == (kind, "damage")
    assert str(damaged) in finding.detail + finding.remedy
    assert "rag-app ingest --rebuild" in finding.remedy
    damaged.unlink()
    with rag_app.load(config) as app:  # what the remedy says
        app.ingest(rebuild=True)
        assert len(app.search("word").hits) == 3
        assert app.doctor().sound
