"""LanceDB, in a folder: columnar files that several processes may write, searched exactly.

Every vector is compared: about 20 ms a query at 20,000 rows of 384 dimensions. A filter's rows are
found by their metadata, which is read once after each write; then these alone are ranked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock, Timeout

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.options import OPERATIONAL, Field, FilePath, Options
from rag_app.rows import wrong_dimension
from rag_app.vector_stores._lancedb_table import (
    COLUMNS,
    PAGE,
    among,
    checked,
    decode,
    fetch,
    read_dimension,
    require_gone,
    require_readable,
    require_there,
    search,
    search_among,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_core.embeddings import Embeddings

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row, Vector
    from rag_app.store import Store

FORMAT: Final = b"1"
"""Version of what is written, kept in the table's schema."""

UNTIDY: Final = 100
"""Writes after which small files are put together and old versions removed."""

READ_BY_NOW: Final = timedelta(minutes=10)
"""The age at which an old version is removed: nobody still reads it."""


class Config(Options):
    """Options of the LanceDB store."""

    path: FilePath = Field(
        Path(".rag/lancedb"),
        description="The folder, made when absent; it can hold several collections.",
        json_schema_extra=OPERATIONAL,
    )
    wait_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long to wait for another process that is writing to the folder.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config, embeddings: Embeddings, collection: str) -> Store:
    """The store of `collection`. Nothing is opened before it is first used."""
    import lancedb  # noqa: F401  # a missing package shows here, not at the first use

    from rag_app.store import Store

    return Store(LanceRows(config, collection), embeddings)


@dataclass(slots=True)
class _Snapshot:
    """A table as it was when its files had the `state`; to write with it would change it."""

    table: Any
    dimension: int
    state: Any
    metadata: dict[str, dict[str, Any]] | None = None

    def find_matching(self, where: Node) -> set[str]:
        """The ids of the rows that match. Their metadata is read when a filter first asks."""
        if self.metadata is None:
            read = self.table.search().select(["id", "metadata"]).to_arrow()
            pairs = zip(read["id"].to_pylist(), read["metadata"].to_pylist(), strict=True)
            self.metadata = {id: json.loads(metadata) for id, metadata in pairs}
        return {id for id, metadata in self.metadata.items() if matches(where, metadata)}


class LanceRows:
    """`Rows` on a table of LanceDB, which is made at the first upsert."""

    place = "vector_store.lancedb"
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._name = collection
        self._table_name = _encode_name(collection)
        self._lock = threading.Lock()  # one writer; for those of other openings, a file
        self._connection: Any = None
        self._seen: _Snapshot | None = None
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain():
            seen = self._look()
            return None if seen is None else seen.dimension

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. All rows are written or none."""
        with self._explain(), self._writing() as held:
            table = self._make(len(rows[0].vector)) if held is None else held
            dimension = read_dimension(table)
            for row in rows:
                if len(row.vector) != dimension:
                    what = f"the vector of {row.id!r}"
                    raise wrong_dimension(what, len(row.vector), dimension, self.place)
            with self._checked(lambda written: require_there(written, rows)):
                upsert(table, rows, dimension)
            self._tidy(table)

    def query(self, vector: Vector, k: int, where: Node | None) -> list[Neighbour]:
        """See `Rows`. Exact."""
        with self._explain():
            seen = self._look()
            if seen is None:
                return []
            if seen.dimension != len(vector):
                raise wrong_dimension("the query vector", len(vector), seen.dimension, self.place)
            if where is None:
                return search(seen.table, vector, k)
            return search_among(seen.table, vector, k, seen.find_matching(where))

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        with self._explain():
            seen = self._look()
            return [] if seen is None else fetch(seen.table, ids)

    def scan(self) -> Iterator[Row]:
        """See `Rows`. As they were when the scan began, in the order of writing."""
        with self._explain():
            seen = self._look()
            if seen is not None:
                for batch in seen.table.search().select(list(COLUMNS)).to_batches(PAGE):
                    yield from decode(batch)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._explain(), self._writing() as table:
            for start in range(0, 0 if table is None else len(ids), PAGE):
                page = ids[start : start + PAGE]
                with self._checked(partial(require_gone, ids=page)):
                    table.delete(among(page))
                self._tidy(table)

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            seen = self._look()
            return 0 if seen is None else int(seen.table.count_rows())

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain(), self._writing() as table:
            if table is not None:
                self._connect().drop_table(self._table_name)

    def close(self) -> None:
        """See `Rows`."""
        self._closed, self._connection, self._seen = True, None, None

    def _look(self) -> _Snapshot | None:
        """The table as it is now, for reading: opened again when anybody wrote."""
        state, seen = self._read_state(), self._seen
        if state is None or seen is None or seen.state != state:
            table = self._open()
            known = table is not None and state is not None
            self._seen = seen = _Snapshot(table, read_dimension(table), state) if known else None
        return seen

    def _read_state(self) -> Any:
        """What differs after each write: every version of a table is a file in one folder."""
        folder = self._folder / "_versions"
        try:
            found = folder.stat()
            return found.st_ino, found.st_mtime_ns, sorted(os.listdir(folder))
        except FileNotFoundError:
            return None

    def _open(self) -> Any:
        """The table as it is now, None when there is none."""
        if self._closed:
            raise StoreError(self.place, f"{self._where} is closed", "Open the store again.")
        if self._read_state() is None:  # to connect would make the folder
            return None
        try:
            table = self._connect().open_table(self._table_name)
        except ValueError as error:
            if "was not found" in str(error):  # it is being removed
                return None
            raise
        mark = table.schema.metadata or {}
        if mark.get(b"rag_app") != FORMAT or mark.get(b"name") != self._name.encode():
            wrong = f"the table {self._table_name!r} in {self._where} was not written by rag-app"
            raise StoreError(self.place, wrong, "Choose another name or path.")
        return table

    def _make(self, dimension: int) -> Any:
        import pyarrow as pa

        text = pa.large_string()
        types = (pa.string(), text, text, pa.list_(pa.float32(), dimension))
        mark = {"rag_app": FORMAT, "name": self._name.encode()}
        schema = pa.schema(list(zip(COLUMNS, types, strict=True)), metadata=mark)
        return self._connect().create_table(self._table_name, schema=schema)

    def _connect(self) -> Any:
        import lancedb

        if self._connection is None:
            self._connection = lancedb.connect(self._config.path)
        return self._connection

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """The table, None when there is none; nobody else writes meanwhile."""
        self._open()  # a closed store, or another program's table, leaves no lock behind
        self._config.path.mkdir(parents=True, exist_ok=True)
        waited = self._config.wait_seconds
        with self._lock, FileLock(self._config.path / "write.lock", waited, poll_interval=0.005):
            yield self._open()

    @contextmanager
    def _checked(self, check: Callable[[Any], None]) -> Iterator[None]:
        """As `checked`, with the table opened anew: nothing comes from memory."""
        import lancedb

        def look() -> None:
            check(lancedb.connect(self._config.path).open_table(self._table_name))

        try:
            with checked(self._folder, look):
                yield
        except Exception:
            self._connection = None  # it remembers what was taken back
            raise

    def _tidy(self, table: Any) -> None:
        if table.version % UNTIDY == 0:
            with self._checked(partial(require_readable, count=table.count_rows())):
                table.optimize(cleanup_older_than=READ_BY_NOW)

    @property
    def _folder(self) -> Path:
        return self._config.path / f"{self._table_name}.lance"

    @property
    def _where(self) -> str:
        return repr(str(self._config.path))

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """LanceDB's errors in our words."""
        try:
            yield
        except RagAppError:
            raise
        except Timeout as error:
            waited = f"{self._config.wait_seconds:g} seconds"
            wrong = f"another process has been writing to {self._where} for {waited}"
            remedy = "Wait for it, or raise vector_store.wait_seconds."
            raise StoreError(self.place, wrong, remedy) from error
        except Exception as error:
            wrong = f"LanceDB in {self._where} failed: {' '.join(str(error).split())[:500]}"
            remedy = "Check that the disk has room, and that the folder may be written and is whole"
            raise StoreError(self.place, wrong, f"{remedy}; `rag-app check` tries it.") from error


def _encode_name(name: str) -> str:
    """A name for files on any system: `name` itself, or a digest where it has other characters."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", name):
        return name
    return f"rag-app-{hashlib.sha256(name.encode()).hexdigest()[:40]}"
