"""Where a manifest is kept: its tables, in one SQLite file or a schema of a PostgreSQL database.

The statements are SQL that both understand, run through SQLAlchemy. A reader's transaction sees one
moment from its first question to its end, whatever is written meanwhile: WAL in SQLite, repeatable
read in PostgreSQL.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from rag_app.errors import IndexStateError, MissingPackageError
from rag_app.sqlite_files import connect, has_changed, is_read_only, was_rewritten
from rag_app.urls import hide_password, show_url

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine

FORMAT: Final = "2"
"""Version of the tables below."""

WAIT_SECONDS: Final = 30.0
"""How long another process that is writing may take."""

MANY: Final = 500
"""Values in one `IN (…)`."""

_TABLES: Final = MetaData()


def _table(name: str, *columns: Any) -> None:
    Table(name, _TABLES, *columns, sqlite_with_rowid=False)


def _key(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, primary_key=True)


def _value(name: str, kind: Any = Text, *, null: bool = True) -> Column[Any]:
    return Column(name, kind, nullable=null)


_table("head", _key("key"), _value("value", null=False))
_table(
    "generations",
    Column("number", Integer, primary_key=True, autoincrement=False),
    _value("purpose", null=False),  # why it was begun: ingest, rebuild, migrate, import
    _value("collection", null=False),
    _value("store", null=False),
    _value("identity", null=False),
    _value("splitter", null=False),
    _value("config", null=False),
    _value("probes", LargeBinary),
    _value("revision", Integer, null=False),  # 0 until something was published
    _value("chunks", Integer, null=False),  # how many are published
    _value("stamp", null=False),  # of what is published
    _value("coming", null=False),  # of what will be published next
    _value("begun", null=False),
    _value("published"),
)
_table(
    "origins",
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _key("origin"),
    _value("fingerprint"),
    _value("settings", null=False),
    _value("entry", null=False),
)
_table(
    "documents",
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _key("source"),
    _value("origin", null=False),
    _value("version"),
    _value("content"),
    _value("metadata"),
    _value("planned"),
    _value("planned_content"),
    _value("planned_metadata"),
    _value("gone", Integer, null=False),
    Index("documents_by_origin", "generation", "origin"),
)
_table("contents", _key("key"), _value("data", LargeBinary, null=False))
_table(
    "chunks",
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _key("id"),
    _value("source", null=False),
    _value("state", Integer, null=False),
    # With the state: without it SQLite walks the whole generation for one document's chunks.
    Index("chunks_by_source", "generation", "source", "state"),
    Index("chunks_by_state", "generation", "state"),
)
_table(
    "staged",
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _key("id"),
    _value("source", null=False),
    _value("place", Integer, null=False),
    _value("text", null=False),
    _value("metadata", null=False),
    Index("staged_by_source", "generation", "source", "place"),
)
_table(
    "quarantine",
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _key("source"),
    _value("origin", null=False),
    _value("reason", null=False),
)


class Database:
    """The tables of one manifest. Use it from any number of threads.

    Args:
        engine: opened by `open_file` or `open_server`.
        place: what messages call it.
        url: of its server; what is secret in it is kept out of messages.
        file: that it is in; None at a server.

    Raises:
        IndexStateError: it cannot be opened, or is of a format this version does not know.
    """

    def __init__(self, engine: Engine, place: str, url: str = "", file: Path | None = None) -> None:
        self.place = place
        self.file = file
        self._engine = engine
        self._url = url
        self._reader = engine
        if self.on_server:
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One moment: everything read inside belongs together."""
        with self._connected(self._reader) as connection:
            yield connection
            if was_rewritten(connection.connection.dbapi_connection):
                wrong = "the manifest was changed while it was read"
                raise IndexStateError(self.place, wrong, "Run it again.")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All or nothing, durable when it ends.

        Raises:
            IndexStateError: it cannot be written; nothing of the transaction was.
        """
        with (
            self._connected(self._engine) as connection,
            connection.execution_options(rag_app_writes=True).begin(),
        ):
            yield connection

    @property
    def on_server(self) -> bool:
        """Whether it is a server's, which other machines reach too."""
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def holding(self) -> Iterator[Connection]:
        """A connection of its own, for a lock that lives as long as it does."""
        with self._connected(self._engine) as connection:
            yield connection

    def close(self) -> None:
        """Release files and connections; safe to call twice."""
        self._engine.dispose()

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        with self._explained(SQLAlchemyError, OSError):
            connection = engine.connect()
        with self._explained(SQLAlchemyError), connection:  # an OSError inside is the caller's
            yield connection

    @contextmanager
    def _explained(self, *kinds: type[Exception]) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            words = str(getattr(error, "orig", None) or error).partition("\n")[0]
            shown = hide_password(words, self._url)
            cause = error if shown == words else None
            raise IndexStateError(
                self.place, f"the manifest: {shown}", remedy(words, self.file)
            ) from cause


def is_damage(words: str) -> bool:
    """Whether an error of SQLite says that its file is damaged, or no database."""
    return "not a database" in words or "malformed" in words


def restoring(file: Path | None) -> str:
    """What to do about a manifest that cannot be read."""
    if file is None:
        return "Restore it from a copy; or drop its schema and run: rag-app ingest --rebuild"
    return (
        f"Restore {file} from a copy; or remove it, with {file.name}-wal and -shm, and run: "
        "rag-app ingest --rebuild (vectors in the cache are not computed again)"
    )


def remedy(words: str, file: Path | None = None) -> str:
    """What to do about an error of a database, by its words."""
    if is_damage(words):
        return restoring(file)
    if "full" in words or "No space" in words:
        return "Make room on the disk; then run it again: what was done is kept."
    return "See that it can be reached and written and nothing else holds it; then run it again."


def open_file(path: Path, name: str) -> Database:
    """The manifest in an SQLite file, made when absent.

    Raises:
        IndexStateError: as `Database`.
    """
    place = f"index {name!r}"

    def open_connection() -> sqlite3.Connection:
        opened = connect(path, WAIT_SECONDS)
        if not is_read_only(path):
            try:
                opened.execute("PRAGMA journal_mode=WAL")
                opened.execute("PRAGMA synchronous=FULL")
            except BaseException:
                opened.close()
                raise
        return opened

    engine = create_engine(
        "sqlite+pysqlite://", creator=open_connection, poolclass=QueuePool, max_overflow=-1
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("rag_app_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine, "checkout")
    def checkout(opened: sqlite3.Connection, *_: object) -> None:
        if has_changed(opened):  # then another connection is opened in its place
            raise DisconnectionError("the file was changed")

    return _prepare(Database(engine, place, file=path), make=not is_read_only(path))


def open_server(url: str, name: str) -> Database:
    """The manifest in a schema of a PostgreSQL database, made when absent.

    Raises:
        IndexStateError: as `Database`. MissingPackageError: psycopg is not installed.
    """
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "index.manifest_url", "psycopg is not installed", 'Run: pip install "rag-app[pgvector]"'
        ) from error
    schema = f'"rag_app_{name}"'
    engine = create_engine(
        "postgresql+psycopg" + url[url.index("://") :],
        connect_args={"options": f"-csearch_path={schema}", **_LIMITS},
        pool_pre_ping=True,
        max_overflow=-1,
    )
    database = Database(engine, f"index {name!r} at {show_url(url)}", url)
    with database.writing() as connection:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    return _prepare(database, make=True)


def _prepare(database: Database, *, make: bool) -> Database:
    try:
        if make:
            with database.writing() as connection:
                _TABLES.create_all(connection)
                connection.execute(
                    text("INSERT INTO head VALUES ('format', :f) ON CONFLICT (key) DO NOTHING"),
                    {"f": FORMAT},
                )
        with database.reading() as connection:
            found = connection.execute(text("SELECT value FROM head WHERE key = 'format'")).scalar()
        if found != FORMAT:
            wrong = f"its manifest has the format {found}; this version reads {FORMAT}"
            raise IndexStateError(database.place, wrong, restoring(database.file))
    except BaseException:
        database.close()
        raise
    return database


def in_parts(values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The values as parameters of statements, `MANY` at a time."""
    for start in range(0, len(values), MANY):
        yield {f"v{place}": value for place, value in enumerate(values[start : start + MANY])}


def names(part: Mapping[str, Any]) -> str:
    """The placeholders of a part: what stands between the parentheses of `IN (…)`."""
    return ", ".join(f":{name}" for name in part)


_LIMITS: Final[dict[str, Any]] = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
