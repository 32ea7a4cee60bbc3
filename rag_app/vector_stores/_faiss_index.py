"""FAISS's indexes as one thing: numbered unit vectors that are added, removed, searched and saved.

Every kind keeps the vectors whole (float32), so the inner products that FAISS gives are the exact
cosines, up to rounding. Knows nothing of texts, metadata and SQLite.

Sources: Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", 2017 (inverted
lists); Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", 2016.
"""

from __future__ import annotations

import hashlib
import math
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_app.vector_stores._sqlite_rows import Change
    from rag_app.vector_stores.faiss import Config

    Numbers = NDArray[np.int64]
    Vectors = NDArray[np.float32]

ROWS_PER_LIST: Final = 39
"""Vectors that FAISS wants for each cluster before it trains without a warning."""

FEWEST_LISTS: Final = 64
"""Clusters that a search looks into at least when `nprobe` is left out."""

EXACT: Final = 20_000
"""When a filter lets at most so many rows pass, or a tenth of all, all of them are measured."""


def load_faiss() -> Any:
    """The `faiss` module."""
    if "faiss" not in sys.modules:
        with warnings.catch_warnings():
            # SWIG's types say so on newer Pythons; nobody here can change it.
            warnings.filterwarnings("ignore", "builtin type .* has no", DeprecationWarning)
            import_module("faiss")
    return import_module("faiss")  # which waits for another thread that is importing it


class FaissIndex:
    """The vectors of one collection, each under the number of its row. Not thread-safe.

    An inverted file is a flat index until there is enough to make its clusters from, and is made
    anew when it has grown to four times what they were made from. A graph cannot forget: removed
    rows are passed over, and it is made anew when they are a fifth of all.

    Attributes:
        changed: rows added and removed since it was saved or read.
        trained_on: rows that the clusters of an inverted file were made from, 0 without clusters.
    """

    def __init__(self, config: Config, dimension: int) -> None:
        self._config = config
        self._dimension = dimension
        self._removed: Numbers = np.empty(0, dtype=np.int64)
        self._index = self._make_graph() if config.index == "hnsw" else self._make_flat()
        self.changed = 0
        self.trained_on = 0

    @classmethod
    def read(cls, path: Path, digest: str, config: Config, trained_on: int) -> FaissIndex | None:
        """The index saved at `path`; None when the file is gone or not what was written."""
        faiss = load_faiss()
        if not path.is_file() or _digest(path) != digest:
            return None
        held = cls.__new__(cls)
        held._index = faiss.read_index(str(path))
        held._config, held._dimension = config, held._index.d
        held._removed = np.empty(0, dtype=np.int64)
        held.changed, held.trained_on = 0, trained_on
        return held

    def write(self, path: Path) -> str:
        """Save it in a new file.

        Returns:
            The digest of the file, for `read`.
        """
        faiss = load_faiss()
        faiss.write_index(self._index, str(path))
        return _digest(path)

    def __len__(self) -> int:
        return int(self._index.ntotal) - len(self._removed)

    def take(self, changes: Sequence[Change]) -> None:
        """Add rows; see `add`."""
        vectors = np.frombuffer(b"".join(row[2] for row in changes), dtype="<f4")
        numbers = np.array([row[1] for row in changes], dtype=np.int64)
        self.add(numbers, vectors.reshape(len(changes), self._dimension))

    def add(self, numbers: Numbers, vectors: Vectors) -> None:
        """Add rows: int64 (n,) ascending and above those that are there, float32 (n, d)."""
        self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), numbers)
        self.changed += len(numbers)
        self._renew_if_outgrown()

    def keep(self, numbers: Iterable[int]) -> None:
        """Remove every row whose number is not among `numbers`."""
        faiss = load_faiss()
        kept = np.fromiter(numbers, dtype=np.int64)
        gone = np.setdiff1d(self._list_held(), kept)
        self.changed += len(gone) - len(self._removed)
        if self._config.index == "hnsw":
            self._removed = gone
        elif len(gone):
            self._index.remove_ids(faiss.IDSelectorBatch(gone))
        self._renew_if_outgrown()

    def list_numbers(self) -> Numbers:
        """The numbers of all rows."""
        return np.setdiff1d(self._list_held(), self._removed)

    def search(self, vector: Vectors, k: int, allowed: Numbers | None) -> list[tuple[int, float]]:
        """Number and cosine of the `k` nearest rows, best first, all if there are fewer.

        Args:
            vector: float32 of shape (d,), of norm 1.
            allowed: the rows to search, ascending; None for all.
        """
        size = len(self)
        wanted = min(k, size if allowed is None else len(allowed))
        if not wanted:
            return []
        share = 1.0 if allowed is None else len(allowed) / size
        few = allowed is not None and (len(allowed) <= EXACT or share <= 0.1)
        found = [] if few else self._search_some(vector, wanted, allowed, share)
        if len(found) < wanted:
            found = self._search_all(vector, wanted, allowed)
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def _search_some(
        self, vector: Vectors, k: int, allowed: Numbers | None, share: float
    ) -> list[tuple[int, float]]:
        """The approximate search; the fewer rows are allowed, the farther it looks."""
        faiss = load_faiss()
        selector = self._select(allowed)
        if self._config.index == "hnsw":
            width = math.ceil(max(self._config.ef_search, k) / share)
            return self._ask(
                self._index, vector, k, faiss.SearchParametersHNSW(sel=selector, efSearch=width)
            )
        if self.trained_on:
            probes = self._config.nprobe or max(FEWEST_LISTS, self._index.nlist / 2)
            return self._ask(self._index, vector, k, self._probe(probes / share, selector))
        return self._search_all(vector, k, allowed)

    def _search_all(
        self, vector: Vectors, k: int, allowed: Numbers | None
    ) -> list[tuple[int, float]]:
        """The exact search."""
        faiss = load_faiss()
        if self._config.index == "hnsw":
            return self._search_below_graph(vector, k, allowed)
        selector = self._select(allowed)
        if self.trained_on:
            return self._ask(self._index, vector, k, self._probe(math.inf, selector))
        return self._ask(self._index, vector, k, faiss.SearchParameters(sel=selector))

    def _search_below_graph(
        self, vector: Vectors, k: int, allowed: Numbers | None
    ) -> list[tuple[int, float]]:
        faiss = load_faiss()
        held = self._list_held()
        wanted = self.list_numbers() if allowed is None else allowed
        flat = faiss.downcast_index(faiss.downcast_index(self._index.index).storage)
        bits = _Bits(np.searchsorted(held, wanted))
        found = self._ask(flat, vector, k, faiss.SearchParameters(sel=bits.selector))
        return [(int(held[place]), cosine) for place, cosine in found]

    def _ask(self, index: Any, vector: Vectors, k: int, params: Any) -> list[tuple[int, float]]:
        faiss = load_faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # of this thread: a single query gains nothing from several
        try:
            cosines, numbers = index.search(vector[None].astype(np.float32), k, params=params)
        finally:
            faiss.omp_set_num_threads(threads)
        found = numbers[0] >= 0
        best = np.clip(cosines[0][found].astype(np.float64), -1.0, 1.0)
        return list(zip(numbers[0][found].tolist(), best.tolist(), strict=True))

    def _probe(self, lists: float, selector: Any) -> Any:
        faiss = load_faiss()
        nprobe = math.ceil(min(lists, self._index.nlist))
        return faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)

    def _select(self, allowed: Numbers | None) -> Any:
        """FAISS's selector of the rows to search; None for all."""
        faiss = load_faiss()
        if allowed is not None:
            return _Bits(allowed).selector
        if len(self._removed):
            return faiss.IDSelectorNot(faiss.IDSelectorBatch(self._removed))
        return None

    # What it is made of, and when it is made anew.

    def _renew_if_outgrown(self) -> None:
        size = len(self)
        if self._config.index == "hnsw":
            if len(self._removed) * 5 > self._index.ntotal:
                self._renew(self._make_graph())
        elif self._config.index == "ivf" and size >= 4 * self.trained_on:
            lists = self._config.nlist or round(4 * math.sqrt(size))
            if size >= ROWS_PER_LIST * lists:
                self._renew(self._make_clusters(lists))

    def _renew(self, empty: Any) -> None:
        """Move all rows into another index."""
        numbers, vectors = self._read_all()
        if self._config.index == "ivf":
            empty.train(vectors)
            self.trained_on = len(vectors)
        if len(numbers):
            empty.add_with_ids(vectors, numbers)
        self._index = empty
        self._removed = self._removed[:0]
        self.changed = max(self.changed, len(numbers))

    def _make_flat(self) -> Any:
        faiss = load_faiss()
        return faiss.IndexIDMap(faiss.IndexFlatIP(self._dimension))

    def _make_graph(self) -> Any:
        faiss = load_faiss()
        graph = faiss.IndexHNSWFlat(self._dimension, self._config.m, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = self._config.ef_construction
        return faiss.IndexIDMap(graph)

    def _make_clusters(self, lists: int) -> Any:
        faiss = load_faiss()
        center = faiss.IndexFlatIP(self._dimension)
        return faiss.IndexIVFFlat(center, self._dimension, lists, faiss.METRIC_INNER_PRODUCT)

    def _list_held(self) -> Numbers:
        """The numbers of all vectors, ascending, those of removed rows included."""
        faiss = load_faiss()
        if not self.trained_on:
            held: Numbers = faiss.vector_to_array(self._index.id_map)
            return held
        lists = self._index.invlists
        parts = [
            faiss.rev_swig_ptr(lists.get_ids(each), lists.list_size(each)).copy()
            for each in range(self._index.nlist)
            if lists.list_size(each)
        ]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)

    def _read_all(self) -> tuple[Numbers, Vectors]:
        """Numbers, ascending, and vectors of all rows."""
        faiss = load_faiss()
        if self.trained_on:
            return self._read_clusters()
        held = self._list_held()
        inner = faiss.downcast_index(self._index.index)
        flat = faiss.downcast_index(inner.storage) if self._config.index == "hnsw" else inner
        size = len(held) * self._dimension
        vectors = faiss.rev_swig_ptr(flat.get_xb(), size).reshape(len(held), self._dimension)
        kept = ~np.isin(held, self._removed)
        return held[kept], vectors[kept]

    def _read_clusters(self) -> tuple[Numbers, Vectors]:
        faiss = load_faiss()
        lists = self._index.invlists
        numbers = [np.empty(0, dtype=np.int64)]
        vectors = [np.empty((0, self._dimension), dtype=np.float32)]
        for each in range(self._index.nlist):
            if size := lists.list_size(each):
                codes = faiss.rev_swig_ptr(lists.get_codes(each), size * lists.code_size)
                numbers.append(faiss.rev_swig_ptr(lists.get_ids(each), size).copy())
                vectors.append(codes.copy().view("<f4").reshape(size, self._dimension))
        joined = np.concatenate(numbers)
        order = np.argsort(joined)
        return joined[order], np.concatenate(vectors)[order]


class _Bits:
    """FAISS's selector of numbers, as one bit each; keeps the bits alive with it."""

    def __init__(self, numbers: NDArray[np.integer[Any]]) -> None:
        faiss = load_faiss()
        flags = np.zeros(int(numbers[-1]) + 1, dtype=bool)
        flags[numbers] = True
        bits = np.packbits(flags, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        self.selector.bits_kept = bits


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
