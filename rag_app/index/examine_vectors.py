"""Whether stored vectors are those of their texts: by the cache, else by asking the model again."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import IndexStateError, RagAppError
from rag_app.index.embed import Embedding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.index.cache import EmbeddingCache
    from rag_app.index.ledger import Ledger
    from rag_app.rows import Row, Vector

SAMPLE: Final = 50
"""Texts that the cache does not have and that the model is asked for again."""

JUDGED: Final = 8
"""Texts that the model is asked for where the store and the cache disagree."""

ALIKE: Final = 0.99
"""The least cosine of two vectors of one text: the same model on another machine is far above."""

_BITS: Final = 64


class Vectors:
    """Compares the vectors of published rows, some at a time, and keeps none but the sample's.

    Args:
        model: the embedding model; None when it may not be asked, as it answers otherwise now.
        cache: vectors by text; None for none.
    """

    def __init__(self, model: Any, cache: EmbeddingCache | None, ledger: Ledger) -> None:
        self.doubtful: dict[str, set[str]] = {}
        """Ids, by document, of the rows compared with nothing; none when the sample was right."""
        self._model, self._cache, self._ledger = model, cache, ledger
        self._all = model is not None and not getattr(model, "worth_caching", True)
        self._sample: list[tuple[int, str, Row]] = []
        self._apart: list[tuple[int, str, Row]] = []
        self._apart_ids: dict[str, set[str]] = {}
        self.asked = 0

    def take(self, rows: Sequence[tuple[Row, str]]) -> None:
        """Compare these, or remember them for `finish`."""
        cached = self._find([row.text for row, _ in rows])
        unknown = []
        for row, source in rows:
            vector = cached.get(row.text)
            if vector is None:
                unknown.append((row, source))
            elif not is_alike(row.vector, vector):
                self._apart_ids.setdefault(source, set()).add(row.id)
                _keep(self._apart, row, source, JUDGED)
        if self._all:
            self._ask(unknown)
            return
        for row, source in unknown:
            self.doubtful.setdefault(source, set()).add(row.id)
            _keep(self._sample, row, source, SAMPLE)

    def finish(self) -> None:
        """Ask the model for the sample, and who is right where the cache says otherwise."""
        if not self._ask([(row, source) for _, source, row in self._sample]):
            self.doubtful = {}
        kind = "foreign-vectors"
        if self._apart and self._is_cache_wrong():
            kind = "foreign-cached-vectors"
        for source, ids in self._apart_ids.items():
            for id in ids:
                self._ledger.add(kind, source, id)

    def _is_cache_wrong(self) -> bool:
        made = self._embed([row.text for *_, row in self._apart])
        return any(
            row.text in made and is_alike(row.vector, made[row.text]) for *_, row in self._apart
        )

    def _ask(self, rows: Sequence[tuple[Row, str]]) -> bool:
        """Compare with what the model makes of the texts; whether some were wrong."""
        made = self._embed([row.text for row, _ in rows])
        wrong = [
            (source, row.id)
            for row, source in rows
            if row.text in made and not is_alike(row.vector, made[row.text])
        ]
        for source, id in wrong:
            self._ledger.add("foreign-vectors", source, id)
        return bool(wrong)

    def _embed(self, texts: Sequence[str]) -> dict[str, Vector]:
        """What the model makes of these; nothing when it fails, which is noted."""
        if self._model is None or not texts:
            return {}
        asking = Embedding(self._model, None)
        try:
            made, _ = asking.embed(texts)
        except RagAppError as error:
            self._model = None
            self._ledger.explain("unasked-model", error)
            return {}
        finally:
            self.asked += asking.embedded
        return made

    def _find(self, texts: Sequence[str]) -> dict[str, Vector]:
        if self._cache is None:
            return {}
        try:
            return self._cache.find(texts)
        except IndexStateError as error:
            self._cache = None
            self._ledger.explain("damaged-cache", error)
            return {}


def _keep(kept: list[tuple[int, str, Row]], row: Row, source: str, most: int) -> None:
    """The rows of the smallest ids: those are checksums, so it is a fair sample."""
    rank = -int(row.id[: _BITS // 4], 16)
    if len(kept) < most:
        heapq.heappush(kept, (rank, source, row))
    elif rank > kept[0][0]:
        heapq.heapreplace(kept, (rank, source, row))


def is_alike(stored: Vector, other: Vector) -> bool:
    """Whether a stored vector, of length 1, and another may be of one text and one model."""
    if len(stored) != len(other):
        return False
    return bool(stored @ other >= ALIKE * float(np.linalg.norm(other)))
