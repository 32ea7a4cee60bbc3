"""The command line as a user meets it: real processes, their output and exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rag_app.cli import COMMANDS

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TOOL = str(Path(sys.executable).parent / "rag-app")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `rag-app` in an empty folder; text in, text out."""

    def call(*args: str, stdin: str = "", cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TOOL, *args], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=120
        )

    return call


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder made by `init` and ingested, as the README's first steps do."""
    folder = tmp_path_factory.mktemp("handbook")
    for args in (["init"], ["ingest"]):
        subprocess.run([TOOL, *args], cwd=folder, check=True, capture_output=True)
    return folder


def test_help_names_every_command_and_imports_no_backend(run: Run) -> None:
    shown = run("--help").stdout
    assert all(command in shown for command in COMMANDS)
    listing = (
        "import sys; from rag_app.cli import main\n"
        "sys.argv = ['rag-app', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*[m for m in sys.modules if m.partition('.')[0] in "
        "{'langchain_core', 'numpy', 'pydantic', 'onnxruntime', 'chromadb', 'rich', 'yaml'}])"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True)
    assert done.stdout.split("\n")[-3:] == ["  Start with: rag-app demo", "", ""]


def test_importing_the_package_imports_no_langchain() -> None:
    code = "import rag_app, sys; print('langchain_core' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert len(done.stdout.splitlines()) > 4


def test_init_writes_a_pipeline_that_works_and_overwrites_nothing(run: Run, tmp_path: Path) -> None:
    first = run("init")
    assert first.returncode == 0
    written = set(first.stdout.split())
    assert {"rag-app.yaml", ".env.example", "cases.jsonl", "docs/vacation.md"} <= written
    (tmp_path / "rag-app.yaml").write_text("mine")
    again = run("init")
    assert again.returncode == 2
    assert "already exist" in again.stderr
    assert (tmp_path / "rag-app.yaml").read_text() == "mine"


def test_check_proves_each_part(run: Run, handbook: Path) -> None:
    done = run("check", "--json", cwd=handbook)
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    parts = [check["part"].split()[0] for check in checks]
    assert parts == ["sources[0]", "splitter", "embeddings", "vector_store", "retriever", "chain"]
    assert all(check["ok"] and check["detail"] for check in checks)


def test_check_names_what_fails_and_the_way_out(run: Run, handbook: Path) -> None:
    done = run("check", "--set", "sources[0].path=nowhere", cwd=handbook)
    assert done.returncode == 1
    assert "FAILED  sources[0]" in done.stdout
    assert "nowhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_ingest_prints_one_documented_shape(run: Run, handbook: Path) -> None:
    done = run("ingest", "--json", cwd=handbook)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    documents = report["documents"]
    assert documents == {
        "seen": 3,
        "indexed": 0,
        "unchanged": 3,
        "deleted": 0,
        "quarantined": 0,
        "excluded": 0,
    }
    assert report["embedded"] == report["chunks"]["written"] == report["chunks"]["deleted"] == 0
    assert report["chunks"]["total"] >= 3
    assert set(report) == {
        *("documents", "chunks", "embedded", "truncated", "seconds", "quarantine")
    }


def test_ingest_with_something_broken_ends_with_three_and_its_reason(
    run: Run, tmp_path: Path
) -> None:
    run("init")
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    done = run("ingest", "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [each["source"] for each in report["quarantine"]] == ["broken.pdf"]
    documents = report["documents"]
    assert documents["seen"] == 4 == documents["indexed"] + documents["quarantined"]
    assert "quarantined: broken.pdf: " in run("ingest").stdout


def test_search_prints_hits_with_their_ranks(run: Run, handbook: Path) -> None:
    done = run("search", "stolen laptop", "--json", "-k", "2", cwd=handbook)
    found = json.loads(done.stdout)
    assert set(found) == {"query", "hits", "timings_ms"}
    assert len(found["hits"]) == 2
    best = found["hits"][0]
    assert set(best) == {
        *("id", "source", "text", "start", "end", "similarity", "score", "ranks", "metadata")
    }
    text = (handbook / "docs" / best["source"]).read_text(encoding="utf-8")
    assert text[best["start"] : best["end"]] == best["text"]
    assert set(best["ranks"]) == {"dense", "bm25"}
    assert best["ranks"]["bm25"]["rank"] == 1
    assert -1 <= best["similarity"] <= 1
    assert best["source"] in run("search", "stolen laptop", cwd=handbook).stdout


def test_a_filter_holds_and_a_wrong_one_is_explained(run: Run, handbook: Path) -> None:
    only = '{"source": "travel.md"}'
    found = json.loads(run("search", "laptop", "--json", "--filter", only, cwd=handbook).stdout)
    assert {hit["source"] for hit in found["hits"]} == {"travel.md"}
    for wrong in ('{"source": {"$is": 1}}', "{not json", "[" * 100_000):
        done = run("search", "laptop", "--filter", wrong, cwd=handbook)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wrong", ["null", "[]", '""', "0", "false"])
def test_a_filter_that_is_no_object_is_refused_before_anything_is_read(
    wrong: str, run: Run
) -> None:
    done = run("ask", "Lost laptop?", "--filter", wrong)
    assert done.returncode == 2
    assert "is not an object" in done.stderr


def test_ask_cites_spans_that_stand_in_the_files(run: Run, handbook: Path) -> None:
    question = "How many days of paid vacation does an employee have?"
    done = run("ask", question, "--json", cwd=handbook)
    answer = json.loads(done.stdout)
    assert set(answer) == {*("question", "answer", "citations", "context", "timings_ms", "usage")}
    assert "30 days" in answer["answer"]
    assert "[1]" in answer["answer"]
    for citation in answer["citations"]:
        text = (handbook / "docs" / citation["source"]).read_text(encoding="utf-8")
        assert text[citation["start"] : citation["end"]] == citation["quote"]
        assert f"[{citation['number']}]" in answer["answer"]
    plain = run("ask", question, cwd=handbook).stdout
    assert "docs/vacation.md:3" in plain
    assert "“" in plain


def test_ask_says_when_nothing_supports_an_answer(run: Run, handbook: Path) -> None:
    done = run("ask", "Which planet has the most moons?", "--json", cwd=handbook)
    answer = json.loads(done.stdout)
    assert answer["citations"] == []
    assert done.returncode == 0


def test_chat_reads_questions_line_by_line(run: Run, handbook: Path) -> None:
    asked = "How many days of paid vacation are there?\nWhom do I tell about a stolen laptop?\n"
    done = run("chat", "--json", stdin=asked, cwd=handbook)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert "30 days" in answers[0]["answer"]
    assert "security@" in answers[1]["answer"]


def test_backends_lists_and_describes_from_the_code(run: Run) -> None:
    catalogue = json.loads(run("backends", "--json").stdout)
    assert set(catalogue["vector_stores"]) >= {"chroma", "memory"}
    assert all(summary for backends in catalogue.values() for summary in backends.values())
    option = {
        each["name"]: each
        for each in json.loads(run("backends", "splitters", "recursive", "--json").stdout)[
            "options"
        ]
    }
    assert option["chunk_size"]["default"] == 256
    assert option["chunk_overlap"]["default"] == 32
    wrong = run("backends", "splitters", "recursiv")
    assert wrong.returncode == 2
    assert "'recursive'" in wrong.stderr


def test_schema_is_what_is_committed(run: Run) -> None:
    committed = Path(__file__).parents[1] / "rag_app" / "schema.json"
    assert run("schema").stdout == committed.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ask", "x", "-c", "missing.yaml"], "missing.yaml"),
        (["ask", "x", "--set", "retriever.kk=3"], "retriever.kk"),
        (["ask", "  "], "empty"),
        (["search"], "QUERY"),
        (["serch", "x"], "serch"),
    ],
)
def test_usage_errors_end_with_two_and_no_traceback(
    run: Run, handbook: Path, args: list[str], words: str
) -> None:
    done = run(*args, cwd=handbook)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_index_that_is_empty_says_what_to_run(run: Run) -> None:
    run("init")
    done = run("ask", "anything")
    assert done.returncode == 1
    assert "rag-app ingest" in done.stderr


def test_demo_answers_from_the_guide_and_embeds_once(run: Run, tmp_path: Path) -> None:
    first = run("demo", "--json")
    assert first.returncode == 0, first.stderr
    guide = Path(__file__).parents[1] / "rag_app" / "guide"
    citations = json.loads(first.stdout)["citations"]
    assert citations
    for citation in citations:
        text = (guide / citation["source"]).read_text(encoding="utf-8")
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    again = run("demo", "Why does fusion use ranks and not scores?")
    assert "; 0 texts embedded" in again.stderr.replace("index; ", "; ")
    assert [path.name for path in tmp_path.iterdir()] == [".rag"]


def test_a_closed_pipe_is_no_error_to_shout_about(handbook: Path) -> None:
    done = subprocess.run(
        f"{TOOL} search vacation --json | head -c 10",
        cwd=handbook,
        shell=True,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_progress_in_a_pipe_is_plain_lines_on_stderr(run: Run) -> None:
    run("init")
    done = run("ingest", "--json")
    json.loads(done.stdout)
    assert "reading" in done.stderr
    assert "embedding" in done.stderr
    assert "\x1b" not in done.stderr
