"""The systems under test, each behind the same five calls; the peer is LangChain's `index()`.

A class is opened on a `Place`, in a process that ends afterwards. Its `modules` are imported before
the process is forked, so that a trial is the ingest and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

import numpy as np

from tests.reliability import peers
from tests.reliability.damage import Held
from tests.reliability.sources import CHUNK_CHARACTERS, CHUNK_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.documents import Document
    from numpy.typing import NDArray

    from tests.reliability.places import Place

    Found = list[tuple[str, str, float]]
    """Source, text and cosine of hits."""

DIMENSION: Final = peers.DIMENSION


class NothingShown(Exception):
    """The index says in plain words that it cannot be read: right while nothing was published."""


class RefusedByName(Exception):
    """The store's own files are damaged, and the error names the command that makes them anew."""


class System(Protocol):
    """An index of the documents in `place.documents`."""

    common: ClassVar[tuple[str, ...]]
    """Imported before a process is forked, whatever the store."""
    modules: ClassVar[dict[str, tuple[str, ...]]]
    """The same for each store."""
    after_fork: ClassVar[dict[str, tuple[str, ...]]]
    """Imported in the new process, before its time counts: what bears no fork."""

    def __init__(self, store: str, place: Place) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def ingest(self, progress: Callable[[str], None]) -> None:
        """Make the index hold what the documents hold."""

    def show(self, questions: Sequence[str]) -> tuple[list[Held], Found]:
        """All chunks as a reader is shown them, and the hits of some questions.

        Raises:
            NothingShown: it refuses to be read.
        """

    def list_stored(self) -> list[Held]:
        """All rows of the store, whether shown or not."""

    def find(self, vector: NDArray[np.float32], k: int) -> Found:
        """What the store finds."""


class RagAppIndex:
    """`rag_app`'s own ingest."""

    modules: ClassVar = {
        "memory": (),
        "faiss": ("faiss",),
        "chroma": ("chromadb",),
        "milvus": ("pymilvus", "milvus_lite.adapter.grpc.server"),
        "qdrant": ("qdrant_edge",),
        "pgvector": ("psycopg", "pgvector.psycopg"),
        "lancedb": ("pyarrow",),
    }
    after_fork: ClassVar = {"lancedb": ("lancedb",)}
    common: ClassVar = (
        *("rag_app.app", "rag_app.index.ingest", "rag_app.index.index", "rag_app.index.plan"),
        *("rag_app.config", "rag_app.parsers.child", "rag_app.loaders.files", "rag_app.retrieval"),
        *("rag_app.splitters._recursive", "rag_app.embeddings._hashing", "sqlalchemy.orm"),
        *("rag_app.retrievers.dense", "rag_app.store", "langchain_core.vectorstores", "json"),
    )

    def __init__(self, store: str, place: Place) -> None:
        import rag_app

        where: dict[str, Any] = {"path": str(place.folder / "store")}
        if store == "memory":
            where = {"path": str(place.folder / "store.sqlite")}
        if place.url is not None:
            where = {"url": place.url}
        self._app = rag_app.load(
            {
                "name": "crash",
                "sources": [{"kind": "files", "path": str(place.documents)}],
                "splitter": {
                    "kind": "recursive", "chunk_size": CHUNK_WORDS, "chunk_overlap": 0,
                },
                "embeddings": {"kind": "hashing", "dimension": DIMENSION},
                "vector_store": {"kind": store, **where},
                "retriever": {"kind": "dense", "k": 4},
                "index": {"path": str(place.folder / "index"), "cache": True},
            }
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._app.close()

    def ingest(self, progress: Callable[[str], None]) -> None:
        """See `System`."""
        from rag_app.errors import StoreError

        def tell(stage: str, *_: object) -> None:
            progress(stage)

        try:
            report = self._app.ingest(progress=tell)
        except StoreError as error:
            if "rag-app ingest --rebuild" not in error.remedy:
                raise
            report = self._app.ingest(progress=tell, rebuild=True)
        if report.quarantined:
            raise RuntimeError(f"quarantined: {report.quarantine[:3]}")

    def show(self, questions: Sequence[str]) -> tuple[list[Held], Found]:
        """See `System`."""
        from rag_app.errors import IndexStateError, StoreError

        try:
            hits = [hit for question in questions for hit in self._app.search(question).hits]
            rows = self._app.index.read(lambda view: list(view.scan()))
        except IndexStateError as error:
            raise NothingShown(str(error)) from error
        except StoreError as error:
            if "rag-app ingest --rebuild" not in error.remedy:
                raise
            raise RefusedByName(str(error)) from error
        if not rows:
            raise RuntimeError("an empty index is shown where an error belongs")
        return _to_held(rows), [(hit.source, hit.text, hit.similarity or 0.0) for hit in hits]

    def list_stored(self) -> list[Held]:
        """See `System`."""
        return _to_held(self._app.store.scan())

    def find(self, vector: NDArray[np.float32], k: int) -> Found:
        """See `System`."""
        found = self._app.store.search(vector, k)
        return [(each.metadata["source"], each.page_content, cosine) for each, cosine in found]


def _to_held(rows: Any) -> list[Held]:
    return [Held(row.metadata["source"], row.text, row.vector) for row in rows]


class LangChainIndex:
    """`langchain_core.indexing.index` with cleanup="full" and an SQLRecordManager in SQLite, over
    LangChain's own classes for the store. FAISS is saved by `save_local` after each run, as its
    documentation says; the others write by themselves."""

    modules: ClassVar = {
        "faiss": ("faiss", "langchain_community.vectorstores.faiss"),
        "chroma": ("chromadb", "langchain_chroma"),
        "qdrant": ("qdrant_client", "langchain_qdrant"),
    }
    after_fork: ClassVar[dict[str, tuple[str, ...]]] = {}
    common: ClassVar = (
        *("langchain_core.indexing", "langchain_classic.indexes", "langchain_text_splitters"),
        *("rag_app.embeddings._hashing", "sqlite3"),
    )

    def __init__(self, store: str, place: Place) -> None:
        from rag_app.embeddings._hashing import HashingEmbeddings

        self._place, self._folder = place, place.folder / "store"
        self._embeddings = HashingEmbeddings(DIMENSION)
        self._kind = peers.STORES[store](self._folder, self._embeddings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kind.close()

    def ingest(self, progress: Callable[[str], None]) -> None:
        """See `System`."""
        from langchain_classic.indexes import SQLRecordManager
        from langchain_core.indexing import index

        progress("reading")
        documents = self._read()
        records = SQLRecordManager(
            "crash", db_url=f"sqlite:///{self._place.folder / 'records.sqlite'}"
        )
        records.create_schema()
        progress("index()")
        index(
            documents, records, self._kind.store, cleanup="full", source_id_key="source",
            key_encoder=_encode_key,
        )  # fmt: skip
        progress("saving")
        self._kind.save()

    def show(self, questions: Sequence[str]) -> tuple[list[Held], Found]:
        """See `System`."""
        hits = [hit for each in questions for hit in self.find(self._embed(each), 4)]
        return self.list_stored(), hits

    def list_stored(self) -> list[Held]:
        """See `System`."""
        return self._kind.rows()

    def find(self, vector: NDArray[np.float32], k: int) -> Found:
        """See `System`."""
        return [
            (document.metadata["source"], document.page_content, cosine)
            for document, cosine in self._kind.search(vector.tolist(), k)
        ]

    def _embed(self, text: str) -> NDArray[np.float32]:
        return np.array(self._embeddings.embed_query(text), np.float32)

    def _read(self) -> list[Document]:
        from langchain_core.documents import Document
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        splitter = RecursiveCharacterTextSplitter(
            separators=["\n\n"], chunk_size=CHUNK_CHARACTERS, chunk_overlap=0,
            add_start_index=True,
        )  # fmt: skip
        folder = self._place.documents
        paths = sorted(folder.rglob("*.md"))
        return splitter.split_documents(
            [
                Document(
                    path.read_text(encoding="utf-8"),
                    metadata={"source": path.relative_to(folder).as_posix()},
                )
                for path in paths
            ]
        )


def _encode_key(document: Document) -> str:
    """A UUID of content and metadata: the one form of id that each of the stores takes."""
    import json
    import uuid

    whole = json.dumps([document.page_content, document.metadata], sort_keys=True)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, whole))


SYSTEMS: Final[dict[str, type[Any]]] = {"rag_app": RagAppIndex, "langchain": LangChainIndex}
"""Each system by the name it has in commands and results."""
