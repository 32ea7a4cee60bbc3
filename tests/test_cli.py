"""The command line as a user meets it: real processes, their output and exit status."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rag_app.cli import COMMANDS
from tests.openai_server import OpenAIServer

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
    first = run("init", "--json")
    assert first.returncode == 0
    written = set(json.loads(first.stdout)["files"])
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
    assert parts == ["sources[0]", "embeddings", "splitter", "vector_store", "retriever", "chain"]
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
        *("documents", "chunks", "embedded", "cached", "truncated", "tokens", "cost", "saved"),
        *("seconds", "quarantine"),
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


def test_a_dry_run_names_the_documents_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    run("init")
    run("ingest")
    for number in range(23):
        (tmp_path / "docs" / f"new-{number:02}.md").write_text(f"Note {number}.")
    (tmp_path / "docs" / "vacation.md").write_text("Changed.")
    (tmp_path / "docs" / "travel.md").unlink()
    plan = json.loads(run("ingest", "--dry-run", "--json").stdout)
    assert plan["added"] == [f"new-{number:02}.md" for number in range(23)]
    assert (plan["changed"], plan["deleted"]) == (["vacation.md"], ["travel.md"])
    lines = run("ingest", "--plan").stdout.splitlines()
    assert [line for line in lines if line.startswith("added: new-")] == [
        f"added: new-{number:02}.md" for number in range(20)
    ]
    assert {"added: and 3 more; --json names all", "changed: vacation.md"} <= set(lines)
    assert "deleted: travel.md" in lines
    assert json.loads(run("ingest", "--json").stdout)["documents"]["indexed"] == 24


def test_a_plan_says_that_a_deletion_must_be_allowed_as_the_ingest_does(
    run: Run, tmp_path: Path
) -> None:
    run("init")
    run("ingest")
    for path in (tmp_path / "docs").iterdir():
        path.unlink()
    (tmp_path / "docs" / "new.md").write_text("The only one.")
    for number in range(2):  # a refusal, and a plan, leave it as it was
        refused = run("ingest")
        assert refused.returncode == 1, number
        shown = run("ingest", "--plan").stdout.splitlines()
        needs = [line for line in shown if line.startswith("needs --allow-delete: ")]
        assert len(needs) == 1
        assert needs[0].partition(": ")[2] in refused.stderr
    assert json.loads(run("ingest", "--plan", "--json").stdout)["allow_delete"] is True
    allowed = json.loads(run("ingest", "--plan", "--json", "--allow-delete").stdout)
    assert (allowed["allow_delete"], allowed["documents"]["gone"]) == (False, 3)
    assert json.loads(run("ingest", "--json", "--allow-delete").stdout)["documents"]["deleted"] == 3


def test_a_plan_of_a_rebuild_or_of_another_reading_counts_what_that_run_does(
    run: Run, tmp_path: Path
) -> None:
    run("init")
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    assert run("ingest").returncode == 3
    (tmp_path / "docs" / "vacation.md").unlink()
    plan = json.loads(run("ingest", "--plan", "--rebuild", "--json").stdout)
    again = run("ingest", "--plan", "--retry-quarantined", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["documents"]["quarantined"] == 1
    documents = json.loads(run("ingest", "--rebuild", "--json").stdout)["documents"]
    for planned, done in (("new", "indexed"), ("unchanged", "unchanged"), ("gone", "deleted")):
        assert plan["documents"][planned] == documents[done]
    assert (plan["documents"]["new"], plan["chunks"]["held"], plan["rebuild"]) == (2, 0, False)


def test_no_dollars_are_a_limit_too(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with OpenAIServer() as server:
        model = {"kind": "openai", "model": "text-embedding-3-small", "base_url": server.url}
        section = json.dumps({**model, "price": 0.02})
        given = ["--set", f"embeddings={section}", "--max-cost", "0"]
        for args in ([], ["--watch"]):
            done = run("ingest", *args, *given)
            assert done.returncode == 6
        sent = [text for request in server.requests for text in request.body["input"]]
    assert not any("vacation" in text for text in sent)


def test_collecting_garbage_where_nothing_is_served_says_so(run: Run) -> None:
    run("init")
    done = run("index", "gc")
    assert (done.returncode, done.stderr) == (0, "Nothing is served, and nothing was removed.\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--plan", "--max-cost", "0"], "Leave out --max-cost."),
        (["--dry-run", "--watch", "--max-cost", "1"], "Leave out --max-cost and --watch."),
        (["--watch", "--rebuild"], "--rebuild"),
        (["--watch", "--set", "sources=[{kind: sql, url: 'sqlite://', query: 'select 1'}]"], "sql"),
    ],
)
def test_what_cannot_be_done_together_is_refused(
    run: Run, handbook: Path, args: list[str], words: str
) -> None:
    done = run("ingest", *args, cwd=handbook)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_migration_is_planned_done_and_rolled_back(run: Run, tmp_path: Path) -> None:
    run("init")
    run("ingest")
    config = (tmp_path / "rag-app.yaml").read_text()
    assert "embeddings: minilm" in config
    (tmp_path / "new.yaml").write_text(config.replace("embeddings: minilm", "embeddings: hashing"))
    plan = run("migrate", "--to", "new.yaml", "--plan").stdout
    assert "changes: embeddings: minilm -> hashing" in plan
    assert json.loads(run("index", "list", "--json").stdout)["generations"][-1]["number"] == 1

    done = run("migrate", "--to", "new.yaml", "--cases", "cases.jsonl", "--accept-worse", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["before"], report["generation"]) == (1, 2)
    assert (report["documents"], report["copied"]) == (3, 0)
    assert len(report["recall"]) == 2
    assert run("search", "vacation").returncode == 5
    assert run("search", "vacation", "-c", "new.yaml").returncode == 0

    assert run("index", "rollback", "-c", "new.yaml").returncode == 0
    assert run("search", "vacation").returncode == 0
    assert run("search", "vacation", "-c", "new.yaml").returncode == 5


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--to", "rag-app.yaml"], "already is as that config says"),
        (["--to", "nowhere.yaml"], "nowhere.yaml"),
        (["--to", "rag-app.yaml", "--plan", "--max-cost", "1"], "--plan"),
        (["--to", "rag-app.yaml", "--accept-worse"], "--cases"),
        ([], "--to"),
    ],
)
def test_a_migration_that_makes_no_sense_is_refused(
    run: Run, handbook: Path, args: list[str], words: str
) -> None:
    done = run("migrate", *args, cwd=handbook)
    assert done.returncode == 2
    assert words in done.stderr


def test_an_index_that_another_process_writes_ends_with_four(run: Run, tmp_path: Path) -> None:
    run("init")
    run("ingest")
    (name,) = [path.parent for path in (tmp_path / ".rag").glob("*/manifest.sqlite")]
    with (name / "writer.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run("ingest")
    assert done.returncode == 4
    assert "is writing to it" in done.stderr
    assert run("ingest").returncode == 0


def test_an_index_of_another_model_ends_with_five(run: Run, handbook: Path) -> None:
    for args in (["ingest"], ["search", "vacation"]):
        done = run(*args, "--set", "embeddings=hashing", cwd=handbook)
        assert done.returncode == 5
        assert "hashing" in done.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_a_remark_of_the_work_is_one_line_that_stays(terminal: bool) -> None:
    code = (
        "from rag_app.cli.progress import show_progress\n"
        "with show_progress() as progress:\n"
        "    for done in range(3):\n"
        "        progress('resuming: 8 of 10 done', 0, None)\n"
        "        progress('embedding', done, 3)\n"
    )
    reader, writer = pty.openpty() if terminal else os.pipe()
    done = subprocess.run([sys.executable, "-c", code], stderr=writer)
    os.close(writer)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)
    assert done.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert lines.count("resuming: 8 of 10 done") == 1
    assert any(line.startswith("embedding") for line in lines)


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


def test_a_citation_names_the_heading_above_the_quote(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    text = "# Bees\n\nBees build combs out of wax.\n\n# Wasps\n\nWasps build nests out of paper.\n"
    (tmp_path / "d" / "insects.md").write_text(text)
    (tmp_path / "rag-app.yaml").write_text("name: insects\nsources: [{kind: files, path: d}]\n")
    assert run("ingest").returncode == 0
    for question, heading in (
        ("What do wasps build nests out of?", "Wasps"),
        ("What do bees build combs out of?", "Bees"),
    ):
        answer = json.loads(run("ask", question, "--json").stdout)
        assert answer["citations"][0]["heading"] == heading
        assert all(
            not name.startswith("_") for hit in answer["context"] for name in hit["metadata"]
        )


def test_a_citation_names_the_page_of_the_quote(
    run: Run, tmp_path: Path, data: Callable[[str], Path]
) -> None:
    (tmp_path / "d").mkdir()
    pdf = data("pdf-samples") / "py-pdf" / "pdflatex-4-pages.pdf"
    (tmp_path / "d" / pdf.name).write_bytes(pdf.read_bytes())
    (tmp_path / "rag-app.yaml").write_text(
        "name: paper\nsources: [{kind: files, path: d}]\nsplitter: none\nchat_model:\n"
        '  {kind: scripted, responses: ["It is on the last page [1]."]}\nchain: qa\n'
    )
    assert run("ingest").returncode == 0
    context = json.loads(run("ask", "x", "--json").stdout)["context"][0]
    import pypdfium2

    pages = [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf)]
    words = [max(page.split(), key=len) for page in pages]
    assert len(pages) == 4
    for number, word in enumerate(words, 1):
        if sum(word in page for page in pages) > 1:
            continue
        done = run("ask", "x", "--json", "--set", f'chat_model.responses=["{word} [1]"]')
        (citation,) = json.loads(done.stdout)["citations"]
        assert (citation["page"], word in citation["quote"]) == (number, True)
    assert context["metadata"]["page"] == 1


def test_check_fails_where_a_search_would_be_refused(run: Run, handbook: Path) -> None:
    done = run("check", "--set", "embeddings.precision=int8", cwd=handbook)
    assert done.returncode == 1
    assert "FAILED  retriever" in done.stdout
    assert "--rebuild" in done.stdout
    assert "not tried, because retriever failed" in done.stdout


@pytest.mark.parametrize("command", ["schema", "backends", "check", "search vacation"])
def test_nobody_reading_is_no_error(handbook: Path, command: str) -> None:
    done = subprocess.run(
        f"{TOOL} {command} | true", cwd=handbook, shell=True, capture_output=True, text=True
    )
    assert done.stderr.replace("Exception", "") == done.stderr
    assert "should not be" not in done.stderr


def test_a_full_disk_is_named(handbook: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([TOOL, "backends"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "report it" not in done.stderr


def test_an_answer_without_a_citation_is_marked(run: Run, handbook: Path) -> None:
    scripted = "chat_model={kind: scripted, responses: [no marks at all]}"
    done = run("ask", "vacation?", "--set", scripted, "--set", "chain=qa", cwd=handbook)
    assert done.stdout.strip() == "no marks at all"
    assert "treat this as not found" in done.stderr


def test_a_folder_called_chains_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "chains").mkdir()
    (tmp_path / "chains" / "__init__.py").touch()
    code = "import rag_app; rag_app.load({'sources': [{'kind': 'files', 'path': '.'}]})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert "hides rag-app's own package" in done.stderr


def test_an_index_that_may_only_be_read_answers_and_takes_nothing_new(
    run: Run, tmp_path: Path
) -> None:
    run("init")
    run("ingest")
    for path in [*(tmp_path / ".rag").rglob("*"), tmp_path / ".rag"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    rights = "-dac_override,-dac_read_search"  # root may write anywhere while it has these
    without = ["setpriv", "--inh-caps", rights, "--bounding-set", rights]
    bounded = without if os.geteuid() == 0 else []

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        command = [*bounded, TOOL, *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    try:
        done = call("ask", "How many days of paid vacation do we have?")
        assert done.returncode == 0, done.stderr
        assert "30 days" in done.stdout
        refused = call("ingest")
        assert refused.returncode == 1
        assert "cannot be written" in refused.stderr
    finally:
        for path in [tmp_path / ".rag", *(tmp_path / ".rag").rglob("*")]:
            path.chmod(0o755)
