"""One index: the vector store, the model of its vectors, and the manifest of what it holds."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rag_app.errors import IndexStateError, RagAppError
from rag_app.index.failpoints import reach
from rag_app.index.identity import require_same, require_same_chunks, require_same_probes
from rag_app.index.journal import Journal
from rag_app.index.lock import only_writer, only_writer_of
from rag_app.index.manifest import read_generations
from rag_app.index.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from langchain_core.embeddings import Embeddings

    from rag_app.index.cache import EmbeddingCache
    from rag_app.index.manifest import Generation, Manifest, Moment
    from rag_app.store import Store

    T = TypeVar("T")

_next: ContextVar[Generation | None] = ContextVar("rag_app_next_generation", default=None)

ATTEMPTS: Final = 20
"""How often a search is repeated when a prune overlapped it; a run prunes once, at its end."""

PROBE_SECONDS: Final = 3600.0
"""How long a model is trusted to be the one that answered the probe sentences last."""


class Index:
    """What retrievers search and ingest fills.

    Args:
        name: the index's name in the config.
        folder: where the manifest, the lock and derived files lie; `in_memory`, a temporary one.
        manifest: the record of what the store should hold.
        open_store: the config's vector store, opened on a collection.
        open_recorded: the vector store of a generation, opened as its own config says.
        embeddings: the model that embeds chunks and questions.
        kind: the vector store's name in the config.
        identity: the embedding identity the config asks for.
        splitter: the splitter identity the config asks for.
        record: the config, as `AppConfig.record` writes it.
        cache: vectors by text; None to compute every one.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        manifest: Manifest,
        *,
        in_memory: bool,
        open_store: Callable[[str], Store],
        open_recorded: Callable[[Generation], Store],
        embeddings: Embeddings,
        kind: str,
        identity: str,
        splitter: str,
        record: str,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.manifest = manifest
        self.embeddings = embeddings
        self.in_memory = in_memory
        self.kind = kind
        self.identity = identity
        self.splitter = splitter
        self.record = record
        self.cache = cache
        self.place = f"index {name!r}"
        self._open_store = open_store
        self._open_recorded = open_recorded
        self._stores: dict[str, Store] = {}
        self._guard = threading.RLock()
        self._held: int | None = None  # the generation this process reads
        self._counted: set[tuple[int, int]] = set()
        self._probed: dict[int, float] = {}  # when, by the monotonic clock
        self._probing = threading.Lock()
        self.probe_seconds = PROBE_SECONDS  # may be set

    # -- reading -----------------------------------------------------------------------------

    def read(self, function: Callable[[View], T]) -> T:
        """What `function` makes of the index as it is at one moment.

        It is called again when rows of its moment were deleted from the store meanwhile.

        Raises:
            IdentityError: made by another embedding model or splitter.
            IndexStateError: empty, or not what the store holds.
        """
        vectors: dict[str, list[float]] = {}
        for _ in range(ATTEMPTS):
            with self.manifest.moment() as moment:
                view = self._open_view(moment, vectors)
                try:
                    self._check_count(view)
                    made = function(view)
                except RagAppError:
                    if self._stands(view):
                        raise
                    continue
            if self._stands(view):
                return made
        wrong = f"it changed during each of {ATTEMPTS} searches"
        raise IndexStateError(self.place, wrong, "Search again.")

    def check_ready(self) -> None:
        """Refuse to answer from an index that is not what the config says.

        Raises:
            IdentityError, IndexStateError: as `read`.
        """
        self.read(lambda view: view.count())

    @property
    def revision(self) -> str:
        """Changes whenever what is served did; empty before anything is."""
        with self.manifest.moment() as moment:
            served = _find(moment, moment.served)
            return "" if served is None else f"{moment.uid}-{served.number}-{served.stamp}"

    @contextmanager
    def next(self, generation: Generation) -> Iterator[None]:
        """Inside, in this thread, `read` sees what this generation will hold once it is published:
        to check it, and to derive what readers will want at once."""
        token = _next.set(generation)
        try:
            yield
        finally:
            _next.reset(token)

    def _open_view(self, moment: Moment, vectors: dict[str, list[float]]) -> View:
        coming = _next.get()
        generation = coming or self._choose(moment)

        def embed(query: str) -> list[float]:
            if query not in vectors:
                self.check_probes(generation)
                vectors[query] = self.embeddings.embed_query(query)
            return vectors[query]

        folder = None if self.in_memory else self.folder
        store = self.open(generation.collection)
        return View(moment, generation, store, folder, embed, next=coming is not None)

    def _choose(self, moment: Moment) -> Generation:
        """The generation that is served; the one read so far, while it says the same."""
        served = _find(moment, moment.served)
        if served is None:
            raise self._empty(moment)
        if served.number != self._held:
            held = _find(moment, self._held)
            kept = held is not None and held.revision and moment.unchanged(served)
            if held is not None and kept and not self.is_as_asked(served):
                return held
        self.require_fit(served)
        self.require_cut(served)
        self._held = served.number
        return served

    def _empty(self, moment: Moment) -> IndexStateError:
        if any(each.purpose == "ingest" for each in read_generations(moment.connection)):
            wrong = "its first ingest has not ended, so there is nothing to search yet"
            return IndexStateError(self.place, wrong, "Wait for it, or go on: rag-app ingest")
        remedy = "Run: rag-app ingest"
        if self.in_memory:
            remedy = "It is kept in RAM: call ingest() in this process, or set vector_store.path."
        return IndexStateError(self.place, "it is empty", remedy)

    def _stands(self, view: View) -> bool:
        return self.manifest.count_prunes() == view.prunes

    def _check_count(self, view: View) -> None:
        """Once for each revision: the store holds at least what is published."""
        key = view.generation.number, view.generation.revision
        if key not in self._counted:
            if not view.is_sound():
                wrong = (
                    "the manifest is damaged: chunks that were published are no longer marked so"
                )
                raise IndexStateError(self.place, wrong, "Run: rag-app ingest --rebuild")
            self.require_count(self.open(view.generation.collection), view.count_stored())
            self._counted.add(key)

    # -- what is asked for, and what is there --------------------------------------------------

    def require_fit(self, generation: Generation) -> None:
        """Refuse a generation of another vector store or embedding model than the config's.

        Raises:
            IndexStateError, IdentityError: naming both.
        """
        if generation.store != self.kind:
            raise IndexStateError(
                self.place,
                f"its chunks are in the vector store {generation.store!r}; the config asks for "
                f"{self.kind!r}",
                "Restore the config; to take the index over, run: rag-app migrate --to THE-CONFIG; "
                "to make it anew: rag-app ingest --rebuild",
            )
        require_same(self.name, generation.identity, self.identity)

    def require_cut(self, generation: Generation) -> None:
        """Refuse a generation of other chunks than the config's splitter and our loaders make.

        Raises:
            IdentityError: naming both.
        """
        published = generation.revision > 0
        require_same_chunks(self.name, generation.splitter, self.splitter, published=published)

    def check_probes(self, generation: Generation) -> None:
        """Refuse a model that answers otherwise than when the generation was begun.

        It is asked at first, and again when `probe_seconds` have passed: a service may change its
        model under a process that runs for weeks.

        Raises:
            IdentityError: telling how its answers differ.
        """
        if generation.probes is None:
            return
        with self._probing:
            last = self._probed.get(generation.number)
            if last is None or time.monotonic() - last >= self.probe_seconds:
                require_same_probes(self.name, generation.probes, self.embeddings, self.identity)
                self._probed[generation.number] = time.monotonic()

    def trust_model(self, number: int, probes: bytes) -> None:
        """Note that the model has just made these probe vectors for a generation."""
        self._probed[number] = time.monotonic()
        self.settle_cache(probes)

    def settle_cache(self, probes: bytes | None) -> None:
        """Take from the cache only vectors of the model that answers these probe vectors."""
        if self.cache is not None and probes is not None:
            self.cache.settle(probes)

    def require_count(self, store: Store, known: int) -> None:
        """Refuse a store that lost chunks behind the manifest's back.

        Raises:
            IndexStateError: with both numbers.
        """
        held = store.count()
        if held < known:
            raise IndexStateError(
                self.place,
                f"the store holds {held} chunks where {known} were written",
                "See what is missing and mend it: rag-app doctor --fix",
            )

    def is_as_asked(self, generation: Generation) -> bool:
        """Whether it is made as the config says, in the very store that the config names."""
        there, here = map(_vector_store, (generation.config, self.record))
        made = (generation.identity, generation.splitter)
        return made == (self.identity, self.splitter) and bool(there == here)

    # -- generations ---------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The vector store of the generation that is served, or will be first: all its rows,
        published or not. To search what is published, use `read`."""
        found = self.manifest.served()
        return self.open(f"{self.name}_g1" if found is None else found.collection)

    def open(self, collection: str) -> Store:
        """The config's vector store on a collection, opened once."""
        with self._guard:
            if collection not in self._stores:
                self._stores[collection] = self._open_store(collection)
            return self._stores[collection]

    def open_recorded(self, generation: Generation) -> Store:
        """The vector store that a generation was written to, which may be another config's."""
        if _vector_store(generation.config) == _vector_store(self.record):
            return self.open(generation.collection)
        with self._guard:
            key = f"{generation.number}: {generation.collection}"
            if key not in self._stores:
                self._stores[key] = self._open_recorded(generation)
            return self._stores[key]

    def adopt(self, collection: str, store: Store) -> None:
        """Use this store, opened already, for a collection."""
        self._stores[collection] = store

    def journal(self, generation: Generation) -> Journal:
        """The journal of a generation."""
        return Journal(self.manifest.database, generation.number)

    def drop(self, generation: Generation) -> None:
        """Remove a generation that is not served: its rows, then all that is known of it."""
        store = self.open_recorded(generation)
        self.manifest.condemn(generation.number)
        store.drop()
        reach("collection-dropped")
        self.manifest.forget(generation.number)

    @contextmanager
    def writing(self) -> Iterator[Callable[[], None]]:
        """Nobody else writes inside. Yields a function that raises when the lock was lost.

        Raises:
            LockedError: another process is writing; naming it.
        """
        database = self.manifest.database
        alone = only_writer(self.place, self.folder)
        with only_writer_of(database) if database.on_server else alone as require_held:
            yield require_held

    def release(self) -> None:
        """Close the stores while nobody reads; they are opened when used. Those in RAM stay."""
        if not self.in_memory:
            while self._stores:
                self._stores.popitem()[1].close()

    def close(self) -> None:
        """Release the stores, the manifest and the cache."""
        while self._stores:
            self._stores.popitem()[1].close()
        self.manifest.close()
        if self.cache is not None:
            self.cache.close()


def _find(moment: Moment, number: int | None) -> Generation | None:
    listed = read_generations(moment.connection) if number is not None else []
    return next((each for each in listed if each.number == number and each.revision), None)


def _vector_store(record: str) -> Any:
    """The vector store of a config on record."""
    return json.loads(record)["config"].get("vector_store")
