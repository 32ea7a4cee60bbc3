"""A migration as a pipeline's user asks for it: two configs, and cases to judge the new one by."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from rag_app.errors import IndexStateError, UsageError
from rag_app.evaluation.cases import read_cases
from rag_app.evaluation.projection import StaleCasesError, locate_all, overlapped
from rag_app.index.migrate import find_served, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rag_app.app import RagApp
    from rag_app.config import AppConfig
    from rag_app.evaluation.results import Case, Located
    from rag_app.types import MigrationReport


def require_same_index(before: AppConfig, after: AppConfig) -> None:
    """Refuse to migrate between two indexes.

    Raises:
        UsageError: naming what differs.
    """
    for name, there, here in (
        ("name", before.name, after.name),
        ("index.path", before.index.path, after.index.path),
        ("index.manifest_url", before.index.manifest_url, after.index.manifest_url),
    ):
        if there != here:
            shown = "" if name.endswith("url") else f": {str(there)!r} and {str(here)!r}"
            wrong = f"{name} differs between the two configs{shown}"
            raise UsageError("migrate", wrong, "A migration stays within one index.")


def run_migration(
    target: RagApp,
    open_app: Callable[[AppConfig], RagApp],
    *,
    progress: Callable[[str, int, int | None], None],
    max_cost: float | None,
    cases: Path | None,
    accept_worse: bool,
) -> MigrationReport:
    """Migrate to the config of `target`, judged by cases where some are given.

    Raises:
        As `rag_app.index.migrate.migrate`. IndexStateError: the new generation finds less.
    """
    index = target.index
    if index.in_memory:
        wrong = "it is kept in RAM, so nothing is there to migrate from"
        raise IndexStateError(index.place, wrong, "Load the config and call ingest().")
    recall: list[tuple[float, float]] = []
    listed: list[tuple[Case, tuple[Located, ...]]] = []
    before = 0.0
    if cases is not None:
        with open_app(_recorded_config(target)) as old:
            listed = _locate(old, cases)
            before = _measure_recall(old, listed)

    def judge() -> None:
        if not listed:
            return
        after = _measure_recall(target, listed)
        recall.append((before, after))
        if after < before and not accept_worse:
            raise IndexStateError(
                index.place,
                f"on {len(listed)} cases the recall falls from {before:.3f} to {after:.3f}, so the "
                "old generation is still served",
                "Change the config; or to switch all the same, run it again with --accept-worse: "
                "nothing is embedded twice.",
            )

    def prepare() -> None:
        progress("indexing words", 0, None)
        target.refresh()

    report = migrate(
        index,
        target.splitter,
        progress=progress,
        max_cost=max_cost,
        prepare=prepare,
        judge=judge,
    )
    return replace(report, recall=recall[0]) if recall else report


def _locate(app: RagApp, path: Path) -> list[tuple[Case, tuple[Located, ...]]]:
    """The answerable cases of a file, each with where its evidence stands."""
    cases = read_cases(path)
    located, stale = locate_all(app, cases)
    if stale:
        raise StaleCasesError(str(path), stale)
    listed = [(case, located[case.id]) for case in cases.cases if case.answerable]
    if not listed:
        raise UsageError(str(path), "no case has evidence", "Give questions with evidence.")
    return listed


def _measure_recall(app: RagApp, cases: Sequence[tuple[Case, tuple[Located, ...]]]) -> float:
    """The mean share of a case's evidence that some hit holds, from 0 to 1."""
    found = 0.0
    for case, located in cases:
        hits = app.search(case.question, filter=case.filter).hits
        found += len({place for hit in hits for place in overlapped(hit, located)}) / len(located)
    return found / len(cases)


def _recorded_config(target: RagApp) -> AppConfig:
    """The config that what is served was written by."""
    from rag_app.config import load_config

    record = json.loads(find_served(target.index).config)["config"]
    here = target.config
    config = load_config(record, folder=here.index.path, dotenv=here.folder / ".env")
    return replace(config, index=here.index)
