"""A file of ours that was cut, emptied, removed or changed is mended or refused, never believed.

Each file of an index is damaged in each way, one at a time. A search and an ingest then give what
they gave before, or end in a sentence that names what to do. RAG_APP_FAULTS=all tries every page.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rag_app
from rag_app.errors import RagAppError
from tests.reliability import sample
from tests.reliability.worker import is_same

ALL = os.environ.get("RAG_APP_FAULTS") == "all"
PAGE = 4096
SENTENCE = re.compile(r".+?: .+\. \S.+")

FILES = {
    "memory": ["vectors.sqlite", "embeddings.sqlite", "sample/manifest.sqlite", "sample/bm25/**/*"],
    "faiss": ["faiss/rows.sqlite"],
}
"""The files of an index with each store, as patterns below its folder."""


def _cut(size: Callable[[int], int]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, max(0, size(path.stat().st_size)))

    return damage


def _overwrite(share: float, what: Callable[[bytes], bytes], length: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        held = bytearray(path.read_bytes())
        start = int(len(held) * share) // length * length
        held[start : start + length] = what(bytes(held[start : start + length]))
        path.write_bytes(held)

    return damage


def _flip(held: bytes) -> bytes:
    return bytes(each ^ 0xFF for each in held)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": _cut(lambda _: 0),
    "one byte left": _cut(lambda _: 1),
    "half": _cut(lambda size: size // 2),
    "one byte less": _cut(lambda size: size - 1),
    "one page less": _cut(lambda size: (size - 1) // PAGE * PAGE),
    "removed": Path.unlink,
}
for place in range(5, 100, 1 if ALL else 45):
    DAMAGES[f"a byte changed at {place} %"] = _overwrite(place / 100, _flip, 1)
    DAMAGES[f"a page of zeros at {place} %"] = _overwrite(
        place / 100, lambda b: bytes(len(b)), PAGE
    )


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_mended_or_refused(tmp_path: Path, kind: str) -> None:
    sample.write_before(tmp_path / "docs")
    index = tmp_path / "index"
    hybrid = {"kind": "hybrid", "k": 200, "fetch_k": 200}
    config = sample.config(kind, index, tmp_path / "docs", retriever=hybrid)
    _ingest(config)
    intact = _search(config)
    shutil.copytree(index, tmp_path / "kept")
    wrong = [
        f"{path} {damage}: {why}"
        for path in _list_files(index, FILES[kind])
        for damage in DAMAGES
        for why in _try(config, tmp_path, path, damage, intact)
    ]
    assert not wrong, "\n".join(wrong)


def _list_files(index: Path, patterns: list[str]) -> list[str]:
    found = {path for pattern in patterns for path in index.glob(pattern) if path.is_file()}
    assert found
    return sorted(str(path.relative_to(index)) for path in found)


def _ingest(config: dict[str, Any]) -> None:
    with rag_app.load(config) as app:
        app.ingest()


def _search(config: dict[str, Any]) -> dict[str, Any]:
    with rag_app.load(config) as app:
        return {
            each: {hit.id: (hit.text, hit.score) for hit in app.search(each).hits}
            for each in sample.QUESTIONS
        }


def _try(
    config: dict[str, Any], root: Path, path: str, damage: str, intact: dict[str, Any]
) -> Iterator[str]:
    """What is wrong after a file was damaged."""
    shutil.rmtree(root / "index")
    shutil.copytree(root / "kept", root / "index")
    DAMAGES[damage](root / "index" / path)
    for what, work in (("search", _search), ("ingest", _ingest), ("search after", _search)):
        try:
            found = work(config)
        except RagAppError as error:
            if not SENTENCE.fullmatch(str(error)):
                yield f"{what} names no remedy: {error}"
            if what == "ingest":
                return
        except Exception as error:
            yield f"{what} raised {type(error).__name__}: {error}"
        else:
            if found is not None and not is_same(found, intact):
                yield f"{what} found something else"
