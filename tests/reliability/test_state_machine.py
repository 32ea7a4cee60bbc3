"""Any sequence of edits, ingests, deaths, migrations and rollbacks: readers are shown exactly what
a model in plain Python says, reports count what it counts, the store holds that and no more.

In `make test` with two stores; RAG_APP_STATE_MACHINE=all takes every store and more sequences,
drawn anew each time (RAG_APP_STATE_MACHINE_EXAMPLES and _STEPS say how many, and how long).
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import rag_app
from rag_app.app import RagApp
from rag_app.errors import IdentityError, IndexStateError
from rag_app.index.failpoints import NAMES
from tests.reliability.errands import (
    FAILING,
    REFUSING,
    SECRETS,
    WELL,
    Ended,
    Errands,
    Stop,
    attempt,
)
from tests.reliability.published import (
    BROKEN,
    PARAGRAPHS,
    Expected,
    Generation,
    Setup,
    Shown,
    World,
    ingest,
    modified_at,
)
from tests.reliability.stores import STORES, open_place

ALL: Final = os.environ.get("RAG_APP_STATE_MACHINE") == "all"
EXAMPLES: Final = int(os.environ.get("RAG_APP_STATE_MACHINE_EXAMPLES", "60" if ALL else "4"))
STEPS: Final = int(os.environ.get("RAG_APP_STATE_MACHINE_STEPS", "40" if ALL else "25"))

ALONE: Final = ("chroma", "qdrant", "milvus")
"""Stores whose folders belong to one process at a time."""

BEFORE: Final = frozenset(NAMES[: NAMES.index("published")])
DROPS: Final = frozenset(NAMES[-2:]) | {"prune-begun"}
"""Points that a run may come by before it publishes, too, when it drops what another left."""

names = st.integers(0, 13).map(lambda number: f"n{number:02}.txt")
stages = st.sampled_from(["reading", "embedding", "indexing words"])
texts = st.lists(st.sampled_from(PARAGRAPHS), min_size=1, max_size=4).map("\n\n".join)
setups = st.builds(
    Setup, st.sampled_from(["one", "two"]), st.sampled_from([16, 24]), st.sampled_from("abc")
)


@dataclass
class Reader:
    """An app that is open, what of its config counts, and the generation it has read last."""

    app: RagApp
    setup: Setup
    held: int | None = None
    looked: str = "dense"


class Index(RuleBasedStateMachine):
    """One index under `tests.reliability.published`'s eyes."""

    store: ClassVar[str]
    errands: ClassVar[Errands]

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.folder = Path(self.opened.enter_context(tempfile.TemporaryDirectory(prefix="state-")))
        (self.folder / "docs").mkdir()
        self.files: dict[str, str] = {}
        self.hidden: dict[str, str] = {}  # those of an emptied folder
        self.world = World()
        self.begun = False  # whether a first run stopped before its end
        self.places = {
            name: self.opened.enter_context(open_place(self.store, self.make_folder(name)))
            for name in "ab"
        }
        for name, place in self.places.items():
            if "url" in place:  # no secret is recorded, so it has to have a name
                variable = f"{SECRETS}{name.upper()}"
                os.environ[variable] = place["url"]
                place["url"] = f"${{{variable}}}"
        other = "faiss" if self.store == "memory" else "memory"
        self.places["c"] = {"kind": other, "path": str(self.folder / "c")}
        self.setup = Setup()
        self.main = self.open(self.setup)
        self.readers = [self.open(self.setup), self.open(self.setup, "bm25")]

    def teardown(self) -> None:
        for reader in (self.main, *self.readers):
            reader.app.close()
        self.opened.close()

    def make_folder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir()
        return made

    def config(self, setup: Setup, retriever: str = "dense") -> dict[str, Any]:
        return {
            "name": "states",
            "sources": [{"kind": "files", "path": str(self.folder / "docs")}],
            "splitter": {
                "kind": "recursive",
                "chunk_size": {"one": 12, "two": 24}[setup.splitter],
                "chunk_overlap": 0,
            },
            "embeddings": {"kind": "hashing", "dimension": setup.dimension},
            "vector_store": self.places[setup.place],
            "retriever": {"kind": retriever, "k": 1000},
            "index": {"path": str(self.folder / "index"), "cache": self.store == "memory"},
        }

    def open(self, setup: Setup, retriever: str = "dense") -> Reader:
        return Reader(rag_app.load(self.config(setup, retriever)), setup, looked=retriever)

    def errand(
        self, config: dict[str, Any], what: str, given: dict[str, Any], failpoint: str
    ) -> Ended:
        """By a process of its own; where such a store is one process's, all here is closed before
        and opened after."""
        if self.store not in ALONE:
            return self.errands.do(config, what, given, failpoint)
        for reader in (self.main, *self.readers):
            reader.app.close()
        ended = self.errands.do(config, what, given, failpoint)
        self.main = self.open(self.main.setup)
        self.readers = [self.open(each.setup, each.looked) for each in self.readers]
        return ended

    # -- files -------------------------------------------------------------------------------

    @initialize(texts=st.lists(texts, min_size=1, max_size=14))
    def begin(self, texts: list[str]) -> None:
        for number, text in enumerate(texts):
            self.put(f"n{number:02}.txt", text)

    def put(self, name: str, text: str) -> None:
        path = self.folder / "docs" / name
        path.write_text(text, encoding="utf-8")
        os.utime(path, (modified_at(text),) * 2)
        self.files[name] = text

    def remove(self, name: str) -> str:
        (self.folder / "docs" / name).unlink()
        return self.files.pop(name)

    @rule(written=st.dictionaries(names, texts, min_size=1, max_size=3))
    def write(self, written: dict[str, str]) -> None:
        for name, text in written.items():
            self.put(name, text)

    @rule(which=st.sets(names, min_size=1, max_size=9))
    def delete(self, which: set[str]) -> None:
        for name in which & self.files.keys():
            self.remove(name)

    @rule(pairs=st.dictionaries(names, names, min_size=1, max_size=9))
    def rename(self, pairs: dict[str, str]) -> None:
        for old, new in pairs.items():
            if old in self.files and new not in self.files:
                self.put(new, self.remove(old))

    @rule(name=names)
    def break_one(self, name: str) -> None:
        self.put(name, BROKEN)

    @rule()
    def empty_or_restore(self) -> None:
        if self.files:
            self.hidden = {name: self.remove(name) for name in list(self.files)}
        else:
            for name, text in self.hidden.items():
                self.put(name, text)

    # -- what is done ------------------------------------------------------------------------

    def take_main(self) -> RagApp:
        """The app that does things; its config is that of what is served."""
        now = self.world.now
        if now is not None and now.setup != self.setup:
            self.setup = now.setup
        if self.main.setup != self.setup:
            self.main.app.close()
            self.main = self.open(self.setup)
        return self.main.app

    @rule(
        allow_delete=st.booleans(),
        retry=st.booleans(),
        mood=st.sampled_from([WELL, WELL, WELL, REFUSING]),
    )
    def ingest(self, allow_delete: bool, retry: bool, mood: str) -> None:
        self.take_main()
        expected = ingest(
            self.world,
            self.files,
            self.setup,
            allow_delete=allow_delete,
            retry=retry,
            refusing=mood == REFUSING,
        )
        given = {"allow_delete": allow_delete, "retry_quarantined": retry}
        if mood == REFUSING:  # what the cache has, no model is asked for
            config = self.config(self.setup)
            with rag_app.load({**config, "index": {**config["index"], "cache": False}}) as app:
                ended = attempt(app, "ingest", given, mood)
            expected.texts.clear()
        else:
            ended = attempt(self.main.app, "ingest", given)
        self.conclude_ingest(ended, expected)

    @rule(setup=setups)
    def ingest_by_another_config(self, setup: Setup) -> None:
        now = self.world.now
        if now is not None and now.setup != setup and now.shown():
            other = self.open(setup)
            ended = attempt(other.app, "ingest", {"allow_delete": True})
            other.app.close()
            assert ended.error in ("IdentityError", "IndexStateError"), ended

    @rule(setup=setups, keep=st.booleans())
    def rebuild(self, setup: Setup, keep: bool) -> None:
        self.take_main()
        setup = self.setup if keep or self.world.now is None else setup
        expected = ingest(self.world, self.files, setup, rebuild=True)
        reader = self.open(setup)
        ended = attempt(reader.app, "ingest", {"rebuild": True})
        reader.app.close()
        self.conclude_ingest(ended, expected, rebuild=True)

    def conclude_ingest(self, ended: Ended, expected: Expected, *, rebuild: bool = False) -> None:
        assert ended.error == expected.error, (ended, expected)
        was = self.world.now
        clean = not (self.begun if was is None else was.unfinished)
        if ended.error is not None:
            self.mark_unfinished(expected)
            return
        self.check_report(ended.made, expected, clean=clean and not rebuild)
        self.take_over(expected, rebuild=rebuild)
        self.check_store()

    def mark_unfinished(self, expected: Expected | None = None) -> None:
        now = self.world.now
        self.begun = True
        if now is not None:
            now.unfinished = True
            if expected is not None:
                now.refused = expected.after.refused

    def take_over(self, expected: Expected, *, rebuild: bool) -> None:
        """It is published."""
        dimension = expected.after.setup.dimension
        self.world.cached |= {(dimension, text) for text in expected.texts}
        number = self.read_states()["served"][0]
        if rebuild or self.world.served is None:
            assert number not in self.world.kept
            self.world.serve(number, deepcopy(expected.after))
            if rebuild:
                self.world.kept = {number: self.world.kept[number]}
        else:
            assert number == self.world.served
            before = self.world.kept[number].before
            self.world.kept[number] = deepcopy(expected.after)
            self.world.kept[number].before = before
        self.setup = expected.after.setup

    def check_report(self, report: dict[str, Any], expected: Expected, *, clean: bool) -> None:
        inexact = set() if clean else {"chunks_written", "chunks_deleted"}
        if expected.after.refused:  # what was planned of them counts as deleted, too
            inexact.add("chunks_deleted")
        expect = {n: v for n, v in expected.report.items() if n not in inexact}
        wrong = {n: (report[n], v) for n, v in expect.items() if report[n] != v}
        assert not wrong, f"told and expected: {wrong}"
        counted = ("indexed", "unchanged", "quarantined", "excluded")
        assert report["seen"] == sum(report[name] for name in counted)
        if not clean:
            assert report["chunks_written"] <= expected.report["chunks_written"]
        if self.store == "memory" and expected.texts:
            dimension = expected.after.setup.dimension
            new = {text for text in expected.texts if (dimension, text) not in self.world.cached}
            assert report["embedded"] <= len(new)

    def check_store(self) -> None:
        """The collection that is served holds exactly what is published."""
        now = self.world.now
        assert now is not None
        with rag_app.load(self.config(now.setup)) as app:
            held = [
                Shown(m["source"], m["start"], m["end"], row.text, m["modified"])
                for row in app.store.scan()
                for m in [row.metadata]
            ]
        assert sorted(held) == now.shown()

    @rule(
        stage=st.sampled_from(["reading", "embedding", "indexing words"]), times=st.integers(1, 3)
    )
    def interrupt(self, stage: str, times: int) -> None:
        if any(each.refused for each in self.world.kept.values()):
            return
        expected = ingest(self.world, self.files, self.take_main_setup())
        ended = attempt(self.main.app, "ingest", {}, stop=Stop(stage, times))
        if ended.error == "KeyboardInterrupt":
            self.mark_unfinished()
        else:
            self.conclude_ingest(ended, expected)

    def take_main_setup(self) -> Setup:
        self.take_main()
        return self.setup

    @rule(rebuild=st.booleans())
    def fail(self, rebuild: bool) -> None:
        """The model fails at half of the first batch."""
        expected = ingest(self.world, self.files, self.take_main_setup(), rebuild=rebuild)
        ended = attempt(self.main.app, "ingest", {"rebuild": rebuild}, FAILING)
        if ended.error == "IncompleteError":
            assert expected.texts
            if not rebuild:
                self.mark_unfinished(expected)
        else:
            self.conclude_ingest(ended, expected, rebuild=rebuild)

    @rule(
        point=st.sampled_from(NAMES),
        times=st.integers(1, 2),
        rebuild=st.sampled_from([False, False, True]),
        allow_delete=st.booleans(),
    )
    def kill_ingest(self, point: str, times: int, rebuild: bool, allow_delete: bool) -> None:
        if any(each.refused for each in self.world.kept.values()):
            return
        setup = self.take_main_setup()
        expected = ingest(self.world, self.files, setup, rebuild=rebuild, allow_delete=allow_delete)
        given = {"rebuild": rebuild, "allow_delete": allow_delete}
        ended = self.errand(self.config(setup), "ingest", given, f"{point}:{times}")
        if not ended.killed:
            self.conclude_ingest(ended, expected, rebuild=rebuild)
            return
        sure = set() if rebuild and point in DROPS else {point in BEFORE}
        self.settle(expected, sure, rebuild=rebuild)

    def settle(self, expected: Expected, sure: set[bool], *, rebuild: bool) -> None:
        """After a death: was it published? `sure` holds that it cannot have been, or must."""
        states, now = self.read_states(), self.world.now
        if rebuild or now is None:
            published = states["served"] != ([] if now is None else [self.world.served])
        else:
            assert states["served"] == [self.world.served]
            fresh = self.open(now.setup)
            seen = self.look(fresh)
            fresh.app.close()
            assert seen in (now.shown(), expected.after.shown())
            published = seen == expected.after.shown()
            if now.shown() == expected.after.shown():  # nobody can tell
                published = sure != {True}
        assert published or True in sure or not sure
        assert not published or False in sure or not sure
        if published:
            assert expected.error is None
            kept = dict(self.world.kept)
            self.take_over(expected, rebuild=rebuild)
            if rebuild:
                self.world.kept |= {number: kept[number] for number in states["kept"]}
        self.mark_unfinished()

    # -- generations -------------------------------------------------------------------------

    def expect_migration(self, to: Setup) -> tuple[str | None, Generation | None]:
        now = self.world.now
        if now is None or not now.documents:
            return "IndexStateError", None
        if now.setup == to:
            return "UsageError", None
        after = deepcopy(now)
        after.setup, after.revision, after.unfinished = to, 1, True
        after.documents = {n: v._replace(splitter=to.splitter) for n, v in now.documents.items()}
        after.refused = {n: v._replace(splitter=to.splitter) for n, v in now.refused.items()}
        return None, after

    @rule(to=setups)
    def migrate(self, to: Setup) -> None:
        now = self.world.now
        if now is not None and now.unfinished and now.refused:
            return
        error, after = self.expect_migration(to)
        ended = attempt(self.take_main(), "migrate", {"to": self.config(to)})
        assert ended.error == error, ended
        if after is not None:
            after.unfinished = now is not None and now.unfinished
            self.world.serve(ended.made["generation"], after)
            assert ended.made["chunks"] == len(after.shown())
            assert ended.made["documents"] == len(after.documents)
            self.check_store()

    @rule(to=setups, point=st.sampled_from(NAMES), times=st.integers(1, 2))
    def kill_migration(self, to: Setup, point: str, times: int) -> None:
        if any(each.refused for each in self.world.kept.values()):
            return
        error, after = self.expect_migration(to)
        self.take_main()
        given = {"to": self.config(to)}
        ended = self.errand(self.config(self.setup), "migrate", given, f"{point}:{times}")
        if not ended.killed:
            assert ended.error == error, ended
        served = self.read_states()["served"]
        switched = served not in ([], [self.world.served])
        assert not (ended.killed and point in BEFORE and switched)
        if switched:
            assert after is not None
            self.world.serve(served[0], after)
        else:
            assert ended.killed or error is not None

    @rule(point=st.sampled_from(["", "generation-served"]))
    def roll_back(self, point: str) -> None:
        earlier = self.world.earlier()
        self.take_main()
        ended = self.errand(self.config(self.setup), "rollback", {}, point)
        if earlier is None:
            assert ended.error == "IndexStateError", ended
            return
        assert ended.killed == bool(point)
        assert ended.killed or ended.made == earlier, ended
        self.world.serve(earlier)

    @rule(point=st.sampled_from(["", "", "prune-begun", *NAMES[-2:]]), times=st.integers(1, 2))
    def collect(self, point: str, times: int) -> None:
        self.take_main()
        ended = self.errand(self.config(self.setup), "gc", {}, point and f"{point}:{times}")
        assert ended.error is None, ended
        left = self.read_states()["kept"]
        assert ended.killed or not left
        assert set(left) <= self.world.kept.keys()
        served = [] if self.world.served is None else [self.world.served]
        self.world.kept = {n: self.world.kept[n] for n in [*left, *served]}

    def read_states(self) -> dict[str, list[int]]:
        """The numbers of the generations that are served, kept, and being filled."""
        found: dict[str, list[int]] = {"served": [], "kept": [], "filling": []}
        for each in self.main.app.generations():
            found[each.state].append(each.number)
        return found

    # -- who reads ---------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), keep=st.booleans(), setup=setups)
    def reopen(self, which: int, keep: bool, setup: Setup) -> None:
        """By the config of what is served, or by any."""
        now = self.world.now
        old = self.readers[which]
        old.app.close()
        chosen = now.setup if now is not None and keep else setup
        self.readers[which] = self.open(chosen, old.looked)

    def expect(self, reader: Reader) -> Generation | None:
        """What it is to be shown; None for an error."""
        world, now = self.world, self.world.now
        if now is None or world.served is None:
            return None
        if reader.held != world.served and reader.held is not None:
            held = world.kept.get(reader.held)
            goes_on = now.setup != reader.setup and now.revision == world.revision
            if held is not None and goes_on:
                return held if held.setup == reader.setup else None
        if now.setup != reader.setup and (now.shown() or not is_beside(now.setup, reader.setup)):
            return None
        reader.held = world.served
        return now

    def look(self, reader: Reader) -> list[Shown]:
        hits = reader.app.search("common").hits
        return sorted(
            Shown(hit.source, hit.start, hit.end, hit.text, hit.metadata["modified"])
            for hit in hits
        )

    @invariant()
    def all_see_what_is_published(self) -> None:
        for reader in (self.main, *self.readers):
            expected = self.expect(reader)
            if expected is None:
                with pytest.raises((IndexStateError, IdentityError)):
                    self.look(reader)
            else:
                assert self.look(reader) == expected.shown()

    @invariant()
    def generations_are_those_kept(self) -> None:
        states = self.read_states()
        served = self.world.served
        assert states["served"] == ([] if served is None else [served])
        assert set(states["kept"]) == self.world.kept.keys() - {served}


def is_beside(there: Setup, here: Setup) -> bool:
    """Whether only the place differs, among two of one kind of store."""
    return there._replace(place="") == here._replace(place="") and "c" not in (
        there.place + here.place
    )


@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize("store", STORES if ALL else ("memory", "faiss"))
def test_whatever_happens_readers_see_what_was_published(store: str) -> None:
    with Errands() as errands:
        Index.store, Index.errands = store, errands
        run_state_machine_as_test(
            Index,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=not ALL,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
