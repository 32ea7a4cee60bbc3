"""One index: the store, the model of its vectors, and the manifest that says what it holds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rag_app.errors import IndexStateError
from rag_app.index.identity import require_same

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_core.embeddings import Embeddings

    from rag_app.index.cache import EmbeddingCache
    from rag_app.index.manifest import Manifest
    from rag_app.store import Row, Store


class Index:
    """What retrievers search and ingest fills.

    Args:
        name: the index's name in the config.
        folder: where the manifest and derived files lie; None keeps everything in RAM.
        store: the vector store, opened on this index's collection.
        embeddings: the model that embeds chunks and questions.
        kind: the vector store's name in the config.
        identity: the embedding identity the config asks for.
        manifest: the record of what the store should hold.
        splitter: the splitter identity the config asks for.
        cache: vectors by text; None to compute every one.
    """

    def __init__(
        self,
        name: str,
        folder: Path | None,
        store: Store,
        embeddings: Embeddings,
        manifest: Manifest,
        *,
        kind: str,
        identity: str,
        splitter: str,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.store = store
        self.embeddings = embeddings
        self.manifest = manifest
        self.kind = kind
        self.identity = identity
        self.splitter = splitter
        self.cache = cache
        self._counted = ""

    @property
    def revision(self) -> str:
        """Changes whenever the content did; what is derived from another revision is stale."""
        return self.manifest.get("revision") or ""

    def check_ready(self) -> None:
        """Refuse to answer from an index that is not what the config says.

        Raises:
            IdentityError: its vectors come from another embedding model.
            IndexStateError: empty, left unfinished, split otherwise, or not what the store holds.
        """
        held = self.manifest.get("identity")
        if held is None or self.manifest.is_empty():
            remedy = (
                "Run: rag-app ingest"
                if self.folder
                else "It is kept in RAM: call ingest() in this process, or set vector_store.path."
            )
            raise IndexStateError(f"index {self.name!r}", "it is empty", remedy)
        self.check_store()
        require_same(self.name, held, self.identity)
        unwritten = not self.manifest.count_chunks()  # planned, and no further
        if unwritten or self.manifest.get("state") != "ready":
            raise IndexStateError(
                f"index {self.name!r}",
                "the last ingest did not finish, or one is running",
                "Wait for it, or run: rag-app ingest",
            )
        if self.manifest.get("splitter") != self.splitter:
            raise IndexStateError(
                f"index {self.name!r}",
                "its chunks were cut by other splitter options than the config's",
                "Run: rag-app ingest",
            )
        if self._counted != self.revision:
            self.check_count()
            self._counted = self.revision

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the index inside: it is ready before, and still the same after.

        Raises:
            IdentityError, IndexStateError: as `check_ready`, or an ingest changed it meanwhile.
        """
        self.check_ready()
        revision = self.revision
        yield
        if self.manifest.get("state") != "ready" or self.revision != revision:
            raise IndexStateError(
                f"index {self.name!r}", "an ingest changed it during the search", "Search again."
            )

    def check_store(self) -> None:
        """Refuse a vector store of another kind than the chunks were written to.

        Raises:
            IndexStateError: naming both.
        """
        held = self.manifest.get("store")
        if held not in (None, self.kind):
            raise IndexStateError(
                f"index {self.name!r}",
                f"its chunks are in the vector store {held!r}; the config asks for {self.kind!r}",
                "Restore the config, or run: rag-app ingest --rebuild",
            )

    def check_count(self) -> int:
        """The number of chunks, the same in the manifest and in the store.

        Raises:
            IndexStateError: the store lost or gained chunks behind the manifest's back.
        """
        held, known = self.store.count(), self.manifest.count_chunks()
        if held != known:
            raise IndexStateError(
                f"index {self.name!r}",
                f"the store holds {held} chunks where {known} were written",
                "Run: rag-app ingest --rebuild",
            )
        return known

    def scan(self) -> Iterator[Row]:
        """Every chunk, in the store's order."""
        return self.store.scan()

    def close(self) -> None:
        """Release the store and the manifest."""
        self.store.close()
        self.manifest.close()
        if self.cache is not None:
            self.cache.close()
