"""An ingest killed at any moment leaves nothing wrong: readers see the last published state, and
one rerun makes the index what the sources say.

RAG_APP_CRASH_SEED and RAG_APP_CRASH_KILLS say which kills and how many of each store: otherwise 40
of `memory` and 12 of the others. `make reliability` does 40 of each, `make crash` any number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import pytest

from rag_app.embeddings._hashing import HashingEmbeddings
from tests.reliability import damage, sources
from tests.reliability.damage import Held

SEED: Final = int(os.environ.get("RAG_APP_CRASH_SEED", "20261121"))
KILLS: Final = os.environ.get("RAG_APP_CRASH_KILLS")
FEW: Final = 12
MANY: Final = 40
ROOT: Final = Path(__file__).parents[2]


def crash(system: str, store: str, kills: int) -> list[dict[str, Any]]:
    """The trials up to that many kills."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.reliability.crash", "--system", system),
            *("--store", store, "--kills", str(kills), "--seed", str(SEED), "--searches", "50"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def total(trials: list[dict[str, Any]]) -> Counter[str]:
    """All damage, by when it was seen and its kind."""
    found: Counter[str] = Counter()
    for trial in trials:
        found["ended by itself in error"] += bool(trial["error"])
        for when in ("reader", "after"):
            found.update({f"{when}: {kind}": n for kind, n in trial.get(when, {}).items()})
    return +found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["memory", "faiss", "chroma", "milvus", "qdrant", "pgvector"])
def test_a_killed_ingest_damages_nothing(
    store: str, record_property: pytest.RecordProperty
) -> None:
    kills = int(KILLS or (MANY if store == "memory" else FEW))
    trials = crash("rag_app", store, kills)
    killed = [trial for trial in trials if trial["killed"]]
    record_property("kills", f"{len(killed)}, {len(trials) - len(killed)} too late, seed {SEED}")
    assert len(killed) == kills
    wrong = [trial for trial in trials if total([trial])]
    assert not wrong, f"seed {SEED}: {total(trials)}\n{json.dumps(wrong[:3], indent=1)}"


def test_the_same_kills_damage_what_writes_before_it_records() -> None:
    """The peer: that the trials can see damage at all."""
    found = total(crash("langchain", "faiss", 10))
    assert found["after: lost"] + found["after: error"] > 0, found


class TestJudging:
    """What is counted, on indexes with known damage."""

    before: Final = sources.draw_first(Random("judging"))
    now: Final = sources.edit(before, Random("judging"))
    model: Final = HashingEmbeddings(256)

    def embed(self, text: str) -> Any:
        return np.array(self.model.embed_query(text), np.float32)

    def rows(self, state: sources.State) -> list[Held]:
        chunks = sources.count_chunks(state).elements()
        return [Held(source, text, self.embed(text)) for source, text in chunks]

    def judge(self, rows: list[Held]) -> dict[str, int]:
        found = damage.judge(rows, rows, self.now, [self.before, self.now], self.embed)
        return {kind: n for kind, n in found.items() if n}

    def test_an_index_has_over_1200_chunks_and_is_right(self) -> None:
        rows = self.rows(self.now)
        assert len(rows) > 1200
        assert self.judge(rows) == {}

    def test_lost_and_duplicated_chunks_are_counted(self) -> None:
        rows = self.rows(self.now)
        assert self.judge(rows[7:]) == {"lost": 7}
        assert self.judge([*rows, *rows[:5]]) == {"duplicated": 5}

    def test_what_is_left_of_documents_is_counted(self) -> None:
        rows = self.rows(self.now)
        gone = [r for r in self.rows(self.before) if r.source not in self.now]
        old = [
            r
            for r in self.rows(self.before)
            if r.source in self.now and r.text not in self.now[r.source]
        ]
        mixed = len({r.source for r in old})
        assert self.judge([*rows, *gone]) == {"orphaned": len(gone)}
        assert self.judge([*rows, *old]) == {"phantom": len(old), "mixed": mixed}
        assert len(gone) > 20
        assert mixed > 10

    def test_vectors_are_compared_with_the_texts(self) -> None:
        rows = self.rows(self.now)
        zero = rows[0]._replace(vector=np.zeros(256, np.float32))
        other = rows[1]._replace(vector=rows[2].vector)
        assert self.judge([zero, other, *rows[2:]]) == {"bad vectors": 2}

    def test_a_chunk_that_search_misses_or_misreports_is_not_found(self) -> None:
        rows = self.rows(self.now)
        blind = rows[3:]
        matrix = np.stack([row.vector for row in blind])

        def find(vector: Any, k: int) -> list[tuple[str, str, float]]:
            order = np.argsort(-(matrix @ vector), kind="stable")[:k]
            return [(*blind[i][:2], float(matrix[i] @ vector)) for i in order]

        each = [(row.source, row.text) for row in rows[:3]]
        assert damage.count_not_found(find, len(rows), self.now, self.embed, each) == 3
        assert damage.count_not_found(find, len(rows), self.now, self.embed, []) == 3

        def halve(vector: Any, k: int) -> list[tuple[str, str, float]]:
            return [(*found[:2], found[2] / 2) for found in find(vector, k)]

        missed = damage.count_not_found(halve, len(rows), self.now, self.embed, each)
        assert missed > 3

    def test_a_reader_may_see_either_state_but_nothing_between(self) -> None:
        states = [self.before, self.now]
        for state in states:
            seen = damage.judge_reader(self.rows(state), [], states, states)
            assert seen == {"unpublished": 0, "mixed": 0}
        partly = self.rows(self.now)[:-2]
        assert damage.judge_reader(partly, [], states, states)["unpublished"] == 2
        strange = [("nowhere.md", "no such text")]
        seen = damage.judge_reader(self.rows(self.now), strange, states, states)
        assert seen["unpublished"] == 1
