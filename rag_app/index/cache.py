"""The embedding cache: what a text's vector is under one identity, paid for once.

Content-addressed: the key is the SHA-256 of (format, embedding identity, text), the value the
vector as raw little-endian float32, then its CRC-32. So any number of indexes and configs may share
one cache, nothing in it ever becomes stale, and a damaged vector is as good as none. By default it
is an SQLite file beside the project's indexes; a URL puts it on a Redis or PostgreSQL server that
several machines share.
"""

from __future__ import annotations

import hashlib
import re
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np

from rag_app.errors import IndexStateError, MissingPackageError
from rag_app.sqlite_files import connect, is_read_only
from rag_app.urls import hide_password, is_ambiguous, show_url

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

T = TypeVar("T")

_POSTGRES: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""What a PostgreSQL URL does not say: in seconds, but for the second, in milliseconds."""

FORMAT: Final = "2"
"""Version of keys and values; those of another version are not found."""

MOST: Final = 500  # keys in one question

WAIT_SECONDS: Final = 30.0  # for a lock or a server


class Cells(Protocol):
    """Where the cache keeps bytes by key. Keys are 32 bytes; what is put is never changed."""

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The values of those keys that are there."""
        ...

    def put(self, cells: Mapping[bytes, bytes]) -> None:
        """Keep these; durable when it returns."""
        ...

    def close(self) -> None:
        """Release files and connections; safe to call twice."""
        ...


class EmbeddingCache:
    """Vectors of texts under one embedding identity.

    Args:
        cells: where they are kept.
        identity: what decides a vector beside its text, as `describe_embeddings` writes it.
        place: what messages call the cache.
        url: of its server; what is secret in it is kept out of messages.
    """

    def __init__(self, cells: Cells, identity: str, place: str, url: str = "") -> None:
        self._cells, self._identity, self._place, self._url = cells, identity, place, url

    def find(self, texts: Sequence[str]) -> dict[str, Vector]:
        """The vectors of those of `texts` that are in the cache, whole; float32 of shape (d,).

        Raises:
            IndexStateError: the cache cannot be read.
        """
        keys = {self._key(text): text for text in texts}
        listed = list(keys)
        found: dict[str, Vector] = {}
        with self._explained():
            for start in range(0, len(listed), MOST):
                for key, value in self._cells.get(listed[start : start + MOST]).items():
                    if (vector := decode(key, value)) is not None:
                        found[keys[key]] = vector
        return found

    def keep(self, vectors: Mapping[str, Any]) -> None:
        """Keep the vectors of these texts; on disk, or at the server, when it returns.

        Raises:
            IndexStateError: the cache cannot be written.
        """
        keyed = ((self._key(text), vector) for text, vector in vectors.items())
        cells = {key: _encode(key, vector) for key, vector in keyed}
        if cells:
            with self._explained():
                self._cells.put(cells)

    def close(self) -> None:
        """Release files and connections; safe to call twice."""
        self._cells.close()

    def _key(self, text: str) -> bytes:
        sha = hashlib.sha256()
        for part in (FORMAT, self._identity, text):
            data = part.encode("utf-8", "surrogatepass")
            sha.update(len(data).to_bytes(8, "big") + data)
        return sha.digest()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (IndexStateError, MissingPackageError):
            raise
        except Exception as error:
            words = hide_password(str(error), self._url)
            wrong = f"the embedding cache failed: {type(error).__name__}: {words}"
            damaged = "malformed" in words or "not a database" in words
            remedy = "See that it can be reached and written, or set index.cache: false."
            if damaged:
                remedy = "It is damaged. Delete it: it fills itself again."
            cause = error if words == str(error) else None
            raise IndexStateError(self._place, wrong, remedy) from cause


def _encode(key: bytes, vector: Any) -> bytes:
    data = np.asarray(vector, dtype="<f4").tobytes()
    return data + zlib.crc32(data, zlib.crc32(key)).to_bytes(4, "little")


def decode(key: bytes, value: bytes) -> Vector | None:
    """The vector; None when the value is not what was kept under the key."""
    if not isinstance(value, bytes) or len(value) % 4:
        return None
    data, expected = value[:-4], value[-4:]
    if not data or zlib.crc32(data, zlib.crc32(key)).to_bytes(4, "little") != expected:
        return None
    vector = np.frombuffer(data, dtype="<f4")
    return vector if np.isfinite(vector).all() and vector.any() else None


def open_file(path: Path, identity: str) -> EmbeddingCache:
    """The cache in an SQLite file, made when absent."""
    return EmbeddingCache(_File(path), identity, f"index.cache ({path})")


def open_url(url: str, identity: str) -> EmbeddingCache:
    """The cache on a Redis (`redis://`, `rediss://`) or PostgreSQL (`postgresql://`) server.

    Connects at its first use.
    """
    cells: Cells = _Postgres(url) if url.startswith("postgres") else _Redis(url)
    return EmbeddingCache(cells, identity, _name(url), url)


class _File:
    """Cells in one SQLite file; several processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        if self._db is None and not self._path.exists():
            return {}
        marks = ", ".join("?" * len(keys))
        with self._lock:
            query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
            return dict(self._open().execute(query, keys).fetchall())

    def put(self, cells: Mapping[bytes, bytes]) -> None:
        with self._lock:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", cells.items())
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = connect(self._path, WAIT_SECONDS)
            if not is_read_only(self._path):
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS vectors "
                    "(key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
                )
        return self._db


class _Redis:
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


class _Postgres:
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


def _name(url: str) -> str:
    return f"index.cache_url ({show_url(url)})"


def _not_a_url(url: str) -> IndexStateError:
    scheme = "postgresql" if url.startswith("postgres") else "redis"
    remedy = f"Write {scheme}://user:password@host:port/database"
    encode = "percent-encode what is special in a password (/ as %2F, @ as %40, % as %25)"
    return IndexStateError(_name(url), "cannot be read as a URL", f"{remedy}; {encode}.")


def _missing(extra: str) -> MissingPackageError:
    package = "psycopg" if extra == "pgvector" else extra
    wrong = f"needs the package {package!r}, which is not installed"
    return MissingPackageError("index.cache_url", wrong, f'Run: pip install "rag-app[{extra}]"')
