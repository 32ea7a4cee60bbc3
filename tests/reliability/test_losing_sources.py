"""Every way to lose a folder without meaning it: nothing leaves the index because of it.

A document may be deleted only when its source was listed completely. Where that cannot be told from
a loss, the ingest refuses and asks.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rag_app.errors import IndexStateError, SourceError
from tests.reliability.losing import Losing, index_docs, make_docs, remake

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return make_docs(tmp_path)


@pytest.fixture
def index(docs: Path) -> Losing:
    return index_docs(docs)


def remove_files(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        path.unlink()


FOLDER: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty mount": (lambda docs: remake(docs, Path.mkdir), "docs' is an empty folder"),
    "gone": (shutil.rmtree, "docs' does not exist"),
    "a link to nothing": (
        lambda docs: remake(docs, lambda path: path.symlink_to("nowhere")),
        "docs' does not exist",
    ),
    "a link to itself": (
        lambda docs: remake(docs, lambda path: path.symlink_to(path)),
        "docs' does not exist",
    ),
    "a pipe": (lambda docs: remake(docs, os.mkfifo), "docs' is no folder"),
    "nothing but hidden things": (
        lambda docs: remake(docs, lambda path: (path / ".snapshots").mkdir(parents=True)),
        "matches none of the 1 entries",
    ),
    "nothing but folders": (remove_files, "docs' is an empty folder"),
}


@pytest.mark.parametrize("way", FOLDER)
def test_a_folder_that_is_lost_stops_the_ingest(index: Losing, docs: Path, way: str) -> None:
    lose, words = FOLDER[way]
    lose(docs)
    index.refuse(SourceError, words)
    index.refuse(SourceError, words, allow_delete=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": ["**/*.mdd"]}, r"'\*\*/\*\.mdd' matches none of the 40 entries"),
        ({"exclude": ["**"]}, "matches none of the 40 entries"),
        ({"path": "dosc"}, "dosc' does not exist"),
    ],
)
def test_a_slip_in_the_config_that_leaves_nothing_stops_the_ingest(
    index: Losing, options: dict[str, Any], words: str
) -> None:
    index.sources[0].update(options)
    index.refuse(SourceError, words)


def link_elsewhere(path: Path) -> None:
    elsewhere = path.parents[1] / f"elsewhere-{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


PART: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "an empty mount": ("team", lambda path: remake(path, Path.mkdir), "team' is empty"),
    "a mount with a hidden marker": (
        "team",
        lambda path: remake(path, lambda path: (path / ".unmounted").mkdir(parents=True)),
        "team' is empty",
    ),
    "a link to a folder": ("team", link_elsewhere, "team' is a link to a folder"),
    "a link to nothing": (
        "team",
        lambda path: remake(path, lambda path: path.symlink_to("nowhere")),
        "team' is a link to nothing",
    ),
    "a pipe": ("team", lambda path: remake(path, os.mkfifo), "team' is not a regular file"),
    "a file that is an empty folder": (
        "team/00.md",
        lambda path: remake(path, Path.mkdir),
        "00.md' is empty",
    ),
    "a file that is a link out": ("x.txt", link_elsewhere, "x.txt' is a link out of the folder"),
}


@pytest.mark.parametrize("way", PART)
def test_a_part_that_is_lost_is_not_taken_for_deleted(index: Losing, docs: Path, way: str) -> None:
    """A few documents of forty: too few for any share of the index to be noticed."""
    place, lose, words = PART[way]
    lose(docs / place)
    index.refuse(IndexStateError, words)
    assert index.ingest(allow_delete=True).deleted in (1, 3)


@pytest.mark.parametrize("include", [["**/*.md", "**/*.tx"], ["*/*.md", "notes/*.txt"]])
def test_a_slip_in_one_pattern_of_several_deletes_nothing(
    index: Losing, include: list[str]
) -> None:
    index.sources[0]["include"] = include
    index.refuse(IndexStateError, r"\.txt?' matches nothing")


def test_a_pattern_that_matches_nothing_any_more_deletes_nothing(
    tmp_path: Path, docs: Path
) -> None:
    index = Losing(
        tmp_path, {"kind": "files", "path": str(docs), "include": ["**/*.md", "*.txt", "*.pdf"]}
    )
    index.ingest()
    (docs / "team" / "00.md").unlink()
    assert index.ingest().deleted == 1  # '*.pdf' never matched anything, which is fine
    for name in ("x.txt", "y.txt"):
        (docs / name).unlink()
    index.refuse(IndexStateError, r"'\*\.txt' matches nothing")
    assert index.ingest(allow_delete=True).deleted == 2
