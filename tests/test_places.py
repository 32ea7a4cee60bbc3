"""Where a citation points: the line an editor shows, whatever the file's encoding and newlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rag_app.cli.places import place
from rag_app.config import load_config
from rag_app.loaders import files
from rag_app.types import Citation

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "# Title\n\nOne line.\n\nThe line that is cited, naïve.\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode("utf-8-sig"),
        TEXT.encode("cp1252"),
    ],
)
def test_a_citation_names_the_line_that_its_editor_shows(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.md").write_bytes(data)
    (document,) = files.build(files.Config(path=tmp_path)).lazy_load()
    start = document.page_content.index("The line")
    assert find_place(tmp_path, start).endswith("a.md:5")


def test_a_file_that_changed_since_has_no_line(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\x7fELF\x00\x00")
    assert find_place(tmp_path, 3).endswith("a.md (changed since the last ingest)")
    (tmp_path / "a.md").write_text("short")
    assert find_place(tmp_path, 300).endswith("a.md (changed since the last ingest)")
    (tmp_path / "a.md").unlink()
    assert find_place(tmp_path, 300) == "a.md (gone since the last ingest)"


def test_a_record_of_a_table_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    config = load_config({"sources": [{"kind": "files", "path": str(tmp_path)}]})
    assert place(config, Citation(1, "a.csv#row=2", 0, 1, "x")).endswith("a.csv#row=2")


def find_place(folder: Path, start: int) -> str:
    config = load_config({"sources": [{"kind": "files", "path": str(folder)}]})
    return place(config, Citation(1, "a.md", start, start + 5, "The l"))
