"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from rag_app.errors import UsageError

_REMEDY: Final = "Name a file in a folder that is there and can be written."


def write_whole(path: str | Path, data: bytes, *, what: str = "it") -> None:
    """Write a file, on disk when this returns; until it is whole, what was there before stays.

    Args:
        what: names the file in an error.

    Raises:
        UsageError: it cannot be written.
    """
    target = Path(path)
    draft = target.parent / f".{target.name}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        with suppress(OSError, ValueError):  # where its folder is none, there is no draft
            draft.unlink(missing_ok=True)
        words = getattr(error, "strerror", None) or str(error)
        raise UsageError(str(path), f"{what} cannot be written: {words}", _REMEDY) from error
