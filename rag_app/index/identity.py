"""What the vectors and chunks of an index were made with, and the refusal to mix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rag_app.errors import IdentityError

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.options import Options


RULES = 2
"""Raised whenever loaders, parsers or splitters make something else of the same document."""


def describe_embeddings(kind: str, options: Options, embeddings: Embeddings) -> str:
    """The embedding identity as canonical JSON: backend, options that decide the vectors, revision.

    `embeddings.identity`, where a backend has it, adds what its options do not say (the checksum
    of its weights).
    """
    own: dict[str, Any] = getattr(embeddings, "identity", {})
    return json.dumps({"kind": kind, **options.identity(), **own}, sort_keys=True)


def describe_splitter(kind: str, options: Options, embedding: str) -> str:
    """The splitter's identity; its token counts are the embedding model's, so that counts too."""
    made = {"kind": kind, **options.identity(), "tokens_of": embedding, "rules": RULES}
    return json.dumps(made, sort_keys=True)


def require_same(name: str, held: str | None, asked: str) -> None:
    """Refuse to write or query when the index holds vectors of another model.

    Raises:
        IdentityError: naming both identities and the command that re-embeds.
    """
    if held is not None and held != asked:
        before, now = json.loads(held), json.loads(asked)
        raise IdentityError(
            f"index {name!r}",
            f"it holds vectors of {_words(before, now)}; the config asks for {_words(now, before)}",
            "Vectors of two models cannot be compared. Restore the config, or run: "
            "rag-app ingest --rebuild",
        )


def _words(identity: dict[str, Any], other: dict[str, Any]) -> str:
    """The backend's name, with those of its fields that the other has not or has otherwise."""
    apart = {n: v for n, v in identity.items() if n != "kind" and other.get(n) != v}
    fields = ", ".join(f"{name}={value}" for name, value in apart.items())
    return f"{identity['kind']} ({fields})" if fields else str(identity["kind"])
