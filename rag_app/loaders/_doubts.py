"""Why a listing that came to its end may lack things: empty folders, links, idle patterns.

What the index holds under a doubt is not proven gone. Loaders only tell; they know no index.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rag_app.loaders._globs import compile_glob
from rag_app.types import Doubt

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterator, Sequence


def doubt_patterns(
    patterns: Sequence[str], names: Collection[str], left_out: Collection[str], start: str
) -> Iterator[Doubt]:
    """A doubt for each `include` pattern that matches nothing: mistyped, or its files are lost.

    Args:
        patterns: the globs.
        names: what they could have matched, as they see it.
        left_out: the origins that no pattern matches.
        start: what the names of origins have before the part that the globs see.
    """
    for pattern in patterns:
        glob = compile_glob(pattern)
        if not any(map(glob.fullmatch, names)):
            wrong = f"{pattern!r} matches nothing"
            remedy = "Mend the pattern, or bring back what it matched."
            covers = partial(_is_left_to, glob, frozenset(left_out), start)
            yield Doubt("sources.include", wrong, remedy, covers)


def doubt_folder(source: str, place: str) -> Doubt:
    """A folder with nothing to read in it, as one whose disk is not mounted.

    A container makes one in place of a file as well, when it is to mount a file that is absent.
    """
    remedy = "Mount what belongs there, or remove the folder."
    wrong = f"the folder {place!r} is empty"
    return Doubt("sources.path", wrong, remedy, partial(_is_or_inside, source))


def doubt_link(source: str, place: str, reason: str) -> Doubt:
    """Something that is not read, where a file or a folder may have been before."""
    remedy = (
        "Put the file or the folder itself there, or give what it leads to an entry of its own."
    )
    wrong = f"{place!r} is {reason.removeprefix('is ')}"
    return Doubt("sources.path", wrong, remedy, partial(_is_or_inside, source))


def doubt_failure(where: str, name: str, kin: str) -> Doubt:
    """A source that could not be read whole; `kin` begins what it may have been called before."""
    wrong = f"{name} could not be read whole"
    return Doubt(where, wrong, "Mend that first.", partial(_begins, kin))


def _begins(kin: str, origin: str) -> bool:
    return origin.startswith(kin)


def _is_left_to(glob: re.Pattern[str], left_out: frozenset[str], start: str, origin: str) -> bool:
    if origin in left_out:
        return True
    name = origin.removeprefix(start).lstrip("/")
    return origin.startswith(start) and glob.fullmatch(name) is not None


def _is_or_inside(source: str, origin: str) -> bool:
    return origin == source or origin.startswith(f"{source}/")
