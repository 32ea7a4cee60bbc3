"""What a store costs beside its vendor's client doing the same work by hand.

    python benchmarks/store_cost.py [--store faiss] [--option faiss.index=hnsw] [--large]
    python benchmarks/store_cost.py --store qdrant --option qdrant.url=http://localhost:6333

Both sides write the same rows (ids, texts, vectors of 384 dimensions, metadata) and answer the same
queries with ids, texts, metadata and cosines. They take turns, insert by insert and query by query,
so that what else the machine does falls on both. The hand-written side is in `raw_stores/`.

Two times are taken of each: by the clock, and of this process's processors. Of a store on a server
the second leaves out the server, and what else the machine does.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
import yaml

from rag_app import registry
from rag_app.store import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

DIMENSION: Final = 384
K: Final = 10
EMBEDDED: Final = ("memory", "faiss", "chroma")
TIMES: Final = ("insert_s", "insert_cpu_s", "p50_ms", "p50_cpu_ms", "p95_ms")
WORDS: Final = ("vector", "store", "index", "query", "chunk", "source", "cosine", "neighbour")


@dataclass(frozen=True)
class Data:
    """What is written and asked: the same for every store."""

    ids: list[str]
    texts: list[str]
    vectors: NDArray[np.float32]
    metadatas: list[dict[str, Any]]
    queries: NDArray[np.float32]


class Taken(NamedTuple):
    """Seconds, by the clock and of this process's processors."""

    wall: float
    processors: float


class Ours:
    """The product's store, with the methods of the hand-written ones."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        config = registry.config_class("vector_stores", kind)(**options)
        self._store = registry.build(
            "vector_stores",
            kind,
            config,
            embeddings=None,
            collection=f"cost-{uuid.uuid4().hex[:12]}",
        )
        # The collection is made now, as the hand-written side makes its own.
        self._store.upsert([Row("first", "", np.ones(DIMENSION, dtype=np.float32), {})])
        self._store.delete(["first"])

    def insert(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[dict[str, Any]],
    ) -> None:
        """Upsert all rows."""
        self._store.upsert(list(map(Row, ids, texts, vectors, metadatas)))

    def query(self, vector: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """Id and cosine, out of whole documents."""
        return [(document.id, cosine) for document, cosine in self._store.search(vector, k)]

    def close(self) -> None:
        """Remove the collection and close."""
        self._store.drop()
        self._store.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", action="append", metavar="NAME", help="repeatable")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME.KEY=VALUE", help="repeatable"
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--large", action="store_true", help="also with 100,000 rows")
    parser.add_argument("--rounds", type=int, default=3, help="inserts of each side")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = read_options(given.option)
    results = []
    for rows in (given.rows, 100_000)[: 1 + given.large]:
        data = make_data(rows, given.queries)
        for kind in given.store or EMBEDDED:
            results.append(measure(kind, options.get(kind, {}), data, given.rounds))
            if not given.json:
                print(render(results[-1], first=len(results) == 1), flush=True)
    if given.json:
        print(json.dumps(results, indent=1))


def read_options(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`faiss.index=hnsw` as {"faiss": {"index": "hnsw"}}."""
    options: dict[str, dict[str, Any]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        kind, dot, key = name.partition(".")
        if not (equals and dot):
            # Not shown: it may be a key.
            raise SystemExit("--option: one is not of the form NAME.KEY=VALUE")
        options.setdefault(kind, {})[key] = yaml.safe_load(value)
    return options


def make_data(rows: int, queries: int) -> Data:
    """Clustered vectors, texts of about 600 characters, metadata of four fields."""
    chance = np.random.default_rng(0)
    centers = chance.standard_normal((200, DIMENSION))
    near = centers[chance.integers(200, size=rows + queries)]
    drawn = (near + chance.standard_normal(near.shape)).astype(np.float32)
    texts = [" ".join(chance.choice(WORDS, 85)) + f" {i}" for i in range(rows)]
    metadatas = [
        {"source": f"docs/{i // 20}.md", "page": i % 20, "lang": "en", "score": i / rows}
        for i in range(rows)
    ]
    ids = [f"{i:06}-{i * 7919 % rows:06}" for i in range(rows)]
    return Data(ids, texts, drawn[:rows], metadatas, drawn[rows:])


def measure(kind: str, options: dict[str, Any], data: Data, rounds: int) -> dict[str, Any]:
    """Seconds of inserts, milliseconds of queries, of both sides in turn."""
    raw_class = getattr(importlib.import_module(f"raw_stores.{kind}"), f"Raw{kind.title()}")
    sides: dict[str, Callable[[dict[str, Any]], Any]] = {
        "ours": lambda options: Ours(kind, options),
        "raw": raw_class,
    }
    inserts: dict[str, list[Taken]] = {name: [] for name in sides}
    queries: dict[str, list[Taken]] = {name: [] for name in sides}
    agreed: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            opened = {
                name: side(place_in(Path(folder) / f"{turn}-{name}", kind, options))
                for name, side in sides.items()
            }
            for name in list(opened)[:: -1 if turn % 2 else 1]:
                rows = (data.ids, data.texts, data.vectors, data.metadatas)
                inserts[name].append(clock(partial(opened[name].insert, *rows))[1])
            if turn == rounds - 1:
                agreed = ask(opened, data.queries, queries)
            for side in opened.values():
                side.close()
    return {
        "store": describe(kind, options),
        "rows": len(data.ids),
        "insert_s": summarise(inserts, 50),
        "insert_cpu_s": summarise(inserts, 50, "processors"),
        "p50_ms": summarise(queries, 50, factor=1000),
        "p50_cpu_ms": summarise(queries, 50, "processors", 1000),
        "p95_ms": summarise(queries, 95, factor=1000),
        "same": statistics.mean(agreed),
    }


def describe(kind: str, options: dict[str, Any]) -> str:
    """The store and what it is made with; of its place and its keys only that they are given."""
    fields = registry.config_class("vector_stores", kind).model_fields
    words = [kind]
    for name, value in options.items():
        extra = fields[name].json_schema_extra
        operational = isinstance(extra, dict) and extra.get("operational")
        words.append(f"{name}={value}" if value is None or not operational else name)
    return " ".join(words)


def clock(work: Callable[[], T]) -> tuple[T, Taken]:
    """What `work` returns, and the time it took."""
    wall, processors = time.perf_counter(), time.process_time()
    result = work()
    return result, Taken(time.perf_counter() - wall, time.process_time() - processors)


def summarise(
    taken: dict[str, list[Taken]], percent: float, which: str = "wall", factor: float = 1
) -> dict[str, float]:
    """A percentile of one of the times, for each side."""
    return {
        name: factor * float(np.percentile([getattr(each, which) for each in times], percent))
        for name, times in taken.items()
    }


def place_in(folder: Path, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options with a place of its own, unless they name a server."""
    if "url" in options or "path" not in registry.config_class("vector_stores", kind).model_fields:
        return options
    return {"path": str(folder.with_suffix(".sqlite") if kind == "memory" else folder), **options}


def ask(
    opened: dict[str, Any], queries: NDArray[np.float32], taken: dict[str, list[Taken]]
) -> list[float]:
    """Ask both sides in turn; the share of hits that they have in common is returned."""
    shares = []
    for number, query in enumerate(np.concatenate([queries[:10], queries])):
        ids = {}
        for name in list(opened)[:: -1 if number % 2 else 1]:
            found, took = clock(partial(opened[name].query, query, K))
            ids[name] = {row[0] for row in found}
            if number >= 10:  # the first ones warm both sides up
                taken[name].append(took)
        shares.append(len(ids["ours"] & ids["raw"]) / K)
    return shares


def render(row: dict[str, Any], *, first: bool) -> str:
    """A line of the table, under its heading when it is the first."""
    head = f"{'store':28}{'rows':>8}"
    line = f"{row['store']:28}{row['rows']:8,}"
    for name in TIMES:
        ours, raw = row[name]["ours"], row[name]["raw"]
        head += f"{name.replace('_', ' '):>14}{'raw':>9}{'ratio':>7}"
        line += f"{ours:14.2f}{raw:9.2f}{ours / raw:7.2f}"
    head, line = head + f"{'same':>7}", line + f"{row['same']:7.1%}"
    return f"{head}\n{line}" if first else line


if __name__ == "__main__":
    main()
