"""Where a citation points, as a place a terminal or an editor can open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rag_app.parsers.parsed import ParseError
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from rag_app.config import AppConfig
    from rag_app.types import Citation

_PLAIN = {".md", ".markdown", ".rst", ".txt"}


def place(config: AppConfig, citation: Citation) -> str:
    """`docs/a.md:12`, `docs/b.pdf page 3`, `docs/c.csv#row=4`, a URL, or the source's name.

    Says so where the file is gone or, in a text file, no longer has the quote at its place.
    """
    found = _find_file(config, citation.source)
    if found is None:
        only_files = all(section.kind == "files" for section in config.sources)
        return citation.source + (" (gone since the last ingest)" if only_files else "")
    _, mark, record = citation.source.partition("#")
    where = f"{_shown(found)}{mark}{record}"
    if found.suffix.lower() in _PLAIN:
        where += _find_line(found, citation)
    if citation.page is not None:
        where += f" page {citation.page}"
    return where


def _find_line(file: Path, citation: Citation) -> str:
    """`:12`, counted in the text as it was indexed; a note when the quote is not there any more."""
    try:
        text, _ = decode(file.read_bytes())
    except (OSError, ParseError):
        text = ""
    if text[citation.start : citation.end] != citation.quote:
        return " (changed since the last ingest)"
    return f":{text.count(chr(10), 0, citation.start) + 1}"


def _find_file(config: AppConfig, source: str) -> Path | None:
    for section in config.sources:
        folder = getattr(section.options, "path", None)
        if not isinstance(folder, Path):
            continue
        name = source.removeprefix(getattr(section.options, "prefix", "")).partition("#")[0]
        for candidate in (folder / name, folder):
            if candidate.is_file() and candidate.name == Path(name).name:
                return candidate
    return None


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path.resolve()) if relative.startswith(os.pardir + os.sep + os.pardir) else relative
