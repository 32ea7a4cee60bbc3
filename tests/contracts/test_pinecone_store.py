"""What the Pinecone store promises beyond the contract: its limits, its delays, its indexes.

On a server of Pinecone's protocol (`tests/pinecone_server.py`), through the vendor's own client.
"""

from __future__ import annotations

import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.filters import matches, parse
from rag_app.store import Row, Store
from rag_app.vector_stores import pinecone
from tests.pinecone_server import PineconeServer, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Open = Callable[..., Store]

KEY = "pcsk_a-secret-of-the-tests"


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with PineconeServer(key=KEY) as one:
        yield one


@pytest.fixture
def open_store(server: PineconeServer) -> Iterator[Open]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        config = pinecone.Config(**{"url": server.url, "api_key": KEY, **options})
        opened.append(pinecone.build(config, None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def make_rows(count: int, dimension: int = 8, text: str = "text") -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, dimension))
    return [Row(str(i), f"{text} {i}", vector, {"n": i}) for i, vector in enumerate(vectors)]


def draw_text(length: int) -> str:
    """A text that hardly gets smaller by compression."""
    return "".join(
        random.Random(length).choices([chr(0x4E00 + i) for i in range(20_000)], k=length)
    )


def calls(server: PineconeServer) -> list[str]:
    """What was asked since the last look, without the index's name."""
    told = [request.replace("/rag-app-8/", "") for request in server.requests]
    server.requests.clear()
    return told


class TestService:
    def test_says_where_nothing_answers(self, open_store: Open) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        store = open_store(url=url)  # opening connects to nothing
        with pytest.raises(StoreError, match=r"vector_store\.pinecone.*vector_store\.url") as said:
            store.count()
        assert url in str(said.value)

    def test_a_silent_server_is_an_error_not_a_wait(self, open_store: Open) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            store = open_store(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
            with pytest.raises(StoreError, match=r"timed out.*vector_store\.timeout"):
                store.count()

    def test_a_wrong_key_is_refused_and_not_shown(self, open_store: Open) -> None:
        store = open_store(api_key="pcsk_another-secret")
        with pytest.raises(StoreError, match=r"401.*vector_store\.api_key") as said:
            store.count()
        assert "another-secret" not in str(said.value) + repr(said.value)
        assert "another-secret" not in repr(store._rows.__dict__)

    def test_a_throttled_request_is_sent_again(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        store = open_store()
        store.upsert(make_rows(3))
        server.throttle(2, 0.01)
        assert len(store.search(np.ones(8), 9)) == 3
        server.throttle(99, 0.01)
        with pytest.raises(StoreError, match="429.*raise the project's limits"):
            store.search(np.ones(8), 9)

    def test_the_key_of_the_environment_goes_to_pinecone_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = {"environment": {"PINECONE_API_KEY": KEY}}
        own = pinecone.Config.model_validate({}, context=context)
        assert own.api_key is not None
        assert own.api_key.get_secret_value() == KEY
        for url in (
            "http://localhost:5081",
            "https://pinecone.io.example",
            "https://apipinecone.io",
        ):
            other = pinecone.Config.model_validate({"url": url}, context=context)
            assert other.api_key is None
        monkeypatch.delenv("PINECONE_API_KEY", raising=False)
        with pytest.raises(StoreError, match="PINECONE_API_KEY is not set"):
            pinecone.build(pinecone.Config(), None, "docs")  # type: ignore[arg-type]

    def test_the_environment_moves_nothing(
        self, monkeypatch: pytest.MonkeyPatch, server: PineconeServer, open_store: Open
    ) -> None:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", "http://127.0.0.1:9")
        monkeypatch.setenv("PINECONE_ADDITIONAL_HEADERS", '{"Api-Key": "of the environment"}')
        store = open_store()
        store.upsert(make_rows(2))
        assert store.count() == 2

    @pytest.mark.parametrize(
        "given",
        [
            {"url": "https://user:pass@pinecone.example"},
            {"url": "pinecone.example"},
            {"index_name": "Upper"},
            {"index_name": "x" * 38},
            {"cloud": "moon"},
            {"namespace": "x"},
            {"wait_seconds": 0},
        ],
    )
    def test_options_are_checked(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValidationError) as said:
            pinecone.Config(**given)
        assert "pass@" not in str(said.value)


class TestIndexes:
    def test_each_dimension_has_an_index_of_cosine_where_the_config_says(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        options = {"index_name": "mine", "cloud": "gcp", "region": "europe-west4"}
        open_store("one", **options).upsert(make_rows(2, 8))
        open_store("two", **options).upsert(make_rows(2, 3))
        open_store("three", **options).upsert(make_rows(2, 8))
        assert sorted(server.indexes) == ["mine-3", "mine-8"]
        made = server.indexes["mine-8"].model
        (field,) = made["schema"]["fields"].values()
        assert field == {"type": "dense_vector", "dimension": 8, "metric": "cosine"}
        where = {"deployment_type": "managed", "cloud": "gcp", "region": "europe-west4"}
        assert made["deployment"].items() >= where.items()
        assert {"one", "three"} <= set(server.indexes["mine-8"].namespaces)

    @pytest.mark.parametrize("change", [{"region": "eu-west-1"}, {"cloud": "gcp"}])
    def test_an_index_elsewhere_is_refused(self, open_store: Open, change: dict[str, str]) -> None:
        open_store().upsert(make_rows(2))
        (option,) = change
        with pytest.raises(StoreError, match=rf"vector_store\.{option}.*Set it to (us-east-1|aws)"):
            open_store(**change).count()

    def test_an_index_of_another_metric_is_refused(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        open_store().upsert(make_rows(2))
        server.indexes["rag-app-8"].model["schema"]["fields"]["_values"]["metric"] = "euclidean"
        with pytest.raises(StoreError, match="metric euclidean.*another index_name"):
            open_store().count()

    def test_a_new_index_is_waited_for(self, open_store: Open, server: PineconeServer) -> None:
        server.ready_delay = 0.4
        open_store().upsert(make_rows(2))
        server.ready_delay = 60
        with pytest.raises(StoreError, match=r"'rag-app-5'.*not seen within 0\.3 seconds"):
            open_store("other", wait_seconds=0.3).upsert(make_rows(2, 5))

    def test_an_index_that_cannot_answer_is_not_taken_for_an_empty_one(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        open_store().upsert(make_rows(2))
        status = {"ready": False, "state": "Terminating"}
        server.indexes["rag-app-8"].model["status"] = status
        with pytest.raises(StoreError, match="'rag-app-8' is in the state 'Terminating'"):
            open_store().count()

    def test_drop_leaves_the_index_and_its_other_collections(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        one, two = open_store("one"), open_store("two")
        one.upsert([*make_rows(3), Row("long", draw_text(60_000), np.ones(8), {})])
        two.upsert([*make_rows(3), Row("long", draw_text(60_000), np.ones(8), {})])
        one.drop()
        assert (one.count(), two.count()) == (0, 4)
        (long,) = two.fetch(["long"])
        assert long.text == draw_text(60_000)
        held = server.indexes["rag-app-8"].namespaces
        assert sorted(name for name, each in held.items() if each.records) == [
            "rag-app.collections",
            "rag-app.parts-" + next(n for n in held if "parts-" in n and held[n].records)[14:],
            "two",
        ]

    def test_a_namespace_of_another_program_is_refused_and_kept(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        open_store("ours").upsert(make_rows(2))
        held = server.indexes["rag-app-8"].namespaces
        held["theirs"] = held["ours"]
        with pytest.raises(StoreError, match="'theirs'.*not written by this rag-app"):
            open_store("theirs").upsert(make_rows(5))
        assert len(held["theirs"].records) == 2

    def test_another_format_is_refused(self, server: PineconeServer, open_store: Open) -> None:
        open_store().upsert(make_rows(2))
        marks = server.indexes["rag-app-8"].namespaces["rag-app.collections"].records
        for _, metadata in marks.values():
            metadata["rag_app"] = 2.0
        with pytest.raises(StoreError, match=r"format 2\.0, this rag-app reads 1"):
            open_store().count()

    def test_a_collection_made_anew_elsewhere_is_not_written_into_the_old_index(
        self, open_store: Open
    ) -> None:
        one, two = open_store(), open_store()
        one.upsert(make_rows(3))
        two.drop()
        two.upsert(make_rows(3, 5))
        with pytest.raises(StoreError, match="8 dimensions, the collection 5"):
            one._rows.upsert(make_rows(1, 8))
        assert len(one.search(np.ones(5), 9)) == 3


class FailingServer(PineconeServer):
    """Refuses the requests that write row "1500"."""

    broken = True

    def _upsert(self, index: Any, given: dict[str, Any]) -> Any:
        if self.broken and any(v["metadata"].get("id") == "1500" for v in given["vectors"]):
            raise RefusedError(403, "no write units are left")
        return super()._upsert(index, given)


def test_a_write_that_fails_half_way_says_so_and_can_be_done_again() -> None:
    with FailingServer() as server:
        store = pinecone.build(pinecone.Config(url=server.url), None, "docs")  # type: ignore[arg-type]
        rows = make_rows(3000)
        with pytest.raises(StoreError, match=r"403.*no write units are left.*plan"):
            store.upsert(rows)
        server.broken = False
        store.upsert(rows)
        assert store.count() == 3000
        assert {row.id for row in store.scan()} == {row.id for row in rows}
        store.close()


class TestDelays:
    def test_a_write_that_is_not_seen_in_time_is_an_error(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        store = open_store(wait_seconds=0.3)
        store.upsert(make_rows(2))
        server.delay = 60
        with pytest.raises(StoreError, match=r"not seen within 0\.3 seconds.*wait_seconds"):
            store.upsert(make_rows(3))
        with pytest.raises(StoreError, match=r"a removal was not seen within 0\.3 seconds"):
            store.delete(["0"])

    def test_without_waiting_a_write_returns_before_it_is_seen(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        store = open_store(wait_for_writes=False)
        store.upsert(make_rows(2))
        server.delay = 60
        store.upsert(make_rows(9))
        assert len(store.search(np.ones(8), 9)) <= 2

    def test_a_service_that_tells_no_positions_is_not_trusted(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        server.positions = False
        with pytest.raises(StoreError, match="wait_for_writes: false"):
            open_store().upsert(make_rows(2))

    def test_threads_and_openings_that_wait_do_not_disturb_each_other(
        self, open_store: Open
    ) -> None:
        stores = [open_store() for _ in range(4)]
        seen: list[int] = []

        def work(number: int) -> None:
            row = Row(f"w{number}", "t", np.eye(8)[number], {"n": number})
            stores[number].upsert([row])
            seen.append(len(stores[number].search(np.eye(8)[number], 1, {"n": number})))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1, 1, 1, 1]
        assert stores[0].count() == 4


FILTERS: list[tuple[dict[str, Any], bool]] = [
    ({"n": 7}, True),
    ({"n": {"$gte": 3, "$lt": 9}}, True),
    ({"n": {"$not": {"$gt": 3}}}, True),
    ({"day": {"$gte": "2024-03", "$lt": "2024-06-01"}}, True),
    ({"day": {"$not": {"$lte": "2024-03-02T10:00:00Z"}}}, True),
    ({"deep.list": {"$contains": 3}}, True),
    ({"deep.list": [1, 3]}, True),
    ({"missing": None}, True),
    ({"sparse": {"$exists": False}, "n": {"$in": [4, 8, 12.0]}}, True),
    ({"$or": [{"sparse": None}, {"day": {"$ne": "2024-03-01"}}]}, True),
    ({"day": {"$contains": "-03-"}}, False),
    ({"day": {"$gt": "2024-03-01T00:00:00.000000+00:00"}}, False),
    ({"n": {"$lt": 2**60}}, False),
]


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[PineconeServer, Store, list[dict[str, Any]]]]:
    metadatas: list[dict[str, Any]] = [
        {
            "n": i if i % 7 else float(i),
            "day": f"2024-{i % 12 + 1:02}-{i % 28 + 1:02}",
            "deep": {"list": [i % 3, i % 5]},
            **({"sparse": i % 2 == 0} if i % 4 else {}),
        }
        for i in range(300)
    ]
    with PineconeServer() as server:
        store = pinecone.build(pinecone.Config(url=server.url), None, "docs")  # type: ignore[arg-type]
        vectors = np.random.default_rng(0).standard_normal((300, 8))
        store.upsert([Row(str(i), "", vectors[i], m) for i, m in enumerate(metadatas)])
        yield server, store, metadatas
        store.close()


class TestFilters:
    @pytest.mark.parametrize(("filter", "alone"), FILTERS, ids=lambda value: str(value)[:40])
    def test_pinecone_decides_alone_what_it_can(
        self, filled: Any, filter: dict[str, Any], alone: bool
    ) -> None:
        server, store, metadatas = filled
        wanted = {str(i) for i, m in enumerate(metadatas) if matches(parse(filter), m)}
        server.requests.clear()
        server.bodies.clear()
        k = 5
        found = store.search(np.ones(8), k, filter)
        assert len(found) == min(k, len(wanted))
        assert {document.id for document, _ in found} <= wanted
        if alone:  # one question, for no more than what was asked for
            assert [body["topK"] for body in server.bodies] == [k]
        everything = store.search(np.ones(8), 300, filter)
        assert {document.id for document, _ in everything} == wanted

    def test_a_rare_substring_among_many_is_found(self, open_store: Open) -> None:
        store = open_store()
        vectors = np.random.default_rng(0).standard_normal((3000, 8))
        rows = [Row(str(i), "", v, {"s": f"row {i}."}) for i, v in enumerate(vectors)]
        store.upsert(rows)
        found = store.search(-vectors[1234], 2, {"s": {"$contains": " 1234."}})
        assert [(document.id, round(cosine, 4)) for document, cosine in found] == [("1234", -1.0)]


class TestLimits:
    def test_a_question_is_one_request_and_finding_nothing_one_more(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        store = open_store()
        store.upsert(make_rows(30))
        calls(server)
        assert len(store.search(np.ones(8), 10)) == 10
        assert calls(server) == ["POST query"]
        assert store.search(np.ones(8), 10, {"n": 99}) == []
        assert calls(server) == ["POST query", "GET vectors/fetch"]

    def test_many_rows_with_large_texts_are_found_whole(self, open_store: Open) -> None:
        store = open_store()
        rows = make_rows(300, text="ä" * 15_000)
        store.upsert(rows)
        found = store.search(np.ones(8), 300)
        assert {d.id: d.page_content for d, _ in found} == {row.id: row.text for row in rows}
        assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)

    def test_more_than_one_search_finds(self, open_store: Open) -> None:
        store = open_store()
        rows = make_rows(10_050, 4)
        store.upsert(rows)
        exact = sorted((float(r.vector[0] / np.linalg.norm(r.vector)) for r in rows), reverse=True)
        found = store.search([1, 0, 0, 0], 10_020)
        assert [c for _, c in found] == pytest.approx(exact[:10_020], abs=1e-5)
        rare = store.search([1, 0, 0, 0], 2, {"n": {"$lt": 2**60}, "x": {"$contains": "y"}})
        assert rare == []

    @pytest.mark.parametrize("length", [9_000, 20_000, 400_000])
    def test_a_text_of_any_size_comes_back(self, open_store: Open, length: int) -> None:
        store = open_store()
        row = Row("i" * 5000, draw_text(length), np.ones(8), {"m": draw_text(length), "n": 1})
        store.upsert([row, *make_rows(3)])
        (document, _), *_ = store.search(np.ones(8), 2, {"n": 1, "m": row.metadata["m"]})
        assert (document.id, document.page_content) == (row.id, row.text)
        assert document.metadata == row.metadata
        assert {each.id for each in store.scan()} == {row.id, "0", "1", "2"}
        assert store.count() == 4

    def test_metadata_of_very_many_values_comes_back_and_is_found(self, open_store: Open) -> None:
        store = open_store()
        many = {"tags": [f"tag {i}" for i in range(8000)], "n": 99}
        store.upsert([Row("many", "x", np.ones(8), many), *make_rows(100)])
        (found, _) = store.search(-np.ones(8), 1, {"tags": {"$contains": "tag 7999"}})[0]
        assert (found.id, found.metadata) == ("many", many)
        assert len(store.search(np.ones(8), 200, {"n": {"$lt": 50}})) == 50

    def test_replaced_and_removed_texts_leave_nothing(
        self, server: PineconeServer, open_store: Open
    ) -> None:
        store = open_store()

        def count_parts() -> int:
            """The server's own count, once all writes have come through."""
            store.upsert(make_rows(1))
            return sum(
                len(each.records)
                for name, each in server.indexes["rag-app-8"].namespaces.items()
                if "parts-" in name
            )

        store.upsert([Row("long", draw_text(100_000), np.ones(8), {}), *make_rows(3)])
        first = count_parts()
        assert first > 5
        store.upsert([Row("long", draw_text(40_000), np.ones(8), {})])
        assert store.fetch(["long"])[0].text == draw_text(40_000)
        assert 0 < count_parts() < first
        store.upsert([Row("long", "short", np.ones(8), {})])
        assert count_parts() == 0
        store.upsert([Row("long", draw_text(40_000), np.ones(8), {})])
        store.delete(["long"])
        assert count_parts() == 0

    def test_a_lost_part_is_an_error(self, server: PineconeServer, open_store: Open) -> None:
        store = open_store()
        store.upsert([Row("long", draw_text(60_000), np.ones(8), {}), *make_rows(3)])
        namespaces = server.indexes["rag-app-8"].namespaces
        parts = next(each for name, each in namespaces.items() if "parts-" in name)
        del parts.records[next(iter(parts.records))]
        with pytest.raises(StoreError, match="lacks 1 of its parts"):
            store.search(np.ones(8), 4)
        assert len(store.fetch(["0", "1"])) == 2
