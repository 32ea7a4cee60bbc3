"""Texts to vectors: from the cache where it has them, else from the model, and never paid twice."""

from __future__ import annotations

import hashlib
import math
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import BudgetError, IncompleteError, ModelError, TruncationWarning, UsageError
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    from rag_app.index.cache import EmbeddingCache

    Vector = NDArray[np.float32]


KEPT_AT_ONCE: Final = 32
"""Texts that a local model embeds between two writes to the cache."""


class Embedding:
    """Embeds texts of chunks for one ingest, and counts what that took.

    Args:
        model: any LangChain embeddings; where it tells a `price` and its `usage`, costs are told.
        cache: where vectors are looked up and kept; None for no cache.
        max_cost: US dollars that may not be passed; None for no limit.

    Raises:
        UsageError: a limit of cost is given, and the model has no price.
    """

    def __init__(
        self, model: Embeddings, cache: EmbeddingCache | None, max_cost: float | None = None
    ) -> None:
        self.embedded = self.cached = self.truncated = 0
        self._model: Any = model
        self._cache = cache
        self._max_cost = max_cost
        self._saved_tokens = self._sent_tokens = 0
        self._counts = getattr(model, "usage", None) is not None
        self._dimension: int | None = None
        self._run: dict[str, Vector] = {}
        self.price: float | None = getattr(model, "price", None)
        if max_cost is not None and (math.isnan(max_cost) or max_cost < 0):
            raise UsageError("max_cost", f"{max_cost} is no amount", "Give US dollars, 0 or more.")
        if max_cost is not None and self.price is None and self._counts:
            wrong = "the price of the embedding model is not known"
            remedy = "Set embeddings.price, in US dollars per million tokens."
            raise UsageError("max_cost", wrong, remedy)

    @property
    def tokens(self) -> int | None:
        """Tokens sent since, by the service's own count; None for a local model."""
        return self._sent_tokens if self._counts else None

    @property
    def cost(self) -> float | None:
        """US dollars spent since; None without a price."""
        return None if self.price is None else (self.tokens or 0) * self.price / 1e6

    @property
    def saved(self) -> float | None:
        """US dollars that the cache saved, about; None without a price."""
        return None if self.price is None else self._saved_tokens * self.price / 1e6

    def require_budget_for(self, pages: Iterable[Sequence[str]]) -> None:
        """Refuse to begin what would cost too much, while nothing was written or paid for.

        Raises:
            BudgetError: embedding those of the texts that the cache has not would pass the limit.
        """
        if self._max_cost is None or self.price is None:
            return
        seen: set[bytes] = set()
        count = tokens = 0
        for page in pages:
            named = {name_text(text): text for text in page}
            fresh = [text for key, text in named.items() if key not in seen]
            seen.update(named)
            found = self._find(fresh)
            wanted = [text for text in fresh if text not in found]
            count += len(wanted)
            tokens += sum(map(self._model.count_tokens, wanted))
        self._require_budget(count, tokens)

    def embed(self, texts: Sequence[str]) -> tuple[dict[str, Vector], dict[str, str]]:
        """A vector, float32 of shape (d,), for each text; and why those without one have none.

        Raises:
            BudgetError: it would cost more than is allowed; nothing was sent.
            ModelError: the model failed; what it had done is in the cache.
        """
        distinct = list(dict.fromkeys(texts))
        found = self._find(distinct)
        at_hand, wanted = list(found), [text for text in distinct if text not in found]
        refused: dict[str, str] = {}
        # A model of this process is slow: what it has done is kept every few texts.
        step = len(wanted) if self._counts else KEPT_AT_ONCE
        for start in range(0, len(wanted), step or 1):
            part = wanted[start : start + step]
            self._require_budget_of(part)
            made, never = self._compute(part)
            found |= made
            refused |= never
        self.cached += len(at_hand)
        self._count_cached(at_hand)
        return found, refused

    def _find(self, texts: list[str]) -> dict[str, Vector]:
        """The vectors at hand: of the cache; without one, those paid for earlier in this run."""
        if self._cache is not None:
            return self._cache.find(texts)
        return {text: self._run[text] for text in texts if text in self._run}

    def _compute(self, texts: list[str]) -> tuple[dict[str, Vector], dict[str, str]]:
        cut = getattr(self._model, "truncated", 0)
        sent = self._model.usage.tokens if self._counts else 0
        made: dict[str, Vector] = {}

        def keep(vectors: Mapping[int, Any]) -> None:
            new = {texts[place]: vector for place, vector in vectors.items()}
            made.update(self._keep({t: v for t, v in new.items() if t not in made}))

        each = getattr(self._model, "embed_as_it_comes", None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TruncationWarning)  # counted in the report instead
                vectors = each(texts, keep) if each else self._model.embed_documents(texts)
        except IncompleteError as error:
            keep(error.vectors)
            if error.stopped:
                raise
            return made, {texts[place]: why for place, why in error.refused.items()}
        finally:
            self.truncated += getattr(self._model, "truncated", 0) - cut
            self._sent_tokens += (self._model.usage.tokens if self._counts else 0) - sent
        if len(vectors) != len(texts):
            raise ModelError(
                "embeddings",
                f"the model returned {len(vectors)} vectors for {len(texts)} texts",
                "Try another model or server; nothing of this batch was written.",
            )
        keep(dict(enumerate(vectors)))
        return made, {}

    def _keep(self, vectors: Mapping[str, Any]) -> dict[str, Vector]:
        """In the cache before anything else is done with them: they were paid for.

        Raises:
            ModelError: they are not all vectors of one length; those that are none are not kept.
        """
        made = {text: np.asarray(vector, dtype=np.float32) for text, vector in vectors.items()}
        self.embedded += len(made)
        self._check_lengths({vector.size for vector in made.values()})
        good = {t: v for t, v in made.items() if np.isfinite(v).all() and v.any()}
        if self._cache is not None:
            self._cache.keep(good)
        elif self._counts:
            self._run |= good
        if bad := next((text for text in made if text not in good), None):
            wrong = f"the model returned no vector (zero, NaN or infinite) for {bad[:60]!r}"
            raise ModelError("embeddings", wrong, "Try another model or server; run it again.")
        return made

    def _check_lengths(self, lengths: set[int]) -> None:
        known = {self._dimension} if self._dimension else set()
        if len(lengths | known) > 1:
            listed = ", ".join(map(str, sorted(lengths | known)))
            wrong = f"the model returned vectors of different lengths ({listed})"
            remedy = (
                "See what it serves. To compute every vector anew, run: "
                "rag-app ingest --rebuild --set index.cache=false"
            )
            raise ModelError("embeddings", wrong, remedy)
        self._dimension = next(iter(lengths), self._dimension)

    def _require_budget_of(self, texts: Sequence[str]) -> None:
        if self._max_cost is not None and self.price is not None:
            self._require_budget(len(texts), sum(map(self._model.count_tokens, texts)))

    def _require_budget(self, count: int, tokens: int) -> None:
        assert self._max_cost is not None
        assert self.price is not None
        next_cost = tokens * self.price / 1e6
        if (self.cost or 0.0) + next_cost > self._max_cost:
            raise BudgetError(
                "max_cost",
                f"{show_dollars(self.cost or 0)} is spent, and the next {count} texts cost "
                f"about {show_dollars(next_cost)}, more than {show_dollars(self._max_cost)} in all",
                "What was embedded is kept. See the rest with `rag-app ingest --plan`, and run it "
                "again with a higher --max-cost.",
            )

    def _count_cached(self, texts: Sequence[str]) -> None:
        """What is in the cache was cut at the window just as well, and cost something once."""
        window = getattr(self._model, "max_tokens", None)
        for text in texts:
            # A token has a byte at least; prefixes and special tokens are few.
            over = window is not None and len(text.encode("utf-8", "replace")) + 300 > window
            if over or self.price is not None:
                tokens = self._model.count_tokens(text)
                self._saved_tokens += tokens
                self.truncated += window is not None and tokens > window


def name_text(text: str) -> bytes:
    """Its SHA-256: what stands for a text where all of them at once would take too much memory."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
