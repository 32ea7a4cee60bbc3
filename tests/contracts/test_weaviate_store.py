"""What the Weaviate store promises beyond the contract: its two addresses, limits and schema.

On a server that speaks Weaviate's protocol, see `tests.weaviate_server`.
"""

from __future__ import annotations

import http.server
import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores import _weaviate_client, weaviate
from tests.weaviate_server import WeaviateServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[WeaviateServer]:
    with WeaviateServer() as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        running = request.getfixturevalue("server")
        running.engine.collections.clear()
        running.refuse_object = None


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        config = weaviate.Config(**options)
        opened.append(weaviate.build(config, None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def make_rows(count: int, text: str = "text") -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, 4))
    return [Row(str(i), f"{text} {i}", vector, {"n": i}) for i, vector in enumerate(vectors)]


def find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class TestReaching:
    def test_says_where_nothing_answers(self, open_store: Callable[..., Store]) -> None:
        url = f"http://127.0.0.1:{find_free_port()}"
        store = open_store(url=url)  # opening connects to nothing
        with pytest.raises(StoreError, match=r"vector_store\.url: no server answers") as caught:
            store.count()
        assert url in str(caught.value)

    def test_says_which_of_the_two_addresses_is_wrong(
        self,
        server: WeaviateServer,
        open_store: Callable[..., Store],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_weaviate_client, "SECONDS", 0.5)
        wrong = f"http://127.0.0.1:{find_free_port()}"
        with pytest.raises(StoreError, match=r"vector_store\.grpc_url: .*but no gRPC") as caught:
            open_store(url=server.url, grpc_url=wrong).count()
        assert wrong in str(caught.value)
        assert server.url in str(caught.value)

    def test_a_server_that_stays_silent_is_given_up(
        self, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_weaviate_client, "SECONDS", 0.5)
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            store = open_store(url=f"http://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(StoreError, match="ReadTimeout"):
                store.count()

    def test_says_so_when_it_is_no_weaviate(self, open_store: Callable[..., Store]) -> None:
        class Other(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>")

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            with pytest.raises(StoreError, match="is no Weaviate"):
                open_store(url=f"http://127.0.0.1:{other.server_port}").count()
            other.shutdown()
            thread.join()

    def test_a_wrong_key_is_refused_and_never_shown(self, open_store: Callable[..., Store]) -> None:
        with WeaviateServer(key="right") as locked:
            addresses = {"url": locked.url, "grpc_url": locked.grpc_url}
            for key in ({"api_key": "s3cr3t"}, {}):
                with pytest.raises(StoreError, match=r"vector_store\.api_key") as caught:
                    open_store(**addresses, **key).count()
                assert "s3cr3t" not in str(caught.value)
            store = open_store(**locked.options)
            store.upsert(make_rows(3))
            assert store.count() == 3
            locked.key = "s3cr3t-and-new"  # taken away while the store is open
            with pytest.raises(StoreError) as caught:
                store.search(np.ones(4), 1)
            assert "right" not in str(caught.value)
            assert "api_key" in str(caught.value)

    @pytest.mark.timeout(40)  # the client alone would try for over a minute
    def test_a_server_that_goes_away_is_an_error_within_seconds(
        self, open_store: Callable[..., Store]
    ) -> None:
        with WeaviateServer() as dying:
            store = open_store(**dying.options)
            store.upsert(make_rows(3))
        with pytest.raises(StoreError, match="no gRPC answers") as caught:
            store.search(np.ones(4), 1)
        assert dying.url in str(caught.value)
        with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
            store.upsert(make_rows(1))

    def test_a_server_that_is_too_old_is_refused(self, open_store: Callable[..., Store]) -> None:
        with (
            WeaviateServer(version="1.28.4") as old,
            pytest.raises(StoreError, match=r"Weaviate 1\.28\.4\. Use version 1\.29 or newer"),
        ):
            open_store(**old.options).count()

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("http://localhost:8080", "http://localhost:50051"),
            ("https://weaviate.example", "https://weaviate.example:50051"),
            ("http://[::1]:8080", "http://[::1]:50051"),
            ("https://abc.c0.europe.gcp.weaviate.cloud",
             "https://grpc-abc.c0.europe.gcp.weaviate.cloud:443"),
            ("https://abc.weaviate.network", "https://abc.grpc.weaviate.network:443"),
        ],
    )  # fmt: skip
    def test_the_grpc_address_follows_from_the_url(self, url: str, expected: str) -> None:
        assert _weaviate_client.grpc_url(weaviate.Config(url=url)) == expected
        given = weaviate.Config(url=url, grpc_url="http://other:1")
        assert _weaviate_client.grpc_url(given) == "http://other:1"

    @pytest.mark.parametrize("option", ["url", "grpc_url"])
    def test_no_password_in_a_url(self, option: str) -> None:
        with pytest.raises(ValidationError, match="api_key") as caught:
            weaviate.Config(**{option: "http://me:hunter2@localhost:8080"})
        assert "hunter2" not in str(caught.value)

    def test_nothing_is_logged_of_what_is_stored(
        self,
        server: WeaviateServer,
        open_store: Callable[..., Store],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        server.refuse_object = lambda held: "no" if held["chunk_id"] == "1" else None
        with caplog.at_level(logging.DEBUG), pytest.raises(StoreError):
            open_store(**server.options).upsert(make_rows(3, "private words"))
        assert "private words" not in caplog.text


class TestWriting:
    def test_rows_that_the_server_refuses_are_an_error_that_names_them(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(**server.options)
        refused = {"4", "7"}
        server.refuse_object = lambda held: "disk full" if held["chunk_id"] in refused else None
        with pytest.raises(StoreError, match=r"refused 2 rows of 9.*'4': disk full"):
            store.upsert(make_rows(9))
        server.refuse_object = lambda held: "disk full"
        with pytest.raises(StoreError, match=r"refused 9 rows of 9.*disk full"):
            store.upsert(make_rows(9))
        server.refuse_object = None
        store.upsert(make_rows(9))  # what was written before is replaced
        assert store.count() == 9

    def test_only_what_failed_for_a_passing_reason_is_written_again(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(**server.options)
        seen: list[str] = []

        def refuse_twice(held: dict[str, Any]) -> str | None:
            seen.append(held["chunk_id"])
            return "context deadline exceeded" if seen.count("5") < 3 and seen[-1] == "5" else None

        server.refuse_object = refuse_twice
        store.upsert(make_rows(9))
        assert store.count() == 9
        assert [seen.count(str(i)) for i in range(9)] == [1, 1, 1, 1, 1, 3, 1, 1, 1]

    def test_a_write_after_anothers_drop_makes_our_collection_again(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        one, two = (open_store(**server.options) for _ in range(2))
        one.upsert(make_rows(3))
        two.drop()
        one.upsert(make_rows(2))
        assert two.count() == 2
        (made,) = server.engine.collections.values()
        assert json.loads(made.schema["description"])["name"] == "docs"

    def test_no_message_is_larger_than_the_server_takes(
        self, open_store: Callable[..., Store]
    ) -> None:
        with WeaviateServer(message_bytes=300_000) as small:
            store = open_store(**small.options)
            rows = make_rows(40, "word " * 8000)
            store.upsert(rows)
            assert store.count() == 40
            wanted = {row.id: row.text for row in rows}
            found = store.search(np.ones(4), 40)
            assert {document.id: document.page_content for document, _ in found} == wanted
            assert {row.id: row.text for row in store.fetch(list(wanted))} == wanted
            assert {row.id: row.text for row in store.scan()} == wanted
            large = [Row("small", "", np.ones(4), {}), Row("big", "x" * 300_000, np.ones(4), {})]
            with pytest.raises(StoreError, match=r"'big' takes up to 30\d,\d+ bytes.*300,000"):
                store.upsert(large)
            assert store.fetch(["small"]) == []


class TestLimits:
    def test_k_and_filters_may_pass_the_servers_maximum(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(**server.options)
        vectors = np.random.default_rng(0).standard_normal((12_000, 2))
        store.upsert([Row(str(i), "", v, {"day": f"{i % 2}"}) for i, v in enumerate(vectors)])
        found = store.search(np.ones(2), 11_000)
        cosines = [cosine for _, cosine in found]
        assert len({document.id for document, _ in found}) == 11_000
        assert cosines == sorted(cosines, reverse=True)
        assert len(store.search(np.ones(2), 20_000, {"day": {"$gte": "0"}})) == 12_000
        assert len(store.search(np.ones(2), 10, {"day": {"$gt": "0"}})) == 10
        assert len(store.search(np.ones(2), 9000, {"day": {"$gt": "0"}})) == 6000

    def test_a_smaller_maximum_is_told_with_its_name(
        self, open_store: Callable[..., Store]
    ) -> None:
        with WeaviateServer(maximum_results=50) as small:
            store = open_store(**small.options)
            store.upsert(make_rows(60))
            assert len(store.search(np.ones(4), 50)) == 50
            with pytest.raises(StoreError, match="Set QUERY_MAXIMUM_RESULTS on the server"):
                store.search(np.ones(4), 60)


class TestFilters:
    @pytest.mark.parametrize("version", ["1.29.0", "1.34.0"])
    def test_conditions_of_all_kinds_on_old_and_new_servers(
        self, open_store: Callable[..., Store], version: str
    ) -> None:
        with WeaviateServer(version=version) as old_or_new:
            store = open_store(**old_or_new.options)
            store.upsert(
                [
                    Row("a", "", np.ones(2), {"x": 1, "tags": ["p", "q"]}),
                    Row("b", "", np.ones(2), {"x": 2.5, "tags": "a p here"}),
                    Row("c", "", np.ones(2), {"x": None}),
                    Row("d", "", np.ones(2), {"y": {"z": True}}),
                ]
            )
            for filter, wanted in {
                '{"x": 1.0}': "a", '{"x": {"$ne": 1}}': "bcd", '{"x": null}': "cd",
                '{"x": {"$nin": [1, null]}}': "b", '{"x": {"$gt": 1}}': "b",
                '{"x": {"$not": {"$gt": 1}}}': "acd", '{"x": {"$exists": false}}': "d",
                '{"tags": {"$contains": "p"}}': "ab", '{"y.z": true}': "d",
                '{"$not": {"tags": {"$contains": "q"}}}': "bcd", '{"x": {"$in": []}}': "",
            }.items():  # fmt: skip
                found = store.search(np.ones(2), 9, json.loads(filter))
                assert "".join(sorted(d.id or "" for d, _ in found)) == wanted, filter

    @pytest.mark.parametrize(
        "filter",
        [
            {"n": 700},
            {"n": {"$gte": 990}},
            {"n": {"$gt": 10, "$lt": 13}, "even": True},
            {"$or": [{"n": {"$in": [5, 6]}}, {"tags": {"$contains": "t7"}}]},
            {"even": {"$ne": True}},
            {"missing": {"$exists": True}},
            {"day": {"$gte": "2024-03-01", "$lt": "2024-03-05"}},
        ],
    )
    def test_run_inside_the_server_in_one_question(
        self, server: WeaviateServer, open_store: Callable[..., Store], filter: dict[str, Any]
    ) -> None:
        store = open_store(**server.options)
        vectors = np.random.default_rng(1).standard_normal((1000, 3))
        days = [f"2024-{i % 12 + 1:02}-{i % 28 + 1:02}T10:{i % 60:02}" for i in range(1000)]
        store.upsert(
            [
                Row(
                    str(i),
                    "",
                    v,
                    {"n": i, "even": i % 2 == 0, "tags": [f"t{i % 100}"], "day": days[i]},
                )
                for i, v in enumerate(vectors)
            ]
        )
        server.calls.clear()
        store.search(np.ones(3), 5, filter)
        assert server.calls == ["Search"]

    def test_a_row_with_more_values_than_are_indexed_is_still_found(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(**server.options)
        long = {"list": [f"v{i}" for i in range(5000)], "x": 1, "y": "s"}
        store.upsert([Row("long", "", np.ones(2), long), Row("short", "", np.ones(2), {"x": 2})])
        for filter in (
            {"x": 1}, {"x": {"$lt": 2}}, {"y": {"$exists": True}}, {"y": {"$gte": "a"}},
            {"list": {"$contains": "v4999"}}, {"x": {"$ne": 2}}, {"missing": None, "y": "s"},
        ):  # fmt: skip
            assert [d.id for d, _ in store.search(np.ones(2), 1, filter)] == ["long"], filter
        assert store.search(np.ones(2), 9, {"list": {"$contains": "v5000"}}) == []


class TestCollection:
    def test_refuses_one_that_another_program_made(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        server.engine.create(
            {"class": "RagApp_docs", "vectorConfig": {"default": {"vectorizer": {"none": {}}}}}
        )
        store = open_store(**server.options)
        for use in (store.count, lambda: store.search(np.ones(2), 1), store.drop):
            with pytest.raises(StoreError, match=r"'RagApp_docs' was not written by this rag-app"):
                use()

    def test_the_options_reach_the_graph_and_nothing_is_compressed_or_cut_up(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        open_store(**server.options, m=8, ef_construction=77, ef_search=55).upsert(make_rows(2))
        (made,) = server.engine.collections.values()
        graph = made.schema["vectorConfig"]["default"]["vectorIndexConfig"]
        assert (graph["maxConnections"], graph["efConstruction"], graph["ef"]) == (8, 77, 55)
        assert graph["distance"] == "cosine"
        assert graph["rq"]["enabled"] is False
        assert made.schema["vectorConfig"]["default"]["vectorizer"] == {"none": {}}
        text, tokens = made.property_named("text"), made.property_named("tokens")
        assert text is not None
        assert tokens is not None
        assert not text["indexSearchable"]
        assert not text["indexFilterable"]
        assert tokens["tokenization"] == "field"

    def test_a_graph_made_otherwise_is_refused_and_ef_search_may_change(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        open_store(**server.options, m=8).upsert(make_rows(3))
        with pytest.raises(StoreError, match=r"vector_store\.m: .*made with 8, .*asks for 32"):
            open_store(**server.options).count()
        with pytest.raises(StoreError, match=r"ef_construction: .*made with 128"):
            open_store(**server.options, m=8, ef_construction=99).count()
        assert open_store(**server.options, m=8, ef_search=-1).count() == 3
        (made,) = server.engine.collections.values()
        assert made.schema["vectorConfig"]["default"]["vectorIndexConfig"]["ef"] == -1
        with pytest.raises(ValidationError, match="0 candidates"):
            weaviate.Config(ef_search=0)

    def test_cosines_stay_exact_when_somebody_compresses_the_vectors(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        rows = make_rows(20)
        open_store(**server.options).upsert(rows)
        (made,) = server.engine.collections.values()
        made.schema["vectorConfig"]["default"]["vectorIndexConfig"]["rq"]["enabled"] = True
        found = open_store(**server.options).search(rows[3].vector, 20)
        units = [row.vector / np.linalg.norm(row.vector) for row in rows]
        exact = {row.id: float(unit @ units[3]) for row, unit in zip(rows, units, strict=True)}
        assert {document.id: cosine for document, cosine in found} == pytest.approx(exact, abs=1e-6)

    def test_names_that_weaviate_would_take_for_the_same_are_apart(
        self, server: WeaviateServer, open_store: Callable[..., Store]
    ) -> None:
        names = ["docs", "Docs", "DOCS", "do-cs", "do_cs", "x" * 400]
        stores = [open_store(name, **server.options) for name in names]
        for i, store in enumerate(stores):
            store.upsert(make_rows(i + 1))
        assert [store.count() for store in stores] == [1, 2, 3, 4, 5, 6]
