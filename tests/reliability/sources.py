"""Sources whose paragraphs can be told apart: what a chunk's text says is where it must be from.

A document is a few paragraphs of one chunk each, so the chunks to be expected are known without any
splitter. Some paragraphs occur in several documents, some twice in one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from random import Random

    State = Mapping[str, tuple[str, ...]]
    """The paragraphs of each document, by its name."""

DOCUMENTS: Final = 72
CHUNK_WORDS: Final = 16
"""A paragraph has 9 to 14 words: a chunk of so many holds one, and never two."""
CHUNK_CHARACTERS: Final = 110
"""The same in characters: a paragraph has 60 to 105."""

_EVERYWHERE: Final = "This notice stands word for word in every fourth document of all."
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def draw_first(rng: Random) -> State:
    """The sources before anything happened: more than 1,200 paragraphs."""
    return {f"{_folder(place)}d{place:03}.md": _draw_document(rng) for place in range(DOCUMENTS)}


def edit(state: State, rng: Random) -> State:
    """The same sources some time later: 18 documents changed, 8 new, 3 gone, 3 renamed."""
    after = dict(state)
    names = sorted(after)
    chosen = rng.sample(names, 24)
    for name in chosen[:3]:
        del after[name]
    for name in chosen[3:6]:
        after[f"moved-{rng.getrandbits(32):08x}.md"] = after.pop(name)
    for name in chosen[6:]:
        after[name] = _change(after[name], rng)
    for _ in range(8):
        after[f"added-{rng.getrandbits(32):08x}.md"] = _draw_document(rng)
    return after


def edit_again(before: State, now: State, rng: Random) -> State:
    """Edited once more, and a third of what the first edit did is taken back."""
    after = dict(edit(now, rng))
    changed = sorted(n for n in before.keys() | now.keys() if before.get(n) != now.get(n))
    for name in rng.sample(changed, len(changed) // 3):
        if name in before:
            after[name] = before[name]
        else:
            after.pop(name, None)
    return after


def write(state: State, folder: Path) -> None:
    """Make `folder` hold exactly these documents; files that are right are not touched."""
    for path in [each for each in folder.rglob("*.md")]:
        if path.relative_to(folder).as_posix() not in state:
            path.unlink()
    for name, paragraphs in state.items():
        path = folder / name
        text = "\n\n".join(paragraphs) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def count_chunks(state: State) -> Counter[tuple[str, str]]:
    """How often an index of these sources holds each (source, text)."""
    return Counter((name, text) for name, texts in state.items() for text in texts)


def list_chunks(state: State) -> list[tuple[str, str]]:
    """Every (source, text) that an index of these sources holds, each once."""
    return sorted(count_chunks(state))


def _folder(place: int) -> str:
    return f"part{place % 3}/" if place % 2 else ""


def _draw_document(rng: Random) -> tuple[str, ...]:
    paragraphs = [_draw_paragraph(rng) for _ in range(rng.randint(12, 26))]
    if rng.random() < 0.25:
        paragraphs.append(_EVERYWHERE)
    if rng.random() < 0.25:
        paragraphs.insert(0, paragraphs[-2])
    return tuple(paragraphs)


def _change(paragraphs: tuple[str, ...], rng: Random) -> tuple[str, ...]:
    changed = list(paragraphs)
    for place in rng.sample(range(len(changed)), rng.randint(1, 5)):
        changed[place] = _draw_paragraph(rng)
    if rng.random() < 0.5:
        changed.insert(rng.randrange(len(changed)), _draw_paragraph(rng))
    if rng.random() < 0.5:
        del changed[rng.randrange(len(changed))]
    return tuple(changed)


def _draw_paragraph(rng: Random) -> str:
    words = ["".join(rng.choices(_LETTERS, k=rng.randint(5, 7))) for _ in range(10)]
    return f"{rng.getrandbits(40):010x} {' '.join(words)}."
