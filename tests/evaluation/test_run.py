"""What evaluation says of a pipeline is what searching with that pipeline shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytrec_eval
import yaml
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda

import rag_app
from rag_app.app import RagApp
from rag_app.chat_models import scripted
from rag_app.chat_models._scripted import ScriptedChatModel
from rag_app.errors import BudgetError, UsageError
from rag_app.evaluation.cases import parse_cases
from rag_app.evaluation.journal import EvaluationJournal
from rag_app.evaluation.metrics import write_trec
from rag_app.evaluation.results import Evaluation
from rag_app.evaluation.run import Plan, evaluate
from rag_app.evaluation.storing import load_evaluation, save, write_line
from tests.evaluation.corpora import draw_cases, make_config, write_corpus
from tests.openai_server import OpenAIServer
from tests.tiny_models import make_cross_encoder

CHUNKED = {"kind": "recursive", "chunk_size": 12, "chunk_overlap": 4}
HYBRID = {"kind": "hybrid", "k": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 documents; chunked, each is about eight chunks."""
    made = tmp_path_factory.mktemp("small")
    write_corpus(made / "docs", 30, sentences=8)
    return made


@pytest.fixture(scope="module")
def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "docs").iterdir()}


def open_app(folder: Path, **sections: Any) -> RagApp:
    """The app, filled; its index is kept in memory."""
    store = {"kind": "memory", "path": None}
    app = rag_app.load(make_config(folder, **{"vector_store": store, **sections}))
    app.ingest()
    return app


def list_runs(
    app: RagApp, cases: list[Any], k: int, filter: Any = None
) -> dict[str, dict[str, float]]:
    """Each question's documents, each at its first chunk, as trec_eval takes them."""
    runs = {}
    for case in cases:
        hits = app.search(case["question"], k=k, filter=filter).hits
        documents = dict.fromkeys(hit.source for hit in hits)
        runs[case["id"]] = {source: float(-rank) for rank, source in enumerate(documents)}
    return runs


def judge_by_trec(cases: list[Any], runs: dict[str, dict[str, float]]) -> dict[str, Any]:
    judged = {
        case["id"]: {each["source"]: each["relevance"] for each in case["evidence"]}
        for case in cases
    }
    measures = {"recall.3,10", "P.3,10", "ndcg_cut.3,10", "map_cut.3,10", "success.3,10"}
    found: dict[str, Any] = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(runs)
    return found


NAMES = {
    "recall": "recall",
    "precision": "P",
    "ndcg": "ndcg_cut",
    "map": "map_cut",
    "hit_rate": "success",
}


@pytest.mark.parametrize("splitter", ["none", CHUNKED], ids=["whole", "chunked"])
@pytest.mark.parametrize("retriever", ["dense", "bm25"])
def test_whole_documents_are_measured_as_trec_eval_measures_a_search_of_all_chunks(
    folder: Path, texts: dict[str, str], splitter: Any, retriever: str
) -> None:
    cases = draw_cases(texts, 25, whole=True)
    with open_app(folder, splitter=splitter, retriever={"kind": retriever, "k": 2}) as app:
        found = app.evaluate(cases, ks=(3, 10))
        expected = judge_by_trec(cases, list_runs(app, cases, 10_000))
        chunks = found.index["chunks"]
    assert found.index["documents"] == 30
    assert chunks == 30 or chunks > 150
    for result in found.results:
        for ours, theirs in NAMES.items():
            for k in (3, 10):
                value = result.metrics[f"{ours}@{k}"]
                assert value == pytest.approx(expected[result.case.id][f"{theirs}_{k}"], abs=1e-6)
    for name, mean in found.metrics.items():
        values = [result.metrics[name] for result in found.results]
        assert mean == pytest.approx(sum(values) / len(values))
        low, high = found.intervals[name]
        assert low <= mean <= high


@pytest.mark.parametrize(
    "retriever",
    [
        {**HYBRID, "fetch_k": 100},
        {**HYBRID, "fetch_k": 4},
        {**HYBRID, "fetch_k": 6, "weights": {"dense": 1, "bm25": 3}},
        {"kind": "dense", "k": 4, "mmr_lambda": 0.5, "fetch_k": 5},
        {"kind": "dense", "k": 4, "min_similarity": 0.2},
        {"kind": "bm25", "k": 12},
    ],
    ids=["hybrid", "narrow", "weighted", "mmr", "similar", "deep"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "spans"])
def test_the_ranking_begins_with_what_the_pipeline_itself_returns(
    folder: Path, texts: dict[str, str], retriever: dict[str, Any], whole: bool
) -> None:
    cases = draw_cases(texts, 8, whole=whole)
    with open_app(folder, splitter=CHUNKED, retriever=retriever) as app:
        found = app.evaluate(cases, ks=(1, 10))
        for result in found.results:
            served = [hit.id for hit in app.search(result.case.question).hits]
            ranked = [each.hit.id for each in result.ranking]
            assert ranked[: len(served)] == served
            assert len(ranked) == len(set(ranked))


def test_the_ranking_begins_with_what_an_approximate_search_returns(tmp_path: Path) -> None:
    """Asked for more, HNSW walks further and finds better ones."""
    texts = write_corpus(tmp_path / "docs", 60, sentences=40)
    cases = draw_cases(texts, 25, whole=True)
    store = {"kind": "faiss", "path": str(tmp_path / "f"), "index": "hnsw", "m": 4, "ef_search": 4}
    with open_app(tmp_path, vector_store=store, splitter=CHUNKED) as app:
        found = app.evaluate(cases, ks=(4, 100))
        changed = 0
        for result in found.results:
            served = [hit.id for hit in app.search(result.case.question).hits]
            deeper = [hit.id for hit in app.search(result.case.question, k=100).hits]
            ranked = [each.hit.id for each in result.ranking]
            assert ranked[: len(served)] == served
            assert set(deeper) <= set(ranked)
            assert len(ranked) == len(set(ranked))
            changed += deeper[: len(served)] != served
    assert changed


def test_the_ranking_begins_with_what_the_pipeline_chooses_among_equals(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(40):
        (tmp_path / "docs" / f"d{number:02}.txt").write_text(f"ant bee cat {'dog ' * (number % 3)}")
    case = {"id": "a", "question": "ant bee cat", "evidence": [{"source": "d39.txt"}]}
    with open_app(tmp_path) as app:
        (result,) = app.evaluate([case], ks=(1, 30)).results
        served = [hit.id for hit in app.search("ant bee cat").hits]
    assert [each.hit.id for each in result.ranking][:4] == served


def test_a_ranking_of_documents_goes_on_below_what_the_pipeline_returns(
    folder: Path, texts: dict[str, str]
) -> None:
    cases = draw_cases(texts, 5, whole=True)
    narrow = {"kind": "hybrid", "k": 2, "fetch_k": 2}
    with open_app(folder, splitter=CHUNKED, retriever=narrow) as app:
        found = app.evaluate(cases, ks=(10,))
    for result in found.results:
        assert len({each.hit.source for each in result.ranking}) >= 10


def measure_by_hand(
    hits: list[Any], case: Any, texts: Mapping[str, str], k: int
) -> dict[str, float]:
    """Metrics of spans from sets of characters."""
    wanted = []
    for each in case["evidence"]:
        start = texts[each["source"]].find(each["quote"])
        wanted.append({(each["source"], at) for at in range(start, start + len(each["quote"]))})
    shown = [{(hit.source, at) for at in range(hit.start, hit.end)} for hit in hits[:k]]
    first = [rank for rank, unit in enumerate(shown, 1) if any(unit & held for held in wanted)]
    union, gold = set().union(*shown), set().union(*wanted)
    returned = sum(map(len, shown))
    return {
        "recall": sum(any(unit & held for unit in shown) for held in wanted) / len(wanted),
        "precision": len(first) / k,
        "hit_rate": float(bool(first)),
        "mrr": 1 / first[0] if first else 0.0,
        "char_recall": len(union & gold) / len(gold),
        "char_precision": len(union & gold) / returned,
        "char_iou": len(union & gold) / (returned + len(gold - union)),
    }


@pytest.mark.parametrize("retriever", [{"kind": "dense", "k": 4}, HYBRID], ids=["dense", "hybrid"])
def test_spans_are_measured_as_sets_of_characters_tell(
    folder: Path, texts: dict[str, str], retriever: dict[str, Any]
) -> None:
    cases = draw_cases(texts, 25, whole=False)
    once = [
        case
        for case in cases
        if all(texts[each["source"]].count(each["quote"]) == 1 for each in case["evidence"])
    ]
    assert len(once) > 15
    with open_app(folder, splitter=CHUNKED, retriever=retriever) as app:
        found = app.evaluate(once, ks=(1, 5))
        for case, result in zip(once, found.results, strict=True):
            hits = list(app.search(case["question"], k=5).hits)
            for k in (1, 5):
                for name, value in measure_by_hand(hits, case, texts, k).items():
                    assert result.metrics[f"{name}@{k}"] == pytest.approx(value), name


# -- stages ---------------------------------------------------------------------------------------


def test_the_reranker_is_a_stage_of_its_own(
    folder: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    model = make_cross_encoder(tmp_path / "model")
    cases = draw_cases(texts, 12, whole=True)
    reranker = {"kind": "cross_encoder", "model": str(model), "k": 3}
    sections: dict[str, Any] = {"retriever": {"kind": "bm25", "k": 6}, "reranker": reranker}
    with open_app(folder, **sections) as app:
        found = app.evaluate(cases, ks=(3, 5))
        first = app.retriever.retriever  # type: ignore[attr-defined]
        for result in found.results:
            served = [hit.id for hit in app.search(result.case.question).hits]
            before = [each.id for each in first.invoke(result.case.question)]
            reranked = [each.hit.id for each in result.rankings["reranker"]]
            assert reranked[:3] == served
            assert len(reranked) == min(5, len(before))
            assert set(reranked) <= set(before)
            retrieved = [each.hit.id for each in result.rankings["retriever"]]
            assert retrieved[: len(before)] == before
            assert result.metrics == result.stages["reranker"]
            assert result.ranking == result.rankings["reranker"]
        runs = list_runs(app, cases, 5)
    assert any(r.stages["retriever"] != r.stages["reranker"] for r in found.results)
    assert list(found.stages) == ["retriever", "reranker"]
    assert found.metrics == found.stages["reranker"]
    assert {"rerank", "total"} <= set(found.latency_ms)
    expected = judge_by_trec(cases, runs)
    for result in found.results:
        assert result.metrics["ndcg@3"] == pytest.approx(expected[result.case.id]["ndcg_cut_3"])


class Reversed(BaseDocumentCompressor):
    """Turns the order round, and keeps all."""

    def compress_documents(
        self, documents: Any, query: str, callbacks: Any = None
    ) -> list[Document]:
        return list(documents)[::-1]


def test_a_reranker_that_is_not_ours_is_measured_too(
    folder: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    model = {"kind": "cross_encoder", "model": str(make_cross_encoder(tmp_path / "m"))}
    sections: dict[str, Any] = {"retriever": {"kind": "bm25", "k": 4}, "reranker": model}
    with open_app(folder, **sections) as app:
        app.borrow("reranker", Reversed())
        for result in app.evaluate(draw_cases(texts, 5, whole=True), ks=(10,)).results:
            before = [each.hit.id for each in result.rankings["retriever"]][:4]
            assert [each.hit.id for each in result.ranking] == before[::-1]


def test_a_cases_own_filter_and_the_given_one_both_apply(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 12)
    cases = draw_cases(texts, 6, whole=True)
    for case in cases:
        case["filter"] = {"source": {"$ne": case["evidence"][0]["source"]}}
    given = {"source": {"$in": sorted(texts)[:8]}}
    with open_app(tmp_path) as app:
        found = app.evaluate(cases, ks=(10,), filter=given)
        alone = app.evaluate(cases, ks=(20,))
    for result, wide in zip(found.results, alone.results, strict=True):
        left_out = result.case.evidence[0].source
        assert {each.hit.source for each in result.ranking} == set(sorted(texts)[:8]) - {left_out}
        assert {each.hit.source for each in wide.ranking} == set(texts) - {left_out}


def test_no_k_or_one_that_no_search_reaches_is_refused_before_measuring(folder: Path) -> None:
    cases = [{"id": "a", "question": "ant", "evidence": []}]
    with open_app(folder) as app:
        for ks in ((), (0, 5), (-1,), (10_001,), (2.5,), (True,)):
            with pytest.raises(UsageError, match="ks"):
                app.evaluate(cases, ks=ks)  # type: ignore[arg-type]


def test_without_a_case_left_there_is_no_result(folder: Path) -> None:
    gone = [{"id": id, "question": "ant?", "evidence": [{"source": "gone.txt"}]} for id in "ab"]
    none = {"id": "n", "question": "zz?", "evidence": []}
    with open_app(folder) as app:
        with pytest.raises(UsageError, match="no case is left: the evidence of all 2 "):
            app.evaluate(gone, stale="skip")
        assert len(app.evaluate([*gone, none], stale="skip").results) == 1


# -- answers --------------------------------------------------------------------------------------


def test_answers_of_the_extractive_chain_are_measured(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 12)
    cases = draw_cases(texts, 6, whole=False)
    cases.append({"id": "none", "question": "xylophone quartz", "evidence": []})
    sections = {"chain": "extractive", "retriever": {"kind": "bm25", "k": 4}}
    with open_app(tmp_path, **sections) as app:
        found = app.evaluate(cases, answers=True)
        for result in found.results:
            asked = app.ask(result.case.question)
            assert result.answer is not None
            assert (result.answer.answer, result.answer.citations) == (
                asked.answer,
                asked.citations,
            )
    *_, none = found.results
    assert none.answer is not None
    assert none.answer.abstained
    assert "ndcg@10" not in none.metrics
    assert found.answerable == 6
    assert found.metrics["false_answer_rate"] == 0.0
    assert set(found.scores("false_answer_rate")) == {"none"}
    assert set(found.scores("answer_rate")) == {f"q{n}" for n in range(6)}
    assert found.tokens == {}
    assert found.cost == 0.0


def test_an_answer_kept_back_is_wrong_to_the_judge(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 6)
    cases = [{**each, "answer": "ant"} for each in draw_cases(texts, 4, whole=True)]
    replies = ["The ant [1].", *["The documents do not answer this question."] * 3]
    chat = {"kind": "scripted", "responses": replies}
    judging = ['{"claims": []}', '{"verdict": "right"}']
    judge = scripted.build(scripted.Config(responses=judging))
    with open_app(tmp_path, chain="qa", chat_model=chat) as app:
        found = app.evaluate(cases, answers=True, judge=judge)
    assert list(found.scores("correctness").values()) == [1.0, 0.0, 0.0, 0.0]
    assert found.metrics["correctness"] == 0.25


def test_a_chain_that_searches_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_corpus(tmp_path / "docs", 6)
    cases = draw_cases(texts, 2, whole=True)

    def build_with(questions: int) -> Any:
        def build(kind: str, options: Any, parts: Mapping[str, Any]) -> Any:
            retriever = parts["retriever"]()

            def answer(given: Mapping[str, Any]) -> dict[str, Any]:
                found = [retriever.invoke(given["question"]) for _ in range(questions)]
                return {"answer": "An ant.", "citations": (), "context": sum(found, [])}

            return RunnableLambda(answer)

        return build

    with open_app(tmp_path, chain="extractive") as app:
        alone = app.evaluate(cases)
        monkeypatch.setattr("rag_app.registry.build_chain", build_with(1))
        assert app.evaluate(cases, answers=True).metrics.items() >= alone.metrics.items()
        for count, wrong in ((2, "searches 2 times"), (0, "without a search")):
            monkeypatch.setattr("rag_app.registry.build_chain", build_with(count))
            with pytest.raises(UsageError, match=wrong):
                app.evaluate(cases, answers=True)


def test_tokens_and_cost_are_what_the_server_counted(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 12)
    cases = draw_cases(texts, 5, whole=True)
    with OpenAIServer("The ant sleeps [1].") as server:
        key = {"api_key": "k", "base_url": server.url}
        chat = {"kind": "openai", "model": "m", "price": {"input": 2, "output": 8}, **key}
        embeddings = {"kind": "openai", "model": "text-embedding-3-small", "price": 5, **key}
        with open_app(tmp_path, chain="qa", chat_model=chat, embeddings=embeddings) as app:
            server.requests.clear()
            found = app.evaluate(cases, answers=True)
        asked = [r for r in server.requests if r.path.endswith("/chat/completions")]
        questions = [r for r in server.requests if r.path.endswith("/embeddings")]
    read = sum(len(text.split()) for r in asked for _, text in r.messages)
    written = 4 * len(asked)
    assert len(asked) == 5
    assert found.tokens == {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
    }
    sent = [text for r in questions for text in list_inputs(r)]
    assert sorted(sent) == sorted(case["question"] for case in cases)
    embedded = sum(len(text.split()) for text in sent)
    assert found.cost == pytest.approx((2 * read + 8 * written + 5 * embedded) / 1e6)


def list_inputs(request: Any) -> list[str]:
    given = request.body["input"]
    return [given] if isinstance(given, str) else list(given)


def test_without_a_price_the_cost_is_not_known(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 4)
    cases = draw_cases(texts, 2, whole=True)
    with OpenAIServer("It sleeps [1].") as server:
        chat = {"kind": "openai", "model": "m", "api_key": "k", "base_url": server.url}
        with open_app(tmp_path, chain="qa", chat_model=chat) as app:
            assert app.evaluate(cases).cost == 0.0
            assert app.evaluate(cases, answers=True).cost is None
            plan = Plan(answers=True, max_cost=1.0)
            with pytest.raises(UsageError, match="not known"):
                evaluate(app, parse_cases(cases), plan)


def test_a_reranker_that_asks_the_chat_model_is_paid_for(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 6)
    cases = draw_cases(texts, 3, whole=True)
    with OpenAIServer("[2] > [1] > [3]") as server:
        chat = {"kind": "openai", "model": "m", "price": {"input": 2, "output": 8}}
        chat |= {"api_key": "k", "base_url": server.url}
        sections = {"reranker": {"kind": "llm", "k": 3}, "retriever": {"kind": "dense", "k": 3}}
        with open_app(tmp_path, chat_model=chat, **sections) as app:
            found = app.evaluate(cases)
        read = sum(len(text.split()) for r in server.requests for _, text in r.messages)
    assert len(server.requests) == 3
    assert found.tokens == {
        "input_tokens": read,
        "output_tokens": 15,
        "total_tokens": read + 15,
    }
    assert found.cost == pytest.approx((2 * read + 8 * 15) / 1e6)


# -- going on, and stopping -----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", "k")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as made:
        yield made


def write_project(folder: Path, server: OpenAIServer, count: int = 24) -> tuple[Path, list[Any]]:
    """A config whose questions are embedded by the server, its cases, and its index."""
    texts = write_corpus(folder / "docs", 10)
    cases = draw_cases(texts, count, whole=False)
    for number, case in enumerate(cases):
        case["question"] += f" question {number}"
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    embeddings = {"kind": "openai", "model": "text-embedding-3-small", "dimensions": 64}
    embeddings |= {"price": 1000, "api_key": "${SMALL_KEY}", "base_url": server.url}
    config = make_config(folder, embeddings=embeddings)
    path = folder / "rag-app.yaml"
    path.write_text(yaml.safe_dump(config))
    with rag_app.load(path) as app:
        app.ingest()
    server.requests.clear()
    return path, cases


def command(*args: str) -> list[str]:
    return [str(Path(sys.executable).with_name("rag-app")), *args]


def questions_sent(server: OpenAIServer) -> list[str]:
    sent = [text for request in server.requests for text in list_inputs(request)]
    return [text for text in sent if " question " in text]


class Slow(OpenAIServer):
    """Waits before each question from the eighth on until `go` is set."""

    go = threading.Event()

    def embed(self, request: Any) -> Any:
        if len(questions_sent(self)) > 8:
            self.go.wait(60)
        return super().embed(request)

    routes = {**OpenAIServer.routes, "POST /v1/embeddings": embed}  # noqa: RUF012


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with Slow() as server:
        Slow.go.set()
        path, cases = write_project(tmp_path, server)
        Slow.go.clear()
        asked = command("evaluate", "-c", str(path), "--cases", str(tmp_path / "cases.jsonl"))
        with subprocess.Popen(asked, stderr=subprocess.DEVNULL) as running:
            until = time.monotonic() + 60
            while len(questions_sent(server)) < 9 and time.monotonic() < until:
                time.sleep(0.01)
            running.send_signal(signal.SIGKILL)
        assert running.returncode == -signal.SIGKILL
        Slow.go.set()
        first = questions_sent(server)
        assert first == [case["question"] for case in cases[:9]]
        (journal,) = (tmp_path / "index" / "evaluations").iterdir()
        with journal.open("ab") as file:
            file.write(journal.read_bytes()[:100])  # as if killed while it wrote a line
        server.requests.clear()
        done = subprocess.run(
            [*asked, "--save", str(tmp_path / "e.json")], capture_output=True, check=True
        )
        assert questions_sent(server) == [case["question"] for case in cases[8:]]
        assert b"8 cases were measured before" in done.stdout
        assert list((tmp_path / "index" / "evaluations").iterdir()) == []
        server.requests.clear()
        with rag_app.load(path) as app:
            anew = app.evaluate(tmp_path / "cases.jsonl")
        assert len(questions_sent(server)) == 24
    resumed = load_evaluation(tmp_path / "e.json")
    assert resumed.metrics == anew.metrics
    assert [r.rankings for r in resumed.results] == [r.rankings for r in anew.results]
    assert resumed.cost == pytest.approx(anew.cost)
    assert "cost" not in " ".join(anew.notes)


def stop_after(count: int) -> Any:
    """Progress that ends an evaluation once that many cases are measured."""

    def progress(_: str, done: int, __: int | None) -> None:
        if done == count:
            raise KeyboardInterrupt

    return progress


def interrupt(app: RagApp, cases: Path, count: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        app.evaluate(cases, progress=stop_after(count))


def test_what_was_measured_counts_only_for_exactly_this(
    tmp_path: Path, server: OpenAIServer
) -> None:
    path, cases = write_project(tmp_path, server, 6)
    file = tmp_path / "cases.jsonl"

    def evaluate_now(**given: Any) -> int:
        """How many questions a new process sends."""
        server.requests.clear()
        with rag_app.load(path, given.pop("overrides", {})) as app:
            app.evaluate(file, **given)
        return len(questions_sent(server))

    with rag_app.load(path) as app:
        interrupt(app, file, 4)
    assert evaluate_now(ks=(1, 2)) == 6
    assert evaluate_now(filter={"source": {"$ne": "x"}}) == 6
    assert evaluate_now(stale="miss") == 6
    assert evaluate_now(overrides={"retriever.k": 3}) == 6
    assert evaluate_now(resume=False) == 6
    with rag_app.load(path) as app:
        interrupt(app, file, 4)
    assert evaluate_now() == 2
    with rag_app.load(path) as app:
        interrupt(app, file, 4)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0].replace("question 0", "question 7"), *lines[1:]]))
    assert evaluate_now() == 6
    file.write_text("\n".join(lines))
    (tmp_path / "docs" / "new.txt").write_text("A new ant.")
    with rag_app.load(path) as app:
        app.ingest()
    assert evaluate_now() == 6


def test_a_journal_takes_up_what_is_whole(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 4)
    with open_app(tmp_path) as app:
        results = app.evaluate(draw_cases(texts, 3, whole=False)).results
    path = tmp_path / "deep" / "journal.jsonl"
    for result in results:
        journal = EvaluationJournal(path)
        journal.add(result)
        journal.close()
    first, *others = path.parent.iterdir()
    whole = b"".join(write_line(result) for result in results)
    for each in others:
        each.unlink()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (*range(0, len(whole), 97), *ends, *(end - 1 for end in ends)):
        first.write_bytes(whole[:cut])
        journal = EvaluationJournal(path)
        assert list(journal.results.values()) == list(results[: sum(e <= cut for e in ends)])
        journal.close()
        assert list(path.parent.iterdir()) == [first]
    damaged = bytearray(whole)
    damaged[ends[0] + 20 : ends[0] + 60] = b"\xff" * 40
    first.write_bytes(damaged)
    journal = EvaluationJournal(path)
    assert list(journal.results.values()) == [results[0], results[2]]
    journal.close()
    with pytest.raises(UsageError, match="cannot be written"):
        EvaluationJournal(first / "below" / "a file")


def test_who_measures_the_same_at_once_writes_in_nobodys_lines(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "docs", 4)
    with open_app(tmp_path) as app:
        results = app.evaluate(draw_cases(texts, 4, whole=False)).results
    path = tmp_path / "deep" / "journal.jsonl"
    one = EvaluationJournal(path)
    one.add(results[0])
    one.add(results[2])
    line = write_line(results[1])
    (writing,) = path.parent.iterdir()
    with writing.open("ab") as half:
        half.write(line[:50])
        half.flush()
        other = EvaluationJournal(path)
        assert list(other.results.values()) == [results[0], results[2]]
        half.write(line[50:])
    other.add(results[3])
    one.close()
    other.close()
    third = EvaluationJournal(path)
    assert third.results == {result.case.id: result for result in results}
    third.remove()
    assert list(path.parent.iterdir()) == []


def test_what_is_measured_anew_is_not_mixed_with_what_was_before(tmp_path: Path) -> None:
    """Without `resume`, not even an interruption brings back what an earlier one measured."""
    cases, given = write_answers(tmp_path)
    with rag_app.load(given) as app:
        app.ingest()
    stop_answering(given, cases, 4, "old")
    stop_answering(given, cases, 2, "new", resume=False)
    assert read_answers(given, cases, "newer") == ["new", "new", *["newer"] * 4]


def write_answers(folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """Six cases and a config whose answers a test chooses."""
    texts = write_corpus(folder / "docs", 6)
    chat = {"chat_model": "scripted", "chain": "qa", "retriever": {"kind": "bm25", "k": 3}}
    return draw_cases(texts, 6, whole=True), make_config(folder, **chat)


def stop_answering(
    config: dict[str, Any], cases: list[Any], count: int, reply: str, **given: Any
) -> None:
    """Ask so many cases of a model that replies so, and end as if interrupted."""
    with rag_app.load(config) as app:
        app.borrow("chat_model", ScriptedChatModel(responses=[reply]))
        with pytest.raises(KeyboardInterrupt):
            app.evaluate(cases, answers=True, progress=stop_after(count), **given)


def read_answers(config: dict[str, Any], cases: list[Any], reply: str, **given: Any) -> list[str]:
    with rag_app.load(config) as app:
        app.borrow("chat_model", ScriptedChatModel(responses=[reply]))
        found = app.evaluate(cases, answers=True, **given)
    return [each.answer.answer for each in found.results if each.answer is not None]


def test_what_was_measured_counts_only_for_the_same_variables_and_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, config = write_answers(tmp_path)
    config["chat_model"] = {"kind": "scripted", "responses": ["${REPLY}"]}
    right, wrong = (
        ScriptedChatModel(responses=['{"claims":[]}', f'{{"verdict":"{word}"}}'])
        for word in ("right", "wrong")
    )
    monkeypatch.setenv("REPLY", "one")
    with rag_app.load(config) as app:
        app.ingest()
        with pytest.raises(KeyboardInterrupt):
            app.evaluate(cases, answers=True, judge=right, progress=stop_after(4))
        assert app.evaluate(cases, answers=True, judge=wrong).notes == ()
    monkeypatch.setenv("REPLY", "other")
    with rag_app.load(config) as app:
        found = app.evaluate(cases, answers=True, judge=right)
    assert found.notes == ()
    monkeypatch.setenv("REPLY", "one")
    with rag_app.load(config) as app:
        same = app.evaluate(cases, answers=True, judge=right)
    assert "4 cases were measured before an interruption" in same.notes


def test_two_at_once_both_measure_all(tmp_path: Path, server: OpenAIServer) -> None:
    path, _ = write_project(tmp_path, server, 10)
    asked = command("evaluate", "-c", str(path), "--cases", str(tmp_path / "cases.jsonl"), "--json")
    running = [subprocess.Popen(asked, stdout=subprocess.PIPE) for _ in range(2)]
    done = [json.loads(each.communicate(timeout=100)[0]) for each in running]
    assert [each["cases"] for each in done] == [10, 10]
    assert done[0]["metrics"] == done[1]["metrics"]
    assert list((tmp_path / "index" / "evaluations").iterdir()) == []


def test_a_budget_stops_and_what_was_measured_is_kept(tmp_path: Path, server: OpenAIServer) -> None:
    path, cases = write_project(tmp_path, server, 8)
    each = [len(case["question"].split()) * 1000 / 1e6 for case in cases]
    chosen = rag_app.evaluation.cases.read_cases(tmp_path / "cases.jsonl")
    with rag_app.load(path) as app:
        app.search("ant")  # which asks the service whether it is still the same model
        with pytest.raises(BudgetError, match="max_cost"):
            evaluate(app, chosen, Plan(max_cost=sum(each[:4]) + 1e-9))
        assert len(questions_sent(server)) == 5
        server.requests.clear()
        found = evaluate(app, chosen, Plan(max_cost=sum(each[5:]) + 1e-9))
        assert len(questions_sent(server)) == 3
    assert found.cost == pytest.approx(sum(each))


# -- written, and read again ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("saved")
    texts = write_corpus(folder / "docs", 10)
    cases = [*draw_cases(texts, 4, whole=True), {"id": "n", "question": "zz", "evidence": []}]
    cases[0]["filter"] = {"source": {"$ne": "d01.txt"}}
    sections = {"chain": "extractive", "retriever": HYBRID}
    with open_app(folder, **sections) as app:
        return app.evaluate(cases, answers=True)


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path, evaluation: Evaluation) -> None:
    save(evaluation, tmp_path / "e.json")
    read = load_evaluation(tmp_path / "e.json")
    assert read.results == evaluation.results
    assert replace(read, config={}) == replace(evaluation, config={})
    assert read.config == json.loads(json.dumps(evaluation.config))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"rag_app_evaluation": 1}',
        b'{"rag_app_evaluation": 1, "evaluation": {}}',
        b'{"rag_app_evaluation": 2, "evaluation": {}}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_saved_evaluation_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e.json").write_bytes(content)
    with pytest.raises(UsageError, match="it is no saved evaluation"):
        load_evaluation(tmp_path / "e.json")
    with pytest.raises(UsageError, match="cannot be read"):
        load_evaluation(tmp_path / "none.json")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, evaluation: Evaluation) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        save(evaluation, tmp_path / "no" / "e.json")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_for_trec_eval_gives_the_same_figures(
    tmp_path: Path, folder: Path, texts: dict[str, str]
) -> None:
    cases = draw_cases(texts, 20, whole=True)
    with open_app(folder, splitter=CHUNKED, retriever=HYBRID) as app:
        found = app.evaluate(cases, ks=(3, 10))
    expected = judge_by_trec(cases, read_trec_run(write_trec(found, tmp_path)[0]))
    for ours, theirs in NAMES.items():
        for k in (3, 10):
            mean = sum(each[f"{theirs}_{k}"] for each in expected.values()) / len(cases)
            assert found.metrics[f"{ours}@{k}"] == pytest.approx(mean, abs=1e-6)


def read_trec_run(path: Path) -> dict[str, dict[str, float]]:
    runs: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        question, _, document, _, score, _ = line.split(" ")
        runs.setdefault(question, {})[document] = float(score)
    return runs


def test_a_filter_that_excludes_the_evidence_is_told(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "fee.md").write_text("The fee is ten euros.\n")
    config = {
        "name": "filtered",
        "sources": [{"kind": "files", "path": str(tmp_path / "docs")}],
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": None},
        "index": {"path": str(tmp_path / "index")},
        "chain": "extractive",
    }
    evidence = [{"source": "fee.md", "quote": "ten euros"}]
    cases = [
        {"id": "a", "question": "The fee?", "evidence": evidence, "filter": {"sorce": "fee.md"}},
        {"id": "b", "question": "The fee?", "evidence": evidence, "filter": {"source": "fee.md"}},
        {"id": "c", "question": "The fee?", "evidence": evidence},
    ]
    with rag_app.load(config) as app:
        app.ingest()
        found = app.evaluate(cases)
        assert [note for note in found.notes if "excludes all evidence of 1 cases" in note]
        assert found.notes[-1].endswith(": a")
        assert not app.evaluate(cases[1:]).notes
        whole = app.evaluate(cases[2:], filter={"source": "other.md"})
        assert whole.notes[-1].endswith(": c")
        assert whole.metrics["recall@10"] == 0
