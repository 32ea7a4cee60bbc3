"""Readers that search all the while: an ingest, a killed ingest, a migration and its switch.

Every answer has to be one published state, whole: no document in two versions, none missing, none
of another state, no empty answer, no error. RAG_APP_ANSWERS says how many are checked in each
store; `make reliability` checks 1,500, more than 10,000 in all.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import rag_app
from rag_app.app import RagApp
from tests.reliability.stores import STORES, Corpus, make_config, open_place, read_version

ANSWERS = int(os.environ.get("RAG_APP_ANSWERS", "400"))
"""Of each store."""

DOCUMENTS = 12


class Readers:
    """Threads that search an app and check every answer against the states that may be shown."""

    def __init__(self, app: RagApp, corpus: Corpus) -> None:
        self.app, self.corpus = app, corpus
        self.oldest = self.newest = len(corpus.states) - 1  # what an answer may show
        self.chunks: list[set[tuple[str, int]]] = []  # of each generation: where chunks begin
        self.answers = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(2)]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int) -> None:
        """Return when so many more were given."""
        wanted = self.answers + answers
        while self.answers < wanted and not self.wrong:
            self._stop.wait(0.01)

    def _run(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._stop.is_set() and not self.wrong:
            number, place = rng.randrange(DOCUMENTS), rng.randrange(6)
            question = f"Document {number} says in sentence {place} that word{place} holds"
            oldest = self.oldest
            try:
                hits = self.app.search(question).hits
            except Exception as error:  # any at all is what must not be
                self.wrong.append(f"{type(error).__name__}: {error}")
                return
            self.answers += 1
            self._check(hits, range(oldest, self.newest + 1))

    def _check(self, hits: Any, allowed: range) -> None:
        shown: dict[str, set[int]] = {}
        for hit in hits:
            shown.setdefault(hit.source, set()).add(read_version(hit.text))
        states = [self.corpus.states[n] for n in allowed]
        alike = [state for state in states if shown == {name: {v} for name, v in state.items()}]
        if not alike:
            self.wrong.append(f"{shown} is none of the states {list(allowed)}")
        begins = {(hit.source, hit.start) for hit in hits}
        if self.chunks and begins not in self.chunks:
            self.wrong.append(f"these are the chunks of no generation: {sorted(begins)}")


def ingest_and_die(folder: Path, config: dict[str, Any], failpoint: str) -> None:
    """An ingest in a process of its own that is killed at a named point."""
    code = f"import rag_app\nwith rag_app.load({config!r}) as app: app.ingest()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "RAG_APP_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert ended.returncode == -9, ended.stderr


@pytest.mark.parametrize("store", STORES)
def test_every_answer_is_one_published_state(store: str, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, DOCUMENTS)
    rng = random.Random(store)
    with open_place(store, tmp_path) as place:
        config = make_config(tmp_path, place)
        with rag_app.load(config) as app:
            app.ingest()
            with Readers(app, corpus) as readers:
                while readers.answers < ANSWERS // 2 and not readers.wrong:
                    chosen = rng.sample(range(DOCUMENTS), 5)
                    version = len(corpus.states)
                    corpus.write({n: version for n in chosen[:4]} | {chosen[4]: None})
                    readers.newest += 1
                    app.ingest(allow_delete=True)
                    readers.oldest = readers.newest
                    readers.wait_for(20)
            assert readers.wrong == []
            counted = readers.answers
        corpus.write({n: 1000 for n in range(6)})  # a state that nobody may see yet
        ingest_and_die(tmp_path, config, "confirmed")
        corpus.states.append(corpus.states[-2])
        splitter = {"kind": "recursive", "chunk_size": 60, "chunk_overlap": 0}
        to = make_config(tmp_path, place, splitter=splitter)
        with rag_app.load(config) as app:
            with Readers(app, corpus) as readers:
                readers.wait_for(ANSWERS // 4)
                readers.chunks = [begins(app)]
                with rag_app.load(to) as after:
                    app.migrate(to)
                    readers.chunks.append(begins(after))
                    readers.wait_for(ANSWERS // 8)
                    with Readers(after, corpus) as new_readers:
                        new_readers.wait_for(ANSWERS // 8)
                    assert new_readers.wrong == []
                app.rollback()
                readers.wait_for(50)
            assert readers.wrong == []
        assert counted + readers.answers + new_readers.answers >= ANSWERS


def begins(app: RagApp) -> set[tuple[str, int]]:
    """Where the chunks begin that are shown."""
    rows = app.index.read(lambda view: list(view.scan()))
    return {(row.metadata["source"], row.metadata["start"]) for row in rows}
