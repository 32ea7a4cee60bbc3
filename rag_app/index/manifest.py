"""The manifest: what should be in the vector store, and which generation of it is served.

A generation is one physical collection with everything that was decided when it was begun. One row
says which is served. What a generation holds is in its journal (`rag_app.index.journal`).
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import text

from rag_app.index.database import open_file, open_server
from rag_app.index.failpoints import reach

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from rag_app.index.database import Database

Purpose: TypeAlias = Literal["ingest", "rebuild", "migrate", "import", "dropped"]

CONTENT_TABLES = ("origins", "documents", "chunks", "staged", "quarantine")


@dataclass(frozen=True, slots=True)
class Generation:
    """One physical collection and what it was made with.

    Attributes:
        purpose: why it was begun; `dropped` when its rows are going, and may be gone.
        collection: its name in the vector store.
        store: the vector store's kind.
        identity: of its vectors, canonical JSON.
        splitter: of its chunks, canonical JSON.
        config: the config as JSON, secrets by the names of their variables.
        probes: vectors of the probe sentences, float32, little-endian; None before the first write.
        revision: how often it was published; 0 is never.
        chunks: how many are published.
        stamp: names what is published; `coming` what will be published next.
        begun: UTC, ISO 8601; `published` the last time, None for never.
    """

    number: int
    purpose: Purpose
    collection: str
    store: str
    identity: str
    splitter: str
    config: str
    probes: bytes | None
    revision: int
    chunks: int
    stamp: str
    coming: str
    begun: str
    published: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """What one transaction sees of the head.

    Attributes:
        served: the number of the generation that is served; None before the first was published.
        prunes: how many times rows that were once served have been deleted from a store.
        revision: of the served generation when it took the place of another.
    """

    connection: Connection
    uid: str
    served: int | None
    prunes: int
    revision: int

    def unchanged(self, served: Generation) -> bool:
        """Whether the served generation is still as it was when it took the place of another."""
        return served.revision == self.revision


class Manifest:
    """The manifest of one index.

    Raises, from any method: IndexStateError when it cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.place = database.place

    @classmethod
    def open(cls, path: Path, name: str, url: str | None = None) -> Manifest:
        """The manifest of the index `name`: in the file `path`, or at the server of `url`.

        Raises:
            IndexStateError: it cannot be opened, or is of a format this version does not know.
        """
        return cls(open_file(path, name) if url is None else open_server(url, name))

    def close(self) -> None:
        """Release files and connections; safe to call twice."""
        self.database.close()

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """One moment of the manifest: everything read through its connection belongs together."""
        with self.database.reading() as connection:
            head = dict(map(tuple, connection.execute(text("SELECT key, value FROM head"))))
            served = head.get("served")
            yield Moment(
                connection,
                head.get("uid", ""),
                None if served is None else int(served),
                int(head.get("prunes", 0)),
                int(head.get("served_revision", 0)),
            )

    def count_prunes(self) -> int:
        """How many times rows that were once served have been deleted, as of now."""
        with self.moment() as moment:
            return moment.prunes

    def get(self, key: str) -> str | None:
        """One value of the head, None when it was never set."""
        with self.database.reading() as connection:
            found = connection.execute(text("SELECT value FROM head WHERE key = :k"), {"k": key})
            return found.scalar()

    def generations(self) -> list[Generation]:
        """Every generation there is, in the order they were begun."""
        with self.database.reading() as connection:
            return read_generations(connection)

    def served(self) -> Generation | None:
        """The generation that queries are answered from; None before the first was published."""
        with self.moment() as moment:
            found = {each.number: each for each in read_generations(moment.connection)}
            return None if moment.served is None else found[moment.served]

    def begin(
        self,
        purpose: Purpose,
        name: str,
        *,
        store: str,
        identity: str,
        splitter: str,
        config: str,
    ) -> Generation:
        """A new generation on record, before anything is written to its collection."""
        with self.database.writing() as connection:
            last = connection.execute(text("SELECT value FROM head WHERE key = 'last'")).scalar()
            number = int(last or 0) + 1
            made = Generation(
                number=number,
                purpose=purpose,
                collection=f"{name}_g{number}",
                store=store,
                identity=identity,
                splitter=splitter,
                config=config,
                probes=None,
                revision=0,
                chunks=0,
                stamp="",
                coming="",
                begun=now(),
                published=None,
            )
            connection.execute(text(_INSERT), {n: getattr(made, n) for n in _FIELDS})
            set_head(connection, "last", str(number))
            if connection.execute(text("SELECT 1 FROM head WHERE key = 'uid'")).scalar() is None:
                set_head(connection, "uid", uuid.uuid4().hex)
        reach("generation-begun")
        return made

    def keep_probes(self, number: int, probes: bytes) -> None:
        """Record what the model of a generation made of the probe sentences."""
        with self.database.writing() as connection:
            statement = "UPDATE generations SET probes = :p WHERE number = :n"
            connection.execute(text(statement), {"p": probes, "n": number})

    def announce(self, generation: Generation) -> Generation:
        """Name what will be published next; what an earlier run announced is not that."""
        coming = uuid.uuid4().hex[:16]
        with self.database.writing() as connection:
            statement = "UPDATE generations SET coming = :c WHERE number = :n"
            connection.execute(text(statement), {"c": coming, "n": generation.number})
        return replace(generation, coming=coming)

    def serve(self, number: int) -> None:
        """Answer queries from this generation from now on."""
        with self.database.writing() as connection:
            serve(connection, number)
        reach("generation-served")

    def find_replaced(self, number: int) -> Generation | None:
        """The generation that this one was first served in the place of, while it is kept."""
        replaced = self.get(_REPLACED.format(number))
        kept = (each for each in self.generations() if each.revision)
        return next((each for each in kept if str(each.number) == replaced), None)

    def condemn(self, number: int) -> None:
        """The rows of a generation are about to go: from now on nobody reads it, goes back to it or
        goes on with it."""
        with self.database.writing() as connection:
            statement = "UPDATE generations SET revision = 0, purpose = 'dropped' WHERE number = :n"
            connection.execute(text(statement), {"n": number})
            count_prune(connection)
        reach("prune-begun")

    def forget(self, number: int) -> None:
        """A generation is gone, its collection was dropped."""
        with self.database.writing() as connection:
            for table in CONTENT_TABLES:
                statement = f"DELETE FROM {table} WHERE generation = :n"
                connection.execute(text(statement), {"n": number})
            connection.execute(text("DELETE FROM generations WHERE number = :n"), {"n": number})
            count_prune(connection)
        reach("generation-forgotten")


def read_generations(connection: Connection) -> list[Generation]:
    """Every generation on record, in the order they were begun."""
    statement = f"SELECT {', '.join(_FIELDS)} FROM generations ORDER BY number"
    return [Generation(*row) for row in connection.execute(text(statement))]


def set_head(connection: Connection, key: str, value: str) -> None:
    """Set one value of the head."""
    statement = (
        "INSERT INTO head VALUES (:k, :v) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    connection.execute(text(statement), {"k": key, "v": value})


def serve(connection: Connection, number: int) -> None:
    """Let a generation be served, and note the revision at which it took the other's place; the
    first time, note too which one that was."""
    before = connection.execute(text("SELECT value FROM head WHERE key = 'served'")).scalar()
    if before == str(number):
        return
    values = {"k": _REPLACED.format(number), "v": before or ""}
    connection.execute(text("INSERT INTO head VALUES (:k, :v) ON CONFLICT DO NOTHING"), values)
    statement = "SELECT revision FROM generations WHERE number = :n"
    revision = connection.execute(text(statement), {"n": number}).scalar()
    set_head(connection, "served_revision", str(revision))
    set_head(connection, "served", str(number))


def count_prune(connection: Connection) -> None:
    """Rows that were once served are about to go: searches that overlap will look again."""
    found: Any = connection.execute(text("SELECT value FROM head WHERE key = 'prunes'")).scalar()
    set_head(connection, "prunes", str(int(found or 0) + 1))


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_REPLACED = "replaced by {}"
_FIELDS = tuple(Generation.__dataclass_fields__)
_INSERT = (
    f"INSERT INTO generations ({', '.join(_FIELDS)}) VALUES ({', '.join(f':{n}' for n in _FIELDS)})"
)
