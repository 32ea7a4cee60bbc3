"""A project that was copied or moved keeps to its own files, old generations too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

import rag_app

CONFIG: Final = """
name: handbook
sources:
  - {kind: files, path: docs}
embeddings: hashing
vector_store: %s
retriever: dense
"""

STORES: Final = ("memory", "{kind: faiss, path: kept/faiss}", "chroma")


@pytest.fixture(params=STORES, ids=["memory", "faiss", "chroma"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "original"
    (folder / "docs").mkdir(parents=True)
    for number in range(3):
        (folder / "docs" / f"{number}.md").write_text(f"Rule {number} of the house is this.")
    config = CONFIG % request.param
    (folder / "rag-app.yaml").write_text(config)
    smaller = config.replace("hashing", "{kind: hashing, dimension: 64}")
    (folder / "smaller.yaml").write_text(smaller)
    with rag_app.load(folder / "rag-app.yaml") as app:
        app.ingest()
    return folder


def count(folder: Path, config: str = "rag-app.yaml") -> int:
    with rag_app.load(folder / config) as app:
        return len(app.search("rule of the house").hits)


def test_what_a_copy_removes_is_its_own(project: Path) -> None:
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    with rag_app.load(copy / "rag-app.yaml") as app:
        app.migrate(copy / "smaller.yaml")
    with rag_app.load(copy / "smaller.yaml") as app:
        assert [each.number for each in app.gc()] == [1]
    assert count(copy, "smaller.yaml") == 3
    assert count(project) == 3


def test_a_rebuild_in_a_copy_leaves_the_original(project: Path) -> None:
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    with rag_app.load(copy / "rag-app.yaml") as app:
        app.ingest(rebuild=True)
    assert (count(copy), count(project)) == (3, 3)


def test_a_moved_project_goes_back_and_leaves_no_trace(project: Path) -> None:
    moved = project.with_name("moved")
    with rag_app.load(project / "rag-app.yaml") as app:
        app.migrate(project / "smaller.yaml")
    project.rename(moved)
    with rag_app.load(moved / "smaller.yaml") as app:
        assert app.rollback().number == 1
    assert count(moved) == 3
    with rag_app.load(moved / "rag-app.yaml") as app:
        app.gc()
        assert app.open_store("handbook_g2").count() == 0
    assert not project.exists()
