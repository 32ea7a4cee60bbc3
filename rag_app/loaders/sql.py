"""Rows of a database query: any database SQLAlchemy has a dialect for, read only.

Each row is a document. A row without text, without an id or with an id that came before is
reported; the rest goes on.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import importlib
import math
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, SecretStr, ValidationInfo

from rag_app.errors import MissingPackageError, SourceError
from rag_app.json_values import find_non_json
from rag_app.loaders._doubts import doubt_failure
from rag_app.options import OPERATIONAL, Field, Options, Secret, expand_home
from rag_app.parsers.parsed import name_column
from rag_app.types import Doubt, Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from langchain_core.documents import Document
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL, CursorResult

    from rag_app.loaders._source import SourceLoader

_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!:|file:)([^?]+)", re.DOTALL)
"""A URL of an SQLite file, whatever its driver; neither one in memory nor an SQLite URI."""

_PASSWORD = re.compile(r"[\w+]+://[^:/]*:([^@]*)@")
"""As SQLAlchemy reads it: up to the first `@`."""


def _refuse_second_at(url: SecretStr) -> SecretStr:
    """A password with an `@` would end there, and its rest be taken, and shown, for the host."""
    given = url.get_secret_value()
    password = _PASSWORD.match(given)
    if password and "@" in given[password.end() :]:
        raise ValueError("a password ends at the first @, and another follows. Write it as %40.")
    return url


def _from_config_folder(url: SecretStr, info: ValidationInfo) -> SecretStr:
    """A relative SQLite file starts where every path does."""
    given, context = url.get_secret_value(), info.context or {}
    folder = context.get("folders", {}).get(info.field_name, context.get("folder"))
    found = _SQLITE.match(given)
    if folder is None or found is None:
        return url
    file = (Path(folder) / expand_home(Path(found[2]))).as_posix()
    return SecretStr(found[1] + file + given[found.end() :])


class Config(Options):
    """The options of an `sql` source."""

    url: Annotated[
        Secret, AfterValidator(_refuse_second_at), AfterValidator(_from_config_folder)
    ] = Field(
        description="SQLAlchemy URL of the database; as ${VARIABLE} when it holds a password.",
        json_schema_extra={**OPERATIONAL, "literal": True},
    )
    query: str = Field(min_length=1, description="The SELECT to run; it is never written to.")
    text: str | list[str] = Field(
        "text", min_length=1, description="Column or columns that make the text, in this order."
    )
    id: str | list[str] = Field(
        "id", min_length=1, description="Column or columns that identify a row."
    )
    title: str | None = Field(None, description="Column that is the document's title.")
    metadata: list[str] | None = Field(
        None, description="Columns kept as metadata; by default all but the text's and the title."
    )
    name: str = Field(
        "rows", min_length=1, description="What the sources are called: sql:<name>#<id>."
    )


def build(config: Config) -> SourceLoader:
    """The loader of one query's rows."""
    from rag_app.loaders._source import SourceLoader

    return SourceLoader(Rows(config))


class Rows:
    """The rows of one query: one `Origin`, without a fingerprint, since only loading can tell."""

    def __init__(self, config: Config) -> None:
        importlib.import_module("sqlalchemy")  # now, so that its absence is known when building
        self.config = config
        self.source = f"sql:{config.name}"
        self._whole = True

    def close(self) -> None:
        """Nothing stays open between two loads."""

    def origins(self) -> Iterator[Origin]:
        """The query, as one."""
        yield Origin(self.source, None, self._load)

    def doubts(self) -> Sequence[Doubt]:
        """Where the query failed: under another name its rows had another origin before."""
        return () if self._whole else (doubt_failure("sources.query", self.source, "sql:"),)

    def _load(self) -> Iterator[Document | Unreadable]:
        from sqlalchemy.exc import SQLAlchemyError

        self._whole = False
        engine = self._connect()
        try:
            with _open_read_only(engine) as connection:
                options = {"stream_results": True, "yield_per": 500, "no_parameters": True}
                connection.execution_options(**options)
                with closing(connection.exec_driver_sql(self.config.query)) as rows:
                    yield from self._read(rows)
            self._whole = True
        except SQLAlchemyError as error:
            raise self._wrap(error) from None  # its own text holds the statement and its values
        finally:
            engine.dispose()

    def _connect(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        self._check_file()
        try:
            return create_engine(self.config.url.get_secret_value())
        except ModuleNotFoundError as error:
            what = f"needs the package {error.name!r}, which is not installed"
            raise MissingPackageError(
                "loaders.sql", what, f"Run: pip install {error.name}"
            ) from error
        except (ArgumentError, NoSuchModuleError, ValueError):
            raise SourceError(
                f"{self.source}: url",
                "is not a database URL that SQLAlchemy knows",
                "It reads dialect+driver://user:password@host:port/database.",
            ) from None

    def _check_file(self) -> None:
        """SQLite would create a missing file, and an empty database has nothing to say."""
        found = _SQLITE.match(self.config.url.get_secret_value())
        if found is not None and not Path(found[2]).is_file():
            raise SourceError(
                f"{self.source}: url",
                f"there is no SQLite file {found[2]!r}",
                "Give its path; a relative one starts at the config file's folder.",
            )

    def _read(self, rows: CursorResult[Any]) -> Iterator[Document | Unreadable]:
        columns = list(rows.keys())
        self._check_columns(columns)
        seen: set[str] = set()
        number = 0
        for number, row in enumerate(rows, 1):
            yield self._to_document(number, dict(zip(columns, row, strict=True)), seen)
        if not number:
            remedy = "Check the table and the query, or take the entry out of `sources`."
            raise SourceError(f"{self.source}: query", "gives no rows", remedy)

    def _check_columns(self, columns: list[str]) -> None:
        repeated = {column for column in columns if columns.count(column) > 1}
        if repeated:
            what = f"gives two columns called {min(repeated)!r}"
            raise SourceError(f"{self.source}: query", what, "Name them apart with AS.")
        wanted = [*self._text, *self._id, self.config.title, *(self.config.metadata or [])]
        for name in wanted:
            if name is not None and name not in columns:
                what = f"gives no column {name!r}; it gives {', '.join(columns)}"
                raise SourceError(f"{self.source}: query", what, "Select it, or name another.")

    def _to_document(
        self, number: int, row: dict[str, Any], seen: set[str]
    ) -> Document | Unreadable:
        from langchain_core.documents import Document

        key = [row[name] for name in self._id]
        if any(value is None for value in key):
            return Unreadable(
                f"{self.source}#row={number}", f"its {' and '.join(self._id)} is NULL"
            )
        part = "/".join(quote(str(to_json(value)), safe=" ") for value in key)
        source = f"{self.source}#{part if len(key) > 1 else to_json(key[0])}"
        if source in seen:
            return Unreadable(f"{self.source}#row={number}", f"repeats the id {part!r}")
        seen.add(source)
        text = "\n".join(str(to_json(row[name])) for name in self._text if row[name] is not None)
        if not text.strip():
            return Unreadable(source, "no text")
        metadata = self._describe(row)
        if bad := find_non_json(metadata):
            return Unreadable(source, f"its column {bad[0][:40]!r}: {bad[1]}")
        return Document(text, metadata={**metadata, "source": source})

    def _describe(self, row: Mapping[str, Any]) -> dict[str, Any]:
        left = [name for name in row if name not in self._text and name != self.config.title]
        kept = left if self.config.metadata is None else self.config.metadata
        found = {name_column(name): to_json(row[name]) for name in kept}
        if self.config.title is not None and row[self.config.title] is not None:
            found["title"] = str(to_json(row[self.config.title]))
        return found

    @property
    def _text(self) -> list[str]:
        return [self.config.text] if isinstance(self.config.text, str) else self.config.text

    @property
    def _id(self) -> list[str]:
        return [self.config.id] if isinstance(self.config.id, str) else self.config.id

    def _wrap(self, error: Exception) -> SourceError:
        from sqlalchemy.engine import make_url

        said = str(getattr(error, "orig", None) or type(error).__name__).strip().partition("\n")[0]
        url = make_url(self.config.url.get_secret_value())
        for secret in sorted(_find_secrets(url), key=len, reverse=True):
            said = said.replace(secret, "***")
        place = f"{url.get_backend_name()} database {url.database!r}"
        remedy = "Run the query in the database's own client; check the url."
        return SourceError(self.source, f"the {place} refused: {said}", remedy)


def _find_secrets(url: URL) -> set[str]:
    """The password, as meant and as written in a URL, and what the query holds."""
    password = str(url.password or "")
    texts = (value if isinstance(value, str) else " ".join(value) for value in url.query.values())
    query = [part for text in texts for part in (text, *text.split())]
    return {password, quote(password), quote(password, safe=""), *query} - {""}


def to_json(value: Any) -> Any:
    """A database value as a JSON value: exact where JSON can be, text where it cannot."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, decimal.Decimal):
        return _from_decimal(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value))
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [to_json(item) for item in value]
    return str(value.total_seconds() if isinstance(value, datetime.timedelta) else value)


def _from_decimal(value: decimal.Decimal) -> int | float | str:
    if not value.is_finite():
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    return float(value) if decimal.Decimal(repr(float(value))) == value else str(value)


def _from_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def _open_read_only(engine: Engine) -> Connection:
    """A connection whose transaction cannot write, where the database can be told so."""
    dialect = engine.dialect.name
    connection = engine.connect()
    if dialect == "postgresql":
        return connection.execution_options(postgresql_readonly=True)
    first = {"sqlite": "PRAGMA query_only = ON", "mysql": "START TRANSACTION READ ONLY"}
    if dialect in first:
        connection.exec_driver_sql(first[dialect])
    return connection
