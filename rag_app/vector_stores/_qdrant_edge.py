"""Qdrant's engine in this process: its shards, and filters in the words of its Python package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def create(path: Path, mark: Mapping[str, Any], *, lasting: bool) -> None:
    """Make an empty shard of a new folder, for vectors as the collection's `mark` says.

    When it is not `lasting` it keeps no log of what is written to it.
    """
    import qdrant_edge

    path.mkdir()
    graph = qdrant_edge.HnswIndexConfig(
        mark["m"], mark["ef_construction"], mark["full_scan_threshold"]
    )
    vectors = qdrant_edge.EdgeVectorParams(mark["dimension"], qdrant_edge.Distance.Cosine)
    config = qdrant_edge.EdgeConfig(vectors=vectors, hnsw_config=graph, wal_enabled=lasting)
    shard = qdrant_edge.EdgeShard.create(str(path), config)
    shard.update(
        qdrant_edge.UpdateOperation.create_field_index("facts", qdrant_edge.PayloadSchemaType.Uuid)
    )
    shard.flush()
    shard.close()


def load(path: Path) -> Any:
    """The shard of a folder, as it was made; what its log holds is applied."""
    import qdrant_edge

    return qdrant_edge.EdgeShard.load(str(path))


def to_filter(where: Mapping[str, Any] | None) -> Any:
    """A filter as the REST interface writes it, in the engine's own classes."""
    import qdrant_edge

    if where is None:
        return None
    return qdrant_edge.Filter(
        **{clause: [_to_condition(each) for each in where[clause]] for clause in where}
    )


def _to_condition(condition: Mapping[str, Any]) -> Any:
    import qdrant_edge

    match condition:
        case {"has_id": ids}:
            return qdrant_edge.HasIdCondition(set(ids))
        case {"key": key, "match": {"any": values}}:
            return qdrant_edge.FieldCondition(key, match=qdrant_edge.MatchAny(values))
        case {"key": key, "range": bounds}:
            return qdrant_edge.FieldCondition(key, range=qdrant_edge.RangeFloat(**bounds))
    return to_filter(condition)
