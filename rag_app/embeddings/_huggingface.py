"""The class behind `embeddings/huggingface.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

import json
import re
import threading
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from langchain_core.embeddings import Embeddings

from rag_app.embeddings._torch_model import TorchModel
from rag_app.errors import ModelError, TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from rag_app.embeddings.huggingface import Config
    from rag_app.hub_models import ModelFiles
    from rag_app.model_cards import Card
    from rag_app.types import Span

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PROMPTS: Final = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""Names under which models keep what stands before a question or a document."""


class HuggingFaceEmbeddings(Embeddings):
    """LangChain's `Embeddings` over a local model, and its own count of tokens.

    Vectors have length 1. A call with texts over the window warns once with `TruncationWarning`.
    Safe to share between threads; one call is computed at a time.

    Args:
        config: the user's options, which win over the card.
        card: what is known of the model.
        find: gives the model's files; called once, when they are first needed.
    """

    def __init__(self, config: Config, card: Card, find: Callable[[], ModelFiles]) -> None:
        self.card = card
        self._config = config
        self._find = find
        self._lock = threading.RLock()
        self._loaded: TorchModel | None = None
        self._truncated = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What the options do not say: the model's commit or checksum, and what is in force."""
        (revision,) = self._files.identity.items()
        made = {
            "revision": " ".join(revision),
            "dimensions": self._config.dimensions or self.card.dimension,
            "normalised": "to length 1",
            "max_tokens": self._config.max_tokens or self._describe_own_window(),
            **{f"{name}_prefix": words for name, words in self.prefixes.items()},
        }
        if self._sentences_described:
            return made
        return {**made, "pooling": self._config.pooling or self.card.pooling}

    def _describe_own_window(self) -> str:
        """Told without reading the model: its files are part of the identity already."""
        known = self.card.window
        return "the model's own" + (f", at most {known}" if known else "")

    @property
    def max_tokens(self) -> int:
        """The window in tokens, special tokens included."""
        return self._model.window

    @property
    def pooling(self) -> str:
        """Which state becomes the vector, as the model runs: "cls", "mean", "last_token", …."""
        return self._model.pooling

    @property
    def truncated(self) -> int:
        """How many texts have been cut to the window so far."""
        return self._truncated

    @cached_property
    def prefixes(self) -> dict[str, str]:
        """What stands before a question and a document: the user's, the card's, or the folder's."""
        given = {"query": self._config.query_prefix, "document": self._config.document_prefix}
        known = {"query": self.card.query_prefix, "document": self.card.document_prefix}
        told = self._read("config_sentence_transformers.json").get("prompts") or {}
        found = {}
        for purpose, names in _PROMPTS.items():
            own = next((told[name] for name in names if told.get(name)), "")
            words = given[purpose]
            if words is None:
                words = known[purpose] if self.card.known else own
            found[purpose] = words
        return found

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text, in order.

        Raises:
            ModelError: the model cannot be read or run, or gives something else than vectors.
        """
        vectors: list[list[float]] = self._embed(texts, "document").tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question. Raises as `embed_documents` does."""
        vector: list[float] = self._embed([text], "query")[0].tolist()
        return vector

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` as a document, uncut: prefix and special tokens included."""
        return self._count(self.prefixes["document"] + text)

    def token_spans(self, text: str) -> Sequence[Span]:
        """The character span of each token of `text`, special tokens left out."""
        spans: Sequence[Span] = self._model.tokenizer.encode(
            _clean(text), add_special_tokens=False
        ).offsets
        return spans

    def sparse(self, texts: list[str]) -> list[dict[int, float]]:
        """For each text the weight of its tokens, by the token's id; without special tokens.

        Raises:
            ModelError: the model has no such head.
        """
        with self._lock:
            return self._model.weigh_tokens([_clean(text) for text in texts])

    @property
    def has_sparse(self) -> bool:
        """Whether the model weighs tokens."""
        return (self._files.folder / "sparse_linear.pt").is_file()

    @cached_property
    def _files(self) -> ModelFiles:
        return self._find()

    @property
    def _model(self) -> TorchModel:
        with self._lock:
            if self._loaded is None:
                self._loaded = TorchModel(self._files.folder, self._config, self.card)
            return self._loaded

    @property
    def _sentences_described(self) -> bool:
        return (self._files.folder / "modules.json").is_file()

    def _read(self, name: str) -> dict[str, Any]:
        path = self._files.folder / name
        if not path.is_file():
            return {}
        try:
            told = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ModelError(
                "embeddings.model", f"{path} is no JSON", "Mend the folder."
            ) from error
        return told if isinstance(told, dict) else {}

    def _embed(self, texts: list[str], purpose: str) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, 0), np.float32)
        clean, prefix = [_clean(text) for text in texts], self.prefixes[purpose]
        with self._lock:
            vectors = self._model.encode(clean, prefix)
            over = sum(self._count(prefix + text) > self._model.window for text in clean)
            self._truncated += over
        if over:
            wrong = f"{over} of {len(texts)} texts exceed the window of {self._model.window} tokens"
            words = f"{wrong} of {self._config.model!r} and were cut"
            warnings.warn(f"{words}. Split them smaller.", TruncationWarning, stacklevel=3)
        return vectors

    def _count(self, text: str) -> int:
        return len(self._model.tokenizer.encode(_clean(text)))


def _clean(text: str) -> str:
    """A lone surrogate is no text in any encoding; one character for another keeps spans right."""
    return _LONE_SURROGATE.sub("\ufffd", text)
