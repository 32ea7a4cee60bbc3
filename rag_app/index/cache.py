"""The embedding cache: what a text's vector is under one identity, paid for once.

Content-addressed: the key is the SHA-256 of (format, embedding identity, text), the value the
vector as raw little-endian float32, then its CRC-32. So any number of indexes and configs may share
one cache, nothing in it ever becomes stale, and a damaged vector is as good as none. By default it
is an SQLite file beside the project's indexes; a URL puts it on a Redis or PostgreSQL server that
several machines share.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np

from rag_app.errors import IndexStateError, MissingPackageError
from rag_app.index.identity import find_difference
from rag_app.sqlite_files import connect, has_changed, is_read_only
from rag_app.urls import hide_password

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

T = TypeVar("T")

FORMAT: Final = "2"
"""Version of keys and values; those of another version are not found."""

MOST: Final = 500  # keys in one question

WAIT_SECONDS: Final = 30.0  # for a lock

_PROBES: Final = "\0probes"
"""What the probe vectors of a set are kept under; the text of no chunk."""


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
        self._set = ""

    def settle(self, probes: bytes) -> None:
        """Find and keep only vectors of the model that makes these of the probe sentences.

        A service may change its model under the same name. Vectors are kept in sets, each with the
        probe vectors of its model; a model that answers like none of them begins a new set.

        Args:
            probes: as `take_probes` gives them.

        Raises:
            IndexStateError: the cache cannot be read or written.
        """
        for number in count():
            self._set = str(number) if number else ""
            known = self.find([_PROBES]).get(_PROBES)
            if known is None:
                self.keep({_PROBES: np.frombuffer(probes, dtype="<f4")})
                return
            if find_difference(known.tobytes(), probes) is None:
                return

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
        for part in (FORMAT, self._identity + self._set, text):
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
    from rag_app.index.cache_servers import name_place, open_cells

    return EmbeddingCache(open_cells(url), identity, name_place(url), url)


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
        if self._db is not None and has_changed(self._db):
            self._db.close()
            self._db = None
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
