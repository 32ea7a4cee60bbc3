"""What the vectors and chunks of an index were made with, and the refusal to mix."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import IdentityError, ModelError, TruncationWarning

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    from rag_app.index.manifest import Generation
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

LENGTHS_ALIKE: Final = 0.02
"""How far a probe's vector may be from as long as it was, as a share. In half precision it stays
within 0.001; a service that begins or ceases to normalise is further off."""

SPLITTER_VERSION: Final = 2
"""Raised whenever a splitter cuts the same document into other chunks."""

LOADER_VERSION: Final = 2
"""Raised whenever a loader or a parser makes something else of the same file."""


def describe_embeddings(kind: str, options: Options, embeddings: Embeddings) -> str:
    """The embedding identity as canonical JSON: the provider, and all that decides the vectors.

    Beside the options that do, it is what a backend's `identity` tells: what is in force where the
    options leave it out (model, revision, dimensions, normalisation, prefixes, longest text), and
    what no option says (the checksum of its weights, the address of its server).
    """
    own: dict[str, Any] = getattr(embeddings, "identity", {})
    return json.dumps({"kind": kind, **options.identity(), **own}, sort_keys=True)


def describe_splitter(kind: str, options: Options, embedding: str) -> str:
    """The identity of chunks: the splitter, the versions of what reads and cuts documents, and the
    embedding model, in whose tokens a splitter counts."""
    made = {
        "kind": kind,
        **options.identity(),
        "tokens_of": embedding,
        "splitter_version": SPLITTER_VERSION,
        "loader_version": LOADER_VERSION,
    }
    return json.dumps(made, sort_keys=True)


def require_same(name: str, held: str | None, asked: str) -> None:
    """Refuse to write or query when the index holds vectors of another model.

    Raises:
        IdentityError: naming both identities and the command that re-embeds.
    """
    if held is not None and held != asked:
        before, now = _show_both(held, asked)
        raise IdentityError(
            f"index {name!r}",
            f"it holds vectors of {before}; the config asks for {now}",
            "Vectors of two models cannot be compared. Restore the config; to re-embed while the "
            "index is served, run: rag-app migrate --to THE-CONFIG; to make it anew: rag-app "
            "ingest --rebuild",
        )


def require_same_chunks(name: str, held: str, asked: str, *, published: bool) -> None:
    """Refuse to write or query when the chunks of the index were cut, or its documents read,
    otherwise than by the splitter that the config asks for and the loaders of this version.

    Args:
        published: whether anything is, so that there is something to migrate.

    Raises:
        IdentityError: naming both identities and the command that cuts or reads again.
    """
    if held == asked:
        return
    before, now = _show_both(held, asked)
    read_again = json.loads(held).get("loader_version") != LOADER_VERSION
    migrate = "to cut it anew while it is served, run: rag-app migrate --to THE-CONFIG; "
    remedy = "Restore the config; to cut and write it anew, run: rag-app ingest --rebuild"
    if published:
        remedy = f"Restore the config; {migrate}from the sources: rag-app ingest --rebuild"
    if read_again:
        remedy = "Documents would be read otherwise now. Run: rag-app ingest --rebuild"
    raise IdentityError(
        f"index {name!r}", f"its chunks are of {before}; the config asks for {now}", remedy
    )


def require_same_loaders(name: str, held: str) -> None:
    """Refuse to go on from kept documents that this version would read otherwise.

    Raises:
        IdentityError: naming both versions and the command that reads the sources again.
    """
    version = json.loads(held).get("loader_version")
    if version != LOADER_VERSION:
        raise IdentityError(
            f"index {name!r}",
            f"its documents were read with loader_version={_show(version)}; this rag-app has "
            f"loader_version={LOADER_VERSION}, which reads them otherwise",
            "A migration takes documents as they were read. Run: rag-app ingest --rebuild",
        )


def take_probes(embeddings: Embeddings) -> bytes:
    """The vectors of the probe sentences as the model makes them, float32, little-endian, one
    after another.

    Raises:
        ModelError: the model made no vectors of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # nobody's text was cut
        made = np.asarray(embeddings.embed_documents(list(PROBES)), dtype=np.float64)
    norms = np.linalg.norm(made, axis=1) if made.ndim == 2 else np.zeros(1)
    if made.shape[0] != len(PROBES) or not np.isfinite(norms).all() or not norms.all():
        wrong = f"the model returned no vectors for the {len(PROBES)} probe sentences"
        raise ModelError("embeddings", wrong, "Try another model or server; nothing was written.")
    return made.astype("<f4").tobytes()


def normalise_probes(probes: bytes) -> NDArray[np.float64]:
    """The directions of probe vectors: of norm 1, shape (number of probes, d)."""
    return _split(probes)[0]


def find_difference(held: bytes, now: bytes, *, lengths: bool = True) -> str | None:
    """How a model's vectors of the probe sentences differ from what they were; None: they do not.

    Args:
        lengths: whether the vectors' lengths count, too.
    """
    if len(now) != len(held):
        there, here = (len(each) // 4 // len(PROBES) for each in (held, now))
        return f"its vectors have {here} dimensions, not {there} as before"
    (before, long), (after, longer) = _split(held), _split(now)
    least = float((before * after).sum(axis=1).min())
    if least < PROBES_ALIKE:
        return (
            f"of {len(PROBES)} probe sentences one has a similarity of only {least:.3f} to before"
        )
    worst = int(np.argmax(np.abs(longer / long - 1)))
    if lengths and abs(longer[worst] / long[worst] - 1) > LENGTHS_ALIKE:
        return (
            f"it normalises otherwise: a probe's vector has the length {longer[worst]:.3f}, "
            f"not {long[worst]:.3f} as before"
        )
    return None


def require_same_probes(
    name: str, held: bytes, embeddings: Embeddings, asked: str, *, lengths: bool = True
) -> None:
    """Refuse a model that makes other vectors than it did when the index was begun.

    Args:
        held: what it made of the probe sentences then.
        asked: its identity, then and now.
        lengths: as in `find_difference`.

    Raises:
        IdentityError: saying how its vectors differ.
    """
    how = find_difference(held, take_probes(embeddings), lengths=lengths)
    if how is not None:
        kind = json.loads(asked)["kind"]
        raise IdentityError(
            f"index {name!r}",
            f"the embedding model {kind} answers otherwise than when the index was made: {how}; "
            f"its identity, then and now: {_show_all(asked)}",
            "Its provider has changed it, or another model is served under its name. Restore it, "
            "or run: rag-app ingest --rebuild",
        )


def is_same_model(one: Generation, other: Generation) -> bool:
    """Whether the vectors of two generations can stand in one."""
    if one.identity != other.identity or one.probes is None or other.probes is None:
        return False
    return find_difference(one.probes, other.probes) is None


def _split(probes: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions and lengths of probe vectors."""
    vectors = np.frombuffer(probes, dtype="<f4").reshape(len(PROBES), -1).astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    return vectors / norms[:, None], norms


def _show_all(identity: str) -> str:
    made: dict[str, Any] = json.loads(identity)
    return _words(made, {})


def _show_both(held: str, asked: str) -> tuple[str, str]:
    """Two identities in words, each with what the other has otherwise."""
    before, now = json.loads(held), json.loads(asked)
    for each in (before, now):
        each.pop("tokens_of", None)  # an embedding identity, which was compared already
    return _words(before, now), _words(now, before)


def _words(identity: dict[str, Any], other: dict[str, Any]) -> str:
    """The backend's name, with those of its fields that the other has not or has otherwise."""
    apart = {n: v for n, v in identity.items() if n != "kind" and (n not in other or other[n] != v)}
    fields = ", ".join(f"{name}={_show(value)}" for name, value in sorted(apart.items()))
    return f"{identity['kind']} ({fields})" if fields else str(identity["kind"])


def _show(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
