"""Qdrant's engine in this process: its shards, and filters in the words of its Python package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def package() -> Any:
    """`qdrant_edge`, whose stubs do not know that it takes NumPy's arrays."""
    import qdrant_edge

    return qdrant_edge


def create(path: Path, mark: Mapping[str, Any], *, lasting: bool) -> None:
    """Make an empty shard of a new folder, for vectors as the collection's `mark` says.

    When it is not `lasting` it keeps no log of what is written to it.
    """
    path.mkdir()
    edge = package()
    graph = edge.HnswIndexConfig(mark["m"], mark["ef_construction"], mark["full_scan_threshold"])
    vectors = edge.EdgeVectorParams(mark["dimension"], edge.Distance.Cosine)
    config = edge.EdgeConfig(vectors=vectors, hnsw_config=graph, wal_enabled=lasting)
    shard = edge.EdgeShard.create(str(path), config)
    shard.update(edge.UpdateOperation.create_field_index("facts", edge.PayloadSchemaType.Uuid))
    shard.flush()
    shard.close()


def load(path: Path) -> Any:
    """The shard of a folder, as it was made; what its log holds is applied."""
    return package().EdgeShard.load(str(path))


def to_filter(where: Mapping[str, Any] | None) -> Any:
    """A filter as the REST interface writes it, in the engine's own classes."""
    if where is None:
        return None
    return package().Filter(
        **{clause: [_to_condition(each) for each in where[clause]] for clause in where}
    )


def _to_condition(condition: Mapping[str, Any]) -> Any:
    match condition:
        case {"has_id": ids}:
            return package().HasIdCondition(set(ids))
        case {"key": key, "match": {"any": values}}:
            return package().FieldCondition(key, match=package().MatchAny(values))
        case {"key": key, "range": bounds}:
            return package().FieldCondition(key, range=package().RangeFloat(**bounds))
    return to_filter(condition)
