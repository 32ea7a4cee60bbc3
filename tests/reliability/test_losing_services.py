"""Every way to lose a bucket or a table without meaning it: nothing leaves the index because of it.

S3 is moto's HTTP server behind a gate that damages answers; PostgreSQL is the real one.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from rag_app.errors import IndexStateError, SourceError
from tests.postgres_server import PostgresServer
from tests.reliability.losing import Losing
from tests.reliability.s3_gate import Fault, S3Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# -- S3 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def gate(service: str) -> Iterator[S3Gate]:
    with S3Gate(service) as gate:
        yield gate


@pytest.fixture
def bucket(service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Nine notes in pages of four."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "4")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    session = boto3.session.Session("testing", "testing", region_name="us-east-1")
    resource = session.resource("s3", endpoint_url=service)
    made = resource.create_bucket(Bucket="notes")
    for number in range(9):
        made.put_object(Key=f"docs/{number}.md", Body=f"The note {number}.".encode())
    yield made
    made.objects.delete()
    resource.meta.client.close()


@pytest.fixture
def stored(tmp_path: Path, gate: S3Gate, bucket: Any) -> Losing:
    """The index of the bucket, filled through the gate."""
    place = {"bucket": "notes", "prefix": "docs/", "endpoint_url": gate.url, "region": "us-east-1"}
    index = Losing(tmp_path, {"kind": "s3", **place})
    assert index.ingest().indexed == 9
    return index


DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
HTML = b"<html><body>Please accept the terms of this network.</body></html>"
AGAIN = (
    b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>more</NextContinuationToken></ListBucketResult>"
)
LISTS: dict[str, tuple[int, Callable[[bytes], Fault], str]] = {
    "the second page fails": (2, lambda _: Fault(500, b""), "the bucket 'notes': 500"),
    "the second page is denied": (2, lambda _: Fault(403, DENIED), "was denied .AccessDenied"),
    "the second page is cut": (
        2,
        lambda body: Fault(200, body[: len(body) // 2]),
        "the bucket 'notes': 500",
    ),
    "the connection ends in the second page": (
        2,
        lambda body: Fault(200, body[: len(body) // 2], len(body)),
        "the bucket 'notes': 500|cannot be asked",
    ),
    "the second page is empty": (2, lambda _: Fault(200, b""), "something else than a whole list"),
    "the second page is of a portal": (2, lambda _: Fault(200, HTML), "something else than"),
    "the second page lacks objects": (
        2,
        lambda body: Fault(200, re.sub(b"<Contents>.*?</Contents>", b"", body, count=1)),
        "something else than a whole list",
    ),
    "the first page does not lead on": (
        1,
        lambda body: Fault(200, re.sub(b"<NextContinuationToken>.*?</Next.*?>", b"", body)),
        "ended the list in its middle",
    ),
    "the second page leads to itself": (2, lambda _: Fault(200, AGAIN), "PaginationError"),
}


@pytest.mark.parametrize("way", LISTS)
def test_a_list_that_ends_early_stops_the_ingest(stored: Losing, gate: S3Gate, way: str) -> None:
    page, damage, words = LISTS[way]

    def fault(path: str, body: bytes) -> Fault | None:
        at = 2 if "continuation-token" in path else 1
        return damage(body) if "list-type=2" in path and at == page else None

    gate.fault = fault
    stored.refuse(SourceError, words)


@pytest.mark.parametrize("way", ["emptied", "another prefix", "another bucket", "unreachable"])
def test_a_bucket_that_is_lost_stops_the_ingest(stored: Losing, bucket: Any, way: str) -> None:
    words = "none of the 0 objects under s3://notes/"
    if way == "emptied":
        bucket.objects.delete()
    elif way == "another prefix":
        stored.sources[0]["prefix"] = "dosc/"
    elif way == "another bucket":
        stored.sources[0]["bucket"], words = "ntoes", "there is no bucket 'ntoes'"
    else:
        stored.sources[0]["endpoint_url"], words = "http://127.0.0.1:9", "127.0.0.1:9 cannot be"
    stored.refuse(SourceError, words)


OBJECTS: dict[str, tuple[Callable[[bytes], Fault], str]] = {
    "fails": (lambda _: Fault(500, b""), "the bucket 'notes': 500"),
    "is denied": (lambda _: Fault(403, DENIED), "was denied"),
    "is cut": (lambda body: Fault(200, body[:4], len(body)), "cannot be asked"),
    "was deleted": (
        lambda _: Fault(404, b"<Error><Code>NoSuchKey</Code></Error>"),
        "was changed while it was being read",
    ),
}


@pytest.mark.parametrize("way", OBJECTS)
def test_an_object_that_cannot_be_fetched_is_kept(
    stored: Losing, gate: S3Gate, bucket: Any, way: str
) -> None:
    damage, words = OBJECTS[way]
    bucket.put_object(Key="docs/5.md", Body=b"The note 5, with other words.")
    gate.fault = lambda path, body: damage(body) if path.endswith("5.md") else None
    assert stored.quarantine(words) == ["s3://notes/docs/5.md"]


def test_an_object_that_was_deleted_leaves_the_index(stored: Losing, bucket: Any) -> None:
    bucket.Object("docs/5.md").delete()
    report = stored.ingest()
    assert (report.deleted, report.unchanged) == (1, 8)


# -- databases -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with PostgresServer() as server:
        yield server.url


@pytest.fixture
def table(tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection to a database with 1,200 notes, and the index of them."""
    monkeypatch.setenv("NOTES_URL", postgres.replace("postgresql:", "postgresql+psycopg:"))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS notes CASCADE")
        connection.execute("CREATE TABLE notes (id int, text text, divisor int DEFAULT 1)")
        connection.execute(
            "INSERT INTO notes SELECT n, 'Note ' || n FROM generate_series(1,1200) n"
        )
        connection.execute("CREATE VIEW shown AS SELECT id, text FROM notes ORDER BY id")
        query = "SELECT id, text FROM shown"
        index = Losing(tmp_path, {"kind": "sql", "url": "${NOTES_URL}", "query": query})
        assert index.ingest().indexed == 1200
        yield connection, index


SHOW = "CREATE OR REPLACE VIEW shown AS SELECT id, {} AS text FROM notes ORDER BY id"
DATABASE: dict[str, tuple[str, str]] = {
    "no rows": ("TRUNCATE notes", "gives no rows"),
    "no table": ("DROP VIEW shown", 'relation "shown" does not exist'),
    "another column": ("ALTER VIEW shown RENAME text TO words", 'column "text" does not exist'),
    "the connection is lost at row 700": (
        SHOW.format(
            "CASE WHEN id = 700 THEN pg_terminate_backend(pg_backend_pid())::text ELSE text END"
        ),
        "terminating connection|connection",
    ),
    "an error at row 700": (SHOW.format("(text || 0 / (700 - id))"), "division by zero"),
    "texts that are null": (SHOW.format("NULL::text"), "no text"),
    "rows that cannot be seen": (
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY;"
        "CREATE OR REPLACE VIEW shown AS SELECT id, text FROM notes WHERE NOT row_security_active("
        "'notes') AND id < 0",
        "gives no rows",
    ),
}


@pytest.mark.parametrize("way", DATABASE)
def test_a_table_that_is_lost_keeps_its_rows(table: Any, way: str) -> None:
    connection, index = table
    statement, words = DATABASE[way]
    connection.execute(statement)
    index.quarantine(words)


def test_a_query_that_fails_under_another_name_keeps_its_rows(table: Any) -> None:
    connection, index = table
    connection.execute("DELETE FROM notes WHERE id > 3")
    assert index.ingest(allow_delete=True).deleted == 1197
    connection.execute("TRUNCATE notes")
    index.sources[0]["name"] = "texts"
    index.refuse(IndexStateError, "sql:texts could not be read whole")


def test_rows_that_were_deleted_leave_the_index(table: Any) -> None:
    connection, index = table
    connection.execute("DELETE FROM notes WHERE id % 10 = 0")
    report = index.ingest()
    assert (report.deleted, report.unchanged) == (120, 1080)


SQLITE: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "there is no SQLite file"),
    "emptied": (lambda file: file.write_bytes(b""), "no such table: notes"),
    "cut in half": (
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        "malformed|disk I/O error|is not a database",
    ),
    "overwritten in its middle": (
        lambda file: file.write_bytes(
            file.read_bytes()[:40960] + bytes(16384) + file.read_bytes()[57344:]
        ),
        "malformed",
    ),
}


@pytest.mark.parametrize("way", SQLITE)
def test_a_database_file_that_is_lost_keeps_its_rows(tmp_path: Path, way: str) -> None:
    file = tmp_path / "notes.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        rows = [(number, f"Note {number} is long: {'word ' * 60}") for number in range(300)]
        database.executemany("INSERT INTO notes VALUES (?, ?)", rows)
    database.close()
    query = {"url": f"sqlite:///{file}", "query": "SELECT id, text FROM notes"}
    index = Losing(tmp_path, {"kind": "sql", **query})
    assert index.ingest().indexed == 300
    lose, words = SQLITE[way]
    lose(file)
    index.quarantine(words)
