"""What each store's search parameters buy: recall@10 against latency, drawn into one SVG.

    RAG_APP_DATA=… python benchmarks/index_parameters.py [--store faiss-hnsw] [--out recall.svg]
    python benchmarks/index_parameters.py --option qdrant.url=http://localhost:6333 --store qdrant

The vectors are real: SciFact's abstracts and claims (tests/README.md says where they are from),
embedded by `minilm`. Recall is the share of the exact ten nearest, over all claims asked. For each
value of a search parameter the store is opened anew with it; of each query the fastest of five
passes counts, so that what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from store_cost import read_options

from rag_app import registry
from rag_app.embeddings import minilm
from rag_app.errors import TruncationWarning
from rag_app.store import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA: Final = Path(os.environ.get("RAG_APP_DATA", Path(__file__).parents[2] / "shared" / "data"))
K: Final = 10
PASSES: Final = 5
FEWEST_MISSED: Final = 0.0003
"""Where the axis ends: with 3,000 neighbours asked for, the next smaller share is none."""


@dataclass(frozen=True)
class Curve:
    """A store, its fixed options, and the search parameter that is varied."""

    kind: str
    parameter: str
    values: tuple[int, ...]
    fixed: dict[str, Any] = field(default_factory=dict)


BREADTHS: Final = (10, 16, 25, 40, 64, 100, 160, 250, 400)
CURVES: Final = {
    "faiss-hnsw": Curve("faiss", "ef_search", BREADTHS, {"index": "hnsw"}),
    "faiss-ivf": Curve(
        "faiss", "nprobe", (1, 2, 4, 8, 16, 32, 48, 64, 96), {"index": "ivf", "nlist": 128}
    ),
    "chroma": Curve("chroma", "ef_search", BREADTHS),
    "qdrant": Curve("qdrant", "ef_search", BREADTHS),
    "pgvector": Curve("pgvector", "ef_search", BREADTHS),
    "milvus": Curve("milvus", "ef_search", BREADTHS),
}
EMBEDDED: Final = ("faiss-hnsw", "faiss-ivf", "chroma")


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", action="append", choices=CURVES, help="repeatable")
    parser.add_argument("--option", action="append", default=[], metavar="NAME.KEY=VALUE")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("index_parameters.svg"))
    given = parser.parse_args()
    vectors, queries = embed(given.queries)
    options = read_options(given.option)
    points = {}
    for name in given.store or EMBEDDED:
        curve = CURVES[name]
        points[name] = measure(curve, options.get(curve.kind, {}), vectors, queries)
        for value, recall, milliseconds in points[name]:
            print(f"{name:12}{curve.parameter:>10} {value:4}{recall:9.4f}{milliseconds:9.2f} ms")
    draw(points, len(vectors), given.out)
    print(f"wrote {given.out}")


def embed(queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors of the abstracts and of the claims asked; kept for the next run."""
    folder = DATA / "scifact"
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [f"{record['title']} {record['text']}" for record in map(json.loads, file)]
    with (folder / "queries.jsonl").open(encoding="utf-8") as file:
        asked = [record["text"] for record in map(json.loads, file)][:queries]
    kept = Path(tempfile.gettempdir()) / f"rag-app-scifact-{len(texts)}-{len(asked)}.npy"
    if not kept.is_file():
        model = minilm.build(minilm.Config(precision="int8"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            np.save(kept, np.array(model.embed_documents(texts + asked), dtype=np.float32))
    vectors = np.load(kept)
    return vectors[: len(texts)], vectors[len(texts) :]


def measure(
    curve: Curve,
    options: dict[str, Any],
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
) -> list[tuple[int, float, float]]:
    """For each value: recall@10 and the median milliseconds of a query."""
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    ids = [str(i) for i in range(len(vectors))]
    with tempfile.TemporaryDirectory() as folder:
        takes_path = "path" in registry.config_class("vector_stores", curve.kind).model_fields
        place = {"path": f"{folder}/store"} if takes_path and "url" not in options else {}
        fixed = {**place, **curve.fixed, **options}
        store = open_store(curve.kind, fixed)
        store.upsert([Row(id, id, vector, {}) for id, vector in zip(ids, vectors, strict=True)])
        store.close()
        recalls: dict[int, float] = {}
        taken: dict[int, list[list[float]]] = {value: [] for value in curve.values}
        for _ in range(PASSES):
            for value in curve.values:
                store = open_store(curve.kind, {**fixed, curve.parameter: value})
                recalls[value], milliseconds = ask(store, queries, exact)
                taken[value].append(milliseconds)
                store.close()
        store = open_store(curve.kind, {**fixed, curve.parameter: curve.values[-1]})
        store.drop()
        store.close()
    return [
        (value, recalls[value], float(np.median(np.min(taken[value], axis=0))))
        for value in curve.values
    ]


def open_store(kind: str, options: dict[str, Any]) -> Any:
    """The store, on the collection of this run."""
    config = registry.config_class("vector_stores", kind)(**options)
    return registry.build(
        "vector_stores", kind, config, embeddings=None, collection=f"parameters-{os.getpid()}"
    )


def ask(
    store: Any, queries: NDArray[np.float32], exact: NDArray[np.intp]
) -> tuple[float, list[float]]:
    """recall@10 over all queries, and the milliseconds of each."""
    hits, taken = 0, []
    for query, nearest in zip(queries, exact, strict=True):
        started = time.perf_counter()
        found = store.search(query, K)
        taken.append(1000 * (time.perf_counter() - started))
        hits += len({int(document.id) for document, _ in found} & set(nearest.tolist()))
    return hits / (K * len(queries)), taken


def draw(points: dict[str, list[tuple[int, float, float]]], count: int, out: Path) -> None:
    """One line for each store; the values of its parameter stand at some of its points."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for name, line in points.items():
        times = [milliseconds for _, _, milliseconds in line]
        missed = [max(1 - recall, FEWEST_MISSED) for _, recall, _ in line]
        label = f"{name} ({CURVES[name].parameter})"
        (drawn,) = axes.plot(times, missed, marker="o", markersize=4, label=label)
        for place, (value, _, _) in enumerate(line):
            axes.annotate(
                str(value),
                (times[place], missed[place]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=8,
                color=drawn.get_color(),
            )
    axes.axhline(0.01, color="gray", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylim(0.8, FEWEST_MISSED * 0.8)
    shown = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, FEWEST_MISSED)
    axes.set_yticks(shown, [*(f"{1 - each:.1%}" for each in shown[:-1]), "all"])
    axes.set_yticks([], minor=True)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="minor", labelsize=7)
    axes.set_xlabel("median time of a query, ms (logarithmic)")
    axes.set_ylabel("found of the exact ten nearest (recall@10)")
    axes.set_title(f"{count:,} SciFact abstracts by minilm; numbers are the parameter's values")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
