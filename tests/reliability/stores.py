"""The stores that run here, as `vector_store` sections of a config, and a corpus that tells states.

Every sentence of a document names the document and its state, so that any chunk shows of what
version it is.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

STORES: Final = ("memory", "faiss", "lancedb", "chroma", "milvus", "qdrant", "pgvector")


@contextmanager
def open_place(store: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The `vector_store` section of a fresh place."""
    if store == "pgvector":
        with PostgresServer() as server:
            yield {"kind": "pgvector", "url": server.url}
    else:
        yield {"kind": store, "path": str(folder / f"{store}-vectors")}


def make_config(folder: Path, vector_store: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A config over `folder/docs`."""
    return {
        "name": "states",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 30, "chunk_overlap": 0},
        "embeddings": {"kind": "hashing", "dimension": 64},
        "vector_store": vector_store,
        "retriever": {"kind": "dense", "k": 200},
        "index": {"path": str(folder / "index")},
        **sections,
    }


class Corpus:
    """Documents in a folder, each of some state; `states` remembers them all.

    Args:
        folder: the documents are written to its `docs`.
        count: how many documents.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder / "docs"
        self.folder.mkdir(parents=True)
        self.states: list[dict[str, int]] = []
        self.write({number: 0 for number in range(count)})

    def write(self, versions: dict[int, int | None]) -> None:
        """Give documents new versions; None removes one. A new state begins."""
        state = dict(self.states[-1]) if self.states else {}
        for number, version in versions.items():
            name = f"doc{number:02}.txt"
            if version is None:
                state.pop(name, None)
                (self.folder / name).unlink(missing_ok=True)
            else:
                state[name] = version
                (self.folder / name).write_text(write_text(number, version), encoding="utf-8")
        self.states.append(state)


def write_text(number: int, version: int) -> str:
    """Six sentences, a chunk each."""
    sentences = [
        f"Document {number} in version {version} says in sentence {place} that word{place} holds."
        for place in range(6)
    ]
    return "\n\n".join(sentences)


def read_version(text: str) -> int:
    """The version that a chunk of `write_text` names."""
    return int(text.partition(" in version ")[2].partition(" ")[0])
