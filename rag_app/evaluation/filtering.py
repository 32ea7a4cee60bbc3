"""Cases whose own filter excludes their evidence: no search, however good, can find it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app.evaluation.projection import find_held
from rag_app.filters import matches, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.app import RagApp
    from rag_app.evaluation.results import Case, Located
    from rag_app.index.view import View
    from rag_app.types import Filter


def join_filters(given: Filter | None, case: Case) -> Filter | None:
    """The filter that a case is asked with: its own, and the one given for all."""
    joint = [each for each in (given, case.filter) if each]
    return {"$and": joint} if len(joint) > 1 else next(iter(joint), None)


def find_filtered_out(
    app: RagApp,
    cases: Sequence[Case],
    located: Mapping[str, Sequence[Located]],
    filter: Filter | None,
) -> list[str]:
    """The ids of the cases that have evidence of which no chunk matches the filter asked with.

    A misspelt field of a filter matches nothing, and looks like a search that finds nothing.
    """
    asked = [(case, join_filters(filter, case)) for case in cases]
    concerned = [(case, joint) for case, joint in asked if joint and located[case.id]]
    if not concerned:
        return []
    sources = sorted({each.source for case, _ in concerned for each in located[case.id]})

    def read(view: View) -> dict[str, list[Mapping[str, Any]]]:
        return {
            source: [row.metadata for row in view.fetch(ids)]
            for source, ids in view.ids_of(sources).items()
        }

    chunks = app.index.read(read)
    return [
        case.id
        for case, joint in concerned
        if not any(
            matches(parse(joint), metadata)
            for each in located[case.id]
            for metadata in chunks.get(each.source, [])
            if find_held(each.source, (metadata.get("start", 0), metadata.get("end", 0)), [each])
        )
    ]
