"""Where an embedding cache is kept that several machines share: a Redis or PostgreSQL server."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rag_app.errors import IndexStateError, MissingPackageError
from rag_app.urls import is_ambiguous, show_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rag_app.index.cache import Cells

T = TypeVar("T")

_POSTGRES: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""What a PostgreSQL URL does not say: in seconds, but for the second, in milliseconds."""

WAIT_SECONDS: Final = 30.0  # for a server


def open_cells(url: str) -> Cells:
    """The cells at a server; it is connected to at their first use."""
    return Postgres(url) if url.startswith("postgres") else Redis(url)


class Redis:
    """Cells as keys of a Redis server, each after a name of ours."""

    PREFIX: Final = b"rag-app:embedding:"

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        values = self._open().mget([self.PREFIX + key for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def put(self, cells: Mapping[bytes, bytes]) -> None:
        self._open().mset({self.PREFIX + key: value for key, value in cells.items()})

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> Any:
        if self._client is None:
            try:
                import redis
            except ModuleNotFoundError as error:
                raise _missing("redis") from error
            if is_ambiguous(self._url):
                raise _not_a_url(self._url)
            try:
                self._client = redis.Redis.from_url(
                    self._url, socket_connect_timeout=10, socket_timeout=WAIT_SECONDS
                )
            except ValueError:  # its words hold parts of the URL
                raise _not_a_url(self._url) from None
        return self._client


class Postgres:
    """Cells as rows of a table of a PostgreSQL server."""

    TABLE: Final = "rag_app_embeddings"

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._db: Any = None

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        query = f"SELECT key, vector FROM {self.TABLE} WHERE key = ANY(%s)"
        return self._ask(lambda db: dict(db.execute(query, (list(keys),)).fetchall()))

    def put(self, cells: Mapping[bytes, bytes]) -> None:
        again = "ON CONFLICT (key) DO UPDATE SET vector = excluded.vector"  # it was damaged
        query = f"INSERT INTO {self.TABLE} VALUES (%s, %s) {again}"

        def write(db: Any) -> None:
            with db.transaction(), db.cursor() as cursor:
                cursor.executemany(query, sorted(cells.items()))  # in one order: no deadlock

        self._ask(write)

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _ask(self, use: Callable[[Any], T]) -> T:
        """`use` of the connection; once more on a new one, when the server had ended an old one."""
        with self._lock:
            old = self._db
            db = self._open()
            try:
                return use(db)
            except Exception:
                if db is not old or not db.closed:
                    raise
            return use(self._open())

    def _open(self) -> Any:
        if self._db is None or self._db.closed:
            try:
                import psycopg
            except ModuleNotFoundError as error:
                raise _missing("pgvector") from error
            db = psycopg.connect(**{**_POSTGRES, **self._read_url()}, autocommit=True)
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _read_url(self) -> dict[str, Any]:
        """The URL's parts by libpq's names."""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        if is_ambiguous(self._url):
            raise _not_a_url(self._url)
        try:
            given = conninfo_to_dict(self._url)
        except ProgrammingError:  # its words hold parts of the URL
            raise _not_a_url(self._url) from None
        if not all(re.fullmatch(r"\d*", port) for port in str(given.get("port", "")).split(",")):
            raise _not_a_url(self._url)
        return given

    def _prepare(self, db: Any) -> None:
        limit = f"{round(WAIT_SECONDS * 1000)}ms"
        db.execute("SELECT set_config('statement_timeout', %s, false)", (limit,))
        # Two processes may make it at once, which IF NOT EXISTS alone does not survive.
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self.TABLE,))
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {self.TABLE} "
                "(key bytea PRIMARY KEY, vector bytea NOT NULL)"
            )


def name_place(url: str) -> str:
    """What messages call the cache at a server."""
    return f"index.cache_url ({show_url(url)})"


def _not_a_url(url: str) -> IndexStateError:
    scheme = "postgresql" if url.startswith("postgres") else "redis"
    remedy = f"Write {scheme}://user:password@host:port/database"
    encode = "percent-encode what is special in a password (/ as %2F, @ as %40, % as %25)"
    return IndexStateError(name_place(url), "cannot be read as a URL", f"{remedy}; {encode}.")


def _missing(extra: str) -> MissingPackageError:
    package = "psycopg" if extra == "pgvector" else extra
    wrong = f"needs the package {package!r}, which is not installed"
    return MissingPackageError("index.cache_url", wrong, f'Run: pip install "rag-app[{extra}]"')
