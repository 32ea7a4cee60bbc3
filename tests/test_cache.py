"""The embedding cache: a text is paid for once, whichever index asks; costs are known before."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rag_app
from rag_app.check import check
from rag_app.errors import BudgetError, ConfigError, IndexStateError, ModelError
from rag_app.index.cache import EmbeddingCache, open_file, open_url
from rag_app.index.identity import PROBES
from tests.http_server import Refusal, Request, count_words
from tests.openai_server import OpenAIServer
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer

Open = Callable[[str], EmbeddingCache]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with PostgresServer() as server:
        yield server.url


@pytest.fixture(params=["file", "redis", "postgres"])
def open_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """`open_cache(identity)`: a cache on one place, opened anew each time."""
    opened: list[EmbeddingCache] = []

    def make(identity: str) -> EmbeddingCache:
        identity = f"{request.node.name} {identity}"
        if request.param == "file":
            cache = open_file(tmp_path / "folder" / "embeddings.sqlite", identity)
        else:
            cache = open_url(request.getfixturevalue(f"{request.param}_url"), identity)
        opened.append(cache)
        return cache

    yield make
    for cache in opened:
        cache.close()
        cache.close()


class TestPlaces:
    """A file, Redis and PostgreSQL keep vectors alike."""

    def test_gives_back_the_same_bits_to_another_opening(self, open_cache: Open) -> None:
        vectors = np.random.default_rng(0).standard_normal((1200, 48)).astype(np.float32)
        texts = [f"text {i} 日本 \x00 {'x' * (i % 7)}" for i in range(1200)]
        one = open_cache("a")
        assert one.find(texts) == {}
        one.keep(dict(zip(texts, vectors, strict=True)))
        found = open_cache("a").find([*texts, "unknown"])
        assert found.keys() == set(texts)
        assert all(found[t].tobytes() == v.tobytes() for t, v in zip(texts, vectors, strict=True))
        assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}

    def test_another_identity_finds_nothing(self, open_cache: Open) -> None:
        open_cache("a").keep({"text": [1.0, 2.0]})
        assert open_cache("b").find(["text"]) == {}
        # Neither do an identity and a text that read the same when put together.
        assert open_cache("at").find(["ext"]) == {}

    def test_nothing_is_asked_for_nothing(self, open_cache: Open) -> None:
        assert open_cache("a").find([]) == {}
        open_cache("a").keep({})

    def test_threads_may_share_it(self, open_cache: Open) -> None:
        cache = open_cache("a")
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for i in range(20):
                    cache.keep({f"{number} {i}": [float(number), i + 1.0]})
                    held = cache.find([f"{number} {i}"])[f"{number} {i}"]
                    assert held.tolist() == [number, i + 1]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


@pytest.mark.parametrize(
    "damage",
    ["x'010203'", "'text'", "1", "zeroblob(length(vector))", "(SELECT max(vector) FROM v)"],
)
def test_what_is_not_what_was_kept_is_not_found(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "embeddings.sqlite"
    cache = open_file(path, "a")
    cache.keep({"text": [1.0, 2.0], "other": [3.0, 4.0]})
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE v AS SELECT vector FROM vectors")
        db.execute(f"UPDATE vectors SET vector = {damage}")
        db.commit()
    assert len(cache.find(["text", "other"])) == (damage.startswith("(SELECT"))  # one has its own
    cache.keep({"text": [1.0, 2.0]})
    assert cache.find(["text"])["text"].tolist() == [1, 2]
    cache.close()


@pytest.mark.parametrize("scheme", ["redis://:sesame@{}/0", "postgresql://me:sesame@{}/db"])
def test_a_dead_server_is_named_without_its_password(scheme: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = scheme.format(f"127.0.0.1:{free.getsockname()[1]}")
    cache = open_url(url, "a")
    with pytest.raises(IndexStateError, match=r"index\.cache_url .*127\.0\.0\.1") as caught:
        cache.find(["text"])
    assert "sesame" not in str(caught.value)
    cache.close()


def make_config(folder: Path, url: str, **changes: Any) -> dict[str, Any]:
    """A pipeline over `folder`/docs with OpenAI's protocol at `url`."""
    return {
        "name": "cached",
        "sources": [{"kind": "files", "path": str(folder / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 0},
        "embeddings": {"kind": "openai", "base_url": url, "price": 10.0},
        "vector_store": {"kind": "memory", "path": str(folder / "vectors.sqlite")},
        "chain": "extractive",
        "index": {"path": str(folder / "rag")},
        **changes,
    }


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten documents of five chunks; 48 distinct texts, for one is in three documents."""
    (tmp_path / "docs").mkdir()
    for number in range(10):
        parts = [f"Entry {number}-{i} tells of subject s{number}x{i} alone." for i in range(5)]
        parts[4] = (
            "These are the very same words that stand at the end of three of the ten documents."
            if number < 3
            else parts[4]
        )
        (tmp_path / "docs" / f"{number}.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return tmp_path


def is_of_probes(request: Request) -> bool:
    """Whether a request asks for the probe sentences, which every index has embedded once."""
    return not set(request.body["input"]) - set(PROBES)


def count_embedded(server: OpenAIServer) -> Counter[str]:
    """How often each text was sent, but for the probe sentences."""
    sent = (text for request in server.requests for text in request.body["input"])
    return Counter(text for text in sent if text not in PROBES)


class Died(BaseException):
    """As if the process were killed."""


class TestIngest:
    """What an ingest takes from the cache, it does not send."""

    def test_a_text_is_sent_once_whatever_index_asks(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            first = app.ingest()
        assert (first.embedded, first.cached, first.chunks_total) == (48, 0, 50)
        assert first.tokens == sum(map(count_words, [[t] for t in count_embedded(server)]))
        assert first.cost == pytest.approx(first.tokens * 10 / 1e6)
        other = {"vector_store": {"kind": "memory", "path": str(folder / "second.sqlite")}}
        with rag_app.load(make_config(folder, server.url, name="other", **other)) as app:
            second = app.ingest()
            assert app.search("subject s4x2").hits[0].source == "4.txt"
        assert (second.embedded, second.cached, second.chunks_total) == (0, 48, 50)
        assert second.cost == 0
        assert second.saved is not None
        assert second.saved > 0
        with rag_app.load(make_config(folder, server.url)) as app:
            assert app.ingest(rebuild=True).embedded == 0
        assert set(count_embedded(server).values()) - {1} == set()

    def test_another_model_or_prefix_is_another_entry(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        for number, change in enumerate(({}, {"document_prefix": "passage: "}, {"dimensions": 8})):
            config = make_config(folder, server.url, name=f"index-{number}")
            config["embeddings"] |= change
            config["vector_store"]["path"] = str(folder / f"{number}.sqlite")
            with rag_app.load(config) as app:
                assert app.ingest().embedded == 48

    def test_can_be_off_and_is_for_a_store_in_memory(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        off = make_config(folder, server.url, index={"path": str(folder / "rag"), "cache": False})
        with rag_app.load(off) as app:
            app.ingest()
        memory = make_config(folder, server.url, vector_store={"kind": "memory", "path": None})
        with rag_app.load(memory) as app:
            app.ingest()
        assert not list(folder.rglob("embeddings.sqlite"))
        memory["index"] = {"path": str(folder / "rag"), "cache": True}
        with rag_app.load(memory) as app:
            app.ingest()
        assert list(folder.rglob("embeddings.sqlite"))

    def test_a_shared_server_serves_other_machines(
        self, folder: Path, server: OpenAIServer, redis_url: str
    ) -> None:
        """Machines are folders here: they share nothing but the cache's address."""
        for number, embedded in enumerate((48, 0)):
            machine = folder / f"machine{number}"
            shutil.copytree(folder / "docs", machine / "docs")
            index = {"path": str(machine / "rag"), "cache_url": redis_url}
            with rag_app.load(make_config(machine, server.url, index=index)) as app:
                assert app.ingest().embedded == embedded

    def test_a_killed_ingest_pays_no_text_twice(self, folder: Path, server: OpenAIServer) -> None:
        config = make_config(folder, server.url)
        config["embeddings"]["batch_size"] = 4

        def die(stage: str, done: int, total: int | None) -> None:
            if stage == "embedding" and done:
                raise Died

        with rag_app.load(config) as app, pytest.raises(Died):
            app.ingest(progress=die)
        assert sum(count_embedded(server).values()) > 0
        with rag_app.load(config) as app:
            assert app.ingest().chunks_total == 50
        assert set(count_embedded(server).values()) == {1}

    def test_the_address_must_be_a_caches(self, folder: Path) -> None:
        config = make_config(folder, "http://localhost/v1", index={"cache_url": "ftp://x"})
        with pytest.raises(ConfigError, match="postgresql://"):
            rag_app.load(config)


def test_an_ingest_that_stopped_before_its_first_write_leaves_no_answer(
    folder: Path, server: OpenAIServer
) -> None:
    """What is only planned is not there: neither an answer nor "nothing was found"."""

    def die(stage: str, done: int, total: int | None) -> None:
        if stage == "embedding":
            raise Died

    with rag_app.load(make_config(folder, server.url)) as app:
        with pytest.raises(Died):
            app.ingest(progress=die)
        for use in (app.search, app.ask):
            with pytest.raises(IndexStateError, match="first ingest has not ended"):
                use("anything")
        assert [c.ok for c in check(app) if c.part.startswith("retriever")] == [False]


def die_early(stage: str, done: int, total: int | None) -> None:
    if stage == "embedding":
        raise Died


class TestInterruptions:
    """What an interrupted ingest left is finished, or given up, and always counted once."""

    def test_a_planned_document_that_cannot_be_read_any_more(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            with pytest.raises(Died):
                app.ingest(progress=die_early)
            (folder / "docs" / "3.txt").write_text("")
            (folder / "docs" / "4.txt").unlink()
            plan, report = app.plan(), app.ingest()
        assert (plan.new, plan.quarantined, plan.embed) == (8, 1, 38)
        assert (report.seen, report.indexed, report.quarantined) == (9, 8, 1)
        assert (report.embedded, report.chunks_total) == (38, 40)
        assert not [
            text for text in count_embedded(server) if text.startswith(("Entry 3", "Entry 4"))
        ]

    def test_what_was_written_and_not_committed_goes_when_its_document_is_refused(
        self, folder: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = server.answer

        def refuse(method: str, request: Any) -> Any:
            poisoned = any("POISON" in text for text in request.body["input"])
            return Refusal(400, "no") if poisoned else real(method, request)

        server.answer = refuse  # type: ignore[method-assign]
        config = make_config(folder, server.url)
        with monkeypatch.context() as patch, rag_app.load(config) as app:

            def killed(*_: Any) -> None:
                raise Died

            patch.setattr("rag_app.index.journal.Journal.publish", killed)
            with pytest.raises(Died):
                app.ingest()
        (folder / "docs" / "0.txt").write_text("POISON")
        with rag_app.load(config) as app:
            report = app.ingest()
            assert [each.source for each in report.quarantine] == ["0.txt"]
            assert report.chunks_total == 45 == app.store.count()

    def test_a_budget_leaves_an_index_as_it_was_though_the_splitter_changed(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            app.ingest()
        splitter = {"kind": "recursive", "chunk_size": 60, "chunk_overlap": 0}
        changed = make_config(folder, server.url, splitter=splitter)
        with rag_app.load(changed) as app, pytest.raises(BudgetError):
            app.ingest(rebuild=True, max_cost=0)
        with rag_app.load(make_config(folder, server.url)) as app:
            assert app.search("subject s4x2").hits[0].source == "4.txt"

    def test_a_reply_that_is_no_vector_is_not_kept(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        real = server.answer

        def answer_zero(method: str, request: Any) -> Any:
            made: Any = real(method, request)
            if is_of_probes(request):
                return made
            made["data"][3]["embedding"] = b64encode(np.zeros(1536, "<f4").tobytes()).decode()
            return made

        server.answer = answer_zero  # type: ignore[method-assign]
        with rag_app.load(make_config(folder, server.url)) as app:
            with pytest.raises(ModelError, match="no vector"):
                app.ingest()
            server.answer = real  # type: ignore[method-assign]
            report = app.ingest()
        assert (report.embedded, report.cached, report.chunks_total) == (1, 47, 50)

    def test_without_a_cache_a_run_pays_for_a_text_once(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        for number in range(100, 160):
            parts = [f"Entry {number}-{i} tells of subject s{number}x{i} alone." for i in range(4)]
            ending = "These are the very same words that stand at the end of so many documents."
            text = "\n\n".join([*parts, ending])
            (folder / "docs" / f"{number}.txt").write_text(text, encoding="utf-8")
        memory = make_config(folder, server.url, vector_store={"kind": "memory", "path": None})
        with rag_app.load(memory) as app:
            plan, report = app.plan(), app.ingest()
        assert report.embedded == plan.embed == len(count_embedded(server))
        assert set(count_embedded(server).values()) == {1}


class TestPlan:
    """`--plan` says what an ingest will do, and asks nobody."""

    def test_announces_what_happens_then(self, folder: Path, server: OpenAIServer) -> None:
        (folder / "docs" / "broken.pdf").write_bytes(b"no PDF")
        with rag_app.load(make_config(folder, server.url)) as app:
            plan = app.plan()
            assert server.requests == []
            assert app.store.count() == 0
            report = app.ingest()
            after = app.plan()
        assert (plan.seen, plan.new, plan.quarantined) == (11, 10, 1)
        assert (report.seen, report.indexed, report.quarantined) == (11, 10, 1)
        assert (plan.chunks, plan.embed, plan.held, plan.cached) == (50, 48, 0, 0)
        assert report.embedded == plan.embed
        assert plan.tokens >= (report.tokens or 0)  # the estimate errs upwards here
        assert plan.cost == pytest.approx(plan.tokens * 10 / 1e6)
        assert (after.new, after.unchanged, after.embed, after.chunks) == (0, 10, 0, 0)

    def test_knows_what_index_and_cache_have(self, folder: Path, server: OpenAIServer) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            app.ingest()
        changed = folder / "docs" / "5.txt"
        changed.write_text(
            changed.read_text()
            + "\n\nOne new chunk has so many words of its own that no other chunk can take them in."
        )
        (folder / "docs" / "9.txt").unlink()
        asked = len(server.requests)
        with rag_app.load(make_config(folder, server.url)) as app:
            plan = app.plan()
            assert (plan.new, plan.unchanged, plan.gone) == (1, 8, 1)
            assert (plan.chunks, plan.held, plan.cached, plan.embed) == (6, 5, 0, 1)
        other = make_config(folder, server.url, name="other")
        other["vector_store"]["path"] = str(folder / "other.sqlite")
        with rag_app.load(other) as app:
            plan = app.plan()
            assert (plan.held, plan.cached, plan.embed) == (0, 43, 1)
            assert plan.saved is not None
            assert plan.saved > (plan.cost or 0)
        assert len(server.requests) == asked

    def test_what_the_store_has_vectors_of_costs_nothing_without_a_cache(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        config = make_config(folder, server.url, index={"path": str(folder / "r"), "cache": False})
        with rag_app.load(config) as app:
            app.ingest()
            changed = folder / "docs" / "5.txt"
            new = "One new chunk has so many words of its own that no other can take them in."
            changed.write_text(f"{changed.read_text()}\n\n{new}")
            plan = app.plan()
            assert (plan.chunks, plan.held, plan.embed) == (6, 5, 1)
            assert plan.cost is not None
            report = app.ingest(max_cost=plan.cost)
            assert (report.embedded, report.chunks_total) == (1, 51)
        assert set(count_embedded(server).values()) == {1}

    def test_counts_what_an_interrupted_ingest_left(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        config = make_config(folder, server.url, index={"path": str(folder / "r"), "cache": False})
        with rag_app.load(config) as app, pytest.raises(BudgetError):
            app.ingest(max_cost=0.0)
        with rag_app.load(config) as app:
            assert app.plan().embed == 48

    def test_says_when_an_ingest_would_refuse(self, folder: Path, server: OpenAIServer) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            app.ingest()
            assert not app.plan().rebuild
        other_model = make_config(folder, server.url)
        other_model["embeddings"]["dimensions"] = 8
        store = {"kind": "faiss", "path": str(folder / "faiss")}
        other_store = make_config(folder, server.url, vector_store=store)
        for config, embed in ((other_model, 48), (other_store, 0)):
            with rag_app.load(config) as app:
                plan = app.plan()
                assert (plan.rebuild, plan.new, plan.held, plan.embed) == (True, 10, 0, embed)
                with pytest.raises(IndexStateError, match="rebuild"):
                    app.ingest()
                assert app.ingest(rebuild=True).embedded == embed

    def test_time_is_that_of_the_rate_limits(self, folder: Path, server: OpenAIServer) -> None:
        config = make_config(folder, server.url)
        config["embeddings"] |= {"tokens_per_minute": 100, "requests_per_minute": 60}
        with rag_app.load(config) as app:
            plan = app.plan()
        assert plan.minutes == pytest.approx(plan.tokens / 100)

    def test_prints_it(self, folder: Path, server: OpenAIServer) -> None:
        file = folder / "rag-app.yaml"
        file.write_text(json.dumps(make_config(folder, server.url)))
        command = [str(Path(sys.executable).parent / "rag-app"), "ingest", "--plan"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert "documents: 10 seen = 10 new or changed" in ran.stdout
        assert "48 to embed" in ran.stdout
        assert "at $10 per million tokens" in ran.stdout
        ran = subprocess.run([*command, "--json"], cwd=folder, capture_output=True, check=True)
        planned = json.loads(ran.stdout)
        assert planned["chunks"] == {"planned": 50, "held": 0, "cached": 0, "embed": 48}
        assert server.requests == []


class TestBudget:
    """`--max-cost` is not passed."""

    def test_stops_before_the_first_request_when_all_would_cost_too_much(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            cost = app.plan().cost or 0
            with pytest.raises(BudgetError, match="max-cost"):
                app.ingest(max_cost=cost * 0.9)
            assert not count_embedded(server)
            assert app.ingest(max_cost=cost).embedded == 48

    def test_keeps_an_index_as_it_was(self, folder: Path, server: OpenAIServer) -> None:
        with rag_app.load(make_config(folder, server.url)) as app:
            app.ingest()
            (folder / "docs" / "new.txt").write_text("Quite another matter.")
            with pytest.raises(BudgetError):
                app.ingest(max_cost=0)
            assert app.search("subject s4x2").hits[0].source == "4.txt"

    def test_stops_when_the_service_counts_more_than_was_estimated(
        self, folder: Path, server: OpenAIServer
    ) -> None:
        real = server.answer

        def count_double(method: str, request: Any) -> Any:
            answer: Any = real(method, request)
            answer["usage"]["prompt_tokens"] *= 20
            return answer

        server.answer = count_double  # type: ignore[method-assign]
        for number in range(10, 60):
            parts = [f"Entry {number}-{i} tells of subject s{number}x{i} alone." for i in range(5)]
            (folder / "docs" / f"{number}.txt").write_text("\n\n".join(parts), encoding="utf-8")
        with rag_app.load(make_config(folder, server.url)) as app:
            with pytest.raises(BudgetError, match="is spent"):
                app.ingest(max_cost=(app.plan().cost or 0) * 2)
            sent = [request for request in server.requests if not is_of_probes(request)]
            assert 0 < len(sent) < 3
            server.answer = real  # type: ignore[method-assign]
            assert app.ingest().chunks_total == 300
        assert set(count_embedded(server).values()) == {1}

    def test_exit_status_and_words(self, folder: Path, server: OpenAIServer) -> None:
        (folder / "rag-app.yaml").write_text(json.dumps(make_config(folder, server.url)))
        command = [str(Path(sys.executable).parent / "rag-app"), "ingest", "--max-cost", "0.000001"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 6
        assert "Traceback" not in ran.stderr
        assert "--max-cost" in ran.stderr
        assert not count_embedded(server)
