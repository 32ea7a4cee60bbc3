"""A run that dies at once at each named point of the journal, and everything recovers from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

import rag_app
from rag_app.app import RagApp
from rag_app.index.failpoints import NAMES, VARIABLE
from tests.reliability.processes import in_process
from tests.reliability.stores import Corpus, make_config, open_place, read_version

DOCUMENTS = 24  # six chunks each: two batches

RUNS: Final = ("first", "edit", "rebuild", "migrate", "gc")

BEFORE_PUBLISHED: Final = frozenset(NAMES[: NAMES.index("published")])

REACHED: Final = {
    "first": NAMES[: NAMES.index("published") + 1],
    "edit": NAMES[NAMES.index("planned") : NAMES.index("contents-swept") + 1],
    "rebuild": (*NAMES[: NAMES.index("published") + 1], *NAMES[-2:]),
    "migrate": NAMES[: NAMES.index("published") + 1],
    "gc": NAMES[-2:],
}
"""What each kind of run comes by, at least; `rollback` comes by the one that is left."""

EVERY: Final = os.environ.get("RAG_APP_FAILPOINTS") == "all"
"""Whether every kind of run dies at every point in every store, which takes many minutes."""

STORE_CHANGED: Final = ("upserted", "staged", "published", "rows-deleted")
"""Between what the store and what the journal keeps: where stores differ, if they do."""

CASES: Final = [
    (run, store)
    for store in ("memory", "faiss", "chroma", "qdrant", "lancedb", "pgvector")
    for run in RUNS
    if EVERY or store == "memory" or (run == "edit" and store in ("chroma", "pgvector"))
]


class Scene:
    """An index in some place, and what may be done with it."""

    def __init__(self, folder: Path, vector_store: dict[str, Any]) -> None:
        self.corpus = Corpus(folder, DOCUMENTS)
        self.config = make_config(folder, vector_store, index={"path": str(folder / "index")})
        splitter = {"kind": "recursive", "chunk_size": 60, "chunk_overlap": 0}
        self.to = {**self.config, "splitter": splitter}

    def prepare(self, run: str) -> None:
        """Bring it where `run` begins."""
        if run != "first":
            in_process(partial(self._do, "first"))
        if run == "edit":
            self.corpus.write({0: 1, 1: None, 2: 1, 99: 1} | dict.fromkeys(range(3, 23), 2))
        if run == "gc":
            in_process(partial(self._do, "migrate"))

    def run(self, run: str, failpoint: str = "") -> bool:
        """Do it; whether it came to its end."""
        return in_process(partial(self._do, run), failpoint) is not None

    def go_back(self) -> bool:
        with rag_app.load(self.to) as app:
            app.rollback()
        return True

    def _do(self, run: str) -> bool:
        with rag_app.load(self.to if run == "gc" else self.config) as app:
            if run == "migrate":
                with suppress(rag_app.UsageError):  # when it was killed after the switch
                    app.migrate(self.to)
            elif run == "gc":
                app.gc()
            else:
                app.ingest(rebuild=run == "rebuild")
        return True

    def look(self) -> dict[str, Any]:
        """What a reader is shown, in a process of its own."""
        shown: dict[str, Any] = in_process(self._look)
        return shown

    def _look(self) -> dict[str, Any]:
        for config in (self.config, self.to):
            with rag_app.load(config) as app:
                try:
                    hits = app.search("Document 3 says", k=500).hits
                except rag_app.IndexStateError as error:
                    if "first ingest has not ended" in str(error) or "is empty" in str(error):
                        return {"nothing": True}
                    continue  # it is of the other config
                versions: dict[str, set[int]] = {}
                for hit in hits:
                    versions.setdefault(hit.source, set()).add(read_version(hit.text))
                assert all(len(each) == 1 for each in versions.values())
                state = {source: each.pop() for source, each in versions.items()}
                return {"state": state, "hits": len(hits), "stored": stored_ids(app)}
        raise AssertionError("no config fits what is served")


def stored_ids(app: RagApp) -> dict[str, int]:
    """How many rows lie in the collection of each number, and how many are published."""
    numbers = range(1, 5)
    counts = {str(n): app.index.open(f"states_g{n}").count() for n in numbers}
    return {**counts, "shown": app.index.read(lambda view: view.count())}


@pytest.mark.parametrize(("run", "store"), CASES)
def test_every_transition_recovers(run: str, store: str, tmp_path: Path) -> None:
    for name in REACHED[run] if EVERY or store == "memory" else STORE_CHANGED:
        twice = store == "memory" and run == "edit"
        for failpoint in (name, f"{name}:2") if twice else (name,):
            folder = tmp_path / failpoint.replace(":", "-")
            folder.mkdir()
            with open_place(store, folder) as place:
                scene = Scene(folder, place)
                scene.prepare(run)
                ended = scene.run(run, failpoint)
                assert not ended or failpoint != name, f"{run} does not come by {name}"
                before, after = scene.corpus.states[0], scene.corpus.states[-1]
                seen = scene.look()
                if name in BEFORE_PUBLISHED and not ended:
                    assert seen == {"nothing": True} if run == "first" else seen["state"] == before
                else:
                    assert seen["state"] == after
                assert scene.run(run)
                healed = scene.look()
                assert healed["state"] == after
                stored = healed["stored"]
                kept = 2 if run == "migrate" else 1
                full = [count for number, count in stored.items() if number != "shown" and count]
                assert len(full) == kept, stored
                assert stored["shown"] == healed["hits"]
                assert stored["shown"] in full


def test_a_rollback_that_dies_has_been_done(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")})
    scene.prepare("gc")
    assert in_process(scene.go_back, "generation-served") is None
    with rag_app.load(scene.config) as app:
        assert [each.state for each in app.generations()] == ["served", "kept"]
        assert app.search("Document 3 says").hits


def test_every_point_is_provoked() -> None:
    assert {"generation-served"}.union(*REACHED.values()) == set(NAMES)


@pytest.mark.parametrize("failpoint", ["prune-begun", "collection-dropped"])
def test_a_reader_of_a_generation_that_is_half_removed_is_told_so(
    failpoint: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")})
    assert scene.run("first")
    with rag_app.load(scene.config) as app:
        shown = len(app.search("Document 3 says").hits)
        assert shown
        app.migrate(scene.to)
        assert len(app.search("Document 3 says").hits) == shown
        code = f"import rag_app\nwith rag_app.load({scene.to!r}) as app: app.gc()"
        environment = {**os.environ, VARIABLE: failpoint}
        ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
        assert ended.returncode == -signal.SIGKILL
        with pytest.raises(rag_app.IdentityError):
            app.search("Document 3 says")
        with rag_app.load(scene.to) as new:
            with pytest.raises(rag_app.IndexStateError, match="no earlier generation"):
                new.rollback()
            assert [each.number for each in new.gc()] == [1]
