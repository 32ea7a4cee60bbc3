"""Retrieval through the whole pipeline, one document a chunk, reaches the published quality."""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import rag_app

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CORPUS = "corpus.jsonl.gz"

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::rag_app.errors.TruncationWarning"),
]


class Collection(NamedTuple):
    """A data set in BEIR form, ingested: the config of its index, its questions and judgments."""

    config: dict[str, Any]
    questions: dict[str, str]
    judged: dict[str, dict[str, int]]


def ingest(folder: Path, place: Path, embeddings: str) -> Collection:
    config = {
        "name": "quality",
        "sources": [{"kind": "files", "path": str(folder), "include": [CORPUS]}],
        "splitter": "none",
        "embeddings": embeddings,
        "vector_store": {"kind": "memory", "path": str(place / "vectors.sqlite")},
        "index": {"path": str(place / "index")},
        "retriever": "bm25",
        "chain": "extractive",
    }
    with gzip.open(folder / CORPUS, "rt", encoding="utf-8") as file:
        written = sum((row["title"] + row["text"]).strip() != "" for row in map(json.loads, file))
    with rag_app.load(config) as app:
        report = app.ingest()
    assert report.chunks_total == written
    return Collection(config, read_questions(folder), read_judgments(folder))


def read_questions(folder: Path) -> dict[str, str]:
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["_id"]: row["text"] for row in map(json.loads, lines)}


def read_judgments(folder: Path) -> dict[str, dict[str, int]]:
    """Positive judgments by question and document."""
    judged: dict[str, dict[str, int]] = {}
    lines = (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()
    for question, document, grade in (line.split("\t") for line in lines[1:]):
        if int(grade) > 0:
            judged.setdefault(question, {})[document] = int(grade)
    return judged


def ndcg_at_10(found: Sequence[str], judged: Mapping[str, int]) -> float:
    """As trec_eval's ndcg_cut_10: linear gain, discounted by log2(rank + 1)."""
    ideal = sorted(judged.values(), reverse=True)
    return discount([judged.get(id, 0) for id in found]) / discount(ideal)


def discount(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:10]))


def measure(collection: Collection, retriever: str) -> float:
    """Mean nDCG@10 over the judged questions."""
    with rag_app.load({**collection.config, "retriever": retriever}) as app:
        scores = []
        for question, judged in collection.judged.items():
            hits = app.search(collection.questions[question], k=10).hits
            found = [hit.source.rpartition("#")[2] for hit in hits]
            scores.append(ndcg_at_10(found, judged))
    return sum(scores) / len(scores)


@pytest.fixture(scope="module")
def collections(
    data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Collection]:
    """`collections("scifact")` is that data set, ingested once for all tests."""
    made: dict[str, Collection] = {}

    def get(name: str) -> Collection:
        if name not in made:
            folder = data(name) if name == "scifact" else data(name) / "beir"
            embeddings = "hashing" if name == "cmrc2018-dev" else "minilm"
            made[name] = ingest(folder, tmp_path_factory.mktemp(name), embeddings)
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "retriever", "floor"),
    [
        ("scifact", "dense", 0.640),
        ("scifact", "bm25", 0.67),
        ("scifact", "hybrid", 0.71),
        ("cranfield", "dense", 0.395),
        ("cranfield", "bm25", 0.38),
        ("cranfield", "hybrid", 0.42),
        ("cmrc2018-dev", "bm25", 0.975),
    ],
)
def test_ndcg_at_10(
    name: str, retriever: str, floor: float, collections: Callable[[str], Collection]
) -> None:
    score = measure(collections(name), retriever)
    print(f"{name} {retriever}: nDCG@10 {score:.4f}")
    assert score >= floor
