"""Questions' vectors, computed once for all configs of a comparison, with the time that took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.embeddings import Embeddings

from rag_app.timing import add_time

if TYPE_CHECKING:
    from rag_app.index.cache import EmbeddingCache


class RememberedQueries(Embeddings):
    """A model that embeds a question once. All else is the model's own.

    A vector that is remembered counts with the time it took, so that latencies stay what they are.

    Args:
        model: embeds.
        cache: keeps a question's vector, followed by its milliseconds; None for this process only.

    Attributes:
        sent: questions that the model was asked.
    """

    def __init__(self, model: Embeddings, cache: EmbeddingCache | None) -> None:
        self.sent = 0
        self._model, self._cache = model, cache
        self._known: dict[str, tuple[list[float], float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As the model does."""
        return self._model.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, as the model made it the first time."""
        known = self._known.get(text) or self._find(text)
        if known is not None:
            self._known[text] = known
            add_time("embed", known[1])
            add_time("total", known[1])
            return known[0]
        begun = time.perf_counter()
        vector = self._model.embed_query(text)
        took = (time.perf_counter() - begun) * 1000
        self.sent += 1
        self._known[text] = vector, took
        if self._cache is not None:
            self._cache.keep({text: np.array([*vector, took], np.float32)})
        return vector

    def _find(self, text: str) -> tuple[list[float], float] | None:
        found = None if self._cache is None else self._cache.find([text]).get(text)
        return None if found is None else (found[:-1].tolist(), float(found[-1]))
