"""The class behind `embeddings/hashing.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np
from langchain_core.embeddings import Embeddings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from rag_app.types import Span

_UNSPACED: Final = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003134f"
)
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
"""A word, or one character of Chinese, Japanese or Korean, which put no spaces between words."""
_CHARACTER: Final = re.compile(f"[{_UNSPACED}]")
_KEPT: Final = 1 << 16
"""Features whose places are remembered, some 15 MB."""


class HashingEmbeddings(Embeddings):
    """Each word, and each pair of neighbouring CJK characters, adds to one place, with a sign.

    The feature hashing of Weinberger et al. 2009, counts dampened to 1 + log(count), scaled to
    length 1. Upper and lower case are one. Equal on every machine and in every process.
    """

    truncated = 0
    max_tokens = None
    worth_caching = False
    identity: Final = {
        "model": "hashed words",
        "revision": 1,  # raised whenever a text gets another vector
        "normalised": "to length 1",
        "query_prefix": "",
        "document_prefix": "",
        "max_tokens": None,
    }

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._place = lru_cache(_KEPT)(self._hash)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of `dimension` numbers for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        vector: list[float] = self._embed(text).tolist()
        return vector

    def count_tokens(self, text: str) -> int:
        """Words of `text`."""
        return len(_WORD.findall(text))

    def token_spans(self, text: str) -> Sequence[Span]:
        """The character span of each word of `text`."""
        return [word.span() for word in _WORD.finditer(text)]

    def _embed(self, text: str) -> NDArray[np.float32]:
        sums: defaultdict[int, float] = defaultdict(float)
        for feature, count in Counter(_list_features(text)).items():
            place, sign = self._place(feature)
            sums[place] += sign * (1 + log(count))
        vector = np.zeros(self.dimension)
        vector[list(sums)] = list(sums.values())
        length = float(np.linalg.norm(vector))
        if length < 1e-9:  # no word at all, or words that cancel each other out
            vector[self._hash("")[0]] = length = 1.0
        return np.asarray(vector / length, np.float32)

    def _hash(self, feature: str) -> tuple[int, float]:
        digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        return (number >> 1) % self.dimension, 1.0 if number & 1 else -1.0


def _list_features(text: str) -> Iterable[str]:
    if not _CHARACTER.search(text):
        return map(str.casefold, _WORD.findall(text))
    return _list_with_pairs(text)


def _list_with_pairs(text: str) -> Iterator[str]:
    words = list(_WORD.finditer(text))
    yield from (word.group().casefold() for word in words)
    for first, second in pairwise(words):
        joined = first.group() + second.group()
        if first.end() == second.start() and len(_CHARACTER.findall(joined)) == len(joined) == 2:
            yield joined
