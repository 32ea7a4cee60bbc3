"""Nine fields of identity on every store: a change of any is refused, by search and by ingest,
before anything is asked or written; and the command that the refusal names works.

provider, model, revision, dimension, normalisation, prefixes, max tokens, splitter version, loader
version; and the vectors of the probe sentences, which tell a provider that changes its model.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pytest
import yaml

import rag_app
from rag_app.errors import IdentityError, IndexStateError
from rag_app.index.identity import PROBES
from tests.contracts.conftest import (  # noqa: F401  (fixtures)
    PLACES,
    chroma_url,
    pgvector_options,
    pinecone_options,
    qdrant_server,
    weaviate_options,
)
from tests.openai_server import OpenAIServer
from tests.tiny_models import describe_sentences, make_bert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rag_app.app import RagApp
    from tests.http_server import Answer, Request

STORES: Final = [
    *("memory-file", "faiss", "lancedb", "chroma-folder", "chroma-server", "milvus-lite"),
    *("qdrant-folder", "qdrant-server", "pgvector", "pinecone", "weaviate"),
]
TOOL: Final = str(Path(sys.executable).parent / "rag-app")
MODEL: Final = "text-embedding-3-small"


class ChangingServer(OpenAIServer):
    """A service whose model is another from one moment to the next; `change` says how."""

    change: Callable[[np.ndarray], np.ndarray] | None = None

    def embed_as_of_now(self, request: Request) -> Answer:
        made = self.embed(request)
        if self.change is not None and isinstance(made, dict):
            for each in made["data"]:
                given = each["embedding"]
                if isinstance(given, str):
                    vector = np.frombuffer(base64.b64decode(given), "<f4")
                    changed = np.asarray(self.change(vector), "<f4")
                    each["embedding"] = base64.b64encode(changed.tobytes()).decode()
                else:
                    each["embedding"] = self.change(np.asarray(given)).tolist()
        return made

    @property
    def texts(self) -> list[str]:
        """What was to be embedded, without the probe sentences."""
        inputs = [request.body["input"] for request in self.requests]
        sent = [text for given in inputs for text in ([given] if isinstance(given, str) else given)]
        return [text for text in sent if text not in PROBES]

    routes: ClassVar = {**OpenAIServer.routes, "POST /v1/embeddings": embed_as_of_now}


def swap(vectors: np.ndarray) -> np.ndarray:
    """Another model: the same dimension and length, other directions."""
    return np.roll(vectors, 1)


def blur(vectors: np.ndarray) -> np.ndarray:
    """The same model on other hardware."""
    noise = np.random.default_rng(5).standard_normal(vectors.size)
    return vectors + 1e-4 * noise / np.linalg.norm(noise)


def stretch(vectors: np.ndarray) -> np.ndarray:
    """The same model, no longer normalised."""
    return 3 * vectors


@pytest.fixture(scope="module")
def server() -> Iterator[ChangingServer]:
    with ChangingServer() as opened:
        yield opened


@pytest.fixture(autouse=True)
def unchanged(server: ChangingServer) -> Iterator[None]:
    """Each test begins and ends with the model that the indexes were made with."""
    server.change = None
    server.requests.clear()
    yield
    server.change = None


def write_documents(folder: Path, count: int = 3) -> None:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        text = f"Bridge {number} spans the river.\n\nIts keeper {number} lives nearby."
        (folder / "docs" / f"{number}.txt").write_text(text)


def make_config(
    folder: Path, store: dict[str, Any], embeddings: dict[str, Any], **sections: Any
) -> dict[str, Any]:
    return {
        "name": "notes",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 4},
        "embeddings": embeddings,
        "vector_store": store,
        "retriever": {"kind": "dense", "k": 50},
        "index": {"path": str(folder / "index"), "cache": True},
        **sections,
    }


def remote(server: ChangingServer, **options: Any) -> dict[str, Any]:
    base = {"kind": "openai", "model": MODEL, "base_url": server.url, "dimensions": 48}
    return {**base, "max_retries": 0, **options}


@dataclass
class Made:
    """An index of three documents, and what a refused command must leave as it was."""

    folder: Path
    config: dict[str, Any]

    @property
    def manifest(self) -> Path:
        return self.folder / "index" / str(self.config["name"]) / "manifest.sqlite"

    def dump(self) -> list[str]:
        """Everything on record."""
        with closing(sqlite3.connect(self.manifest)) as database:
            return list(database.iterdump())

    @contextmanager
    def as_if_made_by_another_version(self, column: str, **fields: Any) -> Iterator[None]:
        """Meanwhile the record says that the index was made with other values of these fields."""
        with closing(sqlite3.connect(self.manifest)) as database:
            ((number, found),) = database.execute(f"SELECT number, {column} FROM generations")
            told = json.loads(found)
            assert fields.keys() <= told.keys()
            other = json.dumps({**told, **fields}, sort_keys=True)
            update = f"UPDATE generations SET {column} = ? WHERE number = ?"
            with database:
                database.execute(update, (other, number))
            try:
                yield
            finally:
                with database:
                    database.execute(update, (found, number))

    def require_refused(self, config: dict[str, Any], words: tuple[str, ...]) -> str:
        """Search and ingest are refused by `config`, and nothing is written; the message."""
        (self.folder / "docs" / "new.txt").write_text("A document that waits to be ingested.")
        before = self.dump()
        try:
            with rag_app.load(config) as app:
                rows = read_rows(app)
                told = []
                for use in (lambda: app.search("bridge"), app.ingest, lambda: app.ask("bridge?")):
                    with pytest.raises(IdentityError) as caught:
                        use()
                    assert caught.value.exit_status == 5
                    told.append(str(caught.value))
                assert read_rows(app) == rows
        finally:
            (self.folder / "docs" / "new.txt").unlink()
        assert self.dump() == before
        assert len(rows) == len(set(rows)) > 0
        for message in told:
            for word in words:
                assert word in message
            assert "run: rag-app" in message.lower()
        return told[0]


def read_rows(app: RagApp) -> dict[str, Any]:
    return {
        row.id: (row.text, row.vector.tobytes(), json.dumps(row.metadata, sort_keys=True))
        for row in app.store.scan()
    }


# -- every store ----------------------------------------------------------------------------------


@dataclass
class Stored:
    """Two indexes in one store: of a service's vectors, and of a model that tells its revision."""

    served: Made
    local: Made


@pytest.fixture(scope="module", params=STORES)
def stored(
    request: pytest.FixtureRequest,
    server: ChangingServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stored:
    folder = tmp_path_factory.mktemp("identity")
    kind, options = PLACES[request.param](request, folder)
    write_documents(folder)
    made = []
    server.change = None
    for embeddings in (remote(server), {"kind": "hashing", "dimension": 48}):
        name = f"identity-{uuid.uuid4().hex[:8]}"
        config = make_config(folder, {"kind": kind, **options}, embeddings, name=name)
        with rag_app.load(config) as app:
            assert app.ingest().indexed == 3
        made.append(Made(folder, config))
    return Stored(*made)


OPTIONS: Final[dict[str, tuple[dict[str, Any], tuple[str, ...]]]] = {
    "provider": ({"kind": "ollama"}, ("vectors of openai", "asks for ollama")),
    "model": ({"model": "another-3"}, (f'model="{MODEL}"', 'model="another-3"')),
    "dimension": ({"dimensions": 32}, ("dimensions=48", "dimensions=32")),
    "query prefix": ({"query_prefix": "ask: "}, ('query_prefix=""', 'query_prefix="ask: "')),
    "document prefix": ({"document_prefix": "d: "}, ('document_prefix=""', '="d: "')),
    "max tokens": ({"max_tokens": 512}, ("max_tokens=8192", "max_tokens=512")),
    "server": ({"base_url": "http://127.0.0.1:9/v1"}, ("server=", "127.0.0.1:9")),
}


@pytest.mark.parametrize("field", OPTIONS)
def test_a_changed_option_of_the_model(stored: Stored, server: ChangingServer, field: str) -> None:
    options, words = OPTIONS[field]
    made = stored.served
    made.require_refused({**made.config, "embeddings": remote(server, **options)}, words)
    assert server.requests == []  # not even for the probes


def test_a_changed_revision(stored: Stored) -> None:
    with stored.local.as_if_made_by_another_version("identity", revision=0):
        stored.local.require_refused(stored.local.config, ("revision=0", "revision=1"))


def test_a_changed_normalisation(stored: Stored, server: ChangingServer) -> None:
    server.change = stretch
    stored.served.require_refused(stored.served.config, ("length 3.000", "not 1.000"))
    assert server.texts == []
    with stored.local.as_if_made_by_another_version("identity", normalised="as served"):
        words = ('normalised="as served"', 'normalised="to length 1"')
        stored.local.require_refused(stored.local.config, words)


def test_a_changed_splitter(stored: Stored, server: ChangingServer) -> None:
    made = stored.served
    other = {"kind": "recursive", "chunk_size": 40, "chunk_overlap": 4}
    words = ("chunk_size=24", "chunk_size=40", "rag-app migrate --to")
    made.require_refused({**made.config, "splitter": other}, words)
    with made.as_if_made_by_another_version("splitter", splitter_version=1):
        made.require_refused(made.config, ("splitter_version=1", "splitter_version=2"))
    assert server.requests == []


def test_a_changed_loader(stored: Stored, server: ChangingServer) -> None:
    made = stored.served
    with made.as_if_made_by_another_version("splitter", loader_version=1):
        words = ("loader_version=1", "loader_version=2", "rag-app ingest --rebuild")
        assert "migrate" not in made.require_refused(made.config, words)
    assert server.requests == []


def test_another_model_under_the_same_name(stored: Stored, server: ChangingServer) -> None:
    server.change = swap
    words = ("answers otherwise than when the index was made", "similarity of only")
    stored.served.require_refused(stored.served.config, words)
    assert server.texts == []


def test_the_unchanged_config_answers(stored: Stored, server: ChangingServer) -> None:
    for made in (stored.served, stored.local):
        with rag_app.load(made.config) as app:
            assert app.search("the keeper of bridge 2").hits[0].source == "2.txt"
            assert app.ingest().unchanged == 3


def test_the_store_is_not_asked_before_the_identity(stored: Stored) -> None:
    """Of an index whose rows are gone nothing is said but that it is another model's."""
    folder, name = stored.local.folder, f"identity-{uuid.uuid4().hex[:8]}"
    config = {**stored.local.config, "name": name}
    with rag_app.load(config) as app:
        app.ingest()
        app.store.drop()
    with rag_app.load({**config, "embeddings": {"kind": "hashing", "dimension": 32}}) as app:
        for use in (lambda: app.search("bridge"), app.ingest):
            with pytest.raises(IdentityError, match=r"dimension=48.*dimension=32"):
                use()
    with rag_app.load(config) as app, pytest.raises(IndexStateError) as caught:
        app.search("bridge")
    assert not isinstance(caught.value, IdentityError)
