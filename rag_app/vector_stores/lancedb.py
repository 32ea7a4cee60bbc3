"""LanceDB, in a folder: columnar files that several processes may write, searched exactly.

Every vector is compared: about 20 ms a query at 20,000 rows of 384 dimensions. A filter's rows are
found by their metadata, which is read once after each write; then these alone are ranked.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from filelock import FileLock, Timeout

from rag_app.errors import RagAppError, StoreError
from rag_app.filters import matches
from rag_app.options import OPERATIONAL, Field, FilePath, Options
from rag_app.rows import Row, wrong_dimension

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.embeddings import Embeddings

    from rag_app.filters import Node
    from rag_app.rows import Vector
    from rag_app.store import Store

FORMAT: Final = b"1"
"""Version of what is written, kept in the table's schema."""

PAGE: Final = 1000
"""Ids in one question to LanceDB, and rows that are read at a time."""

UNTIDY: Final = 100
"""Writes after which small files are put together and old versions removed."""

READ_BY_NOW: Final = timedelta(minutes=10)
"""The age at which an old version is removed: nobody still reads it."""

COLUMNS: Final = ("id", "text", "metadata", "vector")


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


class LanceRows:
    """`Rows` on a table of LanceDB, which is made at the first upsert.

    A table that was just opened is a snapshot, so each method opens it once: what it reads fits
    together, and it sees what others wrote, dropped and made anew.
    """

    place = "vector_store.lancedb"
    persistent = True

    def __init__(self, config: Config, collection: str) -> None:
        self._config = config
        self._name = collection
        self._lock = threading.Lock()  # one writer; for those of other openings, a file
        self._connection: Any = None
        self._metadata: tuple[Any, dict[str, dict[str, Any]]] = (None, {})
        self._closed = False

    @property
    def dimension(self) -> int | None:
        """See `Rows`."""
        with self._explain():
            table = self._open()
            return None if table is None else _dimension(table)

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Rows`. All rows are written or none."""
        dimension = len(rows[0].vector)
        with self._explain(), self._writing():
            table = self._open()
            if table is None:
                table = self._make(dimension)
            for row in rows:
                if len(row.vector) != _dimension(table):
                    what = f"the vector of {row.id!r}"
                    raise wrong_dimension(what, len(row.vector), _dimension(table), self.place)
            before = table.version
            _upsert(table, rows)
            _tidy(table, before)

    def query(self, vector: Vector, k: int, where: Node | None) -> list[tuple[Row, float]]:
        """See `Rows`. Exact; the cosines are computed here."""
        with self._explain():
            table = self._open()
            if table is None:
                return []
            if (dimension := _dimension(table)) != len(vector):
                raise wrong_dimension("the query vector", len(vector), dimension, self.place)
            if where is None:
                return _measure(_rank(table, vector, k, COLUMNS), vector)
            held = self._read_metadata(table)
            wanted = {id for id, metadata in held.items() if matches(where, metadata)}
            return _search_among(table, vector, k, wanted)

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """See `Rows`."""
        with self._explain():
            table = self._open()
            return [] if table is None else _fetch(table, ids)

    def scan(self) -> Iterator[Row]:
        """See `Rows`. As they were when the scan began, in the order of writing."""
        with self._explain():
            table = self._open()
            if table is not None:
                for batch in table.search().select(list(COLUMNS)).to_batches(PAGE):
                    yield from _decode(batch)

    def delete(self, ids: Sequence[str]) -> None:
        """See `Rows`."""
        with self._explain(), self._writing():
            table = self._open()
            if table is not None:
                before = table.version
                for start in range(0, len(ids), PAGE):
                    table.delete(_among(ids[start : start + PAGE]))
                _tidy(table, before)

    def count(self) -> int:
        """See `Rows`."""
        with self._explain():
            table = self._open()
            return 0 if table is None else int(table.count_rows())

    def drop(self) -> None:
        """See `Rows`."""
        with self._explain(), self._writing():
            if self._open() is not None:
                self._connect().drop_table(_encode_name(self._name))

    def close(self) -> None:
        """See `Rows`."""
        self._closed, self._connection, self._metadata = True, None, (None, {})

    def _connect(self) -> Any:
        import lancedb

        if self._closed:
            raise StoreError(self.place, f"{self._where} is closed", "Open the store again.")
        if self._connection is None:
            self._connection = lancedb.connect(self._config.path)
        return self._connection

    def _open(self) -> Any:
        """The table as it is now, None when there is none."""
        connection, name = self._connect(), _encode_name(self._name)
        if not (self._config.path / f"{name}.lance").is_dir():
            return None
        try:
            table = connection.open_table(name)
        except ValueError as error:
            if "was not found" in str(error):  # its folder is being removed
                return None
            raise
        mark = table.schema.metadata or {}
        if mark.get(b"rag_app") != FORMAT or mark.get(b"name") != self._name.encode():
            wrong = f"the table {name!r} in {self._where} was not written by this rag-app"
            raise StoreError(self.place, wrong, "Choose another name or path.")
        return table

    def _make(self, dimension: int) -> Any:
        import pyarrow as pa

        types = (
            pa.string(),
            pa.large_string(),
            pa.large_string(),
            pa.list_(pa.float32(), dimension),
        )
        mark = {"rag_app": FORMAT, "name": self._name.encode(), "made": uuid.uuid4().hex}
        schema = pa.schema(list(zip(COLUMNS, types, strict=True)), metadata=mark)
        return self._connect().create_table(_encode_name(self._name), schema=schema)

    def _read_metadata(self, table: Any) -> dict[str, dict[str, Any]]:
        """Of every row; kept until something is written, by whomever."""
        state = (table.schema.metadata[b"made"], table.version)
        if self._metadata[0] != state:
            read = table.search().select(["id", "metadata"]).to_arrow()
            pairs = zip(read["id"].to_pylist(), read["metadata"].to_pylist(), strict=True)
            self._metadata = state, {id: json.loads(metadata) for id, metadata in pairs}
        return self._metadata[1]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._connect()
        self._config.path.mkdir(parents=True, exist_ok=True)
        waited = self._config.wait_seconds
        with self._lock, FileLock(self._config.path / "write.lock", waited, poll_interval=0.005):
            yield

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
            wrong = f"another process has been writing to {self._where}"
            remedy = "Wait for it, or raise vector_store.wait_seconds."
            waited = f"for {self._config.wait_seconds:g} seconds"
            raise StoreError(self.place, f"{wrong} {waited}", remedy) from error
        except Exception as error:
            wrong = f"LanceDB in {self._where} failed: {' '.join(str(error).split())[:500]}"
            remedy = (
                "Check that the folder is LanceDB's and may be written; `rag-app check` tries it."
            )
            raise StoreError(self.place, wrong, remedy) from error


def _upsert(table: Any, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    vectors = pa.array(np.stack([row.vector for row in rows]).reshape(-1))
    metadatas = [json.dumps(r.metadata, ensure_ascii=False, separators=(",", ":")) for r in rows]
    columns = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([row.text for row in rows], pa.large_string()),
        pa.array(metadatas, pa.large_string()),
        pa.FixedSizeListArray.from_arrays(vectors, _dimension(table)),
    ]
    given = pa.table(columns, schema=table.schema)
    held = table.search().select(["id"]).to_arrow()["id"]
    if pc.any(pc.is_in(given["id"], value_set=held)).as_py():
        merge = table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(given)
    else:
        table.add(given)


def _tidy(table: Any, before: int) -> None:
    """Now and then, by the number of versions: it takes a moment."""
    if table.version // UNTIDY != before // UNTIDY:
        table.optimize(cleanup_older_than=READ_BY_NOW)


def _search_among(table: Any, vector: Vector, k: int, wanted: set[str]) -> list[tuple[Row, float]]:
    """The `k` nearest of the rows `wanted`."""
    if not wanted:
        return []
    if len(wanted) <= PAGE:
        return _measure(_rank(table, vector, k, COLUMNS, _among(wanted)), vector)
    total = size = int(table.count_rows())
    size = min(total, PAGE + 2 * k * total // len(wanted))
    while True:
        ranked = _rank(table, vector, size, ["id"])["id"].to_pylist()
        nearest = [id for id in ranked if id in wanted][:k]
        if len(nearest) == k or size == total:
            break
        size = min(total, 4 * size)
    rows = _fetch(table, nearest)
    return _sort([(row, float(row.vector @ vector)) for row in rows])


def _rank(
    table: Any, vector: Vector, k: int, columns: Sequence[str], where: str | None = None
) -> Any:
    """`columns` of the `k` nearest rows that pass `where`, nearest first."""
    search = table.search(vector).distance_type("cosine").limit(k)
    search = search.select([*columns, "_distance"])
    return (search.where(where, prefilter=True) if where else search).to_arrow()


def _measure(found: Any, vector: Vector) -> list[tuple[Row, float]]:
    return _sort([(row, float(row.vector @ vector)) for row in _decode(found)])


def _sort(found: list[tuple[Row, float]]) -> list[tuple[Row, float]]:
    kept = [(row, min(1.0, max(-1.0, cosine))) for row, cosine in found]
    return sorted(kept, key=lambda pair: (-pair[1], pair[0].id))


def _fetch(table: Any, ids: Sequence[str]) -> list[Row]:
    pages = [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]
    searches = (table.search().where(_among(p)).select(list(COLUMNS)) for p in pages)
    return [row for search in searches for row in _decode(search.to_arrow())]


def _decode(found: Any) -> Iterator[Row]:
    """The rows of a table or batch of Arrow."""
    for batch in found.to_batches() if hasattr(found, "to_batches") else [found]:
        vectors = batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)
        columns = (batch[name].to_pylist() for name in COLUMNS[:3])
        for (id, text, metadata), vector in zip(zip(*columns, strict=True), vectors, strict=True):
            yield Row(id, text, vector, json.loads(metadata))


def _dimension(table: Any) -> int:
    return int(table.schema.field("vector").type.list_size)


def _among(ids: Sequence[str] | set[str]) -> str:
    """SQL; its strings know one special character, the quote, which is doubled."""
    return f"id IN ({', '.join(_quote(id) for id in ids)})"


def _quote(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _encode_name(name: str) -> str:
    """A name for files on any system: `name` itself, or a digest where it has other characters."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", name):
        return name
    return f"rag-app-{hashlib.sha256(name.encode()).hexdigest()[:40]}"
