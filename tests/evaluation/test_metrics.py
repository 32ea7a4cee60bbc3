"""Rankings are measured as trec_eval measures them, and as a count by hand does."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import bm25s
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_app.errors import UsageError
from rag_app.evaluation.metrics import (
    measure_ranking,
    measure_run,
    order_run,
    rank_documents,
    write_trec,
)
from rag_app.evaluation.results import Case, CaseResult, Evaluation, Evidence, Located, Retrieved
from rag_app.types import Hit

Run: TypeAlias = dict[str, dict[str, float]]
Judgments: TypeAlias = dict[str, dict[str, int]]

NAMES = {"ndcg": "ndcg_cut", "map": "map_cut", "precision": "P", "recall": "recall"}
KS = (1, 3, 5, 10, 100, 1000)


def measure_with_trec_eval(judgments: Judgments, run: Run, ks: Sequence[int]) -> dict[str, Any]:
    """Our names and trec_eval's own figures, by question."""
    cuts = ",".join(map(str, ks))
    wanted = {f"{name}.{cuts}" for name in (*NAMES.values(), "success")} | {"recip_rank"}
    measured = pytrec_eval.RelevanceEvaluator(judgments, wanted).evaluate(run)
    told = {}
    for question, values in measured.items():
        told[question] = {
            f"{ours}@{k}": values[f"{theirs}_{k}"] for ours, theirs in NAMES.items() for k in ks
        }
        for k in ks:
            hit = values[f"success_{k}"]
            told[question][f"hit_rate@{k}"] = hit
            told[question][f"mrr@{k}"] = values["recip_rank"] * hit
    return told


# -- published collections ------------------------------------------------------------------------


def search_with_bm25(folder: Path, k: int, b: float) -> tuple[Judgments, Run]:
    """The judgments of the test split, and what BM25 finds for them, 1,000 documents deep."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        corpus = {row["_id"]: f"{row['title']} {row['text']}" for row in map(json.loads, lines)}
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    judgments: Judgments = {}
    with (folder / "qrels" / "test.tsv").open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            judgments.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    index = bm25s.BM25(k1=k, b=b)
    index.index(tokenize(list(corpus.values())), show_progress=False)
    asked = tokenize([queries[question] for question in judgments])
    names = list(corpus)
    places, scores = index.retrieve(asked, k=min(1000, len(names)), show_progress=False)
    found = zip(judgments, places, scores, strict=True)
    return judgments, {
        question: {names[place]: float(score) for place, score in zip(at, scored, strict=True)}
        for question, at, scored in found
    }


def tokenize(texts: list[str]) -> Any:
    return bm25s.tokenize(texts, stopwords="en", show_progress=False)


@pytest.mark.data
@pytest.mark.parametrize("name", ["scifact", "cranfield"])
def test_real_runs_measure_as_with_trec_eval(
    data: Callable[[str], Path], name: str, record_property: Callable[[str, object], None]
) -> None:
    folder = data(name) if name == "scifact" else data(name) / "beir"
    judgments, run = search_with_bm25(folder, 1.2, 0.75)
    theirs = measure_with_trec_eval(judgments, run, KS)

    ours = {question: measure_run(run[question], judgments[question], KS) for question in run}

    answerable = {q for q, judged in judgments.items() if max(judged.values()) >= 1}
    assert len(answerable) >= 185
    assert {q for q, values in ours.items() if values} == answerable
    worst = max(
        abs(value - theirs[question][metric])
        for question in answerable
        for metric, value in ours[question].items()
    )
    assert worst < 1e-6
    assert all(set(ours[question]) == set(theirs[question]) for question in answerable)
    mean = sum(ours[q]["ndcg@10"] for q in answerable) / len(answerable)
    assert mean > 0.3
    record_property("questions", len(answerable))
    record_property("greatest difference", f"{worst:.1e}")
    record_property("ndcg@10", f"{mean:.4f}")


# -- trec_eval on anything ------------------------------------------------------------------------

documents = st.sampled_from([*"abcdefgh", "d10", "d9", "D9", "é", "文", "\U0001f600"])
scores = st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 2.5, -3.0, 1e30, 100_000_000.0, 100_000_001.0])
runs = st.dictionaries(documents, scores, min_size=1)
judged = st.dictionaries(documents, st.integers(-1, 3), min_size=1)
cutoffs = st.lists(st.integers(1, 15), min_size=1, max_size=4, unique=True)


@settings(max_examples=400, deadline=None)
@given(run=runs, judgments=judged, ks=cutoffs)
def test_ties_grades_and_deep_cutoffs_are_as_with_trec_eval(
    run: dict[str, float], judgments: dict[str, int], ks: list[int]
) -> None:
    measured = measure_run(run, judgments, ks)
    if max(judgments.values()) < 1:
        assert measured == {}
        return
    told = measure_with_trec_eval({"q": judgments}, {"q": run}, ks)["q"]
    assert measured == pytest.approx(told, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(run=runs)
def test_a_run_is_ordered_as_trec_eval_orders_it(run: dict[str, float]) -> None:
    order = order_run(run)
    ranks = {
        name: pytrec_eval.RelevanceEvaluator({"q": {name: 1}}, {"recip_rank"}).evaluate({"q": run})
        for name in run
    }
    assert sorted(order, key=lambda name: -ranks[name]["q"]["recip_rank"]) == order


def test_the_order_in_which_a_run_is_given_says_nothing() -> None:
    assert order_run({"a": 1.0, "b": 2.0, "c": 1.0}) == ["b", "c", "a"]
    assert order_run({"c": 1.0, "a": 1.0, "b": 2.0}) == ["b", "c", "a"]


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="'b' is not a number"):
        order_run({"a": 1.0, "b": math.nan})


@settings(max_examples=200, deadline=None)
@given(found=st.lists(documents, max_size=20), judgments=judged, ks=cutoffs)
def test_of_a_document_found_twice_the_first_counts(
    found: list[str], judgments: dict[str, int], ks: list[int]
) -> None:
    once = rank_documents(found)
    relevant = [name for name, grade in judgments.items() if grade >= 1]
    ranking = [[relevant.index(name)] if name in relevant else [] for name in once]
    measured = measure_ranking(ranking, [judgments[name] for name in relevant], ks)
    firsts = {name: -float(found.index(name)) for name in found}
    assert measured == measure_run(firsts, judgments, ks)


# -- units that share evidence, counted by hand ---------------------------------------------------

evidence = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 3), min_size=n, max_size=n),
        st.lists(st.frozensets(st.integers(0, n - 1), max_size=3), min_size=1, max_size=6),
    )
)


@settings(max_examples=300, deadline=None)
@given(drawn=evidence, order=st.randoms(use_true_random=False), ks=cutoffs)
def test_chunks_measure_as_counted_by_hand(
    drawn: tuple[list[int], list[frozenset[int]]], order: Any, ks: list[int]
) -> None:
    relevance, units = drawn
    found = order.sample(units, order.randint(0, len(units)))

    measured = measure_ranking(found, relevance, ks, units)

    for k in ks:
        told = count_by_hand(found[:k], relevance, k)
        assert {name: measured[f"{name}@{k}"] for name in told} == pytest.approx(told)
        gain = gain_by_hand(found[:k], relevance)
        ideal = max(gain, gain_by_hand(choose_greedily(units, relevance)[:k], relevance))
        assert measured[f"ndcg@{k}"] == pytest.approx(gain / ideal if ideal else 0.0)
    assert all(0 <= value <= 1 for value in measured.values())


def count_by_hand(found: Sequence[frozenset[int]], relevance: list[int], k: int) -> dict[str, Any]:
    together = frozenset().union(*found)
    holding = [rank for rank, unit in enumerate(found, 1) if unit]
    precise, seen, firsts = 0.0, set[int](), 0
    for rank, unit in enumerate(found, 1):
        firsts += bool(unit - seen)
        precise += len(unit - seen) * firsts / rank
        seen |= unit
    return {
        "recall": len(together) / len(relevance),
        "precision": len(holding) / k,
        "hit_rate": float(bool(holding)),
        "mrr": 1 / holding[0] if holding else 0.0,
        "map": precise / len(relevance),
    }


def gain_by_hand(found: Sequence[frozenset[int]], relevance: Sequence[int]) -> float:
    seen: set[int] = set()
    total = 0.0
    for rank, unit in enumerate(found, 1):
        total += sum(relevance[number] for number in unit - seen) / math.log2(rank + 1)
        seen |= unit
    return total


def choose_greedily(
    units: Sequence[frozenset[int]], relevance: Sequence[int]
) -> list[frozenset[int]]:
    """Each time what brings most; of equal ones the first by its numbers."""
    left, chosen, seen = sorted(units, key=sorted), [], set[int]()
    while left:
        gains = [sum(relevance[number] for number in unit - seen) for unit in left]
        best = left.pop(gains.index(max(gains)))
        chosen.append(best)
        seen |= best
    return chosen


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=5), data=st.data())
def test_of_chunks_that_share_nothing_the_ideal_is_the_best_permutation(
    sizes: list[int], data: st.DataObject
) -> None:
    numbers = itertools.count()
    units = [frozenset(itertools.islice(numbers, size)) for size in sizes]
    relevance = [data.draw(st.integers(1, 3)) for _ in range(sum(sizes))]
    found = data.draw(st.permutations([*units, frozenset[int]()]))
    k = data.draw(st.integers(1, 7))

    measured = measure_ranking(found, relevance, [k], units)

    best = max(gain_by_hand(order[:k], relevance) for order in itertools.permutations(units))
    gain = gain_by_hand(found[:k], relevance)
    assert measured[f"ndcg@{k}"] == pytest.approx(gain / best)


def test_a_ranking_better_than_the_greedy_ideal_is_perfect() -> None:
    # Greedy takes {1, 2} for 40 and is left with 19 twice; the other two bring 39 each.
    units = [{0, 1}, {1, 2}, {2, 3}]
    measured = measure_ranking([{0, 1}, {2, 3}], [19, 20, 20, 19], [1, 3], units)
    assert measured["ndcg@1"] == pytest.approx(39 / 40)
    assert measured["recall@3"] == 1.0
    assert measured["ndcg@3"] == 1.0


def test_a_known_ranking_has_the_figures_of_the_definitions() -> None:
    # Ranks 2 and 3 hold evidence, of which rank 3 brings one new piece of relevance 2.
    measured = measure_ranking([[], [0], [0, 1]], [1, 2], [3, 10])
    assert measured == pytest.approx(
        {
            "recall@3": 1.0,
            "recall@10": 1.0,
            "precision@3": 2 / 3,
            "precision@10": 0.2,
            "hit_rate@3": 1.0,
            "hit_rate@10": 1.0,
            "mrr@3": 0.5,
            "mrr@10": 0.5,
            "ndcg@3": (1 / math.log2(3) + 2 / 2) / (2 + 1 / math.log2(3)),
            "ndcg@10": (1 / math.log2(3) + 2 / 2) / (2 + 1 / math.log2(3)),
            "map@3": (1 / 2 + 2 / 3) / 2,
            "map@10": (1 / 2 + 2 / 3) / 2,
        }
    )


def test_evidence_in_no_unit_costs_recall_and_no_ndcg() -> None:
    measured = measure_ranking([[0]], [1, 1], [5], units=[[0], []])
    assert measured["recall@5"] == 0.5
    assert measured["ndcg@5"] == 1.0
    assert measure_ranking([[]], [1], [5], units=[])["ndcg@5"] == 0.0


def test_without_evidence_there_is_nothing_to_measure() -> None:
    assert measure_ranking([[], []], [], [5]) == {}
    assert measure_run({"a": 1.0}, {"a": 0}, [5]) == {}


@pytest.mark.parametrize("ks", [[], [0], [5, -1]])
def test_what_is_no_cutoff_is_refused(ks: list[int]) -> None:
    with pytest.raises(UsageError, match="are no cutoffs"):
        measure_ranking([[0]], [1], ks)


# -- trec_eval's files ----------------------------------------------------------------------------


def to_result(id: str, found: Sequence[str], relevant: Mapping[str, int]) -> CaseResult:
    located = tuple(Located(source, (), grade) for source, grade in relevant.items())
    hits = [Hit(f"{n}", s, "", 0, 1, None, 0.0, {}, {}) for n, s in enumerate(found)]
    ranking = tuple(Retrieved(hit, ()) for hit in hits)
    case = Case(id, "?", tuple(Evidence(source) for source in relevant))
    return CaseResult(case, located, {"retriever": ranking}, {}, {}, {})


def to_evaluation(*results: CaseResult) -> Evaluation:
    return Evaluation("x", {}, "cases", "", KS, results, {}, {}, {}, {}, {}, None, {}, 0.0)


def read_trec(path: Path, name: int, value: int, read: Callable[[str], Any]) -> dict[str, Any]:
    table: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        columns = line.split()
        table.setdefault(columns[0], {})[columns[name]] = read(columns[value])
    return table


def test_trec_eval_reads_what_is_written(tmp_path: Path) -> None:
    first = to_result("q 1", ["b", "my notes.md", "b", "a"], {"a": 2, "my notes.md": 1, "z": 1})
    second = to_result("2", [], {"a": 1})
    spanned = CaseResult(Case("3", "?"), (Located("a", ((0, 5),)),), {"retriever": ()}, {}, {}, {})

    run, qrels = write_trec(to_evaluation(first, second, spanned), tmp_path / "new")

    assert len(run.read_text(encoding="utf-8").splitlines()[0].split()) == 6
    ranked, judged = read_trec(run, 2, 4, float), read_trec(qrels, 2, 3, int)
    assert set(judged) == {"q%201", "2"}
    told = measure_with_trec_eval(judged, ranked, [2, 3])["q%201"]
    found: list[list[int]] = [[], [1], [0]]
    assert measure_ranking(found, [2, 1, 1], [2, 3]) == pytest.approx(told, abs=1e-6)


def test_what_trec_eval_cannot_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no case has whole documents as evidence"):
        write_trec(to_evaluation(), tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        write_trec(to_evaluation(to_result("1", ["a"], {"a": 1})), tmp_path / "file")
