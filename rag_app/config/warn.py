"""Combinations of options that are valid and known to be bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app import registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag_app.config.model import Section


def find_warnings(sections: Mapping[str, Any]) -> tuple[str, ...]:
    """What is unwise about these sections, one sentence each."""
    return tuple(
        [*_warn_of_window(sections), *_warn_of_reranker(sections), *_warn_of_model(sections)]
    )


def _warn_of_window(sections: Mapping[str, Any]) -> Iterator[str]:
    window = _window(sections["embeddings"])
    size = getattr(sections["splitter"].options, "chunk_size", None)
    if isinstance(window, int) and isinstance(size, int) and size > window:
        kind = sections["embeddings"].kind
        yield (
            f"splitter.chunk_size: {size} tokens are more than {kind!r} reads ({window}); "
            "the rest of a chunk would not be searched by meaning."
        )


def _window(section: Section) -> int | None:
    """Tokens the model reads: its option `max_tokens`, or what its module says."""
    fixed = getattr(registry.module("embeddings", section.kind), "MAX_TOKENS", None)
    return getattr(section.options, "max_tokens", None) or fixed


def _warn_of_reranker(sections: Mapping[str, Any]) -> Iterator[str]:
    reranker = sections["reranker"]
    kept = getattr(reranker.options, "k", None) if reranker else None
    found = getattr(sections["retriever"].options, "k", None)
    if isinstance(kept, int) and isinstance(found, int) and kept > found:
        yield f"reranker.k: {kept} is more than retriever.k ({found}), so it drops nothing."


def _warn_of_model(sections: Mapping[str, Any]) -> Iterator[str]:
    if sections["chat_model"] is not None and sections["chain"].kind == "extractive":
        yield "chat_model: the chain 'extractive' does not use it. Choose chain: qa."
