"""Names and settings of a Chroma collection."""

from __future__ import annotations

import hashlib
import re
import warnings
from typing import Any


def encode_name(name: str) -> str:
    """A name that Chroma takes: `name` itself, or a digest where it has other characters."""
    if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,500}[a-zA-Z0-9]", name) and ".." not in name:
        return name
    return f"rag-app-{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def set_ef_search(collection: Any, ef_search: int) -> None:
    """Change what a collection was made with; it counts when the collection is next loaded."""
    with warnings.catch_warnings():
        # Chroma says so of every collection that is given vectors, as ours are.
        warnings.filterwarnings("ignore", "legacy embedding function", DeprecationWarning)
        collection.modify(configuration={"hnsw": {"ef_search": ef_search}})
