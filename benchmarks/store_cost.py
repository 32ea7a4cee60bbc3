"""What a store costs beside its vendor's client doing the same work by hand.

    python benchmarks/store_cost.py [--store faiss] [--option faiss.index=hnsw] [--large]
    python benchmarks/store_cost.py --store qdrant --option qdrant.url=http://localhost:6333

Both sides write the same rows (ids, texts, vectors of 384 dimensions, metadata) and answer the same
queries with ids, texts, metadata and cosines. They take turns, insert by insert and query by query,
so that what else the machine does falls on both. The hand-written side is in `raw_stores/`.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml

from rag_app import registry
from rag_app.store import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

DIMENSION: Final = 384
K: Final = 10
EMBEDDED: Final = ("memory", "faiss", "chroma")
WORDS: Final = ("vector", "store", "index", "query", "chunk", "source", "cosine", "neighbour")


@dataclass(frozen=True)
class Data:
    """What is written and asked: the same for every store."""

    ids: list[str]
    texts: list[str]
    vectors: NDArray[np.float32]
    metadatas: list[dict[str, Any]]
    queries: NDArray[np.float32]


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
            raise SystemExit(f"--option: {each!r} is not of the form NAME.KEY=VALUE")
        options.setdefault(kind, {})[key] = yaml.safe_load(value)
    return options


def make_data(rows: int, queries: int) -> Data:
    """Clustered vectors, texts of about 600 characters, metadata of four fields."""
    chance = np.random.default_rng(0)
    centers = chance.standard_normal((200, DIMENSION))
    drawn = centers[chance.integers(200, size=rows + queries)]
    drawn = (drawn + chance.standard_normal(drawn.shape)).astype(np.float32)
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
    inserts: dict[str, list[float]] = {name: [] for name in sides}
    queries: dict[str, list[float]] = {name: [] for name in sides}
    agreed: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            opened = {
                name: side(place_in(Path(folder) / f"{turn}-{name}", kind, options))
                for name, side in sides.items()
            }
            for name in list(opened)[:: -1 if turn % 2 else 1]:
                started = time.perf_counter()
                opened[name].insert(data.ids, data.texts, data.vectors, data.metadatas)
                inserts[name].append(time.perf_counter() - started)
            if turn == rounds - 1:
                agreed = ask(opened, data.queries, queries)
            for side in opened.values():
                side.close()
    return {
        "store": " ".join([kind, *(f"{n}={v}" for n, v in options.items() if n != "url")]),
        "rows": len(data.ids),
        "insert_s": {name: statistics.median(taken) for name, taken in inserts.items()},
        "p50_ms": {name: float(np.percentile(taken, 50)) for name, taken in queries.items()},
        "p95_ms": {name: float(np.percentile(taken, 95)) for name, taken in queries.items()},
        "same": statistics.mean(agreed),
    }


def place_in(folder: Path, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options with a place of its own, unless they name a server."""
    if "url" in options or "path" not in registry.config_class("vector_stores", kind).model_fields:
        return options
    return {"path": str(folder.with_suffix(".sqlite") if kind == "memory" else folder), **options}


def ask(
    opened: dict[str, Any], queries: NDArray[np.float32], taken: dict[str, list[float]]
) -> list[float]:
    """Ask both sides in turn; the share of hits that they have in common is returned."""
    shares = []
    for number, query in enumerate(np.concatenate([queries[:10], queries])):
        ids = {}
        for name in list(opened)[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            found = opened[name].query(query, K)
            milliseconds = 1000 * (time.perf_counter() - started)
            ids[name] = {row[0] for row in found}
            if number >= 10:  # the first ones warm both sides up
                taken[name].append(milliseconds)
        shares.append(len(ids["ours"] & ids["raw"]) / K)
    return shares


def render(row: dict[str, Any], *, first: bool) -> str:
    """A line of the table, under its heading when it is the first."""
    head = f"{'store':28}{'rows':>8}"
    line = f"{row['store']:28}{row['rows']:8,}"
    for name, title in (("insert_s", "insert s"), ("p50_ms", "p50 ms"), ("p95_ms", "p95 ms")):
        ours, raw = row[name]["ours"], row[name]["raw"]
        head += f"{title:>12}{'raw':>9}{'ratio':>7}"
        line += f"{ours:12.2f}{raw:9.2f}{ours / raw:7.2f}"
    head, line = head + f"{'same':>7}", line + f"{row['same']:7.1%}"
    return f"{head}\n{line}" if first else line


if __name__ == "__main__":
    main()
