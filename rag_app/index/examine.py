"""One examination of an index: the manifest, the store, what is derived, and the sources.

Writes nothing. What an ingest at work changes meanwhile is not taken for damage: the manifest is
read as of one moment, and rows that were deleted since make the examination begin again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from rag_app.errors import IdentityError, IndexStateError, RagAppError, StoreError
from rag_app.index.database import restoring
from rag_app.index.examine_derived import examine_cache, examine_words
from rag_app.index.examine_documents import Documents
from rag_app.index.examine_rows import Rows
from rag_app.index.examine_vectors import Vectors
from rag_app.index.identity import PROBES, require_same_probes
from rag_app.index.ledger import REBUILD, Ledger
from rag_app.index.manifest import read_generations
from rag_app.index.read import Reading
from rag_app.index.view import MENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from langchain_text_splitters import TextSplitter

    from rag_app.index.index import Index
    from rag_app.index.manifest import Generation, Moment
    from rag_app.index.read import Source
    from rag_app.store import Store

    Progress = Callable[[str, int, int | None], None]

ATTEMPTS: Final = 5
"""How often an examination is begun that a prune overlapped."""

BARRING: Final = (
    *("manifest-damaged", "store-unreadable", "other-store", "other-model", "changed-model"),
)
"""Kinds under which nothing is mended: what to write could not be told, or not where."""


class Examination:
    """Examines an index once.

    Args:
        cache_file: of the index's embedding cache, when it is a file.

    Attributes:
        ledger: what was found.
        generation: the one served; one that a first ingest is filling; None for none.
        store: its collection.
        doubtful: ids, by document, of rows whose vectors were compared with nothing, when some of a
            sample of them were wrong.
        counts: documents and chunks published; texts that the model was asked for.
    """

    def __init__(
        self,
        index: Index,
        splitter: TextSplitter,
        cache_file: Path | None,
        progress: Progress,
    ) -> None:
        self.index, self.splitter, self.cache_file = index, splitter, cache_file
        self.ledger = Ledger()
        self.generation: Generation | None = None
        self.dimension: int | None = None
        self.doubtful: dict[str, set[str]] = {}
        self.documents = self.chunks = self.asked = 0
        self._progress = progress
        self._cache = index.cache
        self._model: Any = index.embeddings

    @property
    def store(self) -> Store:
        """The collection examined."""
        if self.generation is None:
            return self.index.store
        return self.index.open(self.generation.collection)

    @property
    def is_mendable(self) -> bool:
        """Whether it is known what the store must hold."""
        return self.generation is not None and not self.ledger.has(*BARRING)

    def run(self, sources: Sequence[Source]) -> None:
        """Examine everything.

        Raises:
            IndexStateError: it changed during each of several attempts, or the manifest cannot be
                read.
        """
        if not self._is_manifest_whole():
            return
        if self.cache_file is not None and not examine_cache(self.cache_file, self.ledger):
            self._cache = None
        before = self.ledger
        for _ in range(ATTEMPTS):
            self.ledger = before.copy()
            with self.index.manifest.moment() as moment:
                self._examine(moment)
            if self.index.manifest.count_prunes() == moment.prunes:
                break
        else:
            wrong = f"it changed during each of {ATTEMPTS} examinations"
            raise IndexStateError(self.index.place, wrong, "Wait until the ingest has ended.")
        self._compare_sources(sources)

    def _is_manifest_whole(self) -> bool:
        database = self.index.manifest.database
        if database.on_server:
            return True
        try:
            with database.reading() as connection:
                found = connection.execute(text("PRAGMA integrity_check(1)")).scalar()
                read_generations(connection)
        except IndexStateError as error:
            self.ledger.explain("manifest-damaged", error)
            return False
        if found != "ok":
            self.ledger.tell(
                "manifest-damaged", f"the manifest is damaged: {found}", restoring(database.file)
            )
        return bool(found == "ok")

    def _examine(self, moment: Moment) -> None:
        if not self._choose(moment):
            return
        self._count_leftovers(moment)
        vectors = Vectors(self._model, self._cache, self.ledger)
        rows = Rows(
            self.store,
            self._number,
            self.dimension,
            self.index.embeddings,
            self.ledger,
            vectors.take,
            self._progress,
        )
        try:
            strange = rows.examine(moment.connection)
        except StoreError:
            return  # it is in the ledger
        with self.index.manifest.moment() as now:
            rows.note_strange(now.connection, strange)
        vectors.finish()
        self.asked += vectors.asked
        self.doubtful = vectors.doubtful
        self._examine_documents(moment, rows.suspects)
        self._examine_words(moment)

    @property
    def _number(self) -> int:
        return 0 if self.generation is None else self.generation.number

    def _choose(self, moment: Moment) -> bool:
        """Find the generation; whether its store is the config's."""
        listed = {each.number: each for each in read_generations(moment.connection)}
        filling = [each for each in listed.values() if not each.revision]
        first = next((each for each in filling if each.purpose == "ingest"), None)
        if moment.served is None:
            self.generation = first
            self.ledger.tell("nothing-published", remedy=self._find_remedy())
        elif moment.served not in listed:
            wrong = f"the generation {moment.served} is served, and not on record"
            self.ledger.tell("manifest-damaged", wrong)
            return False
        else:
            self.generation = listed[moment.served]
        mending = "SELECT value FROM head WHERE key = :key"
        found = moment.connection.execute(text(mending), {"key": MENDING}).scalar()
        if self.generation is not None and found == str(self._number):
            self.ledger.tell("unfinished-mending")
        others = [f"{g.number} ({g.purpose})" for g in filling if g is not self.generation]
        if others:
            named = f"generation {', '.join(others)} was begun and never published"
            self.ledger.tell("unfinished-generation", named)
        return self.generation is None or self._fits(self.generation)

    def _find_remedy(self) -> str:
        """Where the manifest is gone, what its store still holds is made anew."""
        try:
            return REBUILD if self.generation is None and self.store.count() else ""
        except StoreError:
            return ""  # reading its rows will say so

    def _fits(self, generation: Generation) -> bool:
        if generation.probes is not None:
            self.dimension = len(generation.probes) // 4 // len(PROBES)
        try:
            self.index.require_fit(generation)
        except IdentityError as error:
            self.ledger.explain("other-model", error)
            self._model = self._cache = None
        except IndexStateError as error:
            self.ledger.explain("other-store", error)
            return False
        if self._model is not None:
            if generation.revision and generation.splitter != self.index.splitter:
                self.ledger.tell("other-splitter")
            self._settle_cache(generation)
            self._check_probes(generation)
        return True

    def _settle_cache(self, generation: Generation) -> None:
        if self._cache is not None:
            try:
                self.index.settle_cache(generation.probes)
            except IndexStateError as error:
                self.ledger.explain("damaged-cache", error)
                self._cache = None

    def _check_probes(self, generation: Generation) -> None:
        if generation.probes is None:
            return
        index = self.index
        try:
            self.asked += len(PROBES)
            require_same_probes(index.name, generation.probes, index.embeddings, index.identity)
        except IdentityError as error:
            self.ledger.explain("changed-model", error)
            self._model = None
        except RagAppError as error:
            self.ledger.explain("unasked-model", error)
            self._model = None

    def _count_leftovers(self, moment: Moment) -> None:
        """What an interrupted run left; the next one goes on with it."""
        for kind, which in (("unfinished-ingest", "state >= 2"), ("unpruned-rows", "state = 0")):
            statement = (
                f"SELECT source, count(*) FROM chunks WHERE generation = :g AND {which} "
                "GROUP BY source"
            )
            rows = moment.connection.execute(text(statement), {"g": self._number})
            self.ledger.count(kind, {source: count for source, count in rows})

    def _examine_documents(self, moment: Moment, suspects: dict[str, set[str]]) -> None:
        if self.generation is None:
            return
        same = self.generation.splitter == self.index.splitter
        splitter = self.splitter if same else None
        examined = Documents(
            self.store, self._number, splitter, suspects, self.ledger, self._progress
        )
        self.documents = examined.examine(moment.connection)

    def _examine_words(self, moment: Moment) -> None:
        if self.generation is None:
            return
        statement = "SELECT id FROM chunks WHERE generation = :g AND state % 2 = 1"
        ids = set(moment.connection.execute(text(statement), {"g": self._number}).scalars())
        self.chunks = len(ids)
        if not self.index.in_memory:
            revision = f"{moment.uid}-{self._number}-{self.generation.stamp}"
            examine_words(self.index.folder, revision, ids, self.ledger)

    def _compare_sources(self, sources: Sequence[Source]) -> None:
        """What an ingest would find; not damage."""
        if self.ledger.has("manifest-damaged", "other-store", "other-model"):
            return
        journal = None if self.generation is None else self.index.journal(self.generation)
        reading = Reading(
            journal, self.splitter, self.index.splitter, self._progress, plan=lambda _: None
        )
        try:
            found = reading.read(sources)
        except RagAppError as error:
            self.ledger.explain("unlisted-sources", error)
            return
        for kind, names in (
            ("new-documents", found.added),
            ("changed-documents", found.changed),
            ("gone-documents", found.gone),
        ):
            self.ledger.count(kind, dict.fromkeys(names, 1))
        reasons: dict[str, dict[str, int]] = {}
        for each in found.quarantine:
            reasons.setdefault(each.reason, {})[each.source] = 1
        for reason, sources_of in sorted(reasons.items()):
            self.ledger.count("quarantined", sources_of, reason)
