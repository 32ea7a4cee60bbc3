"""The statements on a collection's table: search, read, write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pgvector import Vector

from rag_app.errors import StoreError
from rag_app.rows import Neighbour, Row, clip
from rag_app.vector_stores._pgvector_filter import dump, escape, unescape
from rag_app.vector_stores._pgvector_wire import (
    TEXT,
    UUID,
    Encoded,
    encode_array,
    encode_vectors,
    make_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_app.vector_stores._pgvector_collection import Collection
    from rag_app.vector_stores._pgvector_connections import Connection
    from rag_app.vector_stores._pgvector_filter import Condition

PAGE: Final = 1000
"""Rows that are written or read at a time."""

PAGE_BYTES: Final = 16_000_000
"""Size from which a page has fewer rows."""

COLUMNS: Final = "id, text, metadata, embedding"


def search(
    connection: Connection,
    collection: Collection,
    vector: Encoded,
    k: int,
    condition: Condition | None,
    *,
    exact: bool,
) -> list[Neighbour]:
    """The nearest rows, more than `k` where the index's order is not exact enough.

    The cosines are of the whole vectors, in float32, even where the index holds half of each.
    """
    limit = 2 * k + 10 if collection.is_halved and not exact else k
    restriction = "" if condition is None else f" WHERE {condition.sql}"
    # Where it is what the rows are sorted by, PostgreSQL computes it once.
    distance = collection.order(exact=exact or collection.is_halved)
    query = (
        f"SELECT id, text, metadata, {distance}, current_setting('rag_app.session', true)"
        f" FROM {collection.table}{restriction}"
        f" ORDER BY {collection.order(exact=exact)} LIMIT {limit}"
    )
    values = {"vector": vector, **(condition.values if condition else {})}
    # A filter's statement is planned for its values, and rarely comes again.
    prepare = None if condition is None else False
    with connection.cursor(binary=True) as cursor:
        found = cursor.execute(query.encode(), values, prepare=prepare).fetchall()
    if found and found[0][4] != connection.token:
        raise StoreError(
            "vector_store.url",
            "the session's settings were lost: the URL leads to a pooler of transactions",
            "Give the URL of the server itself, or of a pooler of sessions.",
        )
    return [
        Neighbour(unescape(id), unescape(text), json.loads(metadata), clip(-distance))
        for id, text, metadata, distance, _ in found
    ]


def read(connection: Connection, query: str, values: Sequence[Encoded]) -> list[Row]:
    with connection.cursor(binary=True) as cursor:
        return [_decode(*row) for row in cursor.execute(query.encode(), values)]


def write(
    connection: Connection, collection: Collection, page: Sequence[tuple[bytes, Row]]
) -> None:
    rows = [row for _, row in page]
    metadata = [dump(row.metadata, row.id) for row in rows]
    columns = [
        encode_array(UUID, [key for key, _ in page]),
        encode_array(TEXT, [escape(row.id).encode() for row in rows]),
        encode_array(TEXT, [escape(row.text).encode() for row in rows]),
        encode_array(TEXT, [whole.encode() for whole, _ in metadata]),
        encode_array(TEXT, [fields.encode() for _, fields in metadata]),
        encode_vectors(collection.vector, [row.vector for row in rows]),
    ]
    query = (
        f"INSERT INTO {collection.table} AS held (key, id, text, metadata, fields, embedding)"
        " SELECT key, id, text, metadata, fields::jsonb, embedding FROM unnest(%s::uuid[],"
        f" %s::text[], %s::text[], %s::text[], %s::text[], %s::{collection.extension}.vector[])"
        " AS given (key, id, text, metadata, fields, embedding)"
        " ON CONFLICT (key) DO UPDATE SET (id, text, metadata, fields, embedding) ="
        " (EXCLUDED.id, EXCLUDED.text, EXCLUDED.metadata, EXCLUDED.fields, EXCLUDED.embedding)"
    )
    connection.execute(query.encode(), list(map(Encoded, columns)))


def cut(
    ordered: Sequence[tuple[bytes, Row]],
) -> Iterator[Sequence[tuple[bytes, Row]]]:
    """The rows in pages of at most `PAGE` rows, and about `PAGE_BYTES` where texts are long."""
    start = size = 0
    for end, (_, row) in enumerate(ordered):
        if end > start and (end - start == PAGE or size > PAGE_BYTES):
            yield ordered[start:end]
            start, size = end, 0
        size += len(row.text) + 4 * len(row.vector)
    yield ordered[start:]


def encode_keys(ids: Sequence[str]) -> Encoded:
    return Encoded(encode_array(UUID, sorted(map(make_key, ids))))


def _decode(id: str, text: str, metadata: str, vector: bytes) -> Row:
    unit = Vector.from_binary(vector).to_numpy()
    return Row(unescape(id), unescape(text), unit, json.loads(metadata))
