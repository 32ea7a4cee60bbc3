"""What the PostgreSQL store promises beyond the contract, on a real server: its tables, its index,
its connections, and what is left when somebody dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from pydantic import ValidationError

from rag_app.errors import StoreError
from rag_app.filters import matches, parse
from rag_app.store import Row, Store
from rag_app.vector_stores import pgvector
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> str:
    """The URL of a new, empty database."""
    name = f"d{uuid.uuid4().hex[:12]}"
    run_sql(server.url, f"CREATE DATABASE {name}")
    return server.url.replace("/postgres", f"/{name}")


@pytest.fixture
def open_store(database: str) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(collection: str = "docs", **options: Any) -> Store:
        config = pgvector.Config(**{"url": database, **options})
        opened.append(pgvector.build(config, None, collection))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def run_sql(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def make_rows(count: int, dimension: int = 8, seed: int = 0) -> list[Row]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return [Row(str(i), f"text {i}", vector, {"n": i}) for i, vector in enumerate(vectors)]


def list_exactly(rows: list[Row], query: Any, k: int) -> list[str]:
    vectors = np.array([row.vector for row in rows])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    return [rows[place].id for place in np.argsort(-cosines)[:k]]


def list_found(store: Store, query: Any, k: int, filter: Any = None) -> list[str]:
    return [document.id or "" for document, _ in store.search(query, k, filter)]


def list_indexes(url: str) -> str:
    query = "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'rag_app_docs%'"
    return "\n".join(definition for (definition,) in run_sql(url, query))


class TestServer:
    def test_says_where_nothing_answers_and_keeps_the_password(
        self, open_store: Callable[..., Store]
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        store = open_store(url=f"postgresql://bob:s3cr3t@127.0.0.1:{port}/db")
        with pytest.raises(StoreError, match="vector_store.url leads to it") as caught:
            store.count()
        assert f"postgresql://127.0.0.1:{port}/db" in str(caught.value)
        assert "s3cr3t" not in str(caught.value)

    def test_a_wrong_password_is_named_as_such_and_not_shown(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        user, _, rest = database.partition("@")
        store = open_store(url=f"{user.rpartition(':')[0]}:wr0ng-one@{rest}")
        with pytest.raises(StoreError, match="the user and the password") as caught:
            store.count()
        assert "wr0ng-one" not in str(caught.value)

    def test_gives_up_on_a_server_that_accepts_and_says_nothing(
        self, open_store: Callable[..., Store]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            store = open_store(url=f"postgresql://bob:x@127.0.0.1:{port}/db?connect_timeout=2")
            with pytest.raises(StoreError, match="timeout"):
                store.count()

    def test_gives_up_on_a_server_that_falls_silent(
        self,
        server: PostgresServer,
        open_store: Callable[..., Store],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from rag_app.vector_stores import _pgvector_connections

        monkeypatch.setattr(_pgvector_connections, "GRACE", 0.5)
        store = open_store(timeout=0.5)
        store.upsert(make_rows(3))
        server.pause()
        try:
            with pytest.raises(StoreError, match="did not answer within 1 seconds"):
                store.count()
        finally:
            server.resume()
        assert store.count() == 3

    def test_a_statement_that_takes_too_long_is_ended(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(timeout=0.3)
        store.upsert(make_rows(3))
        (table,) = run_sql(database, "SELECT table_name FROM rag_app_collections")[0]
        with psycopg.connect(database) as other:
            other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            with pytest.raises(StoreError, match="timeout.*timeout"):
                store.upsert(make_rows(3))
        store.upsert(make_rows(4))
        assert store.count() == 4

    def test_goes_on_after_the_server_was_started_anew(
        self, server: PostgresServer, open_store: Callable[..., Store]
    ) -> None:
        store = open_store()
        store.upsert(make_rows(3))
        server.stop()
        with pytest.raises(StoreError, match="Check that the server runs"):
            store.count()
        server.start()
        assert store.count() == 3
        server.stop()
        server.start()
        store.upsert(make_rows(5))  # nothing is sent on a connection that is known to be dead
        assert len(store.search(np.ones(8), 9)) == 5

    def test_reading_is_tried_again_when_its_connection_breaks(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(connections=1)
        store.upsert(make_rows(3))
        (table,) = run_sql(database, "SELECT table_name FROM rag_app_collections")[0]
        counted: list[int] = []
        with psycopg.connect(database) as other:
            other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            reader = threading.Thread(target=lambda: counted.append(store.count()))
            reader.start()
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not (found := other.execute(waiting).fetchall()):
                other.execute("SELECT pg_sleep(0.02), pg_stat_clear_snapshot()")
            other.execute("SELECT pg_terminate_backend(%s)", found[0])
        reader.join()
        assert counted == [3]

    def test_close_leaves_no_connection(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(connections=3)
        store.upsert(make_rows(3))
        threads = [threading.Thread(target=store.count) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rag-app'"
        query += f" AND datname = '{database.rpartition('/')[2]}'"
        assert 1 <= run_sql(database, query)[0][0] <= 3
        store.close()
        for _ in range(100):
            if run_sql(database, query) == [(0,)]:
                return
            time.sleep(0.05)
        pytest.fail("a connection outlives its store")

    def test_lost_settings_of_the_session_are_an_error(
        self, open_store: Callable[..., Store]
    ) -> None:
        """As behind a pooler that lends another session to each transaction."""
        store = open_store(connections=1)
        store.upsert(make_rows(3))
        with store._rows._connections.lend() as connection:  # type: ignore[attr-defined]
            connection.execute("DISCARD ALL")
        with pytest.raises(StoreError, match="pooler of sessions"):
            store.search(np.ones(8), 3)


class TestRights:
    @pytest.fixture
    def guest(self, database: str) -> str:
        """The URL of a role that owns nothing."""
        name = f"g{uuid.uuid4().hex[:8]}"
        run_sql(database, f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")
        return f"postgresql://{name}:guest@{database.partition('@')[2]}"

    def test_who_may_not_create_the_extension_is_told_the_command(
        self, guest: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(url=guest)
        assert store.count() == 0
        with pytest.raises(StoreError, match="CREATE EXTENSION vector;"):
            store.upsert(make_rows(1))

    def test_who_may_not_create_tables_is_told_what_to_grant(
        self, database: str, guest: str, open_store: Callable[..., Store]
    ) -> None:
        run_sql(database, "CREATE EXTENSION vector")
        with pytest.raises(StoreError, match="permission denied.*Grant.*schema_name"):
            open_store(url=guest).upsert(make_rows(1))

    def test_who_may_only_read_can_search(
        self, database: str, guest: str, open_store: Callable[..., Store]
    ) -> None:
        open_store().upsert(make_rows(3))
        name = guest.partition("//")[2].partition(":")[0]
        run_sql(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        reader = open_store(url=guest)
        assert len(reader.search(np.ones(8), 9)) == 3
        with pytest.raises(StoreError, match="permission denied"):
            reader.delete(["1"])

    def test_the_extension_may_live_in_a_schema_of_its_own(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        run_sql(database, 'CREATE SCHEMA "Ext 100%"; CREATE EXTENSION vector SCHEMA "Ext 100%"')
        store = open_store(schema_name="Rag", exact_below=0)
        rows = make_rows(30)
        store.upsert(rows)
        query = np.ones(8)
        assert list_found(store, query, 5, {"n": {"$lt": 30}}) == list_exactly(rows, query, 5)
        tables = "SELECT schemaname FROM pg_tables WHERE tablename LIKE 'rag_app%'"
        assert run_sql(database, tables) == [("Rag",), ("Rag",)]


class TestCollection:
    def test_refuses_one_of_another_format_and_a_table_that_is_not_ours(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        open_store().upsert(make_rows(3))
        run_sql(database, "UPDATE rag_app_collections SET format = 99")
        for use in (open_store().count, open_store().drop):
            with pytest.raises(StoreError, match="format 99"):
                use()
        run_sql(
            database, "DROP TABLE rag_app_collections; CREATE TABLE rag_app_collections (x int)"
        )
        with pytest.raises(StoreError, match="not made by this rag-app"):
            open_store().count()

    @pytest.mark.parametrize(
        ("made", "asked", "words"),
        [
            (
                {"m": 8},
                {},
                "vector_store.m: .* made with 8, the config asks for 16. Set it to 8",
            ),
            ({"ef_construction": 99}, {}, "vector_store.ef_construction: .* with 99"),
            ({"index": "none"}, {}, "vector_store.index: .* with none, the config asks for hnsw"),
            ({"index": "ivfflat", "lists": 40}, {"index": "ivfflat"}, "vector_store.lists: .* 40"),
        ],
    )
    def test_an_index_made_otherwise_is_refused_not_ignored(
        self,
        open_store: Callable[..., Store],
        made: dict[str, Any],
        asked: dict[str, Any],
        words: str,
    ) -> None:
        open_store(**made).upsert(make_rows(3))
        for use in (open_store(**asked).count, lambda: open_store(**asked).upsert(make_rows(1))):
            with pytest.raises(StoreError, match=words):
                use()
        assert open_store(**made).count() == 3

    def test_eight_openings_may_make_it_at_once(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        stores = [open_store(exact_below=0) for _ in range(8)]
        failures: list[BaseException] = []

        def work(store: Store, number: int) -> None:
            try:
                store.upsert([Row(f"{number}", "t", np.ones(8), {})])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(s, i)) for i, s in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert stores[0].count() == 8
        assert run_sql(database, "SELECT count(*) FROM rag_app_collections") == [(1,)]
        assert list_indexes(database).count("USING hnsw") == 1

    def test_writers_of_the_same_rows_do_not_lock_each_other_out(
        self, open_store: Callable[..., Store]
    ) -> None:
        rows = make_rows(300)
        stores = [open_store() for _ in range(3)]
        failures: list[BaseException] = []

        def work(store: Store, number: int) -> None:
            try:
                for turn in range(6):
                    store.upsert(rows[::-1] if (turn + number) % 2 else rows)
                    store.delete([row.id for row in rows[: 150 * (number % 2)]])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(s, i)) for i, s in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_another_opening_dropped_it_and_made_it_anew(
        self, open_store: Callable[..., Store]
    ) -> None:
        one, two = open_store(), open_store()
        one.upsert(make_rows(3))
        assert one.count() == two.count() == 3
        two.drop()
        two.upsert(make_rows(2))
        assert one.count() == 2
        assert len(one.search(np.ones(8), 9)) == 2
        two.drop()
        one.upsert(make_rows(4))
        assert two.count() == 4

    def test_control_characters_keep_their_order_and_their_parts(
        self, open_store: Callable[..., Store]
    ) -> None:
        """What PostgreSQL cannot hold is escaped; conditions see no difference."""
        store = open_store()
        pieces = [
            "",
            "\x00",
            "\x01",
            "\x02",
            "\x03",
            "\x04",
            "a",
            "\x01\x02\x02",
            "\x00a",
            "\x02\x01",
        ]
        values = [first + second for first in pieces for second in pieces]
        metadata: list[dict[str, Any]] = [{"v": value, value: [value]} for value in values]
        vectors = np.random.default_rng(0).standard_normal((len(values), 4))
        store.upsert([Row(f"{v}#{i}", v, vectors[i], metadata[i]) for i, v in enumerate(values)])
        assert {(row.id, row.text) for row in store.scan()} == {
            (f"{v}#{i}", v) for i, v in enumerate(values)
        }
        for value in pieces:
            for filter in (
                {"v": value}, {"v": {"$gt": value}}, {"v": {"$lte": value}}, {value: [value]},
                {"v": {"$contains": value}}, {value: {"$contains": value}},
            ):  # fmt: skip
                node = parse(filter)
                wanted = {values[i] for i, each in enumerate(metadata) if matches(node, each)}
                found = {d.page_content for d, _ in store.search(np.ones(4), 200, filter)}
                assert found == wanted, filter


class TestIndex:
    def test_is_built_from_as_many_rows_as_asked_with_the_options_given(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(exact_below=200, m=5, ef_construction=33, ef_search=77)
        rows = make_rows(250)
        store.upsert(rows[:150])
        assert "hnsw" not in list_indexes(database)
        store.upsert(rows[150:])
        assert "USING hnsw" in list_indexes(database)
        assert "m='5', ef_construction='33'" in list_indexes(database)
        with store._rows._connections.lend() as connection:  # type: ignore[attr-defined]
            shown = connection.execute("SHOW hnsw.ef_search").fetchall()
        assert shown == [("77",)]

    def test_more_candidates_find_more(self, open_store: Callable[..., Store]) -> None:
        rows = make_rows(3000, 32)
        open_store(exact_below=0, m=3, ef_construction=6).upsert(rows)
        queries = np.random.default_rng(9).standard_normal((20, 32))
        found = {}
        for ef_search in (10, 400):
            store = open_store(exact_below=0, m=3, ef_construction=6, ef_search=ef_search)
            found[ef_search] = sum(
                len({*list_found(store, q, 10)} & {*list_exactly(rows, q, 10)}) for q in queries
            )
        assert found[10] < found[400]

    def test_k_above_ef_search_and_rare_matches_come_whole(
        self, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rag_app.vector_stores import _pgvector_rows

        monkeypatch.setattr(_pgvector_rows, "MOST_SCANNED", 1000)  # or all would be read anyway
        store = open_store(exact_below=0, ef_search=10)
        rows = make_rows(5000)
        store.upsert(rows)
        query = rows[0].vector
        assert len(store.search(query, 300)) == 300
        assert list_found(store, query, 10, {"n": {"$in": [7, 4999]}}) in (
            ["7", "4999"],
            ["4999", "7"],
        )
        assert len(store.search(query, 50, {"n": {"$gte": 2500}})) == 50
        store.delete([str(n) for n in range(4000)])
        assert len(store.search(query, 1000)) == 1000

    @pytest.mark.parametrize("index", ["ivfflat", "none"])
    def test_the_other_indexes_find_what_is_nearest(
        self, index: str, database: str, open_store: Callable[..., Store]
    ) -> None:
        options = {"lists": 20, "probes": 20} if index == "ivfflat" else {}
        store = open_store(index=index, exact_below=0, **options)
        rows = make_rows(1000)
        store.upsert(rows)
        assert ("USING ivfflat" in list_indexes(database)) is (index == "ivfflat")
        for query in np.random.default_rng(3).standard_normal((5, 8)):
            assert list_found(store, query, 10) == list_exactly(rows, query, 10)
            assert list_found(store, query, 3, {"n": {"$lt": 400}}) == list_exactly(
                rows[:400], query, 3
            )

    def test_vectors_of_more_than_2000_dimensions_are_ranked_by_their_exact_cosine(
        self, database: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store(exact_below=0)
        rows = make_rows(60, 3072)
        store.upsert(rows)
        assert "halfvec(3072)" in list_indexes(database)
        query = rows[5].vector + rows[6].vector
        found = store.search(query, 10)
        assert [document.id for document, _ in found] == list_exactly(rows, query, 10)
        for document, cosine in found:
            vector = rows[document.metadata["n"]].vector
            exact = vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
            assert cosine == pytest.approx(exact, abs=1e-6)

    def test_vectors_that_no_index_takes_need_index_none(
        self, open_store: Callable[..., Store]
    ) -> None:
        with pytest.raises(StoreError, match="5000 dimensions.*Set vector_store.index to none"):
            open_store().upsert(make_rows(2, 5000))
        assert open_store().count() == 0
        exact = open_store(index="none")
        exact.upsert(make_rows(3, 5000))
        assert list_found(exact, make_rows(3, 5000)[1].vector, 1) == ["1"]
        with pytest.raises(StoreError, match="pgvector takes 16000"):
            open_store("big", index="none").upsert(make_rows(1, 16_001))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"index": "none", "m": 8}, "m is an option of index hnsw, not of none"),
            ({"probes": 3}, "probes is an option of index ivfflat"),
            ({"m": 70}, "below twice m"),
            ({"index": "ivfflat", "probes": 200}, "above lists 100"),
            ({"schema_name": 'a"b'}, "schema_name"),
            ({"url": "mysql://localhost/x"}, "not a PostgreSQL URL"),
            ({"url": "postgresql://a:b@c@d/x"}, "%40"),
        ],
    )
    def test_options_that_cannot_be_are_refused(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            pgvector.Config(**{"url": "postgresql://localhost/x", **options})


WRITER = """
import json, sys
import numpy as np
from rag_app.store import Row
from rag_app.vector_stores import pgvector
url, count = json.loads(sys.argv[1])
store = pgvector.build(pgvector.Config(url=url), None, "docs")
vectors = np.random.default_rng(1).standard_normal((count, 384))
rows = [Row(str(i), "new " * 200, vector, {"n": i}) for i, vector in enumerate(vectors)]
print("ready", flush=True)
store.upsert(rows)
print("done", flush=True)
"""


class TestDeath:
    """Of an upsert either everything is there or nothing, whoever dies."""

    COUNT = 9000

    @pytest.mark.parametrize("victim", ["writer", "server"])
    def test_nothing_is_half_written(
        self, victim: str, server: PostgresServer, database: str, open_store: Callable[..., Store]
    ) -> None:
        store = open_store()
        old = [Row(str(i), "old", v, {}) for i, v in enumerate(np.eye(384)[:100])]
        store.upsert(old)
        store.close()
        command = [sys.executable, "-c", WRITER, json.dumps([database, self.COUNT])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            self._wait_until_it_writes(database)
            if victim == "writer":
                os.kill(writer.pid, signal.SIGKILL)
            else:
                server.kill()
            said, told = writer.communicate(timeout=60)
        assert b"done" not in said
        if victim == "server":
            server.start()
            assert b"StoreError" in told
        again = open_store()
        assert again.count() == 100
        assert {row.text for row in again.scan()} == {"old"}
        assert list_found(again, np.eye(384)[7], 1) == ["7"]
        again.upsert(make_rows(200, 384))
        assert again.count() == 200

    def _wait_until_it_writes(self, database: str) -> None:
        """Until pages of the upsert went through, which nobody else may see yet."""
        busy = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rag-app' AND"
            " backend_xid IS NOT NULL AND query LIKE 'INSERT INTO%'"
            " AND clock_timestamp() - xact_start > interval '0.1 seconds'"
        )
        for _ in range(2000):
            if run_sql(database, busy)[0][0]:
                return
            time.sleep(0.005)
        pytest.fail("the writer never wrote")
