"""A table of LanceDB: the writing, reading and searching of its rows, and the check of a write.

LanceDB does not notice when the last piece of a small file could not be written, as happens on a
full disk: it commits a version that nobody can read, and every later one is built on it. So what a
write committed is read back, and its versions are taken back when it is not whole.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.rows import Neighbour, Row, clip, compare, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rag_app.rows import Vector

PAGE: Final = 1000
"""Ids in one question to LanceDB, and rows that are read at a time."""

COLUMNS: Final = ("id", "text", "metadata", "vector")

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@contextmanager
def checked(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Commit inside; nobody else may meanwhile. What was committed stays if `check` reads it.

    Args:
        folder: the table's.
        check: raises when what was written cannot be read.
    """
    versions = folder / "_versions"
    before = set(os.listdir(versions))
    try:
        yield
        check()
    except Exception:
        # To restore a version is to write one, which a full disk refuses; to remove one it allows.
        for name in set(os.listdir(versions)) - before:
            if name.endswith(".manifest"):
                (versions / name).unlink()
        raise


def require_there(table: Any, rows: Sequence[Row]) -> None:
    """Read rows back, every column.

    Raises:
        OSError: one is not there.
    """
    held = {row.id for row in fetch(table, [row.id for row in rows])}
    if missing := [row.id for row in rows if row.id not in held]:
        raise OSError(f"{len(missing)} of {len(rows)} rows were written and cannot be read back")


def require_gone(table: Any, ids: Sequence[str]) -> None:
    """See that rows were removed.

    Raises:
        OSError: one is still there.
    """
    if left := fetch(table, ids):
        raise OSError(f"{len(left)} of {len(ids)} rows were deleted and are still there")


def require_readable(table: Any, count: int) -> None:
    """Read all rows, every column.

    Raises:
        OSError: there are not `count`.
    """
    read = sum(b.num_rows for b in table.search().select(list(COLUMNS)).to_batches(PAGE))
    if read != count:
        raise OSError(f"of {count} rows {read} can be read after files were put together")


def upsert(table: Any, rows: Sequence[Row], dimension: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    vectors = pa.array(np.stack([row.vector for row in rows]).reshape(-1))
    columns = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([row.text for row in rows], pa.large_string()),
        pa.array([_ENCODER.encode(row.metadata) for row in rows], pa.large_string()),
        pa.FixedSizeListArray.from_arrays(vectors, dimension),
    ]
    given = pa.table(columns, schema=table.schema)
    held = table.search().select(["id"]).to_arrow()["id"]
    if pc.any(pc.is_in(given["id"], value_set=held)).as_py():
        merge = table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(given)
    else:
        table.add(given)


def search_among(table: Any, vector: Vector, k: int, wanted: set[str]) -> list[Neighbour]:
    """The `k` nearest of the rows `wanted`."""
    if not wanted:
        return []
    if len(wanted) <= PAGE:
        return search(table, vector, k, among(wanted))
    total = int(table.count_rows())
    size = min(total, PAGE + 2 * k * total // len(wanted))
    while True:
        ordered = order(table, vector, size, ["id"])["id"].to_pylist()
        nearest = [id for id in ordered if id in wanted][:k]
        if len(nearest) == k or size == total:
            return rank(compare(fetch(table, nearest), vector), k)
        size = min(total, 4 * size)


def search(table: Any, vector: Vector, k: int, where: str | None = None) -> list[Neighbour]:
    """The `k` nearest rows that pass `where`. LanceDB's distance is 1 - cosine, in float32."""
    found = order(table, vector, k, COLUMNS[:3], where)
    rows = zip(*(found[n].to_pylist() for n in (*COLUMNS[:3], "_distance")), strict=True)
    return rank((Neighbour(i, t, json.loads(m), clip(1.0 - d)) for i, t, m, d in rows), k)


def order(
    table: Any, vector: Vector, k: int, columns: Sequence[str], where: str | None = None
) -> Any:
    """Of the `k` nearest; by no index of another program, which may miss and round."""
    search = table.search(vector).distance_type("cosine").bypass_vector_index().limit(k)
    search = search.select([*columns, "_distance"])
    return (search.where(where, prefilter=True) if where else search).to_arrow()


def fetch(table: Any, ids: Sequence[str]) -> list[Row]:
    pages = [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]
    searches = (table.search().where(among(p)).select(list(COLUMNS)) for p in pages)
    return [row for search in searches for row in decode(search.to_arrow())]


def decode(found: Any) -> Iterator[Row]:
    """The rows of a table or batch of Arrow."""
    for batch in found.to_batches() if hasattr(found, "to_batches") else [found]:
        vectors = batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)
        columns = (batch[name].to_pylist() for name in COLUMNS[:3])
        for id, text, metadata, vector in zip(*columns, vectors, strict=True):
            yield Row(id, text, vector, json.loads(metadata))


def read_dimension(table: Any) -> int:
    return int(table.schema.field("vector").type.list_size)


def among(ids: Sequence[str] | set[str]) -> str:
    """SQL; its strings know one special character, the quote, which is doubled."""
    doubled = (id.replace("'", "''") for id in ids)
    return "id IN ('" + "', '".join(doubled) + "')"
