"""A comparison pays for each text once, tells noise from differences, and leaves the user's index
as it is."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import rag_app
from rag_app.cli.compare import comparison_lines
from rag_app.errors import BudgetError, IndexStateError, UsageError
from rag_app.evaluation.cases import parse_cases, read_cases
from rag_app.evaluation.compare import compare, find_front, judge_all
from rag_app.evaluation.grid import Variant, expand
from rag_app.evaluation.results import (
    Case,
    CaseResult,
    Comparison,
    Evaluation,
    Evidence,
    Located,
)
from rag_app.evaluation.workbench import name_index
from tests.evaluation.corpora import draw_cases, make_config, write_corpus
from tests.openai_server import OpenAIServer
from tests.tiny_models import make_cross_encoder

TOOL = str(Path(sys.executable).with_name("rag-app"))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", "k")


# -- what is judged -------------------------------------------------------------------------------


def make_evaluation(
    name: str,
    scores: list[float],
    *,
    latency: float = 5.0,
    cost: float | None = 0.0,
    ids: list[str] | None = None,
    **given: Any,
) -> Evaluation:
    """An evaluation with these scores."""
    results = tuple(
        CaseResult(
            Case(id, f"Question {id}", (Evidence("a"),)),
            (Located("a", ()),),
            {"retriever": ()},
            {"ndcg@10": score},
            {},
            {"total": latency},
        )
        for id, score in zip(ids or [f"q{n}" for n in range(len(scores))], scores, strict=True)
    )
    made = Evaluation(
        name=name,
        config={"sources": [{"kind": "files"}]},
        origin="cases.jsonl",
        digest="d",
        ks=(10,),
        results=results,
        metrics={"ndcg@10": sum(scores) / len(scores)},
        intervals={},
        stages={},
        latency_ms={"total": {"p50": latency, "p95": latency, "mean": latency}},
        tokens={},
        cost=cost,
        index={"corpus": "c"},
        seconds=0.0,
    )
    return replace(made, **given)


def make_variants(evaluations: list[Evaluation]) -> list[Variant]:
    config = expand({"name": "any", "sources": [{"kind": "files", "path": "."}]})[0].config
    options = config.retriever.options.model_copy
    made = []
    for number, each in enumerate(evaluations):  # configs that differ, as those of a space do
        retriever = replace(config.retriever, options=options(update={"k": number + 1}))
        made.append(Variant(each.name, {}, replace(config, retriever=retriever)))
    return made


def judge(*evaluations: Evaluation) -> Comparison:
    return judge_all(make_variants(list(evaluations)), evaluations, "ndcg@10")


SCORES = st.lists(st.floats(0, 1), min_size=8, max_size=8)


@settings(deadline=None, max_examples=30)
@given(st.lists(SCORES, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_in_which_configs_are_given_changes_nothing(
    listed: list[list[float]], random_: random.Random
) -> None:
    evaluations = [make_evaluation(f"c{n}", scores) for n, scores in enumerate(listed)]
    shuffled = random_.sample(evaluations, len(evaluations))
    one, other = judge(*evaluations), judge(*shuffled)
    assert [each.name for each in one.evaluations] == [each.name for each in other.evaluations]
    assert one.pairs == other.pairs
    assert (one.tied, set(one.front)) == (other.tied, set(other.front))


def test_twins_are_not_distinguishable_and_what_is_far_better_is() -> None:
    draw = random.Random(1)
    low = [draw.uniform(0, 0.5) for _ in range(40)]
    high = [score + draw.uniform(0.2, 0.4) for score in low]
    made = judge(
        make_evaluation("one", low), make_evaluation("two", low), make_evaluation("best", high)
    )
    assert [each.name for each in made.evaluations] == ["best", "one", "two"]
    assert made.tied == ("best",)
    verdicts = {frozenset((pair.a, pair.b)): pair.paired for pair in made.pairs}
    assert len(made.pairs) == 3
    twins = verdicts[frozenset(("one", "two"))]
    assert not twins.distinguishable
    assert (twins.p, twins.difference, twins.ties) == (1.0, 0.0, 40)
    for name in ("one", "two"):
        assert verdicts[frozenset((name, "best"))].distinguishable
    (pair,) = (pair for pair in made.pairs if "distinguishable" in pair.verdict)
    assert {pair.a, pair.b} == {"one", "two"}


def test_only_cases_that_all_have_are_judged_and_the_others_are_counted() -> None:
    one = make_evaluation("one", [1.0, 1.0, 0.2, 0.2], ids=["a", "b", "c", "d"])
    two = make_evaluation("two", [0.3, 0.3, 0.9], ids=["c", "d", "e"])
    made = judge(one, two)
    assert made.pairs[0].paired.n == 2
    assert [each.name for each in made.evaluations] == ["two", "one"]
    words = (
        "3 cases were not measured with every config in ndcg@10, and are left out of every figure"
    )
    assert made.notes[0] == f"{words}: a, b, e"
    assert [each.metrics["ndcg@10"] for each in made.evaluations] == pytest.approx([0.3, 0.2])
    with pytest.raises(UsageError, match="no case was measured with every config"):
        judge(one, make_evaluation("three", [0.5], ids=["e"]))


def make_split(name: str, scores: dict[str, float], price: float, latency: float) -> Evaluation:
    """An evaluation of cases that cost and take as much for each letter of their id."""
    made = make_evaluation(name, list(scores.values()), latency=latency, ids=list(scores))
    results = tuple(
        replace(
            result,
            cost=price * len(result.case.id),
            timings_ms={"total": latency * len(result.case.id)},
        )
        for result in made.results
    )
    return replace(made, results=results, cost=sum(each.cost or 0 for each in results))


def test_every_figure_of_a_comparison_is_of_the_same_cases() -> None:
    easy = {"a": 0.9, "b": 0.8, "c": 0.9, "d": 0.8, "e": 0.9, "f": 0.8, "g": 0.9}
    hard = {"xxxxxxxx": 0.1, "yyyyyyyy": 0.1}  # asked of one alone: dear, slow and seldom found
    one = make_split("one", {**{id: score + 0.1 for id, score in easy.items()}, **hard}, 0.01, 2.0)
    two = make_split("two", easy, 0.02, 3.0)
    assert one.metrics["ndcg@10"] < two.metrics["ndcg@10"]
    made = judge(one, two)
    assert [each.name for each in made.evaluations] == ["one", "two"]
    means = [each.metrics["ndcg@10"] for each in made.evaluations]
    assert means[0] - means[1] == pytest.approx(made.pairs[0].paired.difference)
    first = made.evaluations[0]
    assert first.latency_ms["total"] == {"p50": 2.0, "p95": 2.0, "mean": 2.0}
    assert first.cost == pytest.approx(0.07)
    low, high = first.intervals["ndcg@10"]
    assert low <= means[0] <= high
    assert made.front == ("one",)
    shown = comparison_lines(made)
    assert shown[1].split()[-3:] == ["2.0", "$10.00", "*"]
    assert shown[2].split()[-2:] == ["3.0", "$20.00"]


def test_cases_that_no_config_can_be_scored_on_stay_in_the_comparison() -> None:
    both = [make_evaluation(name, [0.5, 1.0, 1.0]) for name in ("one", "two")]
    unanswerable = [
        replace(e, results=(*e.results[:2], replace(e.results[2], metrics={"answer_rate": 0.0})))
        for e in both
    ]
    made = judge(*unanswerable)
    assert [len(each.results) for each in made.evaluations] == [3, 3]
    assert made.notes == ()


def test_the_front_is_by_the_cost_of_a_question() -> None:
    dear = make_evaluation("dear", [0.4] * 10, cost=0.5)
    cheap = make_evaluation("cheap", [0.8] * 100, cost=1.0)
    assert find_front([dear, cheap], "ndcg@10") == ("cheap",)


def test_of_false_answers_the_config_that_gives_fewer_wins() -> None:
    def make(name: str, rates: list[float]) -> Evaluation:
        made = make_evaluation(name, rates)
        renamed = tuple(
            replace(each, metrics={"false_answer_rate": each.metrics["ndcg@10"]})
            for each in made.results
        )
        return replace(made, results=renamed, metrics={"false_answer_rate": sum(rates) / 10})

    listed = [make("liar", [1.0] * 9 + [0.0]), make("honest", [0.0] * 9 + [1.0])]
    made = judge_all(make_variants(listed), listed, "false_answer_rate")
    (pair,) = made.pairs
    assert (pair.b, pair.a) == ("honest", "liar")
    assert (pair.paired.wins, pair.paired.losses) == (9, 1)


def test_what_varies_and_decides_nothing_is_told(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 6)
    cases = parse_cases(draw_cases(texts, 4, whole=True))
    found = compare(expand(make_config(tmp_path), ["retriever.k=[2, 4]"]), cases)
    assert "retriever.k decides nothing that ndcg@10 measures; add --answers" in found.notes
    other = compare(expand(make_config(tmp_path), ["retriever=[dense, bm25]"]), cases)
    assert other.notes == ()


def test_what_cannot_be_compared_is_refused() -> None:
    one = make_evaluation("one", [1.0, 0.5])
    with pytest.raises(UsageError, match="'mrr@10' was not measured"):
        judge_all(make_variants([one]), [one], "mrr@10")
    with pytest.raises(IndexStateError, match="sources changed"):
        judge(one, make_evaluation("two", [1.0, 0.5], index={"corpus": "d"}))
    other_sources = {"sources": [{"kind": "other"}]}
    judge(one, make_evaluation("two", [1.0, 0.5], index={"corpus": "d"}, config=other_sources))
    with pytest.raises(UsageError, match="other cases"):
        judge(one, make_evaluation("two", [1.0, 0.5], digest="e"))
    with pytest.raises(UsageError, match="'one' is the name of two"):
        judge(one, make_evaluation("one", [0.0, 0.5]))


POINTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.none() | st.integers(0, 3)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int, int | None]]) -> None:
    evaluations = [
        make_evaluation(f"c{n}", [quality / 3], latency=latency, cost=cost)
        for n, (quality, latency, cost) in enumerate(points)
    ]
    priced = all(cost is not None for *_, cost in points)
    known = [(q, -time_, -(c or 0) if priced else 0) for q, time_, c in points]
    expected = {
        f"c{n}"
        for n, mine in enumerate(known)
        if not any(
            all(t >= m for t, m in zip(theirs, mine, strict=True))
            and any(t > m for t, m in zip(theirs, mine, strict=True))
            for theirs in known
        )
    }
    assert set(find_front(evaluations, "ndcg@10")) == expected


# -- what is paid for -----------------------------------------------------------------------------


class Counting(OpenAIServer):
    """Waits before each request once `stop` texts were sent, until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.stop = threading.Event(), 10**9

    def embed(self, request: Any) -> Any:
        if sum(self.sent.values()) > self.stop:
            self.go.wait(60)
            return super().embed(replace(request, body={**request.body}))
        return super().embed(request)

    @property
    def sent(self) -> Counter[str]:
        """How often each text of the project was sent; those that probe the model are not."""
        texts = (t for request in self.requests for t in list_inputs(request))
        return Counter(text for text in texts if text.startswith(("Doc ", "Ask ")))

    routes = {**OpenAIServer.routes, "POST /v1/embeddings": embed}  # noqa: RUF012


def list_inputs(request: Any) -> list[str]:
    given = request.body["input"]
    return [given] if isinstance(given, str) else list(given)


def write_project(
    folder: Path, server: OpenAIServer, *, count: int = 8, price: float = 1000, **sections: Any
) -> Path:
    """Documents of three paragraphs, and a config with lists where one value belongs."""
    (folder / "docs").mkdir(parents=True)
    for number in range(6):
        paragraphs = [
            f"Doc {number} part {part} " + " ".join(f"w{number}{part}{n}" for n in range(14))
            for part in range(4)
        ]
        (folder / "docs" / f"d{number}.txt").write_text("\n\n".join(paragraphs))
    lines = [
        {
            "id": f"q{n}",
            "question": f"Ask {n} w{n % 6}{n % 4}3 w{n % 6}{n % 4}5",
            "evidence": [{"source": f"d{n % 6}.txt", "quote": f"w{n % 6}{n % 4}5"}],
        }
        for n in range(count)
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    embeddings = {"kind": "openai", "model": "text-embedding-3-small", "dimensions": 256}
    embeddings |= {"price": price, "api_key": "${SMALL_KEY}", "base_url": server.url}
    config = make_config(folder, embeddings=embeddings, **sections)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def twelve(folder: Path) -> list[str]:
    """Overrides for 3 sizes of chunks and 4 ways of searching."""
    model = make_cross_encoder(folder / "model")
    ways = "[dense, bm25, hybrid]"
    return [
        "splitter={kind: recursive, chunk_overlap: 0}",
        "splitter.chunk_size=[40, 80, 4000]",
        f"retriever={ways}",
        f"reranker=[none, {{kind: cross_encoder, model: {model}, k: 3}}]",
    ]


def texts_of(folder: Path, names: set[str]) -> set[str]:
    """The chunks of the indexes of those names, as their stores hold them."""
    found: set[str] = set()
    for name in names:
        with rag_app.load(folder / "small.yaml", {"name": name}) as app:
            served = next(each for each in app.generations() if each.state == "served")
            with app.open_store(served.collection) as store:
                found |= {row.text for row in store.scan()}
    return found


def dump(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_text_is_sent_once_for_all_configs(tmp_path: Path) -> None:
    with Counting() as server:
        path = write_project(tmp_path, server)
        variants = expand(path, twelve(tmp_path))
        assert len(variants) == 18  # the reranker is on and off for each way of searching
        chosen = [
            each
            for each in variants
            if each.config.reranker is None or each.config.retriever.kind == "hybrid"
        ]
        assert len(chosen) == 12
        found = compare(chosen, read_cases(tmp_path / "cases.jsonl"), metric="mrr@10")
        assert set(server.sent.values()) == {1}
        names = {name_index(each.config) for each in chosen}
        assert len(names) == 3
        questions = {f"Ask {n} w{n % 6}{n % 4}3 w{n % 6}{n % 4}5" for n in range(8)}
        assert {text for text in server.sent if text.startswith("Ask")} == questions
        assert found.embedded == sum(server.sent.values())
        server.requests.clear()
        again = compare(chosen, read_cases(tmp_path / "cases.jsonl"), metric="mrr@10")
        assert not server.sent
    assert again.embedded == 0
    assert [e.metrics for e in again.evaluations] == [e.metrics for e in found.evaluations]
    assert again.pairs == found.pairs
    assert [e.cost for e in again.evaluations] == pytest.approx([e.cost for e in found.evaluations])
    assert len(found.pairs) == 66
    words = {name: each for name, each in costs(found).items() if "bm25" in name}
    others = {name: each for name, each in costs(found).items() if "bm25" not in name}
    assert set(words.values()) == {0.0}
    assert len({round(each or 0, 6) for each in others.values()}) == 1
    assert next(iter(others.values())) == pytest.approx(8 * 4 * 1000 / 1e6)


def costs(found: Comparison) -> dict[str, float | None]:
    return {each.name: each.cost for each in found.evaluations}


@pytest.mark.parametrize("stop", [9, 30, 40])
def test_killed_half_way_it_sends_nothing_twice(tmp_path: Path, stop: int) -> None:
    with Counting() as server:
        path = write_project(tmp_path, server)
        overrides = [f"--set={each}" for each in twelve(tmp_path)[:3]]
        asked = [TOOL, "compare", str(path), *overrides, "--cases", str(tmp_path / "cases.jsonl")]
        asked += ["--metric", "mrr@10", "--json"]
        server.stop = stop
        with subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
            until = time.monotonic() + 100
            while sum(server.sent.values()) <= stop and time.monotonic() < until:
                time.sleep(0.01)
            running.send_signal(signal.SIGKILL)
        assert running.returncode == -signal.SIGKILL
        lost = Counter(list_inputs(server.requests[-1]))  # sent, and never answered
        server.stop = 10**9
        server.go.set()
        before = server.sent
        assert sum(before.values()) > stop
        done = subprocess.run(asked, capture_output=True, check=True)
        after = server.sent
        twice = {text for text, times in after.items() if times > 1}
        assert twice <= set(lost)
        server.requests.clear()
        anew = compare(
            expand(path, twelve(tmp_path)[:3]),
            read_cases(tmp_path / "cases.jsonl"),
            metric="mrr@10",
        )
        assert not server.sent
    resumed = json.loads(done.stdout)
    assert [each["name"] for each in resumed["configs"]] == [e.name for e in anew.evaluations]
    assert [each["cost"] for each in resumed["configs"]] == pytest.approx(
        [each.cost for each in anew.evaluations], abs=1e-6
    )
    assert list((tmp_path / "index" / "evaluations").iterdir()) == []


def test_a_budget_stops_it_and_what_is_done_is_kept(tmp_path: Path) -> None:
    with Counting() as server:
        path = write_project(tmp_path, server)
        variants = expand(path, ["retriever=[dense, bm25]"])
        lines = (tmp_path / "cases.jsonl").read_text().splitlines()
        questions = [json.loads(line) for line in lines]
        for each in questions:  # dearer than the sentences that probe the model
            each["question"] += " the" * 60
        cases = parse_cases(questions)
        whole = 6 * 4 * 18 * 1000 / 1e6  # dollars for the documents, at a thousandth a word
        with pytest.raises(BudgetError):
            compare(variants, cases, metric="mrr@10", max_cost=whole / 2)
        assert not server.sent
        words = expand(path, ["retriever=bm25", "retriever.k=[3, 4]"])
        compare(words, cases, metric="mrr@10", max_cost=3 * whole)  # estimates are cautious
        assert all(text.startswith("Doc") for text in server.sent)
        with pytest.raises(BudgetError, match="what is measured is kept"):
            compare(variants, cases, metric="mrr@10", max_cost=0.3)
        asked = [text for text in server.sent if text.startswith("Ask")]
        assert 0 < len(asked) < 8
        left = (8 - len(asked)) * 64 / 1000
        found = compare(variants, cases, metric="mrr@10", max_cost=left + 0.15)
        assert set(server.sent.values()) == {1}
    dense = {each.name: each.cost for each in found.evaluations}["retriever=dense"]
    assert dense == pytest.approx(8 * 64 / 1000)


def test_the_index_in_use_is_as_it_was(tmp_path: Path) -> None:
    with Counting() as server:
        path = write_project(tmp_path, server, vector_store={"kind": "memory", "path": None})
        config = yaml.safe_load(path.read_text())
        config["vector_store"]["path"] = str(tmp_path / "vectors.sqlite")
        path.write_text(yaml.safe_dump(config))
        with rag_app.load(path) as app:
            app.ingest()
            rows = sorted((row.id, row.text, tuple(row.vector)) for row in app.store.scan())
            served = app.generations()
        before = dump(tmp_path / "index" / "small")
        assert before
        server.requests.clear()
        variants = expand(path, ["retriever=[dense, bm25, hybrid]", "splitter=[none, recursive]"])
        found = compare(variants, read_cases(tmp_path / "cases.jsonl"), metric="mrr@10")
        assert set(server.sent) <= {f"Ask {n} w{n % 6}{n % 4}3 w{n % 6}{n % 4}5" for n in range(8)}
        assert dump(tmp_path / "index" / "small") == before
        with rag_app.load(path) as app:
            assert sorted((row.id, row.text, tuple(row.vector)) for row in app.store.scan()) == rows
            assert app.generations() == served
    assert found.cached > 0
    made = {place.name for place in (tmp_path / "index").iterdir() if place.is_dir()}
    derived = {name_index(each.config) for each in variants}
    assert made == {"small", "evaluations", *derived}
    assert all(name.startswith("small-") and len(name) == len("small-") + 12 for name in derived)


def test_sources_that_change_between_two_configs_are_refused(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 6)
    cases = parse_cases(draw_cases(texts, 4, whole=True))
    variants = expand(make_config(tmp_path), ["splitter=[none, recursive]"])
    seen: list[str] = []

    def change(stage: str, done: int, total: int | None) -> None:
        if stage == variants[0].name and done == total and not seen:
            seen.append(stage)
            (tmp_path / "docs" / "new.txt").write_text("A new ant.")

    with pytest.raises(IndexStateError, match="sources changed"):
        compare(variants, cases, progress=change)
    assert seen
    assert len(compare(variants, cases).evaluations) == 2


def test_a_stage_that_is_turned_off_is_judged(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 8)
    cases = parse_cases(draw_cases(texts, 6, whole=True))
    model = make_cross_encoder(tmp_path / "model")
    reranker = {"kind": "cross_encoder", "model": str(model), "k": 3}
    config = make_config(tmp_path, retriever={"kind": "hybrid", "k": 5}, reranker=reranker)
    found = compare(expand(config), cases, ablate=True)
    assert {each.stage for each in found.ablations} == {"reranker", "words", "vectors"}
    by_name = {each.name: each for each in found.evaluations}
    for each in found.ablations:
        on, off = by_name[each.with_it], by_name[each.without]
        difference = on.metrics["ndcg@10"] - off.metrics["ndcg@10"]
        assert each.paired.difference == pytest.approx(difference)
        latency = on.latency_ms["total"]["p50"] - off.latency_ms["total"]["p50"]
        assert each.latency_ms == pytest.approx(latency)
        assert each.cost == 0.0
    with pytest.raises(UsageError, match="one config alone"):
        compare(expand(config), cases)


def test_evaluated_alone_or_compared_a_config_has_the_same_figures(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 10, sentences=8)
    cases = parse_cases(draw_cases(texts, 8, whole=False))
    splitter = {"kind": "recursive", "chunk_size": 16, "chunk_overlap": 4}
    space = make_config(tmp_path, splitter=splitter, retriever={"kind": ["dense", "hybrid"]})
    variants = expand(space)
    found = compare(variants, cases)
    for variant in variants:
        app = rag_app.app.RagApp(variant.config)
        with app:
            app.ingest()
            alone = app.evaluate(cases)
        compared = next(each for each in found.evaluations if each.name == variant.name)
        assert compared.metrics == pytest.approx(alone.metrics)
        assert compared.index["corpus"] == alone.index["corpus"]
