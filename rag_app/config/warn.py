"""Combinations of options that are valid and known to be bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app import registry
from rag_app.model_cards import find_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag_app.config.model import Section
    from rag_app.model_cards import Card


def find_warnings(sections: Mapping[str, Any]) -> tuple[str, ...]:
    """What is unwise about these sections, one sentence each."""
    return tuple(
        [
            *_warn_of_window(sections),
            *_warn_of_prefixes(sections["embeddings"]),
            *_warn_of_pooling(sections["embeddings"]),
            *_warn_of_reranker(sections),
            *_warn_of_model(sections),
        ]
    )


def _warn_of_window(sections: Mapping[str, Any]) -> Iterator[str]:
    window = _window(sections["embeddings"])
    size = getattr(sections["splitter"].options, "chunk_size", None)
    if isinstance(window, int) and isinstance(size, int) and size > window:
        reader = getattr(sections["embeddings"].options, "model", sections["embeddings"].kind)
        yield (
            f"splitter.chunk_size: {size} tokens are more than {reader!r} reads ({window}); "
            "the rest of a chunk would not be searched by meaning."
        )


def _window(section: Section) -> int | None:
    """Tokens the model reads: its option `max_tokens`, what its module says, or its card."""
    fixed = getattr(registry.module("embeddings", section.kind), "MAX_TOKENS", None)
    told = getattr(section.options, "max_tokens", None) or fixed
    if told is not None or (card := find_config_card(section)) is None:
        return told
    return card.window


def find_config_card(section: Section) -> Card | None:
    """The card of the model that a section of embeddings names; None when it names none."""
    named = getattr(registry.module("embeddings", section.kind), "CARD", None)
    model = getattr(section.options, "model", None) or named
    return find_card(model) if isinstance(model, str) else None


def _warn_of_prefixes(section: Section) -> Iterator[str]:
    """A prefix that the model was trained with and would not get."""
    card = find_config_card(section) if hasattr(section.options, "model") else None
    for purpose, place in (("query", "a question"), ("document", "a chunk")):
        wanted = getattr(card, f"{purpose}_prefix", "")
        given = getattr(section.options, f"{purpose}_prefix", "")
        if card is None or not wanted or given is None or given.strip():
            continue
        if hasattr(section.options, f"{purpose}_prefix"):
            yield (
                f"embeddings.{purpose}_prefix: it is empty, but {card.name} was trained with "
                f"{wanted!r} before {place}, and finds less without. Leave the option out."
            )
        else:
            yield (
                f"embeddings: {card.name} was trained with {wanted!r} before {place}, which "
                f"{section.kind!r} cannot add. Choose another backend or model."
            )


def _warn_of_pooling(section: Section) -> Iterator[str]:
    given = getattr(section.options, "pooling", None)
    card = find_config_card(section) if given else None
    if card is not None and card.pooling and given != card.pooling:
        yield (
            f"embeddings.pooling: {given!r}, but {card.name} was trained with {card.pooling!r}. "
            "Leave the option out."
        )


def _warn_of_reranker(sections: Mapping[str, Any]) -> Iterator[str]:
    reranker = sections["reranker"]
    kept = getattr(reranker.options, "k", None) if reranker else None
    found = getattr(sections["retriever"].options, "k", None)
    if isinstance(kept, int) and isinstance(found, int) and kept > found:
        yield f"reranker.k: {kept} is more than retriever.k ({found}), so it drops nothing."


def _warn_of_model(sections: Mapping[str, Any]) -> Iterator[str]:
    if sections["chat_model"] is not None and sections["chain"].kind == "extractive":
        yield "chat_model: the chain 'extractive' does not use it. Choose chain: qa."
