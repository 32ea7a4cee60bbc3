"""Kills an ingest by SIGKILL at a random moment, runs it again to the end, and counts the damage.

    python -m tests.reliability.crash --system rag_app --store chroma --kills 40 --seed 1

prints one trial a line, as JSON. A trial is drawn from the seed and its number alone, so that any
can be run again. Half of the trials kill a first ingest and half an update of an index that stands;
in half of each the sources are edited once more between the kill and the rerun. The moment is
uniform over the time that the same work takes undisturbed, from the first line of its own; import
and fork come before. A trial whose work had ended by then is no kill, and says so.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import signal
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tests.reliability import damage, forks, sources
from tests.reliability.places import Place, Places
from tests.reliability.systems import DIMENSION, SYSTEMS, NothingShown, RefusedByName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tests.reliability.damage import Held
    from tests.reliability.forks import Tell
    from tests.reliability.sources import State

FIRST, UPDATE = "first", "update"
_MARGIN: Final = 1.05
"""Runs take longer at times: the last moments are to be hit as often as the others."""


def main() -> None:
    """Run trials and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--system", choices=SYSTEMS, default="rag_app")
    parser.add_argument("--store", required=True)
    parser.add_argument("--kills", type=int, default=40, help="trials are run until so many")
    parser.add_argument("--start", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--searches", type=int, default=100, help="chunks searched by their own vector; 0 for all"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    kills, number = 0, given.start
    with Crashes(given.system, given.store, given.seed, given.searches or None) as crashes:
        while kills < given.kills:
            trial = crashes.run(number)
            print(json.dumps(trial), flush=True)
            kills, number = kills + trial["killed"], number + 1


class Crashes:
    """The trials of one system and store.

    Args:
        system: a name of `SYSTEMS`.
        searches: how many chunks are searched by their own vector after each; None for all.
    """

    def __init__(self, system: str, store: str, seed: int, searches: int | None) -> None:
        self._system, self._store, self._seed = system, store, seed
        self._searches = searches
        self._opened = ExitStack()
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._took: dict[str, list[float]] = {FIRST: [], UPDATE: []}

    def __enter__(self) -> Crashes:
        forks.adopt_orphans()
        chosen = SYSTEMS[self._system]
        _import_all((*chosen.common, *chosen.modules[self._store]))
        self._embeddings = importlib.import_module("rag_app.embeddings._hashing").HashingEmbeddings(
            DIMENSION
        )
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="crash-")))
        self._places = self._opened.enter_context(Places(folder, self._store))
        rng = Random(f"{self._seed}")
        self._before = sources.draw_first(rng)
        self._now = sources.edit(self._before, rng)
        for _, text in sources.list_chunks(self._before):
            self._embed(text)  # known to each fork
        self._ready = self._prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, number: int) -> dict[str, Any]:
        """One trial: its draw, how it ended, and the damage that a reader and that a rerun met."""
        rng = Random(f"{self._seed} {self._system} {self._store} {number}")
        kind, edited = (FIRST, UPDATE)[number % 2], number // 2 % 2 == 1
        published: State = {} if kind == FIRST else self._before
        now = self._before if kind == FIRST else sources.edit(self._before, rng)
        place = self._places.make(f"t{number}", None if kind == FIRST else self._ready)
        sources.write(now, place.documents)
        moment = rng.random()
        took = statistics.median(self._took[kind]) * _MARGIN
        ended = self._fork(place, self._ingest, moment * took)
        trial = {"system": self._system, "store": self._store, "seed": self._seed}
        trial |= {"number": number, "kind": kind, "edited": edited, "killed": ended.killed}
        trial |= {"moment": round(moment, 4), "stage": ended.stage, "error": ended.error}
        if not ended.killed:
            if not ended.error:
                self._took[kind].append(ended.seconds)
            self._places.remove(place)
            return trial
        known: list[State] = [self._before, now]
        reader = self._fork(place, partial(self._look, [published, now], known, rng))
        trial["reader"] = _counts(reader, damage.READER)
        if edited:
            now = sources.edit_again(self._before, now, rng)
            sources.write(now, place.documents)
            known.append(now)
        after = self._fork(place, partial(self._rerun, now, known, rng))
        trial["after"] = _counts(after, damage.AFTER)
        trial["errors"] = [each.error for each in (reader, after) if each.error]
        self._places.remove(place)
        return trial

    def _prepare(self) -> Place:
        """The index that updates start from; and how long each kind of work takes undisturbed."""
        ready = self._places.make("ready")
        sources.write(self._before, ready.documents)
        loaded = self._fork(ready, self._ingest)
        self._require(loaded)
        _import_all(self._list_bearable(loaded.result))
        for turn in range(2):
            first = self._places.make(f"first{turn}")
            sources.write(self._before, first.documents)
            self._took[FIRST].append(self._require(self._fork(first, self._ingest)))
            self._places.remove(first)
            update = self._places.make(f"update{turn}", ready)
            sources.write(self._now, update.documents)
            self._took[UPDATE].append(self._require(self._fork(update, self._ingest)))
            self._places.remove(update)
        return ready

    def _list_bearable(self, modules: list[str]) -> list[str]:
        """Of what an ingest imported, what this process may import for all later ones."""
        not_here = {each.partition(".")[0] for each in self._modules_after_fork()}
        known = {each.partition(".")[0] for each in sys.modules}
        return [
            module
            for module in modules
            if module not in sys.modules
            and module.partition(".")[0] in known - not_here
            and importlib.util.find_spec(module) is not None
        ]

    def _modules_after_fork(self) -> tuple[str, ...]:
        return tuple(SYSTEMS[self._system].after_fork.get(self._store, ()))

    def _require(self, ended: forks.Ended) -> float:
        if ended.error:
            raise SystemExit(f"an ingest that nobody disturbed failed:\n{ended.error}")
        return ended.seconds

    def _fork(self, place: Place, work: Any, kill_after: float | None = None) -> forks.Ended:
        prepare = partial(_import_all, self._modules_after_fork())
        return forks.run(partial(work, place), place.folder / "tmp", kill_after, prepare)

    # In processes of their own:

    def _ingest(self, place: Place, tell: Tell) -> list[str]:
        tell("opening")
        with SYSTEMS[self._system](self._store, place) as opened:
            opened.ingest(tell)
            tell("closing")
        return sorted(sys.modules)

    def _look(
        self, published: list[State], known: list[State], rng: Random, place: Place, tell: Tell
    ) -> dict[str, int]:
        questions = rng.sample(sources.list_chunks(published[0] or published[1]), 3)
        with SYSTEMS[self._system](self._store, place) as opened:
            try:
                shown, hits = opened.show([text for _, text in questions])
            except RefusedByName:  # not an answer, nor a wrong one; the rerun does what it says
                return {"refused": 1}
            except NothingShown:
                if published[0]:
                    raise
                shown, hits = [], []
        found = [(source, text) for source, text, _ in hits]
        return damage.judge_reader(shown, found, published, known)

    def _rerun(
        self, now: State, known: list[State], rng: Random, place: Place, tell: Tell
    ) -> dict[str, int]:
        with SYSTEMS[self._system](self._store, place) as opened:
            opened.ingest(tell)
        with SYSTEMS[self._system](self._store, place) as opened:  # anew: what is kept, no more
            shown, _ = opened.show([])
            stored: list[Held] = opened.list_stored()
            counts = damage.judge(shown, stored, now, known, self._embed)
            chunks = sources.list_chunks(now)
            if self._searches is not None:
                chunks = rng.sample(chunks, min(self._searches, len(chunks)))
            counts["not found"] = damage.count_not_found(
                opened.find, len(stored), now, self._embed, chunks
            )
        return counts

    def _embed(self, text: str) -> NDArray[np.float32]:
        if text not in self._vectors:
            vector = self._embeddings.embed_query(text)
            self._vectors[text] = np.array(vector, np.float32)
        return self._vectors[text]


def _counts(ended: forks.Ended, names: tuple[str, ...]) -> dict[str, int]:
    """The damage found; where looking failed, that alone."""
    found = {"error": 1} if ended.error else {"error": 0, **ended.result}
    return {name: found[name] for name in names if name in found}


def _import_all(modules: Iterable[str]) -> None:
    """Import ahead of time what the work would import."""
    for module in modules:
        importlib.import_module(module)


if __name__ == "__main__":
    main()
