"""Where a trial runs: documents, index and records, made as copies of a prepared place."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_server import PostgresServer


@dataclass(frozen=True)
class Place:
    """One index and its documents.

    Attributes:
        folder: what it keeps in files; the documents are in `documents`.
        url: of the PostgreSQL database its store is in; None for a store in files.
    """

    folder: Path
    url: str | None = None

    @property
    def documents(self) -> Path:
        return self.folder / "documents"


class Places:
    """Makes places and takes them away again; starts PostgreSQL where the store needs it."""

    def __init__(self, folder: Path, store: str) -> None:
        self._folder, self._store = folder, store
        self._server: PostgresServer | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        if self._store == "pgvector":
            from tests.postgres_server import PostgresServer

            self._server = self._opened.enter_context(PostgresServer())
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def make(self, name: str, copy_of: Place | None = None) -> Place:
        """A new place, empty or a copy. Nobody may have the copied one open."""
        place = Place(self._folder / name, self._make_database(name, copy_of))
        if copy_of is None:
            place.documents.mkdir(parents=True)
        else:
            shutil.copytree(copy_of.folder, place.folder)
        (place.folder / "tmp").mkdir(exist_ok=True)
        return place

    def remove(self, place: Place) -> None:
        """Take it away with all it holds."""
        shutil.rmtree(place.folder)
        self._execute(f'DROP DATABASE IF EXISTS "{place.folder.name}" WITH (FORCE)')

    def _make_database(self, name: str, copy_of: Place | None) -> str | None:
        if self._server is None:
            return None
        template = "template1" if copy_of is None else copy_of.folder.name
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self._server.url.rpartition("/")[0] + f"/{name}"

    def _execute(self, statement: str) -> None:
        if self._server is None:
            return
        import psycopg

        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(statement.encode())
