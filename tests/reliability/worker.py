"""A process that ingests and searches in children of its own, on a disk that may fail.

It has imported what takes long; each request (a line of JSON) is done by a fork of it, so that what
one run leaves in memory no other sees. `Worker` is its other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.reliability import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMPORTS: Final = (
    "rag_app.app",
    "rag_app.cli",
    "rag_app.cli.ingest",
    "rag_app.config",
    "rag_app.index.ingest",
    "rag_app.retrievers.hybrid",
    "langchain_core.vectorstores",
    "langchain_text_splitters",
    "bm25s",
    "chromadb",
    "pymilvus",
    "milvus_lite.adapter.grpc.server",
    "pyarrow",
    "qdrant_edge",
)


class Done(NamedTuple):
    """How a run ended: exit status (below 0: killed by that signal), what it told on stderr, what
    it returned, and how many changes it asked of the disk, and how many of them failed."""

    status: int
    told: str
    result: Any
    changes: int
    failed: int


class Worker:
    """Runs ingests and searches of a config in fresh processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ingest(self, config: dict[str, Any], fault: disk.Fault | None = None) -> Done:
        """`rag-app ingest`."""
        return self._ask("ingest", config, fault)

    def search(self, config: dict[str, Any], questions: list[str]) -> Done:
        """Of each question the text and score of every hit by id; and every row of the store."""
        return self._ask("search", {**config, "questions": questions}, None)

    def _ask(self, what: str, config: dict[str, Any], fault: disk.Fault | None) -> Done:
        told = None if fault is None else {**vars(fault), "folder": str(fault.folder)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, config, told]) + "\n")
        self._process.stdin.flush()
        return Done(*json.loads(self._process.stdout.readline()))


@contextmanager
def open_worker() -> Iterator[Worker]:
    """A worker, ended afterwards."""
    command = [sys.executable, "-m", "tests.reliability.worker"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        yield Worker(process)


def _ingest(config: dict[str, Any], result: Path) -> int:
    from rag_app import cli

    path = result.with_suffix(".yaml")
    path.write_text(json.dumps(config), encoding="utf-8")
    sys.argv = ["rag-app", "ingest", "--json", "-c", str(path)]
    sys.stdout = result.open("w", encoding="utf-8")
    try:
        cli.main()
    except SystemExit as end:
        sys.stdout.flush()
        return int(end.code or 0)
    return 98


def is_same(found: Any, expected: Any) -> bool:
    """Whether two searches found the same chunks, of the same scores to within rounding."""
    if found is None or found.keys() != expected.keys():
        return False
    return all(
        hits.keys() == expected[question].keys()
        and all(
            text == expected[question][id][0] and abs(score - expected[question][id][1]) < 0.002
            for id, (text, score) in hits.items()
        )
        for question, hits in found.items()
    )


def _search(config: dict[str, Any], result: Path) -> int:
    import rag_app
    from rag_app.errors import RagAppError

    questions = config.pop("questions")
    try:
        with rag_app.load(config) as app:
            hits = {
                each: {hit.id: (hit.text, round(hit.score, 3)) for hit in app.search(each).hits}
                for each in questions
            }
            rows = sorted((row.id, row.text) for row in app.store.scan())
    except RagAppError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    result.write_text(json.dumps([hits, rows]), encoding="utf-8")
    return 0


def _do(what: str, config: dict[str, Any], told: Path, result: Path) -> int:
    sys.stderr = told.open("w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), 2)
    try:
        return {"ingest": _ingest, "search": _search}[what](config, result)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 97
    finally:
        sys.stderr.flush()


def _serve() -> None:
    for name in _IMPORTS:
        import_module(name)
    for line in sys.stdin:
        what, config, given = json.loads(line)
        fault = given and disk.Fault(**{**given, "folder": Path(given["folder"])})
        with tempfile.TemporaryDirectory() as folder:
            told, result = Path(folder, "told"), Path(folder, "result.json")
            ended = disk.run(lambda: _do(what, config, told, result), fault)  # noqa: B023
            text = result.read_text(encoding="utf-8") if result.exists() else ""
            words = told.read_text(encoding="utf-8", errors="replace") if told.exists() else ""
            done = (ended.status, words, json.loads(text or "null"), ended.changes, ended.failed)
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    _serve()
