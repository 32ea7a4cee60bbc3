"""Folders of derived files, each whole or not there, whoever writes them too."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGESTS: Final = "digests.json"
_UNFINISHED: Final = ".unfinished-"
_HOUR: Final = 3600.0


def save_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill `folder`: whole or not at all, whoever else writes it too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
    try:
        write(unfinished)
        (unfinished / _DIGESTS).write_text(json.dumps(_digest(unfinished)), encoding="utf-8")
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            # Another process was faster, or what lies there is damaged.
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Whether a folder is there, and every file as `save_folder` wrote it."""
    try:
        written = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
        return bool(written == _digest(folder))
    except (OSError, ValueError):
        return False


def sweep(folder: Path) -> None:
    """Remove what other revisions left beside `folder`, and processes that died."""
    for other in folder.parent.parent.glob("*/*"):
        if other.name != folder.name and not _may_be_in_work(other):
            shutil.rmtree(other, ignore_errors=True)


def _digest(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != _DIGESTS:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _may_be_in_work(folder: Path) -> bool:
    try:
        age = time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return True
    return folder.name.startswith(_UNFINISHED) and age < _HOUR
