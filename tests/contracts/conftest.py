"""The stores that the contract suites run on. A new store joins with a row in `PLACES`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from rag_app import registry
from tests.contracts.record import summarise, write
from tests.milvus_server import open_milvus_server
from tests.pinecone_server import open_pinecone
from tests.postgres_server import PostgresServer
from tests.qdrant_server import open_qdrant_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rag_app.store import Store

PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], tuple[str, dict[str, Any]]]] = {
    "memory": lambda _, folder: ("memory", {"path": None}),
    "memory-file": lambda _, folder: ("memory", {"path": str(folder / "vectors.sqlite")}),
    "faiss": lambda _, folder: ("faiss", {"path": str(folder / "faiss")}),
    "faiss-ram": lambda _, folder: ("faiss", {"path": None}),
    "faiss-hnsw": lambda _, folder: ("faiss", {"path": str(folder / "faiss"), "index": "hnsw"}),
    "faiss-ivf": lambda _, folder: (
        "faiss",
        {"path": str(folder / "faiss"), "index": "ivf", "nlist": 8},
    ),
    "chroma-folder": lambda _, folder: ("chroma", {"path": str(folder / "chroma")}),
    "chroma-server": lambda request, _: ("chroma", {"url": request.getfixturevalue("chroma_url")}),
    "lancedb": lambda _, folder: ("lancedb", {"path": str(folder / "lancedb")}),
    "milvus-lite": lambda _, folder: ("milvus", {"path": str(folder / "milvus")}),
    "milvus-server": lambda request, _: ("milvus", request.getfixturevalue("milvus_options")),
    "pinecone": lambda request, _: ("pinecone", request.getfixturevalue("pinecone_options")),
    "weaviate": lambda request, _: ("weaviate", request.getfixturevalue("weaviate_options")),
    "pgvector": lambda request, _: ("pgvector", request.getfixturevalue("pgvector_options")),
    "qdrant-memory": lambda _, folder: ("qdrant", {"path": None}),
    "qdrant-folder": lambda _, folder: ("qdrant", {"path": str(folder / "qdrant")}),
    "qdrant-server": lambda request, _: ("qdrant", request.getfixturevalue("qdrant_server")),
}
"""What each store needs: its kind and options, given pytest's request and an empty folder."""


AGAINST = {
    "memory": "itself, in RAM",
    "memory-file": "itself, one SQLite file",
    "faiss": "FAISS, flat index",
    "faiss-ram": "FAISS, in RAM",
    "faiss-hnsw": "FAISS, HNSW index",
    "faiss-ivf": "FAISS, IVF index",
    "chroma-folder": "Chroma in a folder",
    "chroma-server": "the Chroma server",
    "lancedb": "LanceDB in a folder",
    "milvus-lite": "Milvus Lite",
    "milvus-server": "the Milvus server 2.3.5",
    "pgvector": "PostgreSQL 18 with pgvector 0.8",
    "qdrant-memory": "Qdrant's engine, in a temporary folder",
    "qdrant-folder": "Qdrant's engine, in a folder",
    "qdrant-server": "a server of Qdrant's protocol",
    "pinecone": "a server of Pinecone's protocol",
    "weaviate": "a server of Weaviate's protocol",
}
"""What each place is, here, without a service in the environment."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """With RAG_APP_RECORD=1 the results are kept, for README.md."""
    if os.environ.get("RAG_APP_RECORD") == "1":
        reports = [
            r
            for kind in ("passed", "failed", "error")
            for r in terminalreporter.stats.get(kind, ())
        ]
        write(summarise(reports, AGAINST, int(os.environ.get("RAG_APP_FILTERS", "200"))))


@dataclass
class Place:
    """Where one store lives: opens it as often as asked, and closes what a test left open."""

    kind: str
    options: dict[str, Any]
    folder: Path
    collection: str = field(default_factory=lambda: f"contract-{uuid.uuid4().hex[:12]}")
    opened: list[Store] = field(default_factory=list)

    def open(self, collection: str | None = None, **changes: Any) -> Store:
        """The store, opened anew; `changes` are options in place of the usual ones."""
        config = registry.config_class("vector_stores", self.kind)(**{**self.options, **changes})
        store: Store = registry.build(
            "vector_stores",
            self.kind,
            config,
            embeddings=DeterministicFakeEmbedding(size=6),
            collection=collection or self.collection,
        )
        self.opened.append(store)
        return store

    def close(self) -> None:
        for store in self.opened:
            store.close()

    @property
    def lasts(self) -> bool:
        """Whether opening it again finds what was written."""
        return self.options.get("path", "") is not None


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from _open_place(request, tmp_path)


@pytest.fixture(scope="module", params=PLACES)
def shared_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A place for tests that read the same rows many times."""
    yield from _open_place(request, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Chroma server on a free loopback port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--host", "127.0.0.1"]
    folder = tmp_path_factory.mktemp("chroma-server")
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--path", str(folder / "data")], stdout=log, stderr=log
        )
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="session")
def weaviate_options() -> Iterator[dict[str, Any]]:
    """Weaviate's protocol on loopback ports; the server of RAG_APP_TEST_WEAVIATE_URL, if given."""
    if url := os.environ.get("RAG_APP_TEST_WEAVIATE_URL"):
        others = {
            "grpc_url": os.environ.get("RAG_APP_TEST_WEAVIATE_GRPC_URL"),
            "api_key": os.environ.get("RAG_APP_TEST_WEAVIATE_API_KEY"),
        }
        yield {"url": url, **{name: value for name, value in others.items() if value}}
        return
    from tests.weaviate_server import WeaviateServer  # its packages take a while to import

    with WeaviateServer() as server:
        yield server.options


@pytest.fixture(scope="session")
def qdrant_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Options for the Qdrant server of the environment, or for the one of `tests/`."""
    with open_qdrant_server(tmp_path_factory.mktemp("qdrant-server")) as options:
        yield options


@pytest.fixture(scope="session")
def pgvector_options() -> Iterator[dict[str, Any]]:
    """A real PostgreSQL with pgvector; indexed from the first row on, so that all tests use it."""
    given = os.environ.get("RAG_APP_TEST_PGVECTOR_URL")
    with nullcontext() if given else PostgresServer() as server:
        url = given or server.url
        schema = f"rag_app_test_{uuid.uuid4().hex[:12]}"
        yield {"url": url, "schema_name": schema, "exact_below": 0}
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


@pytest.fixture(scope="session")
def pinecone_options() -> Iterator[dict[str, Any]]:
    """A server of Pinecone's protocol; the service itself where the environment has its key."""
    with open_pinecone() as options:
        yield options


@pytest.fixture(scope="session")
def milvus_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Milvus server's address: a real one's from the environment, else one of its own."""
    if url := os.environ.get("RAG_APP_TEST_MILVUS_URL"):
        key = os.environ.get("RAG_APP_TEST_MILVUS_KEY")
        yield {"url": url, **({"api_key": key} if key else {})}
    else:
        with open_milvus_server(tmp_path_factory.mktemp("milvus-server")) as url:
            yield {"url": url}


def _open_place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    kind, options = PLACES[request.param](request, folder)
    place = Place(kind, options, folder)
    yield place
    place.close()


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"no server came up on port {port}")
