"""What the vectors and chunks of an index were made with, and the refusal to mix."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import IdentityError, ModelError, TruncationWarning

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_app.options import Options


PROBES: Final = (
    "The ferry leaves the island at seven every morning.",
    "Photosynthesis turns light, water and carbon dioxide into sugar.",
    "def add(a, b): return a + b",
    "Article 12: the tenant gives notice three months ahead.",
    "Der Zug nach Zürich hat zwanzig Minuten Verspätung.",
    "北京は今日は晴れ、気温は二十五度です。",
    "Q3 revenue rose 14 % to $2.1 million.",
    "query: how do I reset my password?",
)
"""Of different kinds, never changed: what a model makes of them is part of an identity."""

PROBES_ALIKE: Final = 0.995
"""The least cosine of a probe's vectors then and now. One model on other hardware, or in half
precision, stays above 0.999; another model or another prefix falls far below."""

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
            "Vectors of two models cannot be compared. Restore the config; to re-embed while the "
            "index is served, run: rag-app migrate --to THE-CONFIG; to make it anew: rag-app "
            "ingest --rebuild",
        )


def take_probes(embeddings: Embeddings) -> bytes:
    """The vectors of the probe sentences, of norm 1, float32, little-endian, one after another.

    Raises:
        ModelError: the model made no vectors of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # nobody's text was cut
        made = np.asarray(embeddings.embed_documents(list(PROBES)), dtype=np.float64)
    norms = np.linalg.norm(made, axis=1, keepdims=True) if made.ndim == 2 else np.zeros(1)
    if made.shape[0] != len(PROBES) or not np.isfinite(norms).all() or not norms.all():
        wrong = f"the model returned no vectors for the {len(PROBES)} probe sentences"
        raise ModelError("embeddings", wrong, "Try another model or server; nothing was written.")
    return (made / norms).astype("<f4").tobytes()


def require_same_probes(name: str, held: bytes, embeddings: Embeddings, asked: str) -> None:
    """Refuse a model that makes other vectors than it did when the index was begun.

    Raises:
        IdentityError: with the cosine similarity of the probe that is furthest off.
    """
    now = take_probes(embeddings)
    least = -1.0
    if len(now) == len(held):
        before, after = (
            np.frombuffer(each, dtype="<f4").reshape(len(PROBES), -1) for each in (held, now)
        )
        least = float((before * after).sum(axis=1).min())
    if least < PROBES_ALIKE:
        kind = json.loads(asked)["kind"]
        dimensions = len(held) // 4 // len(PROBES), len(now) // 4 // len(PROBES)
        how = f"of {len(PROBES)} probe sentences one has a similarity of only {least:.3f} to before"
        if dimensions[0] != dimensions[1]:
            how = f"its vectors have {dimensions[1]} dimensions, not {dimensions[0]} as before"
        raise IdentityError(
            f"index {name!r}",
            f"the embedding model {kind} answers otherwise than when the index was made: {how}; "
            f"identity then and now: {asked}",
            "Its provider has changed it, or another model is served under its name. Restore it, "
            "or run: rag-app ingest --rebuild --set index.cache=false",
        )


def _words(identity: dict[str, Any], other: dict[str, Any]) -> str:
    """The backend's name, with those of its fields that the other has not or has otherwise."""
    apart = {n: v for n, v in identity.items() if n != "kind" and other.get(n) != v}
    fields = ", ".join(f"{name}={value}" for name, value in apart.items())
    return f"{identity['kind']} ({fields})" if fields else str(identity["kind"])
