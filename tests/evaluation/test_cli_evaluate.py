"""`rag-app evaluate` and `rag-app compare`: what they print, write and end with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.command import Run, make_run, write_cases, write_config
from tests.openai_server import OpenAIServer

ANIMALS = "ant bee cat dog eel fox gnu hen ibis jay kiwi lynx".split()  # noqa: SIM905


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands in a folder with a document on each animal, a case each, and one on none."""
    (tmp_path / "docs").mkdir()
    cases: list[dict[str, Any]] = []
    for animal in ANIMALS:
        text = f"The {animal} lives in the garden.\n\nIt is fed at noon by the keeper of {animal}s."
        (tmp_path / "docs" / f"{animal}.md").write_text(text)
        quote = f"The {animal} lives in the garden."
        evidence = [{"source": f"{animal}.md", "quote": quote}]
        cases.append({"id": animal, "question": f"Where does the {animal} live?"})
        cases[-1].update(answer="In the garden.", evidence=evidence)
    cases.append({"id": "none", "question": "Who was the zebra's aunt?", "evidence": []})
    write_cases(tmp_path / "cases.jsonl", cases)
    write_config(tmp_path / "rag-app.yaml")
    monkeypatch.setenv("SMALL_KEY", "k")
    made = make_run(tmp_path, monkeypatch, capsys)
    assert made("ingest").status == 0
    return made


def test_the_json_has_what_is_documented_with_figures_known_beforehand(run: Run) -> None:
    found = run("evaluate", "--cases", "cases.jsonl", "--json").json
    assert set(found) == {
        *("name", "cases", "answerable", "metrics", "intervals", "stages", "latency_ms"),
        *("tokens", "cost", "index", "notes", "seconds"),
    }
    assert (found["cases"], found["answerable"]) == (13, 12)
    assert found["metrics"]["recall@1"] == found["metrics"]["ndcg@10"] == 1.0
    assert found["metrics"]["precision@5"] == pytest.approx(1 / 5)
    assert found["intervals"]["recall@1"] == [1.0, 1.0]
    assert found["stages"]["retriever"]["mrr@10"] == 1.0
    assert set(found["latency_ms"]["total"]) == {"p50", "p95", "mean"}
    assert found["index"]["documents"] == 12


def test_the_table_is_short_and_names_the_cutoffs(run: Run) -> None:
    done = run("evaluate", "--cases", "cases.jsonl", "--k", "2,7")
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("small: 13 cases, 12 with evidence; 12 documents, 12 chunks")
    assert lines[2].split()[:2] == ["@2", "@7"]
    assert any(line.split()[:3] == ["recall", "1.0000", "1.0000"] for line in lines)
    assert any(line.startswith("latency in ms, p50 / p95: ") for line in lines)
    assert len(lines) < 25
    assert run("evaluate", "--cases", "cases.jsonl", "--k", "0").status == 2


def test_a_floor_that_is_missed_ends_with_ten_after_the_result_is_out(
    run: Run, tmp_path: Path
) -> None:
    args = ("evaluate", "--cases", "cases.jsonl", "--save", "now.json")
    held = run(*args, "--fail-under", "ndcg@10=0.9")
    assert held.status == 0
    assert "ok: ndcg@10 1.0000, limit 0.9" in held.stdout
    (tmp_path / "now.json").unlink()
    missed = run(*args, "--fail-under", "ndcg@10=0.9", "--fail-under", "precision@10=0.5", "--json")
    assert missed.status == 10
    assert "precision@10 is 0.1000, the limit 0.5" in missed.stderr
    assert [each["broken"] for each in missed.json["floors"]] == [False, True]
    assert (tmp_path / "now.json").exists()
    unknown = run(*args, "--fail-under", "ndgc@10=0.9")
    assert unknown.status == 2
    assert "Did you mean 'ndcg@10'?" in unknown.stderr
    assert unknown.stdout == ""


def test_a_baseline_fails_when_search_is_worse_and_not_when_it_is_the_same(
    run: Run, tmp_path: Path
) -> None:
    args = ("evaluate", "--cases", "cases.jsonl")
    assert run(*args, "--save", "then.json").status == 0
    same = run(*args, "--baseline", "then.json")
    assert same.status == 0
    assert "nothing is worse" in same.stdout
    for animal in ANIMALS:  # the documents are found by other words now, and the quotes stand
        path = tmp_path / "docs" / f"{animal}.md"
        others = " ".join(f"Where does the {each} live?" for each in ANIMALS if each != animal)
        path.write_text(f"{others}\n\n" * 8 + path.read_text().partition("\n")[0])
    assert run("ingest").status == 0
    worse = run(*args, "--baseline", "then.json", "--save", "now.json", "--json")
    assert worse.status == 10
    by_metric = {each["metric"]: each for each in worse.json["baseline"]["changes"]}
    assert set(by_metric) == {"recall@10", "mrr@10", "ndcg@10"}
    assert by_metric["mrr@10"]["worse"]
    assert by_metric["mrr@10"]["adjusted"] < 0.05
    assert "mrr@10 is worse than in then.json" in worse.stderr
    assert json.loads((tmp_path / "now.json").read_text())["evaluation"]["name"] == "small"


def test_a_baseline_on_other_cases_or_one_that_would_be_lost_is_refused_before_measuring(
    run: Run, tmp_path: Path
) -> None:
    assert run("evaluate", "--cases", "cases.jsonl", "--save", "then.json").status == 0
    kept = (tmp_path / "then.json").read_bytes()
    filtered = ("evaluate", "--cases", "cases.jsonl", "--baseline", "then.json", "--filter")
    otherwise = run(*filtered, '{"source": "ant.md"}')
    assert otherwise.status == 2
    assert "measured in another way: filter none there" in otherwise.stderr
    more = (tmp_path / "cases.jsonl").read_text().splitlines()[:-1]
    (tmp_path / "fewer.jsonl").write_text("\n".join(more))
    other = run("evaluate", "--cases", "fewer.jsonl", "--baseline", "then.json")
    assert other.status == 2
    assert "measured on other cases (1 gone)" in other.stderr
    args = ("evaluate", "--cases", "cases.jsonl", "--baseline", "then.json")
    lost = run(*args, "--save", "./then.json")
    assert lost.status == 2
    assert (tmp_path / "then.json").read_bytes() == kept
    assert run(*args, "--metric", "map@10").status == 0
    assert "Did you mean" in run(*args, "--metric", "mapp@10").stderr
    assert run("evaluate", "--cases", "cases.jsonl", "--metric", "map@10").status == 2


def test_a_baseline_that_could_show_no_fall_is_refused_before_measuring(
    run: Run, tmp_path: Path
) -> None:
    lines = (tmp_path / "cases.jsonl").read_text().splitlines()[:6]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    args = ("evaluate", "--cases", "few.jsonl")
    assert run(*args, "--save", "then.json").status == 0
    done = run(*args, "--baseline", "then.json")
    assert done.status == 2
    assert done.stdout == ""
    assert "these 6 cases cannot show any fall in 3 metrics" in done.stderr
    assert run(*args, "--baseline", "then.json", "--metric", "ndcg@10").status == 0


def test_a_baseline_is_not_held_against_the_cases_that_are_left(run: Run, tmp_path: Path) -> None:
    args = ("evaluate", "--cases", "cases.jsonl")
    assert run(*args, "--save", "then.json").status == 0
    for animal in ANIMALS[:9]:
        (tmp_path / "docs" / f"{animal}.md").write_text("It has moved.")
    assert run("ingest").status == 0
    skipped = run(*args, "--baseline", "then.json", "--stale", "skip")
    assert skipped.status == 2
    assert "9 of its 13 cases are left out now: ant, bee, cat, dog, eel, …" in skipped.stderr
    missed = run(*args, "--baseline", "then.json", "--stale", "miss")
    assert missed.status == 10


def test_evidence_that_is_not_there_is_an_alarm_unless_told_otherwise(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "docs" / "ant.md").write_text("The ant has moved to the house of the keeper.")
    assert run("ingest").status == 0
    args = ("evaluate", "--cases", "cases.jsonl", "--json")
    alarm = run(*args)
    assert alarm.status == 2
    assert "ant: 'ant.md' does not hold the quote" in alarm.stderr
    assert "rag-app cases check" in alarm.stderr
    skipped = run(*args, "--stale", "skip").json
    assert (skipped["cases"], skipped["metrics"]["recall@1"]) == (12, 1.0)
    assert any("1 cases left out" in note for note in skipped["notes"])
    missed = run(*args, "--stale", "miss").json
    assert missed["metrics"]["recall@1"] == pytest.approx(11 / 12)


def test_an_index_that_is_empty_names_the_command_that_fills_it(run: Run, tmp_path: Path) -> None:
    write_config(tmp_path / "new.yaml", name="new")
    done = run("evaluate", "-c", "new.yaml", "--cases", "cases.jsonl")
    assert done.status == 1
    assert "Run: rag-app ingest" in done.stderr


def test_answers_are_measured_and_judged_by_the_model_of_another_config(
    run: Run, tmp_path: Path
) -> None:
    def judge(request: Any) -> str:
        if '"claims"' in request.messages[0][1]:
            return '{"claims": [{"claim": "It lives there.", "supported": true}]}'
        return '{"verdict": "right", "reason": "It is the same."}'

    with OpenAIServer(judge) as server:
        model = {"kind": "openai", "model": "m", "api_key": "${SMALL_KEY}", "base_url": server.url}
        write_config(tmp_path / "judge.yaml", chat_model=model)
        args = ("evaluate", "--cases", "cases.jsonl", "--answers", "--json")
        set_chain = ("--set", "chain=extractive")
        found = run(*args, *set_chain, "--judge", "judge.yaml").json
    assert found["metrics"]["correctness"] == found["metrics"]["faithfulness"] == 1.0
    assert found["tokens"]["judge_total_tokens"] > 0
    assert found["cost"] is None
    no_model = run(*args, "--judge", "rag-app.yaml")
    assert no_model.status == 2
    assert "rag-app.yaml names no chat_model" in no_model.stderr
    alone = run("evaluate", "--cases", "cases.jsonl", "--judge", "judge.yaml")
    assert alone.status == 2
    assert "Add --answers." in alone.stderr


def test_compare_orders_configs_and_calls_what_is_alike_not_distinguishable(
    run: Run, tmp_path: Path
) -> None:
    write_config(tmp_path / "dense.yaml", retriever="dense", embeddings="hashing")
    args = ("compare", "rag-app.yaml", "-c", "dense.yaml", "--cases", "cases.jsonl")
    found = run(*args, "--json", "--behaviour").json
    assert {each["name"] for each in found["configs"]} == {"rag-app", "dense"}
    means = [each["metrics"]["ndcg@10"] for each in found["configs"]]
    assert means == sorted(means, reverse=True)
    assert len(found["pairs"]) == 1
    assert found["pairs"][0]["verdict"]
    assert found["embedded"] == 12 + 13  # the chunks that both have, and the questions of one
    assert found["behaviour"][0]["before"] == "rag-app"
    lines = run(*args).stdout.splitlines()
    assert lines[0].split() == ["config", "ndcg@10", "95", "%", "p50", "ms"]
    assert any("not distinguishable" in line or "beats" in line for line in lines)


def test_compare_tries_the_values_of_a_list_and_refuses_what_it_cannot_measure(run: Run) -> None:
    args = ("compare", "--cases", "cases.jsonl", "--json")
    found = run(*args, "--set", "retriever.k=[2, 4]", "--metric", "map@10").json
    assert {each["settings"]["retriever.k"] for each in found["configs"]} == {2, 4}
    assert found["metric"] == "map@10"
    assert found["tied"] == [each["name"] for each in found["configs"]]
    one = run(*args)
    assert one.status == 2
    assert "one config alone cannot be compared" in one.stderr
    unknown = run(*args, "--set", "retriever.k=[2, 4]", "--metric", "mapp@10")
    assert unknown.status == 2
    assert "Did you mean 'map@10'?" in unknown.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["evaluate", "--save", "cases.jsonl"], ["--save", "--cases"]),
        (["evaluate", "--report", "./rag-app.yaml"], ["--report", "-c"]),
        (["evaluate", "--trec", "."], ["--trec", "--baseline"]),
        (["evaluate", "--save", "r", "--report", "docs/../r"], ["--report", "--save"]),
        (["evaluate", "--save", "run.txt", "--trec", "."], ["--trec", "--save"]),
        (["evaluate", "--answers", "--judge", "j.yaml", "--save", "j.yaml"], ["--save", "--judge"]),
        (["compare", "--report", "rag-app.yaml"], ["--report", "CONFIG"]),
        (["compare", "j.yaml", "rag-app.yaml", "--report", "j.yaml"], ["--report", "CONFIG"]),
        (["tune", "--out", "link.yaml"], ["--out", "-c"]),
        (["tune", "--out", "cases.jsonl"], ["--out", "--cases"]),
        (["why", "--report", "cases.jsonl"], ["--report", "--cases"]),
    ],
    ids=" ".join,
)
def test_what_is_read_is_not_written_over(
    args: list[str], words: list[str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "link.yaml").symlink_to("rag-app.yaml")
    write_config(tmp_path / "j.yaml")
    (tmp_path / "qrels.txt").write_text("{}")
    given = ["--baseline", "qrels.txt"] if "--baseline" in words else []
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = run(*args, *given, "--cases", "cases.jsonl")
    assert done.status == 2
    assert done.stderr.startswith(f"{words[0]}: ")
    assert f" {words[1]} " in done.stderr
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_a_file_of_a_data_set_is_not_written_over_and_a_new_one_beside_it_is(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    write_cases(folder / "corpus.jsonl", [{"_id": "ant.md", "text": "The ant."}])
    write_cases(folder / "queries.jsonl", [{"_id": "1", "text": "Where does the ant live?"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\tant.md\t1\n")
    before = (folder / "queries.jsonl").read_bytes()
    refused = run("evaluate", "--cases", "set", "--save", "set/queries.jsonl")
    assert refused.status == 2
    assert "--cases" in refused.stderr
    assert (folder / "queries.jsonl").read_bytes() == before
    for _ in range(2):
        assert run("evaluate", "--cases", "set", "--save", "set/now.json").status == 0
