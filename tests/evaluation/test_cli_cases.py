"""`rag-app cases check` and `generate`: what they print, write and end with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag_app.evaluation.checking import find_nearest
from tests.evaluation.command import Run, make_run, write_cases, write_config
from tests.http_server import Request
from tests.openai_server import OpenAIServer

TEXT = "The deposit is two monthly rents.\nIt is paid back within six weeks after the keys are."


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "rental.md").write_text(TEXT)
    write_config(tmp_path / "rag-app.yaml")
    monkeypatch.setenv("SMALL_KEY", "k")
    made = make_run(tmp_path, monkeypatch, capsys)
    assert made("ingest").status == 0
    return made


def make_case(id: str, *evidence: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "question": f"{id}?", "evidence": list(evidence)}


def test_cases_that_stand_in_their_sources_are_sound(run: Run, tmp_path: Path) -> None:
    quote = "two monthly rents. It is paid back"  # a line break stands for the space
    cases = [
        make_case("quote", {"source": "rental.md", "quote": quote}),
        make_case("span", {"source": "rental.md", "start": 4, "end": 11}),
        make_case("whole", {"source": "rental.md"}),
        make_case("none"),
    ]
    write_cases(tmp_path / "cases.jsonl", cases)
    done = run("cases", "check", "--cases", "cases.jsonl")
    assert done.status == 0
    assert "3 of 3 pieces of evidence" in done.stdout
    assert "4 cases, 1 of them unanswerable" in done.stdout
    assert run("cases", "check", "--cases", "cases.jsonl", "--json").json["sound"] is True


def test_each_piece_that_does_not_is_named_with_its_line_and_what_is_near(
    run: Run, tmp_path: Path
) -> None:
    good = {"source": "rental.md", "quote": "The deposit"}
    cases = [
        make_case("changed", good, {"source": "rental.md", "quote": "Deposit is 2 monthly rents."}),
        make_case("renamed", {"source": "rentals.md"}),
        make_case("cut", {"source": "rental.md", "start": 4, "end": 4000}),
        make_case("elsewhere", {"source": "rental.md", "quote": "Dogs need a muzzle on trains."}),
    ]
    write_cases(tmp_path / "cases.jsonl", cases)
    done = run("cases", "check", "--cases", "cases.jsonl")
    assert done.status == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("cases.jsonl:1: changed, evidence 2: ")
    assert lines[1].strip() == "nearest: “deposit is two monthly rents”"
    assert lines[2].startswith("cases.jsonl:2: renamed, evidence 1: ")
    assert lines[3].strip() == "there is 'rental.md'"
    assert lines[4].startswith("cases.jsonl:3: cut, evidence 1: ")
    assert lines[5].startswith("cases.jsonl:4: elsewhere, evidence 1: ")
    assert lines[6].startswith("1 of 5 pieces of evidence")
    found = run("cases", "check", "--cases", "cases.jsonl", "--json").json
    assert found["sound"] is False
    assert [each["case"] for each in found["misplaced"]] == [
        *("changed", "renamed", "cut", "elsewhere")
    ]


def test_an_unreadable_case_names_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text('{"id": "a", "question": "b?", "evidence": []}\n{"id"\n')
    done = run("cases", "check", "--cases", "cases.jsonl")
    assert done.status == 2
    assert done.stderr.startswith("cases.jsonl:2: ")


def test_generate_writes_drafts_that_check_accepts_and_evaluate_counts(
    run: Run, tmp_path: Path
) -> None:
    def reply(request: Request) -> str:
        json.loads(request.messages[1][1])
        quote = "The deposit is two monthly rents."
        return json.dumps({"question": "What is left as security?", "answer": "2", "quote": quote})

    with OpenAIServer(reply) as server:
        model = {"kind": "openai", "model": "m", "api_key": "${SMALL_KEY}", "base_url": server.url}
        write_config(tmp_path / "rag-app.yaml", chat_model=model)
        args = ("cases", "generate", "--out", "drafts.jsonl")
        done = run(*args, "-n", "5")
    assert done.status == 0
    assert "drafts.jsonl: 1 cases, 1 of them drafted now" in done.stdout
    assert "there are no more passages to ask about" in done.stdout
    assert run("cases", "check", "--cases", "drafts.jsonl").status == 0
    measured = run("evaluate", "--cases", "drafts.jsonl", "--json").json
    assert "1 of 1 cases are drafts that nobody has confirmed" in measured["notes"]
    write_config(tmp_path / "rag-app.yaml")
    refused = run(*args)
    assert refused.status == 2
    assert refused.stderr.startswith("chat_model: the config names none")


@pytest.mark.parametrize(
    ("quote", "near"),
    [
        ("paid back in six weeks", "paid back within six weeks"),
        ("IT IS PAID", "It is paid"),
        ("rents It", "rents.\nIt".replace("\n", " ")),
        ("nothing like that here at all", ""),
        ("…", ""),
    ],
)
def test_the_nearest_passage_shares_most_words(quote: str, near: str) -> None:
    found = find_nearest(quote, TEXT)
    assert near in found if near else found == ""
    assert len(found.split()) <= len(quote.split()) + 1
