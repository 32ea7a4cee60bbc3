"""Collections in PostgreSQL: one table that lists them, and a table for the rows of each.

Table names are never used twice: who still knows a table that was dropped meets an error of
PostgreSQL's, never the rows of its successor. All names in the statements are quoted.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from rag_app.errors import StoreError
from rag_app.vector_stores._pgvector_filter import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_app.vector_stores._pgvector_connections import Connection

FORMAT: Final = 1
"""Version of the tables, kept with each collection."""

LOCK: Final = 0x5241_4741_5050
"""The advisory lock ("RAGAPP") of who makes, indexes or drops a collection."""

MOST_INDEXED: Final = 4000
"""pgvector's indexes take `vector` up to 2,000 dimensions and `halfvec` up to this."""

MOST_FULL: Final = 2000
MOST_STORED: Final = 16_000

MOST_INLINE: Final = 512
"""Vectors up to this stay in their rows; PostgreSQL would move them out, and exact search of
10,000 rows of 384 dimensions would take four times as long."""

_LIST: Final = "rag_app_collections"


@dataclass(frozen=True, slots=True)
class Collection:
    """What is known of a collection.

    Attributes:
        table: of its rows, quoted, with its schema.
        dimension: of its vectors.
        indexed: whether the vector index is built.
        size: about how many rows it has, by PostgreSQL's estimate; -1 when it has none yet.
        fixed: the options it was made with.
        extension: the schema of pgvector's types, quoted.
        vector: PostgreSQL's number of the type `vector`.
    """

    table: str
    dimension: int
    indexed: bool
    size: float
    fixed: Mapping[str, Any]
    extension: str
    vector: int

    def order(self, *, exact: bool) -> str:
        """What rows are sorted by, ascending: minus the cosine to the bound `vector`.

        The vectors are of norm 1. In the words of the index, or in ones it cannot serve.
        """
        bound = f"%(vector)s::{self.extension}.vector"
        if exact:
            return f"(embedding OPERATOR({self.extension}.<#>) {bound}) + 0"
        cast = self._cast
        return f"(embedding{cast}) OPERATOR({self.extension}.<#>) ({bound}{cast})"

    @property
    def is_halved(self) -> bool:
        """Whether the index holds the vectors with half the precision."""
        return self.dimension > MOST_FULL

    def describe_index(self) -> str:
        """`CREATE INDEX`, from the table's name on."""
        kind = self.fixed["index"]
        type = "halfvec" if self.is_halved else "vector"
        options = ", ".join(f"{k} = {v}" for k, v in self.fixed.items() if k != "index")
        opclass = f"{self.extension}.{type}_ip_ops"
        return f"{self.table} USING {kind} ((embedding{self._cast}) {opclass}) WITH ({options})"

    @property
    def _cast(self) -> str:
        return f"::{self.extension}.halfvec({self.dimension})" if self.is_halved else ""


class Collections:
    """The collections of one schema."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._list = f"{quote_name(schema)}.{_LIST}"

    def find(self, connection: Connection, name: str) -> Collection | None:
        """The collection; None when there is none.

        Raises:
            StoreError: it is of another format.
        """
        query = (
            "SELECT c.table_name, c.format, c.dimension, c.indexed, c.fixed, n.nspname, t.oid,"
            " coalesce((SELECT reltuples FROM pg_class WHERE relname = c.table_name"
            " AND relnamespace = to_regnamespace(%s)), -1)"
            f" FROM {self._list} AS c, pg_extension AS e"
            " JOIN pg_namespace AS n ON n.oid = e.extnamespace"
            " JOIN pg_type AS t ON t.typnamespace = n.oid AND t.typname = 'vector'"
            " WHERE c.name = %s AND e.extname = 'vector'"
        )
        names = [quote_name(self._schema), escape(name)]
        try:
            found = connection.execute(query.encode(), names).fetchone()
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            return None
        except errors.UndefinedColumn as error:
            raise self._not_ours() from error
        if found is None:
            return None
        table, version, dimension, indexed, fixed, extension, vector, size = found
        if version != FORMAT:
            wrong = f"the collection {name!r} has format {version}, this rag-app reads {FORMAT}"
            raise StoreError("vector_store.pgvector", wrong, "Use the rag-app that wrote it.")
        full = f"{quote_name(self._schema)}.{quote_name(table)}"
        return Collection(
            full, dimension, indexed, size, json.loads(fixed), quote_name(extension), vector
        )

    def make(
        self, connection: Connection, name: str, dimension: int, fixed: Mapping[str, Any]
    ) -> Collection:
        """The collection, made in the open transaction when nobody has yet.

        Raises:
            StoreError: its vectors cannot be stored or indexed, or pgvector is too old or absent.
        """
        _require_possible(dimension, fixed["index"])
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        extension = _require_extension(connection)
        self._require_list(connection)
        if (held := self.find(connection, name)) is not None:
            return held
        table = _choose_table(name)
        full = f"{quote_name(self._schema)}.{quote_name(table)}"
        connection.execute(
            f"CREATE TABLE {full} (key uuid PRIMARY KEY, id text NOT NULL, text text NOT NULL,"
            " metadata text NOT NULL, fields jsonb NOT NULL,"
            f" embedding {quote_name(extension)}.vector({dimension}) NOT NULL)".encode(),
            [],
        )
        if dimension <= MOST_INLINE:
            query = f"ALTER TABLE {full} ALTER embedding SET STORAGE PLAIN"
            connection.execute(query.encode())
        connection.execute(
            f"INSERT INTO {self._list} (name, table_name, format, dimension, indexed, fixed)"
            " VALUES (%s, %s, %s, %s, false, %s)".encode(),
            [escape(name), table, FORMAT, dimension, json.dumps(dict(fixed))],
        )
        made = self.find(connection, name)
        assert made is not None
        return made

    def drop(self, connection: Connection, name: str) -> None:
        """Remove the collection, in the open transaction."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        if (held := self.find(connection, name)) is None:
            return
        connection.execute(f"DROP TABLE IF EXISTS {held.table}".encode())
        connection.execute(f"DELETE FROM {self._list} WHERE name = %s".encode(), [escape(name)])

    def build_index(self, connection: Connection, name: str) -> None:
        """Build the vector index unless somebody has; writers wait meanwhile, readers do not."""
        with connection.patient():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            held = self.find(connection, name)
            if held is None or held.indexed:
                return
            connection.execute(f"CREATE INDEX ON {held.describe_index()}".encode(), [])
            connection.execute(
                f"UPDATE {self._list} SET indexed = true WHERE name = %s".encode(), [escape(name)]
            )

    def _require_list(self, connection: Connection) -> None:
        found = connection.execute(
            "SELECT to_regnamespace(%s), to_regclass(%s)", [quote_name(self._schema), self._list]
        ).fetchone()
        schema, table = found or (None, None)
        if schema is None:
            connection.execute(f"CREATE SCHEMA {quote_name(self._schema)}".encode())
        if table is None:
            connection.execute(
                f"CREATE TABLE {self._list} (name text NOT NULL, table_name text PRIMARY KEY,"
                " format int NOT NULL, dimension int NOT NULL, indexed boolean NOT NULL,"
                " fixed text NOT NULL)".encode()
            )

    def _not_ours(self) -> StoreError:
        wrong = f"the table {self._list} was not made by this rag-app"
        return StoreError("vector_store.schema_name", wrong, "Choose another schema.")


def quote_name(name: str) -> str:
    """An identifier, for a statement with psycopg's placeholders (with `[]` if it has none)."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def _choose_table(name: str) -> str:
    readable = re.sub(r"[^a-z0-9]+", "_", name.lower())[:40].strip("_")
    return f"rag_app_{readable}_{secrets.token_hex(4)}"


def _require_possible(dimension: int, index: str) -> None:
    if dimension > MOST_STORED:
        wrong = f"vectors of {dimension} dimensions do not fit: pgvector takes {MOST_STORED}"
        raise StoreError("vector_store.pgvector", wrong, "Use another store or embedding model.")
    if index != "none" and dimension > MOST_INDEXED:
        raise StoreError(
            "vector_store.index",
            f"vectors of {dimension} dimensions cannot have an index: pgvector's take"
            f" {MOST_INDEXED}",
            "Set vector_store.index to none; searches are then exact, and read every vector.",
        )


def _require_extension(connection: Connection) -> str:
    """The schema of pgvector, which is installed in the database when it is not."""
    query = (
        "SELECT n.nspname, e.extversion FROM pg_extension AS e"
        " JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    found = connection.execute(query).fetchone()
    database = connection.info.dbname
    if found is None:
        try:
            with connection.transaction():
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except errors.InsufficientPrivilege as error:
            raise StoreError(
                "vector_store.pgvector",
                f"the database {database!r} has no extension 'vector', and the role"
                f" {connection.info.user!r} may not create it",
                f"Run as its owner or a superuser: CREATE EXTENSION vector; in {database!r}.",
            ) from error
        except (errors.FeatureNotSupported, errors.UndefinedFile) as error:
            raise StoreError(
                "vector_store.pgvector",
                f"the server of the database {database!r} has no pgvector",
                "Install pgvector 0.8 or newer there: https://github.com/pgvector/pgvector.",
            ) from error
        found = connection.execute(query).fetchone()
        assert found is not None
    schema, version = found
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (0, 8):
        raise StoreError(
            "vector_store.pgvector",
            f"pgvector {version} in {database!r} is too old: its filtered searches lose rows",
            "Install pgvector 0.8 or newer, then run: ALTER EXTENSION vector UPDATE;",
        )
    return str(schema)
