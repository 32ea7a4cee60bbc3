"""Calls to remote services: pace, retries, refusals, and what they say."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rag_app
from rag_app import registry
from rag_app.errors import IncompleteError, ModelError, UsageError
from rag_app.index.identity import PROBES
from rag_app.remote import Pacer
from tests.faults import FaultyCohere, FaultyOpenAI
from tests.http_server import Refusal, Request, embed_words
from tests.openai_server import OpenAIServer


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestPace:
    """Limits per minute hold in every minute, wherever it begins."""

    @settings(max_examples=200, deadline=None)
    @given(
        requests=st.none() | st.integers(1, 200),
        tokens=st.none() | st.integers(100, 5000),
        sizes=st.lists(st.tuples(st.integers(1, 100), st.floats(0, 30)), min_size=1, max_size=60),
    )
    def test_no_minute_holds_more_than_allowed(
        self, requests: int | None, tokens: int | None, sizes: list[tuple[int, float]]
    ) -> None:
        clock = Clock()
        pacer = Pacer(requests, tokens, clock=clock.read, sleep=clock.sleep)
        sent = []
        for size, idle in sizes:
            clock.now += idle
            pacer.wait(size)
            sent.append((clock.now, size))
        for start, _ in sent:
            minute = [size for at, size in sent if start <= at < start + 60]
            assert requests is None or len(minute) <= requests
            assert tokens is None or sum(minute) <= tokens

    def test_a_limit_is_used_and_not_just_kept(self) -> None:
        clock = Clock()
        pacer = Pacer(60, 6000, clock=clock.read, sleep=clock.sleep)
        for _ in range(601):
            pacer.wait(100)
        assert clock.now - 1000 == pytest.approx(600, rel=0.05)

    def test_without_limits_nothing_waits(self) -> None:
        clock = Clock()
        pacer = Pacer(None, None, clock=clock.read, sleep=clock.sleep)
        for _ in range(100):
            pacer.wait(10**9)
        assert clock.now == 1000

    def test_tokens_that_the_service_counted_higher_count(self) -> None:
        clock = Clock()
        pacer = Pacer(None, 1000, clock=clock.read, sleep=clock.sleep)
        pacer.wait(500)
        pacer.correct(400)
        pacer.wait(200)
        assert clock.now - 1000 >= 60


def build(kind: str, **options: Any) -> Any:
    config = registry.config_class("embeddings", kind)(**options)
    return registry.build("embeddings", kind, config)


def serve(answers: list[Any]) -> tuple[OpenAIServer, list[Request]]:
    """OpenAI's protocol, with these refusals first."""

    class Scripted(OpenAIServer):
        def answer(self, method: str, request: Request) -> Any:
            return answers.pop(0) if answers else super().answer(method, request)

    server = Scripted()
    return server, server.requests


@pytest.fixture
def openai() -> Iterator[Callable[..., tuple[Any, OpenAIServer]]]:
    """`openai(answers, **options)`: the backend, and the server that gives these answers first."""
    opened: list[OpenAIServer] = []

    def make(answers: list[Any] | None = None, **options: Any) -> tuple[Any, OpenAIServer]:
        server, _ = serve(answers or [])
        server.__enter__()
        opened.append(server)
        given = {"base_url": server.url, "model": "m", "timeout": 5, **options}
        return build("openai", **given), server

    yield make
    for server in opened:
        server.__exit__()


class TestRetries:
    """Only what can pass is sent again, when the server says so."""

    def test_waits_as_long_as_the_server_asks(self, openai: Any) -> None:
        model, server = openai([Refusal(429, "slow down", {"Retry-After": "1"})])
        assert len(model.embed_query("a")) == 1536
        assert len(server.requests) == 2
        assert server.gaps[0] >= 1

    def test_reads_a_date_and_milliseconds(self, openai: Any) -> None:
        when = email.utils.formatdate(time.time() + 2, usegmt=True)
        model, server = openai(
            [
                Refusal(503, "later", {"Retry-After": when}),
                Refusal(503, "later", {"retry-after-ms": "300"}),
            ]
        )
        model.embed_query("a")
        assert server.gaps[0] >= 0.9  # the date has whole seconds only
        assert server.gaps[1] >= 0.3

    def test_says_that_it_waits_and_why(self, openai: Any, caplog: Any) -> None:
        model, _ = openai([Refusal(503, "overloaded", {"retry-after-ms": "10"})])
        model.embed_query("a")
        (said,) = [r.getMessage() for r in caplog.records if r.name == "rag_app.remote"]
        assert re.search(r"failed \(503\): overloaded; trying again in 0\.0 s \(1 of 6\)", said)

    def test_an_absurd_wait_is_an_error_at_once(self, openai: Any) -> None:
        model, server = openai([Refusal(429, "tomorrow", {"Retry-After": "86400"})])
        with pytest.raises(ModelError, match="wait 86400 s"):
            model.embed_query("a")
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    def test_what_cannot_pass_is_not_repeated(self, openai: Any, status: int) -> None:
        model, server = openai([Refusal(status, "no")] * 3)
        with pytest.raises(ModelError, match=str(status)):
            model.embed_query("a")
        assert len(server.requests) == 1

    def test_a_used_up_quota_is_not_waited_for(self, openai: Any) -> None:
        model, server = openai([Refusal(429, "insufficient_quota: see your plan")])
        with pytest.raises(ModelError, match="insufficient_quota"):
            model.embed_query("a")
        assert len(server.requests) == 1

    def test_gives_up_after_max_retries_with_the_servers_words(self, openai: Any) -> None:
        model, server = openai([Refusal(500, "melted", {"retry-after-ms": "1"})] * 9, max_retries=2)
        with pytest.raises(ModelError, match=r"failed \(500\): melted") as caught:
            model.embed_query("a")
        assert "max_retries" in caught.value.remedy
        assert len(server.requests) == 3

    def test_a_server_that_is_not_there(self) -> None:
        model = build("openai", base_url="http://127.0.0.1:9/v1", max_retries=1)
        with pytest.raises(ModelError, match="cannot be reached") as caught:
            model.embed_query("a")
        assert caught.value.where == "embeddings.base_url"

    def test_no_key_is_ever_shown(self, openai: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        model, _ = openai(
            [Refusal(400, "bad key sk-verysecretvalue123")], api_key="sk-verysecretvalue123"
        )
        with pytest.raises(ModelError) as caught:
            model.embed_query("a")
        assert "verysecret" not in f"{caught.value}{model!r}{vars(model)!r}"


class TestBatches:
    """Every text gets its own vector, whatever a server refuses."""

    def test_vectors_come_in_the_order_of_the_texts(self, openai: Any) -> None:
        model, server = openai(batch_size=7)
        texts = [f"word{i} and w{i % 5}" for i in range(50)]
        vectors = model.embed_documents(texts)
        assert len(server.requests) == 8
        assert np.allclose(vectors, [embed_words(text, 1536) for text in texts], atol=1e-6)
        assert (model.usage.texts, model.usage.requests) == (50, 8)

    def test_nothing_is_sent_for_nothing(self, openai: Any) -> None:
        model, server = openai()
        assert model.embed_documents([]) == []
        assert server.requests == []

    def test_more_texts_than_the_service_takes_at_once(self, openai: Any) -> None:
        model, server = openai(dimensions=8)
        assert len(model.embed_documents(["a"] * 2500)) == 2500
        assert [len(request.body["input"]) for request in server.requests] == [2048, 452]

    def test_texts_that_are_refused_are_named_and_the_others_are_kept(self, openai: Any) -> None:
        model, server = openai(dimensions=8)
        texts = ["good one", "", "good two", "x " * 9000, "good three"]
        with pytest.raises(IncompleteError) as caught:
            model.embed_documents(texts)
        assert set(caught.value.refused) == {1, 3}
        assert "maximum context length" in caught.value.refused[3]
        assert set(caught.value.vectors) == {0, 2, 4}
        assert not caught.value.stopped

    def test_a_wrong_option_is_not_taken_for_wrong_texts(self, openai: Any) -> None:
        model, server = openai([Refusal(400, "unknown model m")] * 2)
        with pytest.raises(ModelError, match="unknown model m") as caught:
            model.embed_documents(["a", "b", "c", "d"])
        assert not isinstance(caught.value, IncompleteError)
        assert len(server.requests) == 2

    def test_a_failure_on_the_way_hands_over_what_was_paid_for(self, openai: Any) -> None:
        fine = object()
        answers: list[Any] = [fine, Refusal(401, "revoked")]
        model, server = openai(batch_size=2, max_retries=0)
        real = server.answer

        def answer(method: str, request: Request) -> Any:
            given = answers.pop(0)
            return real(method, request) if given is fine else given

        server.answer = answer
        with pytest.raises(IncompleteError, match="refused the key") as caught:
            model.embed_documents(["a", "b", "c", "d"])
        assert set(caught.value.vectors) == {0, 1}
        assert caught.value.stopped

    def test_a_server_that_ignores_dimensions_is_an_error(self, openai: Any) -> None:
        model, server = openai(dimensions=8)
        real = server.answer
        server.answer = lambda method, request: real(
            method, Request(request.path, request.headers, {**request.body, "dimensions": 9})
        )
        with pytest.raises(ModelError, match="9 dimensions where 8 were asked for"):
            model.embed_documents(["a"])

    def test_prefixes_are_sent_and_belong_to_the_identity(self, openai: Any) -> None:
        model, server = openai(query_prefix="query: ", document_prefix="passage: ")
        model.embed_query("a")
        model.embed_documents(["b"])
        sent = [request.body["input"] for request in server.requests]
        assert sent == [["query: a"], ["passage: b"]]
        named = {"query_prefix": "query: ", "document_prefix": "passage: ", "server": server.url}
        assert named.items() <= model.identity.items()

    def test_a_text_that_no_minute_can_hold_is_refused(self, openai: Any) -> None:
        model, server = openai(tokens_per_minute=10)
        with pytest.raises(ModelError, match="tokens_per_minute"):
            model.embed_documents(["a b c d e f g h i j k l"])
        assert server.requests == []

    def test_cost_is_the_services_count_at_the_price_in_force(self, openai: Any) -> None:
        model, _ = openai(price=2.0)
        model.embed_documents(["a b c", "d e"])
        assert model.usage.tokens == 5
        assert model.usage.cost == pytest.approx(5 * 2.0 / 1e6)


CHUNKS = 600


def write_documents(folder: Path) -> set[str]:
    """Thirty documents of twenty chunks each, and one that no service takes."""
    folder.mkdir()
    texts = set()
    for number in range(CHUNKS // 20):
        parts = [
            f"Entry {number}-{i} tells of subject s{number}x{i} and nothing more."
            for i in range(20)
        ]
        texts.update(parts)
        (folder / f"{number:03}.txt").write_text("\n\n".join(parts), encoding="utf-8")
    (folder / "poison.txt").write_text("POISON in the well.", encoding="utf-8")
    return texts


FAULTY = {
    "openai": (FaultyOpenAI, "text-embedding-3-small"),
    "cohere": (FaultyCohere, "embed-english-v3.0"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_service_costs_time_and_nothing_else(kind: str, tmp_path: Path) -> None:
    texts = write_documents(tmp_path / "docs")
    faulty, model = FAULTY[kind]
    with faulty() as server:
        config = {
            "name": "faults",
            "sources": [{"kind": "files", "path": str(tmp_path / "docs")}],
            "splitter": {"kind": "recursive", "chunk_size": 24, "chunk_overlap": 0},
            "embeddings": {
                "kind": kind,
                "model": model,
                "base_url": server.url,
                "timeout": 3,
                "requests_per_minute": 480,
                "api_key": "none-needed",
            },
            "vector_store": {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")},
            "retriever": {"kind": "dense", "k": 1},
            "chain": "extractive",
            "index": {"path": str(tmp_path / "rag")},
        }
        with rag_app.load(config) as app:
            report = app.ingest()
            assert report.chunks_total == CHUNKS
            (refused,) = report.quarantine
            assert refused.source == "poison.txt"
            assert "cannot be processed" in refused.reason
            assert (report.seen, report.indexed) == (31, 30)
            assert server.embedded.keys() == texts | set(PROBES)
            assert set(server.embedded.values()) == {1}
            assert len(server.requests) > 27, "each fault, three times"
            assert server.count_within(6) <= 480 / 60 * 6 + 1
            times = [request.at for request in server.requests]
            for busy in server.busy_at:
                assert min(t for t in times if t > busy) - busy >= 1
            again = app.ingest()
            assert (again.embedded, again.chunks_written) == (0, 0)
            assert again.quarantined == 1
            assert app.search("subject s21x7").hits[0].source == "021.txt"


def test_max_cost_needs_a_price(openai: Any, tmp_path: Path) -> None:
    _, server = openai()
    (tmp_path / "a.txt").write_text("words", encoding="utf-8")
    config = {
        "name": "costs",
        "sources": [{"kind": "files", "path": str(tmp_path / "a.txt")}],
        "embeddings": {"kind": "openai", "model": "unheard-of", "base_url": server.url},
        "vector_store": {"kind": "memory", "path": None},
        "chain": "extractive",
    }
    with rag_app.load(config) as app, pytest.raises(UsageError, match=r"embeddings\.price"):
        app.ingest(max_cost=1.0)
    assert server.requests == []
