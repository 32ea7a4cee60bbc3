"""Measures one config after the other: what two of them have in common is made once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from rag_app.app import RagApp
from rag_app.errors import BudgetError, IdentityError
from rag_app.evaluation.conditions import MAKE_INDEX, digest, digest_index, digest_sections
from rag_app.evaluation.queries import RememberedQueries
from rag_app.evaluation.run import evaluate
from rag_app.index.identity import describe_embeddings
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rag_app.config import AppConfig
    from rag_app.evaluation.grid import Variant
    from rag_app.evaluation.results import Cases, Evaluation
    from rag_app.evaluation.run import Plan
    from rag_app.types import IngestReport

LONGEST_NAME: Final = 28


class Workbench:
    """Indexes for configs, apart from those that are in use, and the parts they share.

    Each is named `<name>-<digest of what decides it>`, lies beside the config's own, and stays: the
    next comparison finds it. Texts are embedded once for all. Close it, or use `with`.

    Args:
        max_cost: US dollars that all of it may cost; None for no limit.
        progress: called as (stage, done, total).

    Attributes:
        embedded: texts sent to embedding models; `cached` those whose vectors were at hand.
        journals: what was measured, on disk; `finish` removes them.
    """

    def __init__(
        self,
        *,
        max_cost: float | None = None,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> None:
        self.embedded = self.cached = 0
        self.journals: set[Path] = set()
        self._left = max_cost
        self._progress = progress
        self._parts: dict[str, Any] = {}
        self._host: RagApp | None = None
        self._host_for = ""
        self._filled: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, variant: Variant, cases: Cases, plan: Plan) -> Evaluation:
        """One config on the cases; its index is made where it is not there.

        Raises:
            BudgetError: it would cost more than is left. Others as `ingest` and `evaluate`.
        """
        host = self._open_index(variant.config)
        config = replace(variant.config, name=host.config.name, index=host.config.index)
        queries: Any = host.embeddings
        before = queries.sent
        with RagApp(config) as app:
            app.borrow("embeddings", host.embeddings)
            app.borrow("index", host.index)
            for name in ("chat_model", "reranker"):
                if getattr(config, name) is not None:
                    app.borrow(name, self._share(app, name))
            measured = evaluate(
                app,
                cases,
                replace(plan, max_cost=self._left),
                name=variant.name,
                kept=self.journals.add,
                paid=self._spend,
                progress=lambda _, done, total: self._progress(variant.name, done, total),
            )
        self.embedded += queries.sent - before
        return measured

    def finish(self) -> None:
        """All was measured: the next comparison measures anew, in the same indexes."""
        for journal in self.journals:
            journal.unlink(missing_ok=True)
        self.journals.clear()

    def close(self) -> None:
        """Release files and connections."""
        self._close_host()
        for part in self._parts.values():
            if isinstance(part, RememberedQueries):
                part.close()
        self._parts.clear()

    def _close_host(self) -> None:
        if self._host is not None:
            name = self._host.config.name
            if name in self._filled and self._host.index.in_memory:
                self._filled.remove(name)  # it is gone with its host
            self._host.close()
            self._host, self._host_for = None, ""

    def _open_index(self, config: AppConfig) -> RagApp:
        name = name_index(config)
        asked = digest([name, digest_sections(config, MAKE_INDEX), config.index.model_dump()])
        if self._host is not None and self._host_for == asked:
            return self._host
        self._close_host()
        options = config.index
        if options.cache is None:  # also where the store forgets its vectors
            options = options.model_copy(update={"cache": True})
        host = RagApp(replace(config, name=name, index=options))
        queries = self._share_embeddings(host)
        host.borrow("embeddings", queries)
        self._host = host
        if name not in self._filled:
            report = self._fill(host)
            self.embedded += report.embedded
            self.cached += report.cached
            self._spend(report.cost)
            self._filled.add(name)
        served = host.index.manifest.served()
        queries.settle(None if served is None else served.probes)
        self._host_for = asked
        return host

    def _fill(self, host: RagApp) -> IngestReport:
        """Make the index hold what the sources hold; anew, where a service changed its model."""
        name = host.config.name

        def progress(stage: str, done: int, total: int | None) -> None:
            self._progress(f"{stage} {name}", done, total)

        try:
            return host.ingest(progress=progress, max_cost=self._left)
        except IdentityError:  # nobody but comparisons reads this index, so nothing is lost
            return host.ingest(progress=progress, max_cost=self._left, rebuild=True)

    def _share_embeddings(self, app: RagApp) -> RememberedQueries:
        """The model with the questions it was asked, by all its options: they decide times and
        costs, too, which are remembered with the vectors."""
        section = app.config.embeddings
        all_options = digest_sections(app.config, ("embeddings",))
        key = digest(["embeddings", all_options, app.config.index.model_dump()])
        if key not in self._parts:
            identity = describe_embeddings(section.kind, section.options, app.embeddings)
            cache = app.open_cache(f"queries {all_options} {identity}")
            self._parts[key] = RememberedQueries(app.embeddings, cache)
        made: RememberedQueries = self._parts[key]
        return made

    def _share(self, app: RagApp, name: str) -> Any:
        key = digest([name, digest_sections(app.config, (name, "chat_model"))])
        if key not in self._parts:
            self._parts[key] = getattr(app, name)
        return self._parts[key]

    def _spend(self, cost: float | None) -> None:
        if self._left is None or cost is None:
            return
        self._left -= cost
        if self._left < 0:
            wrong = f"it has cost {show_dollars(-self._left)} more than was allowed"
            raise BudgetError("max_cost", wrong, "Raise it, and run again: what is done is kept.")


def name_index(config: AppConfig) -> str:
    """The name of a comparison's index for a config: the same for those that share one."""
    return f"{config.name[:LONGEST_NAME]}-{digest_index(config)[:12]}"
