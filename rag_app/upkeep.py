"""What is done to an index besides filling and searching it: its generations, and their change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rag_app.config import load_config
from rag_app.errors import IndexStateError, StoreError
from rag_app.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from rag_app.types import (
        Diagnosis,
        ExportReport,
        GenerationInfo,
        IngestPlan,
        MigrationPlan,
    )


class Upkeep(Parts):
    """The parts of a pipeline, with the care of its index. A context manager, closed at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Bring what the retriever derives from the index up to date; searching does it too."""
        refresh = getattr(self._first_stage, "refresh", None)
        if refresh is not None:
            refresh()

    def doctor(
        self,
        *,
        fix: bool = False,
        max_cost: float | None = None,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> Diagnosis:
        """What is wrong with the index: its record, store, derived files and cache against each
        other; and what of the sources it does not hold yet.

        Args:
            fix: mend what can be, with the fewest texts embedded, and examine again.
            max_cost: US dollars that mending may cost; None for no limit.
            progress: called as (stage, done, total or None).

        Raises:
            IndexStateError, StoreError: the record or the store cannot be opened, for another
                reason than damage.
            LockedError: another process writes, and `fix` is given.
            BudgetError, ModelError: mending stopped there; what was done is done.
        """
        from rag_app.index.doctor import diagnose, report_unopened

        try:
            _ = self.index
        except (IndexStateError, StoreError) as error:
            if (unopened := report_unopened(error)) is None:
                raise
            return unopened
        cached = self.config.index.cache_url is None and self.index.cache is not None
        file = self.config.index.path / "embeddings.sqlite" if cached else None
        with self.open_sources() as sources:
            found = diagnose(
                self.index,
                sources,
                self.splitter,
                file,
                fix=fix,
                max_cost=max_cost,
                progress=progress,
            )
        if fix and found.sound and found.chunks:
            for part in ("_first_stage", "retriever", "chain"):  # they hold what was derived
                self.__dict__.pop(part, None)
            self.refresh()
        return found

    def plan(
        self,
        *,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
        rebuild: bool = False,
        allow_delete: bool = False,
        retry_quarantined: bool = False,
    ) -> IngestPlan:
        """What `ingest` would do and cost with these arguments. Reads the sources and the index's
        own record; asks neither the embedding service nor the vector store, and leaves the index
        as it was.

        Raises:
            SourceError: a source cannot be listed.
        """
        from rag_app.index.plan import plan

        with self.open_sources() as sources:
            return plan(
                self.index,
                sources,
                self.splitter,
                progress=progress,
                rebuild=rebuild,
                allow_delete=allow_delete,
                retry_quarantined=retry_quarantined,
            )

    def plan_migration(
        self,
        to: str | Path | Mapping[str, Any],
        *,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> MigrationPlan:
        """What `migrate` would do and cost; nothing is written, and no service is asked.

        Raises:
            UsageError: it is another index's config, or there is nothing to change.
            IndexStateError: nothing is served yet.
        """
        from rag_app.index.migrate import plan_migration

        with self._open_target(to) as target:
            return plan_migration(target.index, target.splitter, progress)

    def rollback(self) -> GenerationInfo:
        """Serve again what was served before the last migration; the generation it is.

        Raises:
            IndexStateError: no earlier generation is kept. LockedError: another process writes.
        """
        from rag_app.index.describe import inform
        from rag_app.index.migrate import rollback

        served = rollback(self.index)
        return inform(self.index, served, served)

    def gc(self) -> list[GenerationInfo]:
        """Remove every generation that is not served, with its rows; what was removed.

        Raises:
            LockedError: another process writes. StoreError: a collection cannot be removed.
        """
        from rag_app.index.migrate import collect_garbage

        before = {each.number: each for each in self.generations()}
        return [before[each.number] for each in collect_garbage(self.index)]

    def generations(self) -> list[GenerationInfo]:
        """Every generation of the index, in the order they were begun."""
        from rag_app.index.describe import list_generations

        return list_generations(self.index)

    def describe_generation(self, number: int | None = None) -> dict[str, Any]:
        """All about one generation, as JSON values; without a number, of the one served.

        Raises:
            UsageError: there is none of this number. IndexStateError: none is served.
        """
        from rag_app.index.describe import describe_generation

        return describe_generation(self.index, number)

    def export_index(
        self,
        target: str | PathLike[str],
        *,
        force: bool = False,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> ExportReport:
        """Write what the index serves now, with its vectors, in the portable form.

        Args:
            target: a folder to make, or a file when it ends in `.zip`.
            force: replace an export that is there.
            progress: called as (stage, done, total).

        Raises:
            UsageError: something is there already. IndexStateError: there is nothing to export, or
            the target cannot be written; then nothing is there.
        """
        from rag_app.index.exporting import export_index

        return export_index(self.index, Path(target), force=force, progress=progress)

    def import_index(
        self,
        source: str | PathLike[str],
        *,
        replace: bool = False,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> GenerationInfo:
        """Serve what `export_index` wrote, in the config's vector store; nothing is embedded.

        Args:
            source: the folder or `.zip`.
            replace: serve it in the place of what is served, which is kept for `rollback`.
            progress: called as (stage, done, total).

        Raises:
            IdentityError: its vectors are of another model than the config's.
            IndexStateError: it is damaged, cut by another splitter, or something is served already.
            LockedError, StoreError: nothing of it is served; running it again resumes.
        """
        from rag_app.index.describe import inform
        from rag_app.index.importing import import_index

        def prepare() -> None:
            progress("indexing words", 0, None)
            self.refresh()

        served = import_index(
            self.index, Path(source), replace=replace, progress=progress, prepare=prepare
        )
        self.refresh()
        return inform(self.index, served, served)

    def _open_target(self, to: str | Path | Mapping[str, Any]) -> Self:
        from rag_app.migration import require_same_index

        config = load_config(to)
        require_same_index(self.config, config)
        return type(self)(config)
