"""Questions' vectors, computed once for all configs of a comparison, with the time that took."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from langchain_core.embeddings import Embeddings

from rag_app.index.identity import find_difference
from rag_app.timing import add_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.index.cache import EmbeddingCache
    from rag_app.index.index import Index

_UNKNOWN = -1.0
"""What the cache keeps for a cost that is not known."""


class _Known(NamedTuple):
    """A question's vector, with what it took: milliseconds, and US dollars where that is known."""

    vector: list[float]
    took: float
    cost: float | None


class RememberedQueries(Embeddings):
    """A model that embeds a question once. All else is the model's own.

    A vector that is remembered counts with the time it took and what it cost, so that latencies
    and costs stay what they are whichever config asked first.

    Args:
        model: embeds.
        cache: keeps a question's vector, followed by its milliseconds and US dollars; None for this
            process only.

    Attributes:
        sent: questions that the model was asked.
        cost: US dollars of all questions so far, remembered ones too; None where not known.
    """

    def __init__(self, model: Embeddings, cache: EmbeddingCache | None) -> None:
        self.sent = 0
        self.cost: float | None = 0.0
        self._model, self._cache = model, cache
        self._known: dict[str, _Known] = {}
        self._probes: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def settle(self, probes: bytes | None) -> None:
        """From here on, remember only vectors of the model that makes these of the probe
        sentences: of the one whose vectors the index has that is searched next.

        Args:
            probes: as an index's generation has them; None where it has none.

        Raises:
            IndexStateError: the cache cannot be read or written.
        """
        if probes is None or probes == self._probes:
            return
        if self._probes is not None and find_difference(self._probes, probes) is not None:
            self._known.clear()
        self._probes = probes
        if self._cache is not None:
            self._cache.settle(probes)

    def close(self) -> None:
        """Release the cache; vectors stay in it."""
        if self._cache is not None:
            self._cache.close()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As the model does."""
        return self._model.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, as the model made it the first time."""
        known = self._known.get(text) or self._find(text)
        if known is None:
            known = self._send(text)
        else:
            add_time("embed", known.took)
            add_time("total", known.took)
        self._known[text] = known
        self.cost = None if self.cost is None or known.cost is None else self.cost + known.cost
        return known.vector

    def _send(self, text: str) -> _Known:
        usage = getattr(self._model, "usage", None)
        if usage is None and not self.sent:
            self._model.embed_query(text)  # what loading the model takes is no question's
        begun = time.perf_counter()
        vector = self._model.embed_query(text)
        took = (time.perf_counter() - begun) * 1000
        self.sent += 1
        cost = 0.0 if usage is None else usage.cost
        if cost is not None and usage is not None:
            cost = getattr(self._model, "usage").cost - cost  # noqa: B009
        if self._cache is not None:
            kept = [*vector, took, _UNKNOWN if cost is None else cost]
            self._cache.keep({text: np.array(kept, np.float32)})
        return _Known(vector, took, cost)

    def _find(self, text: str) -> _Known | None:
        found = None if self._cache is None else self._cache.find([text]).get(text)
        if found is None:
            return None
        *vector, took, cost = found.tolist()
        return _Known(vector, took, None if cost == _UNKNOWN else cost)


@contextmanager
def remember_questions(index: Index) -> Iterator[RememberedQueries]:
    """Inside, the index has each question embedded once, however often it is searched for."""
    model = index.embeddings
    made = model if isinstance(model, RememberedQueries) else RememberedQueries(model, None)
    index.embeddings = made
    try:
        yield made
    finally:
        index.embeddings = model
