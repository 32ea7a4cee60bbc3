"""What readers see of an index: one generation at one moment, whatever is written meanwhile."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from rag_app.errors import IndexStateError
from rag_app.index.database import in_parts, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from langchain_core.documents import Document
    from numpy.typing import ArrayLike

    from rag_app.index.manifest import Generation, Moment
    from rag_app.store import Row, Store
    from rag_app.types import Filter

_NEXT: Final = """
(state >= 2 OR (state = 1 AND source NOT IN (
    SELECT source FROM documents WHERE generation = :g AND (planned IS NOT NULL OR gone <> 0))))
"""
"""Chunks that are published once what is planned is."""

_UNWRITTEN: Final = """
SELECT count(*) FROM staged JOIN chunks USING (generation, id) WHERE generation = :g AND state = 2
"""

SPARE: Final = 16
MOST: Final = 10_000
"""Rows asked for beyond `k` while some are hidden, at least; and how many are asked for at first,
at most: some services have that limit."""

PAGE: Final = 500

MENDING: Final = "mending"
"""Key of the manifest's head: the generation whose collection was emptied and is being refilled."""


class View:
    """The published chunks of one generation, as of one moment.

    The store may hold more: chunks that are being written, or wait to be pruned. They are dropped
    here, and what they displaced is fetched. `Index.read` hands a view out, and repeats what was
    done with it when rows of its moment were deleted meanwhile.

    With `next` it is what will be published next: for who writes, to prepare what readers need.

    Attributes:
        revision: names what is published; whatever was derived from another one is stale.
        coming: whether it is what will be published next.
        folder: where derived files are kept; None for an index in RAM.
    """

    def __init__(
        self,
        moment: Moment,
        generation: Generation,
        store: Store,
        folder: Path | None,
        embed: Callable[[str], list[float]],
        *,
        next: bool = False,
    ) -> None:
        self.generation = generation
        stamp = generation.coming if next else generation.stamp
        self.revision = f"{moment.uid}-{generation.number}-{stamp}"
        self.coming = next
        self.folder = folder
        self.prunes = moment.prunes
        self._moment = moment
        self._store = store
        self._embed = embed
        self._shown = _NEXT if next else "state % 2 = 1"
        self._counts: tuple[int, int] | None = None

    def embed(self, query: str) -> list[float]:
        """The vector of a query, by the model of this generation; computed once a search."""
        return self._embed(query)

    def search(
        self, vector: ArrayLike, k: int, filter: Filter | None = None
    ) -> list[tuple[Document, float]]:
        """The `k` published chunks nearest to a vector among those that match, best first.

        Raises:
            IndexStateError: the store has lost some, or finds fewer than there are; or they are
                being mended.
        """
        if self.ask("SELECT 1 FROM head WHERE key = :key AND value = :n", **self._mending):
            raise IndexStateError(
                "vector_store",
                "its rows are being written anew: mending was begun and has not ended",
                "Wait for it, or go on with it: rag-app doctor --fix",
            )
        hidden = self._count()[1]
        asked = max(k, min(k + min(hidden, max(k, SPARE)), MOST)) if k else 0
        while True:
            found = self._store.search(vector, asked, filter)
            seen = self._find_published([document.id or "" for document, _ in found])
            kept = [pair for pair in found if pair[0].id in seen]
            if len(kept) >= k:
                return kept[:k]
            if len(found) < asked:
                self._require_all(len(kept), k, filter)
                return kept
            asked *= 4

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """The published rows of `ids` in the order asked, each once.

        Raises:
            IndexStateError: the store has lost one.
        """
        seen = self._find_published(ids)
        rows = self._store.fetch([id for id in ids if id in seen])
        if len(rows) < len(seen):
            raise self._lost(f"{len(seen) - len(rows)} of {len(seen)} chunks asked for are missing")
        return rows

    def scan(self) -> Iterator[Row]:
        """Every published chunk, each once, in the store's order.

        Raises:
            IndexStateError: at the end, when the store has lost some.
        """
        rows = self._store.scan()
        count = 0
        while page := list(islice(rows, PAGE)):
            seen = self._find_published([row.id for row in page])
            for row in page:
                if row.id in seen:
                    count += 1
                    yield row
        if count != self.count():
            raise self._lost(f"it holds {count} chunks of {self.count()} that were written")

    def ids(self) -> set[str]:
        """The ids of all published chunks."""
        statement = f"SELECT id FROM chunks WHERE generation = :g AND {self._shown}"
        return {row[0] for row in self.ask(statement)}

    def ids_of(self, sources: Sequence[str]) -> dict[str, list[str]]:
        """The ids of the published chunks of these documents; those that are not there left out."""
        found: dict[str, list[str]] = {}
        for part in in_parts(sources):
            statement = (
                "SELECT source, id FROM chunks WHERE generation = :g "
                f"AND source IN ({names(part)}) AND {self._shown}"
            )
            for source, id in self.ask(statement, **part):
                found.setdefault(source, []).append(id)
        return found

    def count(self) -> int:
        """The number of published chunks."""
        return self._count()[0]

    def count_stored(self) -> int:
        """How many chunks the store holds at least: those published, and those read back since."""
        if self.coming:
            return self.count()
        planned = self.ask("SELECT count(*) FROM chunks WHERE generation = :g AND state = 2")
        staged = self.ask(_UNWRITTEN)
        return self.count() + int(planned[0][0]) - int(staged[0][0])

    def is_sound(self) -> bool:
        """Whether as many chunks are published as were."""
        count = "SELECT count(*) FROM chunks WHERE generation = :g"
        return bool(self.ask(f"{count} AND {self._shown}")[0][0] == self.count())

    def _count(self) -> tuple[int, int]:
        """How many chunks are published, and how many more the store may hold."""
        if self._counts is None:
            count = "SELECT count(*) FROM chunks WHERE generation = :g"
            if self.coming:
                shown = int(self.ask(f"{count} AND {self._shown}")[0][0])
                self._counts = shown, int(self.ask(count)[0][0]) - shown
            else:  # by an index, for every search asks
                hidden = self.ask(f"{count} AND state IN (0, 2)")[0][0]
                self._counts = self.generation.chunks, int(hidden)
        return self._counts

    def _find_published(self, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for part in in_parts(ids):
            statement = (
                f"SELECT id FROM chunks WHERE generation = :g AND id IN ({names(part)}) "
                f"AND {self._shown}"
            )
            found.update(row[0] for row in self.ask(statement, **part))
        return found

    def ask(self, statement: str, **values: Any) -> Sequence[Any]:
        """What the manifest says at this moment; `:g` in the statement is the generation."""
        given = {"g": self.generation.number, **values}
        return self._moment.connection.execute(text(statement), given).fetchall()

    @property
    def _mending(self) -> dict[str, str]:
        return {"key": MENDING, "n": str(self.generation.number)}

    def _require_all(self, found: int, k: int, filter: Filter | None) -> None:
        """Refuse fewer hits than asked for, unless no more chunks are there or match."""
        known = self.count_stored()
        if (held := self._store.count()) < known:
            raise self._lost(f"it holds {held} of {known} that were written")
        wanted = min(k, self.count())
        if filter is None and found < wanted:
            raise IndexStateError(
                "vector_store",
                f"the store finds {found} chunks where {wanted} are to be found",
                "See what is wrong with it: rag-app doctor; where its search is approximate, let "
                "it look further",
            )

    def _lost(self, wrong: str) -> IndexStateError:
        return IndexStateError(
            "vector_store", f"the store has lost chunks: {wrong}", "Run: rag-app doctor --fix"
        )
