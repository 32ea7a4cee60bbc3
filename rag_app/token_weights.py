"""Search by the weights that an embedding model gives to tokens: the index of them, and its upkeep.

A chunk's score is the sum, over the tokens that it shares with the question, of the products of
their weights (Chen et al. 2024, "BGE M3-Embedding", https://arxiv.org/abs/2402.03216). The model
reads a chunk once: weights of texts that an earlier revision of the index held are taken from it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import UsageError
from rag_app.kept_folders import is_whole, save_folder
from rag_app.lexical import IDS, KeptSearch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_app.index.view import View

FORMAT: Final = 1
"""Raised when the files change their form."""

_TEXTS: Final = "texts.json"
_ARRAYS: Final = ("starts", "tokens", "weights")
_BATCH: Final = 256


@dataclass(frozen=True)
class TokenIndex:
    """The weights of the tokens of some chunks.

    Attributes:
        ids: of the chunks, sorted; equal scores come in this order.
        texts: the checksum of each chunk's text.
        starts: where each chunk's tokens begin in `tokens`, and where the last one's end; (n + 1,).
        tokens: ids of tokens, ascending within a chunk.
        weights: of these tokens; more than 0.
    """

    ids: list[str]
    texts: list[str]
    starts: NDArray[np.int64]
    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def build(cls, chunks: Mapping[str, tuple[str, Mapping[int, float]]]) -> TokenIndex:
        """Of chunks given by id as (checksum of the text, weights by token)."""
        ids = sorted(chunks)
        rows = [sorted(chunks[id][1].items()) for id in ids]
        pairs = [pair for row in rows for pair in row]
        return cls(
            ids,
            [chunks[id][0] for id in ids],
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.array([token for token, _ in pairs], np.int32),
            np.array([weight for _, weight in pairs], np.float32),
        )

    def rank(self, query: Mapping[int, float]) -> Iterator[tuple[str, float]]:
        """Ids of the chunks that share a token with the query, with their scores, best first."""
        tokens, chunks, weights = self._inverted
        scores = np.zeros(len(self.ids), np.float32)
        for token, weight in query.items():
            first, last = np.searchsorted(tokens, [token, token + 1])
            scores[chunks[first:last]] += np.float32(weight) * weights[first:last]
        (matching,) = np.nonzero(scores > 0)
        for place in matching[np.argsort(-scores[matching], kind="stable")]:
            yield self.ids[place], float(scores[place])

    def find_text(self, checksum: str) -> dict[int, float] | None:
        """The weights of a text; None when no chunk has it."""
        place = self._places.get(checksum)
        if place is None:
            return None
        part = slice(self.starts[place], self.starts[place + 1])
        return dict(zip(self.tokens[part].tolist(), self.weights[part].tolist(), strict=True))

    def save(self, folder: Path) -> None:
        """Write the index as `folder`: whole or not at all, whoever else writes it too."""

        def write(place: Path) -> None:
            (place / IDS).write_text(json.dumps(self.ids), encoding="utf-8")
            (place / _TEXTS).write_text(json.dumps(self.texts), encoding="utf-8")
            for name in _ARRAYS:
                np.save(place / f"{name}.npy", getattr(self, name), allow_pickle=False)

        save_folder(folder, write)

    @classmethod
    def load(cls, folder: Path) -> TokenIndex | None:
        """The index saved as `folder`; None when there is none, or it is damaged."""
        try:
            if not is_whole(folder):
                return None
            ids, texts = (
                json.loads((folder / name).read_text(encoding="utf-8")) for name in (IDS, _TEXTS)
            )
            arrays = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS]
        except (OSError, ValueError):
            return None
        return cls(ids, texts, *arrays)

    @cached_property
    def _inverted(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
        """Tokens ascending, and for each the chunk's place and its weight there."""
        order = np.argsort(self.tokens, kind="stable")
        chunks = np.repeat(np.arange(len(self.ids)), np.diff(self.starts))
        return self.tokens[order], chunks[order], self.weights[order]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {checksum: place for place, checksum in enumerate(self.texts)}


class TokenSearch(KeptSearch[TokenIndex]):
    """Search by the weights that the index's own embedding model gives to tokens.

    Args:
        index: whose model; its identity is part of what decides the weights.

    Raises:
        UsageError: the embedding backend weighs no tokens.
    """

    kept_in = "sparse"

    def __init__(self, index: Any) -> None:
        super().__init__()
        self._model, self._identity = index.embeddings, index.identity
        if not hasattr(index.embeddings, "sparse"):
            raise UsageError(
                "retriever.words",
                "'model', but the embedding model weighs no tokens",
                "Write words: bm25, or choose a model that does, as in "
                "embeddings: {kind: huggingface, model: BAAI/bge-m3}.",
            )

    def rank(self, held: TokenIndex, query: str) -> Iterator[tuple[str, float]]:
        """By the weights of the question's tokens."""
        return held.rank(self._model.sparse([query])[0])

    def load(self, folder: Path) -> TokenIndex | None:
        """As `TokenIndex.load`."""
        return TokenIndex.load(folder)

    def build(self, view: View, folder: Path | None) -> TokenIndex:
        """From every chunk; only texts that are new are read by the model."""
        earlier = self._find_earlier(folder)
        made: dict[str, tuple[str, Mapping[int, float]]] = {}
        rows = view.scan()
        while batch := list(islice(rows, _BATCH)):
            sums = [_checksum(row.text) for row in batch]
            looked_up = {each: _look_up(earlier, each) for each in set(sums)}
            known = {each: held for each, held in looked_up.items() if held is not None}
            new = {s: row.text for s, row in zip(sums, batch, strict=True) if s not in known}
            weighed = self._model.sparse(list(new.values())) if new else []
            known |= dict(zip(new, weighed, strict=True))
            made |= {row.id: (s, known[s]) for s, row in zip(sums, batch, strict=True)}
        return TokenIndex.build(made)

    def describe(self) -> list[object]:
        """The model, and the options that decide what it reads of a text and how it computes."""
        return [FORMAT, self._identity]

    def _find_earlier(self, folder: Path | None) -> list[TokenIndex]:
        """What is known of the texts from before: held in this process, or kept by any."""
        held = list(self._held.values())
        kept = [] if folder is None or not folder.parent.is_dir() else folder.parent.iterdir()
        return [*held, *(each for other in kept if (each := TokenIndex.load(other)))]


def _look_up(earlier: list[TokenIndex], checksum: str) -> dict[int, float] | None:
    found = (each.find_text(checksum) for each in earlier)
    return next((weights for weights in found if weights is not None), None)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
