"""A small index in two states: what is ingested first, and what its sources hold then."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

QUESTIONS: Final = ["bal dan", "fel gil kun", "mos nur", "pal"]

_WORDS: Final = tuple(
    f"{first}{second}{third}" for first in "bdfgklmnprst" for second in "aeiou" for third in "lnrs"
)

STORES: Final = {
    "memory": {"path": "vectors.sqlite"},
    "faiss": {"path": "faiss"},
    "chroma": {"path": "chroma"},
    "milvus": {"path": "milvus"},
    "qdrant": {"path": "qdrant"},
    "lancedb": {"path": "lancedb"},
}
"""The stores that lie in a folder of this machine."""


def config(kind: str, index: Path, docs: Path, **sections: Any) -> dict[str, Any]:
    """The config of an index, all of which lies below the folder `index`."""
    place = STORES[kind]
    return {
        "name": "sample",
        "sources": [{"kind": "files", "path": str(docs)}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 4},
        "embeddings": "hashing",
        "vector_store": {"kind": kind, **place, "path": str(index / place["path"])},
        "retriever": {"kind": "dense", "k": 200},  # all there are: no tie is cut in two
        "index": {"path": str(index), "cache": True},
        **sections,
    }


def write_before(docs: Path) -> None:
    """What the index is made of."""
    docs.mkdir(parents=True, exist_ok=True)
    for name in "abcdefgh":
        (docs / f"{name}.md").write_text(_story(name), encoding="utf-8")


def write_after(docs: Path) -> None:
    """The sources as they are later: documents edited, new and gone."""
    (docs / "a.md").write_text(_story("a, edited"), encoding="utf-8")
    (docs / "b.md").write_text(_story("b") + "\n\n" + _story("b, more"), encoding="utf-8")
    (docs / "h.md").unlink()
    for name in ("new-1", "new-2", "new-3"):
        (docs / f"{name}.md").write_text(_story(name), encoding="utf-8")


def _story(seed: str) -> str:
    rng = random.Random(seed)
    words = rng.choices(_WORDS, k=120)
    return "\n\n".join(" ".join(words[i : i + 12]) + "." for i in range(0, len(words), 12))
