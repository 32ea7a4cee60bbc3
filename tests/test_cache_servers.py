"""The embedding cache on a server: addresses that are none, waits with an end, lost connections."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator

import psycopg
import pytest

from rag_app.errors import IndexStateError
from rag_app.index import cache, cache_servers
from rag_app.urls import hide_password
from tests.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with PostgresServer() as server:
        yield server.url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa1Sec/ret2@localhost:6379/0",
        "rediss://u:pa1Sec#ret2@host:6380",
        "redis://u:pa1Sec?ret2@host:1",
        "redis://localhost:pa1Sec",
        "postgresql://u:pa1Sec/ret2@localhost/db",
        "postgresql://u:pa1%Secret2@localhost/db",
        "postgresql://u:pa1Sec@ret2@localhost:1/db",
        "postgresql://localhost:pa1Sec/db",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_words(url: str) -> None:
    opened = cache.open_url(url, "a")
    with pytest.raises(IndexStateError, match=r"cannot be read as a URL.*percent-encode") as caught:
        opened.find(["text"])
    told = "".join(traceback.format_exception(caught.value))
    assert not [part for part in ("pa1", "Sec", "ret2") if part in told]
    opened.close()


def test_a_drivers_words_are_shown_without_the_password() -> None:
    url = "postgresql://me:open%2Fsesame%40now@host:5432/db?sslpassword=key2words"
    words = "failed for open/sesame@now, open%2Fsesame%40now, sesame, key2words at host"
    assert hide_password(words, url) == "failed for …, …, …, … at host"


def test_a_password_of_the_query_is_not_told() -> None:
    """redis-py repeats the command that failed, and what it does not know."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{free.getsockname()[1]}/0?password=sesame12"
    opened = cache.open_url(url, "a")
    with pytest.raises(IndexStateError) as caught:
        opened.find(["text"])
    assert "sesame12" not in "".join(traceback.format_exception(caught.value))
    opened.close()


def test_postgres_is_not_waited_for_without_end(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_servers, "WAIT_SECONDS", 0.5)
    opened = cache.open_url(postgres_url, "a")
    opened.keep({"text": [1.0]})
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE rag_app_embeddings IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(IndexStateError, match="statement timeout"):
            opened.find(["text"])
    assert opened.find(["text"])["text"].tolist() == [1.0]
    opened.close()


def test_a_connection_that_the_server_ended_is_made_anew(postgres_url: str) -> None:
    opened = cache.open_url(postgres_url, "a")
    for use in (
        lambda: opened.find(["text"]),
        lambda: opened.keep({"text": [2.0]}),
        lambda: opened.find(["text"]),
    ):
        use()
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        use()
    assert opened.find(["text"])["text"].tolist() in ([1.0], [2.0])
    opened.close()
