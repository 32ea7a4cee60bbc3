"""Single files on a disk: their names, their bytes, and whether they can be read at all."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Final

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""What a file of Git LFS begins with where only its pointer was checked out."""

_PIECE: Final = 1 << 16
"""Bytes read at a time; most files are one such piece."""


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` leads to something in `folder`, links followed."""
    # Not Path.resolve, which gives up on a link to itself.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def why_broken(path: Path, link: bool) -> str | None:
    """Why there is no file at `path`, which is a link or none; None when there is one."""
    if link and not path.exists():
        return "is a link to nothing"
    return None if path.is_file() else "is not a regular file"


def read_hash(path: Path) -> tuple[str, bytes]:
    """The sha-256 of a file, and its first bytes."""
    with path.open("rb", buffering=0) as file:
        begins = piece = file.read(_PIECE)
        sha = hashlib.sha256()
        while piece:
            sha.update(piece)
            piece = file.read(_PIECE)
    return sha.hexdigest(), begins[: len(LFS_POINTER)]


def decode_name(name: str) -> str:
    """A name the file system holds in no encoding has its odd bytes as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def rank_name(path: Path) -> tuple[bool, str]:
    """Composed names first: theirs is the source name when another form of it is there, too."""
    name = path.as_posix()
    return not unicodedata.is_normalized("NFC", name), name
