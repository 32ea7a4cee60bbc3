"""What is in force for an embedding model, in words, and whether it knows the language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.model_cards import Card

_CJK: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Han, kana and Hangul."""
_MUCH: Final = 0.3
_LITTLE: Final = 0.02
_FEWEST_LETTERS: Final = 20


def describe_model(embeddings: Any, dimension: int) -> str:
    """Dimension, window, prefixes, pooling and price in force; what was assumed when unknown."""
    return ", ".join([f"{dimension} dimensions", *_describe(embeddings)])


def _describe(embeddings: Any) -> Iterator[str]:
    card: Card | None = getattr(embeddings, "card", None)
    if window := getattr(embeddings, "max_tokens", None):
        yield f"window {window} tokens"
    elif card is not None:
        yield "window unknown"
    if pooling := getattr(embeddings, "pooling", None):
        yield f"pooling {pooling}"
    identity = getattr(embeddings, "identity", {})
    for purpose, place in (("query", "a question"), ("document", "a chunk")):
        if words := identity.get(f"{purpose}_prefix"):
            yield f"{words!r} before {place}"
    price = getattr(embeddings, "price", None)
    if price:
        yield f"US$ {price:g} per million tokens"
    if card is not None and not card.known:
        yield "not in the table of models, so no prefix is known for it"


def measure_cjk(text: str) -> float | None:
    """The share of Chinese, Japanese and Korean among the letters; None for too few letters."""
    letters = sum(map(str.isalpha, text))
    return len(_CJK.findall(text)) / letters if letters >= _FEWEST_LETTERS else None


def warn_of_language(card: Card, text: str) -> str:
    """What is wrong when a model of one language reads `text`; empty when nothing is."""
    share = measure_cjk(text)
    if share is None:
        return ""
    if card.languages == "en" and share > _MUCH:
        return (
            f"{card.name} is an English model, and {share:.0%} of the letters of the document "
            "read are Chinese, Japanese or Korean. Choose a multilingual model, such as "
            "BAAI/bge-m3, or retriever: bm25."
        )
    if card.languages == "zh" and share < _LITTLE:
        return (
            f"{card.name} is a Chinese model, and the document read is in another script. "
            "Choose a multilingual model, such as BAAI/bge-m3."
        )
    return ""
