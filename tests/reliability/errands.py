"""What is done to an index by an app here, or by a process of its own that is killed at some point.

`Errands` keeps a process that has imported everything and opened nothing; each errand is done by a
fork of it, so that nothing open here is known there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import rag_app
from rag_app.errors import IncompleteError, RagAppError
from rag_app.index.failpoints import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.app import RagApp

WELL, FAILING, REFUSING = "well", "failing", "refusing"
OURS: Final = "common"
POISON: Final = "poison"
"""Words of documents: each text of theirs has the first, and one that a model may refuse the
other. Probe sentences have neither."""

SECRETS: Final = "RAG_APP_ERRAND_"
"""How variables begin that an errand gets as they are when it is done."""

_LONGEST: Final = 120


class Ended(NamedTuple):
    """How an errand ended: killed at its point, with an error's name, or with what it made."""

    killed: bool
    error: str | None
    made: Any


class Stop(NamedTuple):
    """A KeyboardInterrupt when a stage is told for the n-th time."""

    stage: str
    times: int


def perform(app: RagApp, what: str, given: dict[str, Any], mood: str, stop: Stop | None) -> Any:
    """Do it, with a model in that mood; what it tells, as JSON."""
    told = 0
    resuming: list[str] = []

    def progress(stage: str, done: int, total: int | None) -> None:
        nonlocal told
        if stage.startswith("resuming"):
            resuming.append(stage)
        if stop is not None and stage == stop.stage:
            told += 1
            if told == stop.times:
                raise KeyboardInterrupt

    with _in_mood(app, mood):
        if what == "ingest":
            report = asdict(app.ingest(progress=progress, **given))
            report["quarantine"] = sorted(each["source"] for each in report["quarantine"])
            return {**report, "resuming": resuming}
        if what == "migrate":
            return asdict(app.migrate(given["to"], progress=progress))
        if what == "rollback":
            return app.rollback().number
        return [each.number for each in app.gc()]


def attempt(
    app: RagApp, what: str, given: dict[str, Any], mood: str = WELL, stop: Stop | None = None
) -> Ended:
    """As `perform`; an error of ours, or the interruption, is told by its name."""
    try:
        return Ended(False, None, perform(app, what, given, mood, stop))
    except (RagAppError, KeyboardInterrupt) as error:
        return Ended(False, type(error).__name__, str(error))


@contextmanager
def _in_mood(app: RagApp, mood: str) -> Iterator[None]:
    model: Any = app.embeddings
    embed = type(model).embed_documents

    def refuse(texts: list[str]) -> Any:
        mine = [place for place, text in enumerate(texts) if OURS in text]
        bad = [place for place in mine if POISON in texts[place]]
        refused = bad if mood == REFUSING else mine[len(mine) // 2 :]
        if not refused:
            return embed(model, texts)
        vectors = {n: embed(model, [t])[0] for n, t in enumerate(texts) if n not in refused}
        raise IncompleteError(
            "embeddings",
            "some texts were not embedded",
            "Wait.",
            vectors=vectors,
            refused=dict.fromkeys(refused, "it is refused") if mood == REFUSING else {},
            stopped=mood == FAILING,
        )

    if mood != WELL:
        model.embed_documents = refuse
    try:
        yield
    finally:
        vars(model).pop("embed_documents", None)


class Errands:
    """Has errands done by forks of a process; a context manager.

    Args:
        modules: what it is to import beside what every errand needs.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def __enter__(self) -> Errands:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.errands", *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def do(
        self, config: dict[str, Any], what: str, given: dict[str, Any], failpoint: str | float
    ) -> Ended:
        """As `attempt`, by an app of this config that dies at the failpoint when it comes by it, or
        after so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        known = {name: value for name, value in os.environ.items() if name.startswith(SECRETS)}
        self._process.stdin.write(json.dumps([config, what, given, failpoint, known]) + "\n")
        self._process.stdin.flush()
        status, told = json.loads(self._process.stdout.readline())
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return Ended(True, None, None)
        answer = json.loads(told)
        assert "failed" not in answer, answer["failed"]
        return Ended(*answer["ended"])


def _serve() -> None:
    for line in sys.stdin:
        config, what, given, failpoint, known = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signal.alarm(_LONGEST)
            os.environ.update(known)
            _work(writing, config, what, given, failpoint)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            told = pipe.read()
        print(json.dumps([os.waitpid(child, 0)[1], told]), flush=True)


def _work(pipe: int, config: Any, what: str, given: Any, failpoint: str | float) -> None:
    import traceback

    try:
        if isinstance(failpoint, float):
            threading.Timer(failpoint, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.environ[VARIABLE] = failpoint
        with rag_app.load(config) as app:
            answer: dict[str, Any] = {"ended": attempt(app, what, given)}
    except BaseException:
        answer = {"failed": traceback.format_exc()[-3000:]}
    with os.fdopen(pipe, "w", encoding="utf-8") as whole:
        whole.write(json.dumps(answer))
    os._exit(0)


def _import_all() -> None:
    """What an errand would import."""
    import importlib

    for name in (
        *("rag_app.app", "rag_app.migration", "rag_app.index.ingest", "rag_app.index.migrate"),
        *("rag_app.retrievers.hybrid", "rag_app.retrievers.bm25", "rag_app.retrievers.dense"),
        *("rag_app.vector_stores.memory", "rag_app.embeddings.hashing", "rag_app.loaders.files"),
        *("rag_app.splitters.recursive", "rag_app.splitters._recursive", "bm25s", "faiss"),
        *("rag_app.loaders._source", "rag_app.embeddings._hashing", "langchain_text_splitters"),
        *("rag_app.retrieval", "rag_app.store", "rag_app.answering", "chains.extractive"),
        *("langchain_core.vectorstores", "langchain_core.retrievers", "filelock", "langsmith"),
        *("sqlalchemy.dialects.sqlite", "rag_app.vector_stores.faiss", *sys.argv[1:]),
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    _import_all()
    _serve()
