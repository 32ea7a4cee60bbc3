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
    name = f"identity-{uuid.uuid4().hex[:8]}"
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


# -- a provider that changes its model under the same name ----------------------------------------


@pytest.fixture
def made(server: ChangingServer, tmp_path: Path) -> Made:
    """An index and a cache of a service's vectors."""
    write_documents(tmp_path)
    store = {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")}
    config = make_config(tmp_path, store, remote(server, dimensions=None))
    with rag_app.load(config) as app:
        assert app.ingest().embedded == 3
    server.requests.clear()
    return Made(tmp_path, config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap, "one has a similarity of only"),
        (np.negative, "similarity of only -1.000"),
        (lambda v: v[:-1], "its vectors have 1535 dimensions, not 1536 as before"),
        (lambda v: np.append(v, 0), "its vectors have 1537 dimensions, not 1536 as before"),
        (stretch, "it normalises otherwise"),
    ],
    ids=["other directions", "opposite", "shorter", "longer", "not normalised"],
)
def test_the_probes_tell_a_changed_model_though_the_cache_has_every_text(
    made: Made, server: ChangingServer, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    (made.folder / "docs" / "copy.txt").write_bytes((made.folder / "docs" / "0.txt").read_bytes())
    server.change = change
    told = made.require_refused(made.config, (words, f'model="{MODEL}"', "--rebuild"))
    assert "migrate" not in told
    assert server.requests
    assert server.texts == []


def test_the_same_model_on_other_hardware_is_accepted(made: Made, server: ChangingServer) -> None:
    server.change = blur
    (made.folder / "docs" / "new.txt").write_text("A gull sits on the mast.")
    with rag_app.load(made.config) as app:
        assert app.search("the keeper of bridge 2").hits[0].source == "2.txt"
        assert app.ingest().embedded == 1
        assert app.search("gull on a mast").hits[0].source == "new.txt"


def test_a_rebuild_takes_nothing_of_the_model_that_was_from_the_cache(
    made: Made, server: ChangingServer
) -> None:
    before = vectors_of(made)
    server.change = swap
    with rag_app.load(made.config) as app:
        report = app.ingest(rebuild=True)
        assert (report.embedded, report.cached) == (3, 0)
    after = vectors_of(made)
    for text, vector in before.items():
        np.testing.assert_allclose(after[text], swap(vector), atol=1e-6)
    (made.folder / "docs" / "0.txt").unlink()
    with rag_app.load(made.config) as app:
        app.ingest()
    write_documents(made.folder)
    with rag_app.load(made.config) as app:  # what comes back is the new model's, from the cache
        assert (app.plan().cached, app.plan().embed) == (1, 0)
        assert app.ingest().cached == 1
    assert {t: v.tobytes() for t, v in vectors_of(made).items()} == {
        text: vector.tobytes() for text, vector in after.items()
    }
    server.change = None  # and the provider takes it back
    with rag_app.load(made.config) as app:
        with pytest.raises(IdentityError):
            app.search("bridge")
        assert app.ingest(rebuild=True).cached == 3
    assert {t: v.tobytes() for t, v in vectors_of(made).items()} == {
        text: vector.tobytes() for text, vector in before.items()
    }


def vectors_of(made: Made) -> dict[str, np.ndarray]:
    with rag_app.load(made.config) as app:
        return {row.text: row.vector for row in app.store.scan()}


def test_a_long_lived_process_asks_again(made: Made, server: ChangingServer) -> None:
    with rag_app.load(made.config) as app:
        assert app.search("bridge").hits
        asked = len(server.requests)
        assert app.search("keeper").hits
        assert len(server.requests) == asked + 1  # the question, and no probes
        app.index.probe_seconds = 0.0
        assert app.search("river").hits
        server.change = swap
        server.requests.clear()
        with pytest.raises(IdentityError, match="similarity of only"):
            app.search("the keeper of bridge 2")
        assert server.texts == []
        server.change = None
        assert app.search("the keeper of bridge 2").hits[0].source == "2.txt"


def test_a_model_that_changes_during_a_long_ingest_is_not_published(
    made: Made, server: ChangingServer
) -> None:
    for number in range(4):
        (made.folder / "docs" / f"gull{number}.txt").write_text(f"Gull {number} sits on the mast.")

    def change_after_the_first(vector: np.ndarray) -> np.ndarray:
        return swap(vector) if server.texts else vector

    server.change = change_after_the_first
    with rag_app.load(made.config) as app:
        app.index.probe_seconds = 0.0
        with pytest.raises(IdentityError, match="answers otherwise"):
            app.ingest()
    assert len(server.texts) == 4
    server.change = None
    with rag_app.load(made.config) as app:
        assert {hit.source for hit in app.search("gull mast bridge").hits} == {
            *("0.txt", "1.txt", "2.txt")
        }


def test_a_migration_takes_over_no_vectors_of_the_model_that_was(
    made: Made, server: ChangingServer
) -> None:
    before = made.dump()
    server.change = swap
    other = {**made.config, "splitter": {"kind": "recursive", "chunk_size": 60}}
    with rag_app.load(made.config) as app, pytest.raises(IdentityError, match="similarity of only"):
        app.migrate(other)
    assert server.texts == []
    assert made.dump() == before


def test_a_first_ingest_that_was_killed_early_has_its_probes_all_the_same(
    server: ChangingServer, tmp_path: Path
) -> None:
    write_documents(tmp_path)
    store = {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")}
    config = make_config(tmp_path, store, remote(server))
    path = write_config(tmp_path, config)
    killed = run(tmp_path, "ingest", "--config", str(path), RAG_APP_FAILPOINT="generation-begun")
    assert killed.returncode == -9
    with rag_app.load(config) as app:
        assert app.ingest().indexed == 3
    server.change = swap
    with rag_app.load(config) as app, pytest.raises(IdentityError, match="similarity of only"):
        app.search("bridge")


# -- the command ----------------------------------------------------------------------------------


def write_config(folder: Path, config: dict[str, Any], name: str = "rag-app.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(config))
    return path


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOL, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def find_commands(message: str, config: Path) -> list[list[str]]:
    """The commands of a refusal, as a shell would read them."""
    found = re.findall(r"rag-app ([a-z][\w\- .=]*?(?:THE-CONFIG|--rebuild))", message)
    return [shlex.split(each.replace("THE-CONFIG", str(config))) for each in found]


@pytest.mark.parametrize(
    ("changes", "words", "commands", "chosen"),
    [
        ({"embeddings": {"kind": "hashing", "dimension": 96}}, "dimension=96", 2, "--rebuild"),
        ({"splitter": {"kind": "sentences"}}, "sentences (chunk_size=", 2, "migrate"),
        ({}, "loader_version=1", 1, "--rebuild"),
    ],
    ids=["dimension", "splitter", "loader"],
)
def test_the_exit_status_is_5_and_the_command_that_is_named_works(
    tmp_path: Path, changes: dict[str, Any], words: str, commands: int, chosen: str
) -> None:
    write_documents(tmp_path)
    store = {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")}
    config = make_config(tmp_path, store, {"kind": "hashing", "dimension": 48})
    with rag_app.load(config) as app:
        app.ingest()
    if not changes:
        with closing(sqlite3.connect(Made(tmp_path, config).manifest)) as database, database:
            old = """replace(splitter, '"loader_version": 2', '"loader_version": 1')"""
            database.execute(f"UPDATE generations SET splitter = {old}")
    config = {**config, **changes}
    path = write_config(tmp_path, config)
    for use in (["search", "the keeper of bridge 2"], ["ingest"]):
        refused = run(tmp_path, *use)
        assert refused.returncode == 5
        assert words in refused.stderr
    named = find_commands(refused.stderr, path)
    assert len(named) == commands
    mended = run(tmp_path, *next(each for each in named if chosen in each))
    assert mended.returncode == 0, mended.stderr
    with rag_app.load(config) as app:
        assert app.search("the keeper of bridge 2").hits[0].source == "2.txt"
        assert app.ingest().unchanged == 3


def test_kept_documents_of_an_older_loader_are_not_migrated(made: Made) -> None:
    other = {**made.config, "splitter": {"kind": "recursive", "chunk_size": 60}}
    with (
        made.as_if_made_by_another_version("splitter", loader_version=1),
        rag_app.load(made.config) as app,
        pytest.raises(IdentityError, match=r"loader_version=1.*rag-app ingest --rebuild"),
    ):
        app.migrate(other)


# -- what each backend tells ----------------------------------------------------------------------

KEY: Final = {"api_key": "k"}
FIELDS: Final = {"kind", "model", "normalised", "query_prefix", "document_prefix", "max_tokens"}


@pytest.mark.parametrize(
    ("embeddings", "revision"),
    [
        ({"kind": "hashing"}, True),
        ({"kind": "minilm"}, True),
        ({"kind": "openai", "model": MODEL, "base_url": "http://127.0.0.1:9/v1"}, False),
        ({"kind": "google", "base_url": "http://127.0.0.1:9"}, False),
        ({"kind": "cohere", "base_url": "http://127.0.0.1:9"}, False),
        ({"kind": "ollama", "model": "nomic-embed-text"}, False),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_every_backend_tells_all_fields(
    tmp_path: Path, embeddings: dict[str, Any], revision: bool
) -> None:
    told = describe(tmp_path, embeddings)
    assert told.keys() >= FIELDS
    assert told.get("dimensions") or told.get("dimension")
    assert ("revision" in told) is revision


def describe(folder: Path, embeddings: dict[str, Any]) -> dict[str, Any]:
    (folder / "docs").mkdir(exist_ok=True)
    with rag_app.load(make_config(folder, {"kind": "memory"}, embeddings)) as app:
        told: dict[str, Any] = json.loads(app.index.identity)
    return told


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An index of a small model in a folder."""
    folder = tmp_path_factory.mktemp("tiny")
    write_documents(folder)
    model = describe_sentences(make_bert(folder / "model"), "mean", {"query": "query: "})
    store = {"kind": "memory", "path": str(folder / "vectors.sqlite")}
    config = make_config(folder, store, {"kind": "huggingface", "model": str(model)})
    with rag_app.load(config) as app:
        assert app.ingest().indexed == 3
    return Made(folder, config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dimensions": 16}, "dimensions=16"),
        ({"query_prefix": ""}, 'query_prefix="query: "'),
        ({"document_prefix": "passage: "}, 'document_prefix="passage: "'),
        ({"max_tokens": 32}, "max_tokens=32"),
        ({"dtype": "float16"}, 'dtype="float16"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_changed_option_of_a_local_model(tiny: Made, options: dict[str, Any], words: str) -> None:
    config = {**tiny.config, "embeddings": {**tiny.config["embeddings"], **options}}
    tiny.require_refused(config, (words,))


def test_other_weights_in_the_folder_are_another_revision(tiny: Made, tmp_path: Path) -> None:
    model = describe_sentences(make_bert(tmp_path / "model"), "mean", {"query": "query: "})
    embeddings = {"kind": "huggingface", "model": str(model)}
    same, weights = describe(tmp_path, embeddings), model / "model.safetensors"
    with rag_app.load({**tiny.config, "embeddings": embeddings}) as app:
        assert app.search("bridge").hits  # the same model elsewhere
    data = bytearray(weights.read_bytes())
    data[-4:] = np.asarray([0.25], "<f4").tobytes()
    weights.write_bytes(data)
    other = describe(tmp_path, embeddings)
    assert {name for name in same if same[name] != other[name]} == {"revision"}
    words = (same["revision"], other["revision"])
    tiny.require_refused({**tiny.config, "embeddings": embeddings}, words)
