"""The class behind `embeddings/minilm.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from rag_app.minilm import DIMENSION, MAX_TOKENS, MODEL, REVISION, MiniLM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.types import Span


class MiniLMEmbeddings(Embeddings):
    """LangChain's `Embeddings` over `MiniLM`, and its own count of tokens (`types.Tokenizer`).

    Vectors have length 1. A call with texts over the window warns once with `TruncationWarning`.
    """

    def __init__(self, model: MiniLM) -> None:
        self._model = model

    @property
    def identity(self) -> dict[str, Any]:
        """What the options do not say: the model, its revision and what is fixed about it."""
        return {
            "model": MODEL,
            "revision": REVISION,
            "dimensions": DIMENSION,
            "normalised": "to length 1",
            "query_prefix": "",
            "document_prefix": "",
            "max_tokens": MAX_TOKENS,
        }

    @property
    def max_tokens(self) -> int:
        """The window in tokens, special tokens included."""
        return MAX_TOKENS

    @property
    def truncated(self) -> int:
        """How many texts have been cut to the window so far."""
        return self._model.truncated

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of 384 numbers for each text."""
        vectors: list[list[float]] = self._model.encode(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text; questions and documents are embedded alike."""
        vector: list[float] = self._model.encode([text])[0].tolist()
        return vector

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without truncation, special tokens included."""
        return self._model.count_tokens(text)

    def token_spans(self, text: str) -> Sequence[Span]:
        """The character span of each token of `text`, special tokens left out."""
        return self._model.token_spans(text)
