"""Generations as their users see them: in a list, or one told whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rag_app.errors import IndexStateError, UsageError
from rag_app.types import GenerationInfo

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


def list_generations(index: Index) -> list[GenerationInfo]:
    """Every generation, in the order they were begun."""
    served = index.manifest.served()
    return [inform(index, each, served) for each in index.manifest.generations()]


def inform(index: Index, generation: Generation, served: Generation | None) -> GenerationInfo:
    """A generation as its users see it."""
    counts = index.journal(generation).count()
    state = "kept" if generation.revision else "filling"
    if served is not None and served.number == generation.number:
        state = "served"
    identity = json.loads(generation.identity)
    model = identity.get("model") or identity.get("revision")
    kind = str(identity["kind"])
    return GenerationInfo(
        number=generation.number,
        state=state,
        store=generation.store,
        embeddings=f"{kind} {model}" if isinstance(model, str) and len(model) < 80 else kind,
        chunks=counts["served"] if generation.revision else counts["planned"] - counts["staged"],
        documents=len(index.journal(generation).contents()),
        begun=generation.begun,
        published=generation.published,
    )
