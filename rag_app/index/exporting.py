"""Export: what an index publishes at one moment, in the portable form.

The files are written beside the target and take its name when they are whole and on disk. They are
begun anew when chunks of their moment were deleted from the store meanwhile.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.errors import IndexStateError
from rag_app.index.database import in_parts, names
from rag_app.index.identity import PROBES, normalise_probes
from rag_app.index.manifest import now
from rag_app.index.portable import (
    CHUNKS,
    DOCUMENTS,
    FORMAT,
    HEADER,
    ORIGINS,
    PARTS,
    PROBE_VECTORS,
    VECTORS,
    VERSION,
    Counts,
    Header,
    Sink,
)
from rag_app.index.records import unpack
from rag_app.index.targets import (
    clear,
    explained,
    is_zip,
    making,
    measure,
    pack,
    put,
    refuse_to_replace,
    sync,
)
from rag_app.rows import check_rows
from rag_app.types import ExportReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rag_app.index.index import Index
    from rag_app.index.view import View
    from rag_app.rows import Row

    Progress = Callable[[str, int, int | None], None]

PAGE: Final = 200
"""Documents, and origins, that are asked of the manifest at a time."""

FETCHED: Final = 500
"""Chunks that are asked of the store at a time."""


def export_index(
    index: Index, target: Path, *, force: bool = False, progress: Progress = lambda *_: None
) -> ExportReport:
    """Write what `index` publishes now into the folder, or the `.zip`, `target`.

    Takes as much memory as the largest document and its chunks do. A zip takes the room of a folder
    as well, beside it, until it is written.

    Args:
        force: replace an export that is there. Anything else is never replaced.
        progress: called as (stage, done, total).

    Raises:
        UsageError: something is there already. IdentityError, IndexStateError: as `Index.read`; or
        the target cannot be written, and then nothing is there.
    """
    start = time.perf_counter()
    refuse_to_replace(target, force=force)
    with explained(target), making(target) as beside:
        folder = beside / "folder"
        header = index.read(lambda view: _Export(index, view, clear(folder), progress).write())
        made = folder
        if is_zip(target):
            made = pack(folder, beside / "zip", progress)
        sync(made)
        put(made, target, beside / "before", force=force)
    counts, size = header.counts, measure(target)
    return ExportReport(
        str(target), counts.documents, counts.chunks, size, time.perf_counter() - start
    )


class _Export:
    """Writes the files of one moment."""

    def __init__(self, index: Index, view: View, folder: Path, progress: Progress) -> None:
        self._index, self._view, self._folder = index, view, folder
        self._progress = progress
        self._total = view.count()
        self._documents = self._done = self._origins = 0

    def write(self) -> Header:
        """The files, `index.json` last."""
        generation = self._view.generation
        probes = normalise_probes(generation.probes or b"").astype("<f4")
        with ExitStack() as open_files:
            sinks = {name: open_files.enter_context(_open(self._folder / name)) for name in PARTS}
            _begin_npy(sinks[PROBE_VECTORS], probes.shape)
            sinks[PROBE_VECTORS].write(probes.tobytes())
            _begin_npy(sinks[VECTORS], (self._total, probes.shape[1]))
            for document, rows in self._read():
                self._write_document(sinks, document, rows, probes.shape[1])
            self._write_origins(sinks[ORIGINS])
            parts = {name: sink.end() for name, sink in sinks.items()}
        header = Header(
            format=FORMAT,
            version=VERSION,
            made_by=_name_self(),
            name=self._index.name,
            created=now(),
            counts=Counts(documents=self._documents, chunks=self._done, origins=self._origins),
            dimension=probes.shape[1],
            dtype="float32",
            similarity="cosine",
            embeddings=json.loads(generation.identity),
            splitter=json.loads(generation.splitter),
            probes=list(PROBES),
            files=parts,
        )
        words = json.dumps(header.model_dump(), ensure_ascii=False, indent=2)
        (self._folder / HEADER).write_text(words + "\n", encoding="utf-8")
        return header

    def _write_document(
        self, sinks: Mapping[str, Sink], document: Any, rows: Sequence[Row], dimension: int
    ) -> None:
        (data,) = self._view.ask("SELECT data FROM contents WHERE key = :k", k=document.content)
        line = {
            "source": document.source,
            "origin": document.origin,
            "version": document.version,
            "chunks": len(rows),
            "text": unpack(data[0]),
            "metadata": json.loads(document.metadata),
        }
        sinks[DOCUMENTS].write_line(line)
        for row in check_rows(sorted(rows, key=_place), "vector_store"):
            if len(row.vector) != dimension:
                wrong = f"a vector has {len(row.vector)} dimensions, not {dimension}: {row.id!r}"
                raise IndexStateError("vector_store", wrong, "Run: rag-app doctor --fix")
            sinks[VECTORS].write(row.vector.astype("<f4").tobytes())
            sinks[CHUNKS].write_line(
                {
                    "id": row.id,
                    "source": document.source,
                    "text": row.text,
                    "metadata": row.metadata,
                }
            )
        self._documents += 1
        self._done += len(rows)
        self._progress("exporting", self._done, self._total)

    def _read(self) -> Iterator[tuple[Any, list[Row]]]:
        """Every published document with its rows."""
        last = ""
        while page := self._view.ask(_DOCUMENTS, last=last, limit=PAGE):
            last = page[-1].source
            ids = self._find_ids([document.source for document in page])
            for group in _group(page, ids):
                yield from self._fetch(group, ids)

    def _fetch(
        self, group: Sequence[Any], ids: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[Any, list[Row]]]:
        wanted = [id for document in group for id in ids.get(document.source, ())]
        rows: dict[str, Row] = {}
        for start in range(0, len(wanted), FETCHED):
            rows |= {row.id: row for row in self._view.fetch(wanted[start : start + FETCHED])}
        for document in group:
            yield document, [rows[id] for id in ids.get(document.source, ())]

    def _find_ids(self, sources: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for part in in_parts(sources):
            for source, id in self._view.ask(_IDS.format(sources=names(part)), **part):
                found.setdefault(source, []).append(id)
        return found

    def _write_origins(self, sink: Sink) -> None:
        last = ""
        while page := self._view.ask(_ORIGINS, last=last, limit=PAGE):
            last = page[-1].origin
            broken: dict[str, dict[str, str]] = {}
            for part in in_parts([each.origin for each in page]):
                for each in self._view.ask(_QUARANTINE.format(origins=names(part)), **part):
                    broken.setdefault(each.origin, {})[each.source] = each.reason
            for each in page:
                line = dict(each._mapping)
                waiting = line.pop("waiting")
                if waiting:  # an ingest is under way: what is exported is older than this
                    line["fingerprint"] = None
                sink.write_line({**line, "quarantine": broken.get(each.origin, {})})
                self._origins += 1


def _group(page: Sequence[Any], ids: Mapping[str, Sequence[str]]) -> Iterator[list[Any]]:
    """Documents whose chunks are fetched together."""
    group: list[Any] = []
    count = 0
    for document in page:
        own = len(ids.get(document.source, ()))
        if group and count + own > FETCHED:
            yield group
            group, count = [], 0
        group.append(document)
        count += own
    if group:
        yield group


def _place(row: Row) -> tuple[float, float, str]:
    """Where a chunk stands in its document; splitters other than ours may not tell."""
    start, end = (row.metadata.get(name, 0) for name in ("start", "end"))
    known = isinstance(start, int | float) and isinstance(end, int | float)
    return (start, end, row.id) if known else (0, 0, row.id)


def _begin_npy(sink: Sink, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, header)


@contextmanager
def _open(path: Path) -> Iterator[Sink]:
    sink = Sink(path)
    try:
        yield sink
    finally:
        sink.close()


def _name_self() -> str:
    from rag_app import __version__

    return f"rag-app {__version__}"


_DOCUMENTS = """
SELECT source, origin, version, content, metadata FROM documents
WHERE generation = :g AND version IS NOT NULL AND source > :last ORDER BY source LIMIT :limit
"""
_IDS = """
SELECT source, id FROM chunks
WHERE generation = :g AND state % 2 = 1 AND source IN ({sources}) ORDER BY id
"""
_ORIGINS = """
SELECT origin, fingerprint, settings, entry, EXISTS (
    SELECT 1 FROM documents d WHERE d.generation = :g AND d.origin = o.origin
    AND (d.planned IS NOT NULL OR d.gone <> 0)) AS waiting
FROM origins o WHERE o.generation = :g AND o.origin > :last AND (
    EXISTS (SELECT 1 FROM documents d WHERE d.generation = :g AND d.origin = o.origin
        AND d.version IS NOT NULL)
    OR EXISTS (SELECT 1 FROM quarantine q WHERE q.generation = :g AND q.origin = o.origin))
ORDER BY o.origin LIMIT :limit
"""
_QUARANTINE = """
SELECT origin, source, reason FROM quarantine
WHERE generation = :g AND origin IN ({origins}) ORDER BY source
"""
