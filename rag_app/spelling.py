"""The nearest allowed word to what somebody wrote: the "did you mean" of every message."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SYNONYMS: Final = {
    "top_k": "k",
    "type": "kind",
    "provider": "kind",
    "llm": "chat_model",
    "store": "vector_store",
    "documents": "sources",
    "pipeline": "chain",
}
"""Words of other tools for ours, too far apart to be found by spelling."""


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The word of `allowed` that `given` most likely stands for; None when nothing is near.

    Case, dashes and underscores do not count. Anything within two edits is found, unless nothing of
    the word is left.
    """
    words = sorted(set(allowed))
    plain = _fold(given)
    by_distance = sorted((count_edits(plain, _fold(word)), word) for word in words)
    for edits, word in by_distance[:1]:
        if edits <= 2 and edits < max(len(plain), len(word)):
            return word
    if SYNONYMS.get(given.lower()) in words:
        return SYNONYMS[given.lower()]
    close = difflib.get_close_matches(plain, words, n=1, cutoff=0.6)
    return close[0] if close else None


def count_edits(one: str, other: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions from `one` to `other`.

    Words over 60 characters are not compared; their distance is the longer length.
    """
    if max(len(one), len(other)) > 60:
        return max(len(one), len(other))
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`Did you mean 'word'?`, or nothing when no word is near."""
    word = nearest(given, allowed)
    return f"Did you mean {word!r}?" if word else ""


def _fold(word: str) -> str:
    return word[:200].lower().replace("-", "_").strip()
