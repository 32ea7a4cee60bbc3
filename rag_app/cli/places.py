"""Where a citation points, as a place a terminal or an editor can open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_app.config import AppConfig
    from rag_app.types import Citation

_PLAIN = {".md", ".markdown", ".rst", ".txt"}


def place(config: AppConfig, citation: Citation) -> str:
    """`docs/a.md:12`, `docs/b.pdf page 3`, a URL, or the source's name where no file is known."""
    found = _find_file(config, citation.source)
    where = citation.source if found is None else _shown(found)
    if found is not None and found.suffix.lower() in _PLAIN:
        text = found.read_text(encoding="utf-8", errors="replace")
        where += f":{text.count(chr(10), 0, citation.start) + 1}"
    if citation.page is not None:
        where += f" page {citation.page}"
    return where


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
