"""What is kept beside the store: the word indexes of an index's folder, and the cache's file."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from rag_app.index.cache import WAIT_SECONDS, decode
from rag_app.kept_folders import is_whole
from rag_app.sqlite_files import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rag_app.index.cache import EmbeddingCache
    from rag_app.index.ledger import Ledger

WORDS: Final = ("bm25", "sparse")
"""Folders of word indexes, by who weighs the words."""

_IDS: Final = "ids.json"
_UNREADABLE: Final = "the file of the embedding cache is damaged"


def examine_words(folder: Path, revision: str, published: set[str], ledger: Ledger) -> None:
    """The word indexes of a revision: whole, and of the chunks that are published."""
    for kept in _find_words(folder, revision):
        name = kept.relative_to(folder).as_posix()
        if not is_whole(kept):
            ledger.add("damaged-words", name)
        elif set(_read_ids(kept)) != published:
            ledger.add("stale-words", name)


def drop_words(folder: Path, ledger: Ledger, *, every: bool) -> None:
    """Remove the word indexes that are damaged, or every one; searches make them again."""
    names = WORDS if every else ledger.ids("damaged-words", "stale-words")
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def examine_cache(file: Path, ledger: Ledger) -> bool:
    """The cache's file and each value in it; whether it can be used."""
    if not file.exists():
        return True
    try:
        with closing(connect(file, WAIT_SECONDS)) as database:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            damaged = sum(1 for _ in _find_damaged(database)) if found == "ok" else 0
    except (sqlite3.Error, OSError) as error:
        found = str(error)
    if found != "ok":
        ledger.tell("damaged-cache", f"{_UNREADABLE} ({file}): {found.splitlines()[-1]}")
        return False
    if damaged:
        ledger.count("bad-cached-vectors", {str(file): damaged})
    return True


def mend_cache(file: Path, ledger: Ledger, cache: EmbeddingCache | None) -> None:
    """Remove the values that are no vectors; a file that cannot be used is put aside."""
    if ledger.has("damaged-cache"):
        if cache is not None:
            cache.close()
        for end in ("", "-wal", "-shm"):
            part = file.with_name(file.name + end)
            if part.exists():
                part.replace(file.with_name(f"{file.name}.damaged{end}"))
    elif ledger.has("bad-cached-vectors"):
        with closing(connect(file, WAIT_SECONDS)) as database:
            keys = [(key,) for key in _find_damaged(database)]
            database.executemany("DELETE FROM vectors WHERE key = ?", keys)


def _find_damaged(database: sqlite3.Connection) -> Iterator[bytes]:
    """The keys of values that are no vectors."""
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'vectors'").fetchone()
    rows = database.execute("SELECT key, vector FROM vectors") if known else ()
    for key, value in rows:
        if decode(key, value) is None:
            yield key


def _find_words(folder: Path, revision: str) -> Iterator[Path]:
    hashed = hashlib.sha256(json.dumps(revision).encode()).hexdigest()[:16]
    for name in WORDS:
        yield from sorted(folder.glob(f"{name}/*/{hashed}"))


def _read_ids(kept: Path) -> list[str]:
    ids: list[str] = json.loads((kept / _IDS).read_text(encoding="utf-8"))
    return ids
