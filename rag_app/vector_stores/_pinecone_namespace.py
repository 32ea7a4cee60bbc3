"""Reading and writing the rows of a collection in its namespace of a Pinecone index."""

from __future__ import annotations

import heapq
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rag_app.errors import StoreError
from rag_app.filters import matches
from rag_app.rows import compare, rank
from rag_app.vector_stores._pinecone_filter import render
from rag_app.vector_stores._pinecone_project import PLACE
from rag_app.vector_stores._pinecone_records import (
    MOST_RECORDS,
    batch,
    count_answer,
    encode_id,
    list_parts,
    to_records,
    to_row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from rag_app.filters import Node
    from rag_app.rows import Neighbour, Row, Vector
    from rag_app.vector_stores._pinecone_project import Collection, PineconeProject
    from rag_app.vector_stores._pinecone_records import Record

MOST_MATCHES: Final = 10_000
"""Records that one search finds at most, without values and metadata: Pinecone's limit."""

PAGE: Final = 100
"""Records that are fetched at a time: their ids are in the URL, which must not grow too long."""

AT_ONCE: Final = 8
"""Requests that are under way together."""

One = TypeVar("One")
Other = TypeVar("Other")


def write_rows(
    project: PineconeProject, held: Collection, name: str, rows: Sequence[Row]
) -> Collection:
    """Write rows and return when searches see them. Parts are there before their row."""
    versions: dict[str, str] = {}

    def prepare() -> Iterator[list[Record]]:
        nonlocal held
        for some in _slice(rows, MOST_RECORDS):
            records = to_records(some)
            if parts := [part for record in records for part in record.parts]:
                held = project.prepare_parts(held, name)
                project.wait_for_write(held, held.parts, _write(held, held.parts, batch(parts)))
                versions.update({p.metadata["row"]: p.metadata["version"] for p in parts})
            yield from batch(records)

    project.wait_for_write(held, held.rows, _write(held, held.rows, prepare()))
    if held.has_parts:
        _delete_parts(held, [encode_id(row.id) for row in rows], versions)
    return held


def delete_records(project: PineconeProject, held: Collection, ids: Sequence[str]) -> None:
    """Remove rows and their parts, and return when searches no longer see them."""
    from pinecone.errors import NotFoundError

    pages = _slice([encode_id(id) for id in ids], MOST_RECORDS)
    try:
        for page in pages:
            held.index.delete(ids=page, namespace=held.rows)
    except NotFoundError:
        return  # nothing was ever written, or all of it is gone
    for page in pages:
        project.wait_for_removal(held, page)
    if held.has_parts:
        _delete_parts(held, [encode_id(id) for id in ids], {})


def fetch_rows(held: Collection, ids: Sequence[str]) -> Iterator[Row]:
    """The rows of these ids that are there."""
    return _fetch(held, [encode_id(id) for id in ids])


def scan_rows(held: Collection) -> Iterator[Row]:
    """Every row."""
    from pinecone.errors import NotFoundError

    pages = held.index.list(namespace=held.rows, limit=PAGE)
    while True:
        try:
            page = next(pages, None)
        except NotFoundError:
            return
        if page is None:
            return
        yield from _read_rows(
            held, _fetch_page(held, held.rows, [each.id for each in page.vectors])
        )


def search(held: Collection, vector: Vector, k: int, node: Node | None) -> list[Neighbour]:
    """The `k` rows nearest to `vector` among those that match, best first.

    What the filter lets pass is checked against its definition. While too few are left and there
    may be more, more are asked for: as many as one answer holds, as one search finds, all rows.
    The vectors come along: Pinecone does not say how exact its scores are.
    """
    rendered = render(node)
    if rendered.where is False:
        return []
    limit = {} if rendered.where is True else {"filter": rendered.where}
    size = count_answer(held.dimension)
    if k <= size:
        wanted = k if rendered.exact else size
        whole = {"include_values": True, "include_metadata": True}
        found = _query(held, vector, wanted, {**limit, **whole})
        kept = [row for row in _read_rows(held, found) if matches(node, row.metadata)]
        if len(kept) >= k or len(found) < wanted:
            return rank(compare(kept, vector), k)
    if k <= MOST_MATCHES:
        wanted = k if rendered.exact and k > size else MOST_MATCHES
        found = _query(held, vector, wanted, limit)
        kept = _take(held, [match.id for match in found], k, node)
        if len(kept) >= k or len(found) < wanted:
            return rank(compare(kept, vector), k)
    every = (row for row in scan_rows(held) if matches(node, row.metadata))
    nearest = heapq.nlargest(k, every, key=lambda row: float(row.vector @ vector))
    return rank(compare(nearest, vector), k)


def _query(held: Collection, vector: Vector, k: int, options: dict[str, Any]) -> list[Any]:
    from pinecone.errors import NotFoundError

    try:
        answer = held.index.query(vector=vector.tolist(), top_k=k, namespace=held.rows, **options)
    except NotFoundError:
        return []
    found: list[Any] = answer.matches
    return found


def _take(held: Collection, ids: list[str], k: int, node: Node | None) -> list[Row]:
    """The first `k` or more of these rows that match."""
    kept: list[Row] = []
    for some in _slice(ids, max(PAGE * AT_ONCE, k)):
        there = {encode_id(row.id): row for row in _fetch(held, some)}
        kept += [there[id] for id in some if id in there and matches(node, there[id].metadata)]
        if len(kept) >= k:
            break
    return kept


def _fetch(held: Collection, ids: Sequence[str]) -> Iterator[Row]:
    """The rows of these records that are there."""
    pages = _slice(ids, PAGE)
    for found in _run(lambda page: _fetch_page(held, held.rows, page), pages):
        yield from _read_rows(held, found)


def _fetch_page(held: Collection, namespace: str, ids: Sequence[str]) -> list[Any]:
    from pinecone.errors import NotFoundError

    try:
        return list(held.index.fetch(ids=list(ids), namespace=namespace).vectors.values())
    except NotFoundError:
        return []


def _read_rows(held: Collection, records: Sequence[Any], *, again: bool = True) -> list[Row]:
    """The rows of records, with what is in their parts."""
    lists = [list_parts(record.metadata) for record in records]
    wanted = [id for ids in lists for id in ids]
    pieces: dict[str, str] = {}
    for page in _run(lambda ids: _fetch_page(held, held.parts, ids), _slice(wanted, PAGE)):
        pieces |= {part.id: part.metadata["piece"] for part in page}
    rows = []
    for record, ids in zip(records, lists, strict=True):
        if all(id in pieces for id in ids):
            own = [pieces[id] for id in ids]
            rows.append(to_row(record.values, record.metadata, own))
        elif again:  # replaced or removed since the record was read: read what is there now
            now = _fetch_page(held, held.rows, [record.id])
            rows += _read_rows(held, now, again=False)
        else:
            raise StoreError(
                PLACE,
                f"a row of {held.rows!r} lacks {sum(id not in pieces for id in ids)} of its parts",
                "Ingest again with --rebuild.",
            )
    return rows


def _write(held: Collection, namespace: str, batches: Iterable[list[Record]]) -> list[int | None]:
    """Write records and return the positions of the writes in the namespace's log."""
    from pinecone import Vector

    def send(some: list[Record]) -> int | None:
        vectors = [Vector(id=r.id, values=r.values, metadata=r.metadata) for r in some]
        answer = held.index.upsert(vectors=vectors, namespace=namespace)
        position: int | None = answer.response_info.lsn_committed
        return position

    return list(_run(send, batches))


def _delete_parts(held: Collection, ids: list[str], versions: dict[str, str]) -> None:
    """Remove the parts of these records, but for those of the version that each is to have."""
    from pinecone.errors import NotFoundError

    for page in _slice(ids, MOST_RECORDS):
        old: dict[str, Any] = {"row": {"$in": page}}
        if kept := [versions[id] for id in page if id in versions]:
            old = {"$and": [old, {"version": {"$nin": kept}}]}
        try:
            held.index.delete(filter=old, namespace=held.parts)
        except NotFoundError:
            return


def _run(work: Callable[[One], Other], items: Iterable[One]) -> Iterator[Other]:
    """The results in order, `AT_ONCE` at a time, taking items as they are needed."""
    rest = iter(items)
    first = list(islice(rest, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: deque[Future[Other]] = deque()
        try:
            for item in chain(first, rest):
                waiting.append(pool.submit(work, item))
                if len(waiting) > AT_ONCE + 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def _slice(items: Sequence[One], size: int) -> list[Sequence[One]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
