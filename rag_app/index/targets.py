"""Where an export goes: made beside its target, and given its name when it is whole and on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rag_app.errors import IndexStateError, UsageError
from rag_app.index.portable import HEADER, PARTS
from rag_app.index.portable_reading import read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[str, int, int | None], None]


def is_zip(target: Path) -> bool:
    """Whether a target of this name is to be one file."""
    return target.suffix.lower() == ".zip"


def refuse_to_replace(target: Path, *, force: bool) -> None:
    """Refuse to write where something is already; with `force`, unless that is an export.

    Raises:
        UsageError: naming the target.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise UsageError(str(target), "it is there already", "Choose another name, or --force.")
    try:
        read_header(target)
    except IndexStateError as error:
        wrong = f"it is there and is no export ({error.wrong}), so it is not replaced"
        raise UsageError(str(target), wrong, "Choose another name.") from error


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """A folder beside the target, on its disk, that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(folder: Path) -> Path:
    """The folder, made or emptied."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def pack(folder: Path, path: Path, progress: Progress) -> Path:
    """The folder as a zip. Vectors are stored as they are: they do not get smaller."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as packed:
        for place, name in enumerate((HEADER, *PARTS)):
            progress("packing", place, 1 + len(PARTS))
            kept = name.endswith(".npy")
            how = zipfile.ZIP_STORED if kept else zipfile.ZIP_DEFLATED
            packed.write(folder / name, name, compress_type=how)
    shutil.rmtree(folder)
    return path


def put(made: Path, target: Path, before: Path, *, force: bool) -> None:
    """Give it the target's name."""
    refuse_to_replace(target, force=force)  # once more: writing took its time
    if target.is_dir():
        target.rename(before)  # a folder cannot be replaced in one step
        try:
            made.rename(target)
        except BaseException:
            before.rename(target)
            raise
    else:
        made.replace(target)
    _sync_folder(target.parent)


def sync(made: Path) -> None:
    """Return when it is on disk."""
    for path in [*made.iterdir()] if made.is_dir() else [made]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if made.is_dir():
        _sync_folder(made)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def measure(target: Path) -> int:
    """Its bytes; of a folder, of all its files."""
    paths = target.iterdir() if target.is_dir() else [target]
    return sum(path.stat().st_size for path in paths)


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Put an error of the disk in our words."""
    try:
        yield
    except OSError as error:
        wrong = f"it cannot be written: {error.strerror or error}"
        remedy = "See that its folder is there, may be written to and has room; nothing was left."
        raise IndexStateError(str(target), wrong, remedy) from error
