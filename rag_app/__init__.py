"""rag-app: retrieval-augmented generation on LangChain that is never silently wrong.

    import rag_app

    with rag_app.load("configs/quickstart.yaml") as app:
        app.ingest()
        print(app.ask("What happens to a file that cannot be read?").answer)

Importing this package costs nothing: LangChain and the backends come in when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_app.app import RagApp, load
    from rag_app.errors import (
        BudgetError,
        ConfigError,
        FailureError,
        FilterError,
        IdentityError,
        IncompleteError,
        IndexStateError,
        LockedError,
        MissingPackageError,
        ModelError,
        RagAppError,
        SourceError,
        StoreError,
        TruncationWarning,
        UsageError,
    )
    from rag_app.types import (
        Answer,
        Citation,
        Diagnosis,
        Finding,
        Hit,
        IngestPlan,
        IngestReport,
        SearchResult,
    )

_HOMES = {
    "rag_app.app": ["RagApp", "load"],
    "rag_app.errors": [
        "BudgetError",
        "ConfigError",
        "FailureError",
        "FilterError",
        "IdentityError",
        "IncompleteError",
        "IndexStateError",
        "LockedError",
        "MissingPackageError",
        "ModelError",
        "RagAppError",
        "SourceError",
        "StoreError",
        "TruncationWarning",
        "UsageError",
    ],
    "rag_app.types": [
        "Answer",
        "Citation",
        "Diagnosis",
        "Finding",
        "Hit",
        "IngestPlan",
        "IngestReport",
        "SearchResult",
    ],
}

__all__ = [
    "Answer",
    "BudgetError",
    "Citation",
    "ConfigError",
    "Diagnosis",
    "FailureError",
    "FilterError",
    "Finding",
    "Hit",
    "IdentityError",
    "IncompleteError",
    "IndexStateError",
    "IngestPlan",
    "IngestReport",
    "LockedError",
    "MissingPackageError",
    "ModelError",
    "RagApp",
    "RagAppError",
    "SearchResult",
    "SourceError",
    "StoreError",
    "TruncationWarning",
    "UsageError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rag-app")
    for home, its_names in _HOMES.items():
        if name in its_names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'rag_app' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
