"""Connections to PostgreSQL: a few, lent to one thread at a time, none that may hang for ever."""

from __future__ import annotations

import re
import secrets
import select
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import psycopg
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format, TransactionStatus

from rag_app.errors import StoreError
from rag_app.vector_stores._pgvector_wire import Encoded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

GRACE: Final = 5.0
"""Seconds beyond the server's own limit after which a silent server is given up."""

_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "application_name": "rag-app",
}
"""What the URL does not say; in seconds."""

_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "options")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up on a server that says nothing.

    Attributes:
        seconds: how long one statement may take before that; None for without end.
        token: what the session's setting `rag_app.session` holds while the session is ours.
    """

    seconds: float | None = None
    token = ""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """psycopg's, with an end."""
        if self.seconds is None:
            return super().wait(gen, *args, **kwargs)
        try:
            return super().wait(_limit(gen, self.seconds), *args, **kwargs)
        except psycopg.errors.ConnectionTimeout:
            self.close()  # it is in the middle of something: nothing more can be said on it
            raise

    @contextmanager
    def patient(self) -> Iterator[None]:
        """One transaction whose statements may take as long as they need."""
        seconds, self.seconds = self.seconds, None
        try:
            with self.transaction():
                self.execute("SET LOCAL statement_timeout = 0")
                yield
        finally:
            self.seconds = seconds


class Connections:
    """The connections of one store.

    Args:
        url: of the database.
        most: how many there may be; further threads wait for one.
        seconds: how long the server may work on one statement.
        settings: the session's settings, by name.
    """

    def __init__(self, url: str, most: int, seconds: float, settings: Mapping[str, str]) -> None:
        self._url = url
        self._seconds = seconds
        self._settings = {**settings, "statement_timeout": f"{round(seconds * 1000)}ms"}
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """A connection in autocommit mode, this thread's inside the block.

        Raises:
            StoreError: the store is closed, or the URL is none. psycopg.Error: no connection.
        """
        with self._free:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def close(self) -> None:
        """Close those that are idle now, and the others when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        while True:
            with self._lock:
                if self._closed:
                    wrong = "the store is closed"
                    raise StoreError("vector_store.pgvector", wrong, "Open the store again.")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if _is_alive(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        idle = connection.info.transaction_status == TransactionStatus.IDLE
        with self._lock:
            kept = idle and not self._closed
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def _connect(self) -> Connection:
        given = read_url(self._url)
        options = {**_DEFAULTS, **given, "client_encoding": "utf8"}
        connection = Connection.connect(**options, autocommit=True)
        try:
            connection.seconds = self._seconds + GRACE
            connection.token = secrets.token_hex(8)
            connection.adapters.register_dumper(Encoded, _EncodedDumper)
            settings = {**self._settings, "rag_app.session": connection.token}
            calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
            values = [part for pair in settings.items() for part in pair]
            connection.execute(f"SELECT {calls}".encode(), values, prepare=False)
        except BaseException:
            connection.close()
            raise
        return connection


def read_url(url: str) -> dict[str, Any]:
    """The parts of `url` by libpq's names.

    Raises:
        StoreError: it is none; what it holds is not told.
    """
    try:
        if re.match(r"postgres(ql)?://", url):
            return conninfo_to_dict(url)
    except psycopg.Error:
        pass  # its words hold parts of the URL
    raise StoreError(
        "vector_store.url",
        "is not a PostgreSQL URL",
        "Write postgresql://user:password@host:5432/database, as ${DATABASE_URL}; "
        "percent-encode what is special in a password.",
    ) from None


def hide_secrets(text: str, url: str) -> str:
    """`text` without the passwords that the URL holds."""
    given = read_url(url)
    hidden = [str(given[name]) for name in _SECRETS if given.get(name)]
    for secret in sorted({*hidden, *map(quote, hidden)}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _limit(gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """`gen`, ended when it has waited for `seconds` and nothing is there to read.

    psycopg's generators wait for the socket, and are sent 0 at each interval without an event.
    """
    end = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                gen.close()
                raise psycopg.errors.ConnectionTimeout(
                    f"the server did not answer within {seconds:g} seconds"
                )
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value


def _is_alive(connection: Connection) -> bool:
    """Whether nothing came on an idle connection; a server that ends it says so, or hangs up."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


class _EncodedDumper(Dumper):
    """Binary values go as they are; their type is the cast's."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: Encoded) -> bytes:
        """psycopg's hook."""
        return obj.data
