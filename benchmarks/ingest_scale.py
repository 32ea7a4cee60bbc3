"""What an ingest costs when little has changed, and how much memory a large one takes.

    python benchmarks/ingest_scale.py [--files 1000 --files 10000] [--chunks 100000]
    python benchmarks/ingest_scale.py --store faiss --store lancedb --retriever dense

First table: seconds of an ingest of some files of which none, 1, 10 or 100 have changed, as
multiples of the time that it takes to list these files and compute the SHA-256 of each. Beside it
LangChain's `index()` with a record in SQLite, which loads and splits every file each time.

Second table: the most memory (resident, of all its processes together) that the command
`rag-app ingest` holds while it fills an index with `--chunks` chunks, word index included; `own` is
of the command's first process. Linux only.

Both use hashed words for vectors, so that no model's own memory and time are in the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANGES: Final = (0, 1, 10, 100)
WORDS: Final = 128
"""Words of a chunk: with their punctuation, about what a small model reads at once."""
CHUNKS_OF_A_FILE: Final = 10
STORES: Final = ("memory", "faiss", "chroma", "lancedb", "qdrant", "milvus")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, action="append", metavar="N", help="repeatable")
    parser.add_argument("--chunks", type=int, default=100_000, help="0 leaves the table out")
    parser.add_argument("--store", action="append", choices=STORES, help="repeatable")
    parser.add_argument("--retriever", action="append", choices=("dense", "hybrid"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {"unchanged": [], "memory": []}
    for files in given.files or (1_000, 10_000):
        if files:
            results["unchanged"].append(measure_changes(files, given.rounds))
            if not given.json:
                print(render_changes(results["unchanged"]), flush=True)
    for store in (given.store or STORES[:1]) if given.chunks else ():
        for retriever in given.retriever or ("hybrid",):
            results["memory"].append(measure_memory(store, retriever, given.chunks))
            if not given.json:
                print(render_memory(results["memory"]), flush=True)
    if given.json:
        print(json.dumps(results, indent=1))


def write_files(folder: Path, files: int, chunks: int, words: int = WORDS) -> list[Path]:
    """Markdown files of `chunks` paragraphs, in words as common as those of a language are."""
    chance = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjq"))
    lengths = chance.integers(2, 12, size=50_000)
    vocabulary = np.array(["".join(chance.choice(letters, n)) for n in lengths], dtype=object)
    shares = np.cumsum(1 / (np.arange(50_000) + 10.0))
    written = []
    for number in range(files):
        drawn = np.searchsorted(shares, chance.random((chunks, words)) * shares[-1])
        place = folder / f"{number // 500:03}" / f"{number:06}.md"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n\n".join(map(" ".join, vocabulary[drawn])), encoding="utf-8")
        written.append(place)
    return written


def describe(folder: Path, corpus: Path, store: str, retriever: str, words: int) -> dict[str, Any]:
    """The config: one chunk a paragraph."""
    place = folder / ("store.sqlite" if store == "memory" else "store")
    return {
        "name": "scale",
        "sources": [{"kind": "files", "path": str(corpus)}],
        "splitter": {"kind": "recursive", "chunk_size": words + 8, "chunk_overlap": 0},
        "embeddings": "hashing",
        "vector_store": {"kind": store, "path": str(place)},
        "retriever": retriever,
        "chain": "extractive",
        "index": {"path": str(folder / "index")},
    }


# -- what has changed --------------------------------------------------------------------------


def measure_changes(files: int, rounds: int) -> dict[str, Any]:
    """Seconds to hash all files, and to ingest them after some were changed; medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = write_files(folder / "corpus", files, CHUNKS_OF_A_FILE // 5)
        peer = Peer(folder / "corpus", folder / "records.sqlite")
        config = describe(folder, folder / "corpus", "memory", "hybrid", WORDS)
        first = clock(lambda: ingest(config))
        peer_first = clock(peer.run)
        ours: dict[int, list[float]] = {changed: [] for changed in CHANGES}
        theirs: dict[int, list[float]] = {changed: [] for changed in CHANGES[:2]}
        limits = []
        for turn in range(rounds):
            for changed in CHANGES:
                change(written[:changed], turn)
                limits.append(clock(lambda: hash_all(folder / "corpus")))
                ours[changed].append(clock(lambda: ingest(config)))
                if changed in theirs:
                    theirs[changed].append(clock(peer.run))
    limit = statistics.median(limits)
    return {
        "files": files,
        "limit_s": limit,
        "first": {"ours": first / limit, "langchain": peer_first / limit},
        "ours": {changed: statistics.median(took) / limit for changed, took in ours.items()},
        "langchain": {changed: statistics.median(took) / limit for changed, took in theirs.items()},
    }


def clock(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def hash_all(corpus: Path) -> dict[str, str]:
    """The least that tells whether any file has changed."""
    sums = {}
    for place, _, names in os.walk(corpus):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 - the quickest there is
            with open(path, "rb") as file:  # noqa: PTH123
                sums[path] = hashlib.sha256(file.read()).hexdigest()
    return sums


def ingest(config: dict[str, Any]) -> None:
    """Open the index, bring it up to date, close it."""
    import rag_app

    with rag_app.load(config) as app:
        app.ingest()


def change(files: Sequence[Path], turn: int) -> None:
    """Add a line that was never there."""
    for path in files:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n\nAdded {turn} at {time.perf_counter_ns()}.")


class Peer:
    """LangChain's `index()`: its own splitter and record, the same vectors, a store in memory."""

    def __init__(self, corpus: Path, records: Path) -> None:
        from langchain_classic.indexes import SQLRecordManager
        from langchain_core.vectorstores import InMemoryVectorStore

        from rag_app.embeddings._hashing import HashingEmbeddings

        self._corpus = corpus
        self._records = SQLRecordManager("scale", db_url=f"sqlite:///{records}")
        self._records.create_schema()
        self._store = InMemoryVectorStore(HashingEmbeddings(256))

    def run(self) -> None:
        """Index every file; what has not changed is skipped after it was loaded and split."""
        from langchain_core.documents import Document
        from langchain_core.indexing import index
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=0)
        documents = [
            Document(path.read_text(encoding="utf-8"), metadata={"source": str(path)})
            for path in sorted(self._corpus.rglob("*.md"))
        ]
        index(
            splitter.split_documents(documents),
            self._records,
            self._store,
            cleanup="full",
            source_id_key="source",
            key_encoder="sha256",
        )


def render_changes(rows: Sequence[dict[str, Any]]) -> str:
    """The newest line of the table, under its heading when it is the first."""
    row = rows[-1]
    head = f"{'files':>8}{'hashing s':>11}{'first':>9}"
    line = f"{row['files']:8,}{row['limit_s']:11.3f}{row['first']['ours']:9.1f}"
    for changed, ratio in row["ours"].items():
        head += f"{f'{changed} changed':>13}"
        line += f"{ratio:13.1f}"
    head += f"{'LangChain first':>18}"
    line += f"{row['first']['langchain']:18.1f}"
    for changed, ratio in row["langchain"].items():
        head += f"{f'{changed} changed':>13}"
        line += f"{ratio:13.1f}"
    return f"{head}\n{line}" if len(rows) == 1 else line


# -- memory ------------------------------------------------------------------------------------


def measure_memory(store: str, retriever: str, chunks: int, words: int = WORDS) -> dict[str, Any]:
    """The peak of a first ingest in a process of its own, in MB (10**6 bytes), and its seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder / "corpus", chunks // CHUNKS_OF_A_FILE, CHUNKS_OF_A_FILE, words)
        config = folder / "config.yaml"
        described = describe(folder, folder / "corpus", store, retriever, words)
        config.write_text(json.dumps(described), encoding="utf-8")  # which is YAML, too
        start = time.perf_counter()
        own, together = watch([*COMMAND, "ingest", "-c", str(config)], folder / "output")
        seconds = time.perf_counter() - start
        output = (folder / "output").read_text(encoding="utf-8")
        if f"{chunks} in the index" not in output:
            raise SystemExit(f"{store}: the ingest failed:\n{output}")
    return {
        "store": store,
        "retriever": retriever,
        "chunks": chunks,
        "own_mb": own / 1e6,
        "all_mb": together / 1e6,
        "seconds": seconds,
    }


COMMAND: Final = (sys.executable, "-c", "from rag_app.cli import main; raise SystemExit(main())")


def watch(command: Sequence[str], output: Path) -> tuple[int, int]:
    """Run a command to its end: the most bytes its process held, and its processes together."""
    own = together = 0
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        while process.poll() is None:
            family = list_family(process.pid)
            own = max(own, read_status(process.pid, "VmHWM"))
            together = max(together, own, sum(read_status(pid, "VmRSS") for pid in family))
            time.sleep(0.05)
    return own, together


def list_family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = file.read_text().split()
        except OSError:  # the thread has ended meanwhile
            continue
        for child in children:
            found += list_family(int(child))
    return found


def read_status(pid: int, name: str) -> int:
    """A figure of /proc/PID/status in bytes; 0 when the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def render_memory(rows: Sequence[dict[str, Any]]) -> str:
    """The newest line of the table, under its heading when it is the first."""
    row = rows[-1]
    head = f"{'store':10}{'retriever':>11}{'chunks':>10}{'own MB':>9}{'all MB':>9}{'seconds':>10}"
    line = f"{row['store']:10}{row['retriever']:>11}{row['chunks']:10,}"
    line += f"{row['own_mb']:9.0f}{row['all_mb']:9.0f}{row['seconds']:10.0f}"
    return f"\n{head}\n{line}" if len(rows) == 1 else line


if __name__ == "__main__":
    main()
