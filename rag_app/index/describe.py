"""One generation, told whole: what it was made with, what it holds, and where that is on record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rag_app.errors import IndexStateError, UsageError
from rag_app.index.migrate import inform

if TYPE_CHECKING:
    from rag_app.index.index import Index
    from rag_app.index.manifest import Generation


def describe_generation(index: Index, number: int | None = None) -> dict[str, Any]:
    """What is known of a generation, as JSON values; no secret is among them.

    Args:
        number: which; None for the one that is served.

    Raises:
        UsageError: there is none of this number. IndexStateError: none is served.
    """
    listed = index.manifest.generations()
    served = index.manifest.served()
    chosen = served
    if number is not None:
        chosen = next((each for each in listed if each.number == number), None)
        if chosen is None:
            known = ", ".join(str(each.number) for each in listed) or "none"
            wrong = f"{index.name!r} has no generation {number}"
            raise UsageError("index show", wrong, f"There are: {known}.")
    if chosen is None:
        raise IndexStateError(index.place, "nothing is served yet", "Run: rag-app ingest")
    return {
        "index": index.name,
        "number": chosen.number,
        "state": inform(index, chosen, served).state,
        "purpose": chosen.purpose,
        "revision": chosen.revision,
        "begun": chosen.begun,
        "published": chosen.published,
        "store": chosen.store,
        "collection": chosen.collection,
        **_count(index, chosen),
        "embeddings": json.loads(chosen.identity),
        "splitter": json.loads(chosen.splitter),
        **json.loads(chosen.config),
        "manifest": {"place": _name_manifest(index), "bytes": _measure_manifest(index)},
    }


def _count(index: Index, generation: Generation) -> dict[str, int]:
    journal = index.journal(generation)
    counts = journal.count()
    return {
        "documents": len(journal.contents()),
        "chunks": counts["served"],
        "planned": counts["planned"],
        "to_write": counts["staged"],
        "to_prune": counts["doomed"],
        "quarantined": sum(map(len, journal.quarantine().values())),
    }


def _name_manifest(index: Index) -> str:
    database = index.manifest.database
    return database.place if database.on_server else str(index.folder / "manifest.sqlite")


def _measure_manifest(index: Index) -> int:
    """Bytes that the manifest of all generations takes, its log of changes included."""
    database = index.manifest.database
    if not database.on_server:
        return sum(path.stat().st_size for path in index.folder.glob("manifest.sqlite*"))
    from sqlalchemy import text

    with database.reading() as connection:
        return int(connection.execute(text(_SIZE)).scalar() or 0)


_SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind = 'r'
"""
