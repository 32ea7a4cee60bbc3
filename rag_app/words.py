"""Text to the words that BM25 counts.

Every tokenizer first folds case and width (Unicode NFKC, then case folding), and cuts what is
written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese; Korean too, whose particles
stick to its words) into overlapping pairs of characters, so that no language is one long word.
"""

from __future__ import annotations

import re
import sys
import threading
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TokenizerName: TypeAlias = Literal["english", "words"]

_STOP_WORDS = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there
    these they this to was will with
"""
ENGLISH_STOP_WORDS: Final = frozenset(_STOP_WORDS.split())
"""Those of Lucene's `EnglishAnalyzer`."""

_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff"  # Thai, Lao, Burmese, jamo, Khmer
    "\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"  # kana, jamo
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"  # Han, Hangul
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"  # more kana, more Han
)


_INVISIBLE: Final = re.compile("[\u00ad\u200c\u200d\u2060\ufeff]")
"""Soft hyphens and joiners, which stand inside words."""

_INTRICATE: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u1dff\u20d0-\u20ff\u2c00-\U0010ffff]"
)
"""A range of characters with all the marks, and all of what is written without spaces, in it."""
_PLAIN_WORD: Final = re.compile(r"[^\W_]+")
"""What a word is in a text without those: found ten times faster."""


def cut_query(name: TokenizerName, text: str) -> list[str]:
    """The words of a question.

    `english`: without stop words, the others reduced to their stem (Snowball). `words`: as they
    are, for other languages.
    """
    return _cut(name, text, singles=False)


def cut_chunk(name: TokenizerName, text: str) -> list[str]:
    """The words of a chunk: those of a question, and the single characters of what is cut in pairs.

    So a question of one character finds it, while a longer one asks for its pairs only.
    """
    return _cut(name, text, singles=True)


def _cut(name: TokenizerName, text: str, *, singles: bool) -> list[str]:
    words = _find_words(text, singles=singles)
    if name == "words":
        return list(words)
    stem = _stems()
    return [stem(word) for word in words if word not in ENGLISH_STOP_WORDS]


def _find_words(text: str, *, singles: bool) -> Iterable[str]:
    folded = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).casefold())
    if _INTRICATE.search(folded):
        return _find_intricate(folded, singles=singles)
    return _PLAIN_WORD.findall(folded)


def _find_intricate(folded: str, *, singles: bool) -> Iterator[str]:
    for found in _words().finditer(folded):
        word = found[0]
        if found.lastgroup == "spaced" or len(word) == 1:
            yield word
            continue
        yield from map("".join, zip(word, word[1:], strict=False))
        if singles:
            yield from word


@cache
def _words() -> re.Pattern[str]:
    """Runs of letters, digits and the marks on them; an apostrophe and an underscore part words."""
    marks = [
        re.escape(chr(code))
        for code in range(0x300, sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Mn", "Mc")
    ]
    character = rf"(?:[^\W_]|[{''.join(marks)}])"
    return re.compile(
        rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<spaced>(?:(?![{_UNSPACED}]){character})+)"
    )


@cache
def _stems() -> Callable[[str], str]:
    import Stemmer

    # A stemmer keeps a state between calls, so each thread has its own.
    held = threading.local()

    @lru_cache(maxsize=1 << 17)
    def stem(word: str) -> str:
        if not hasattr(held, "stemmer"):
            held.stemmer = Stemmer.Stemmer("english")
        stemmed: str = held.stemmer.stemWord(word)
        return stemmed

    return stem
