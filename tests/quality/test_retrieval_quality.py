"""Retrieval through the whole pipeline, one document a chunk, reaches the published quality."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytrec_eval

import rag_app
from rag_app.evaluation.cases import read_cases
from rag_app.evaluation.compare import judge_all
from rag_app.evaluation.grid import expand
from rag_app.evaluation.metrics import write_trec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rag_app.evaluation.results import Evaluation

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::rag_app.errors.TruncationWarning"),
]

KS = (1, 5, 10)

FOLDERS = {"scifact": "", "cranfield": "beir", "cmrc2018-dev": "beir"}


class Collections:
    """Data sets in BEIR form, each ingested once and each config of it measured once."""

    def __init__(self, data: Callable[[str], Path], place: Path) -> None:
        self.data, self.place = data, place
        self.filled: set[str] = set()
        self.measured: dict[tuple[str, str, str], Evaluation] = {}

    def folder(self, name: str) -> Path:
        return self.data(name) / FOLDERS[name]

    def config(self, name: str, embeddings: str) -> dict[str, Any]:
        place = self.place / f"{name}-{embeddings}"
        return {
            "name": "quality",
            "sources": [{"kind": "beir", "path": str(self.folder(name))}],
            "splitter": "none",
            "embeddings": embeddings,
            "vector_store": {"kind": "memory", "path": str(place / "vectors.sqlite")},
            "index": {"path": str(place / "index")},
        }

    def measure(self, name: str, embeddings: str, retriever: str) -> Evaluation:
        key = name, embeddings, retriever
        if key not in self.measured:
            config = {**self.config(name, embeddings), "retriever": retriever}
            cases = read_cases(self.folder(name), "test")
            with rag_app.load(config) as app:
                if f"{name} {embeddings}" not in self.filled:
                    app.ingest()
                    self.filled.add(f"{name} {embeddings}")
                self.measured[key] = app.evaluate(cases, ks=KS, stale="miss")
        return self.measured[key]


@pytest.fixture(scope="module")
def collections(
    data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Collections:
    """What is made for one test serves the others; one worker runs all of this file."""
    return Collections(data, tmp_path_factory.mktemp("quality"))


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
    name: str,
    retriever: str,
    floor: float,
    collections: Collections,
    record_property: Callable[[str, object], None],
) -> None:
    embeddings = "hashing" if name == "cmrc2018-dev" else "minilm"
    found = collections.measure(name, embeddings, retriever)
    low, high = found.intervals["ndcg@10"]
    score = found.metrics["ndcg@10"]
    record_property("nDCG@10", f"{score:.4f} [{low:.3f}, {high:.3f}]")
    assert score >= floor
    if (name, retriever) == ("scifact", "dense"):
        assert score == pytest.approx(0.645, abs=0.005)  # the model card's figure on MTEB


def test_a_search_that_fuses_both_lists_is_better_than_vectors_alone(
    collections: Collections,
) -> None:
    """Of SciFact's 300 questions: more than chance, corrected for the three pairs."""
    space = {**collections.config("scifact", "minilm"), "retriever": ["dense", "bm25", "hybrid"]}
    variants = expand(space)
    measured = [
        collections.measure("scifact", "minilm", variant.config.retriever.kind)
        for variant in variants
    ]
    named = [rename(each, v.name) for each, v in zip(measured, variants, strict=True)]
    found = judge_all(variants, named, "ndcg@10")
    names = {variant.config.retriever.kind: variant.name for variant in variants}
    assert found.evaluations[0].name == names["hybrid"]
    verdicts = {frozenset((pair.a, pair.b)): pair for pair in found.pairs}
    against_dense = verdicts[frozenset((names["hybrid"], names["dense"]))]
    assert against_dense.paired.n == 300
    assert against_dense.paired.distinguishable
    assert against_dense.verdict.startswith(f"{names['hybrid']} beats {names['dense']}")
    assert names["dense"] not in found.tied
    for pair in found.pairs:
        assert pair.paired.adjusted >= pair.paired.p


def rename(evaluation: Evaluation, name: str) -> Evaluation:
    return replace(evaluation, name=name)


def test_what_is_written_for_trec_eval_says_the_same(
    collections: Collections, tmp_path: Path
) -> None:
    found = collections.measure("cranfield", "hashing", "bm25")
    run, judged = write_trec(found, tmp_path)
    measures = {"recall.1,5,10", "P.1,5,10", "ndcg_cut.1,5,10", "map_cut.1,5,10", "success.1,5,10"}
    with judged.open() as file:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(file), measures)
    with run.open() as file:
        by_question = evaluator.evaluate(pytrec_eval.parse_run(file))
    assert len(by_question) == len(found.results) == 225
    names = {"recall": "recall", "precision": "P", "ndcg": "ndcg_cut", "map": "map_cut"}
    for ours, theirs in {**names, "hit_rate": "success"}.items():
        for k in KS:
            mean = average(by_question, f"{theirs}_{k}")
            assert found.metrics[f"{ours}@{k}"] == pytest.approx(mean, abs=1e-6), (ours, k)


def average(by_question: Mapping[str, Mapping[str, float]], name: str) -> float:
    return sum(each[name] for each in by_question.values()) / len(by_question)
