"""An ingest on a disk that is full or broken ends in a sentence, and takes nothing away.

A real ingest of changed sources runs over an index that stands, and from one of its writes on the
disk fails. Queries then find what was published before, and once the disk is well again one rerun
makes the index what a fresh one would be. RAG_APP_FAULTS=all fails every write in turn, not a few.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import disk, sample
from tests.reliability.worker import Done, Worker, is_same, open_worker

FEW = {"memory": 2}
"""Of how many writes each fails, where it is not one."""

ALL = os.environ.get("RAG_APP_FAULTS") == "all"


@dataclass
class Place:
    """An index of one store, before and after its sources changed.

    Attributes:
        config: of the index that is tried.
        before, after: what searches find, and the rows of the store.
        changes: how often an undisturbed ingest changes something on the disk.
    """

    worker: Worker
    root: Path
    config: dict[str, Any]
    before: Any
    after: Any
    changes: int = 0

    @property
    def index(self) -> Path:
        return self.root / "index"

    def reset(self) -> None:
        """The index as it was before the sources changed."""
        shutil.rmtree(self.index)
        shutil.copytree(self.root / "kept", self.index)

    def ingest(self, first: int | None, error: int = disk.FULL, *, once: bool = False) -> Done:
        """Ingest over the index as it was, on a disk that fails from its `first` change on."""
        self.reset()
        return self.worker.ingest(self.config, disk.Fault(self.index, first, error, once))

    def search(self) -> Done:
        return self.worker.search(self.config, sample.QUESTIONS)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    if why := disk.why_not():
        pytest.skip(why)
    with open_worker() as opened:
        yield opened


@pytest.fixture(scope="module", params=sample.STORES)
def place(
    request: pytest.FixtureRequest, worker: Worker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    root = tmp_path_factory.mktemp(request.param)
    sample.write_before(root / "docs")
    config = sample.config(request.param, root / "index", root / "docs")
    before = _fill(worker, config)
    shutil.copytree(root / "index", root / "kept")
    sample.write_after(root / "docs")
    after = _fill(worker, sample.config(request.param, root / "fresh", root / "docs"))
    made = Place(worker, root, config, before, after)
    made.changes = made.ingest(None).changes
    yield made
    shutil.rmtree(root)


def _fill(worker: Worker, config: dict[str, Any]) -> Any:
    done = worker.ingest(config)
    assert done.status == 0, done.told
    found = worker.search(config, sample.QUESTIONS)
    assert found.status == 0, found.told
    return found.result


def test_an_undisturbed_ingest_makes_what_a_fresh_one_makes(place: Place) -> None:
    done = place.ingest(None)
    assert (done.status, done.failed) == (0, 0)
    assert done.changes > 20
    _require_whole(place)
    assert not is_same(place.before[0], place.after[0])


@pytest.mark.parametrize("fault", ["full", "broken once"])
def test_a_failing_disk_takes_nothing_away(place: Place, fault: str) -> None:
    error = disk.FULL if fault == "full" else disk.BROKEN
    for first in _draw(place, fault):
        done = place.ingest(first, error, once=fault == "broken once")
        assert done.failed, f"change {first} of {place.changes} did not happen"
        _require_sentence(done, first)
        found = place.search()
        assert found.status == 0, f"after change {first} failed: {found.told}"
        published = is_same(found.result[0], place.after[0])
        assert published or is_same(found.result[0], place.before[0]), f"change {first}: mixed"
        assert published or done.status, f"change {first} failed, and the ingest reported success"
        again = place.worker.ingest(place.config)
        assert again.status == 0, f"rerun after change {first}: {again.told}"
        _require_whole(place)


def _draw(place: Place, fault: str) -> list[int]:
    if ALL:
        return list(range(1, place.changes + 1))
    few = FEW.get(place.config["vector_store"]["kind"], 1)
    shift = 0.5 if fault == "full" else 0.9
    return [1 + int((each + shift) * place.changes / few) for each in range(few)]


def _require_sentence(done: Done, first: int) -> None:
    assert done.status in (0, 1), f"change {first}: status {done.status}: {done.told}"
    for never in ("Traceback", "that should not be", "panicked"):
        assert never not in done.told, f"change {first}: {done.told}"
    if done.status:
        last = done.told.strip().splitlines()[-1]
        assert re.fullmatch(r".+?: .+\. \S.+", last), f"change {first}: {done.told}"


def _require_whole(place: Place) -> None:
    found = place.search()
    assert found.status == 0, found.told
    assert is_same(found.result[0], place.after[0])
    assert found.result[1] == place.after[1]
