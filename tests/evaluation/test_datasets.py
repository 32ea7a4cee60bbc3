"""Published data sets as sources and as cases: their known counts, and files that are broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rag_app import registry
from rag_app.datasets import recognise
from rag_app.errors import SourceError, UsageError
from rag_app.evaluation.cases import read_cases
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.documents import Document


def load(kind: str, path: Path, **options: Any) -> tuple[dict[str, Document], dict[str, str]]:
    """The documents of a source by name, and the reasons of what is broken."""
    config = registry.config_class("loaders", kind)(path=path, **options)
    documents, broken = {}, {}
    for origin in registry.build("loaders", kind, config).origins():
        for each in origin.load():
            if isinstance(each, Unreadable):
                assert each.source not in broken
                broken[each.source] = each.reason
            else:
                assert each.metadata["source"] not in documents
                documents[each.metadata["source"]] = each
    return documents, broken


def write_lines(path: Path, *records: Any) -> None:
    """JSON lines; a text stands as it is."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_table(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{row}\r\n" for row in rows).encode())


HEADER = "query-id\tcorpus-id\tscore"


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Four documents, three queries, a split `test`."""
    folder = tmp_path / "small"
    corpus = [{"_id": f"d{n}", "title": f"T{n}", "text": f"Text {n}."} for n in range(4)]
    write_lines(folder / "corpus.jsonl", *corpus)
    queries = [{"_id": f"q{n}", "text": f"Question {n}?"} for n in range(3)]
    write_lines(folder / "queries.jsonl", *queries)
    write_table(folder / "qrels" / "test.tsv", HEADER, "q0\td0\t1", "q0\td1\t2", "q1\td2\t1")
    return folder


# -- the published sets ---------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "cases", "pairs"),
    [
        ("scifact", None, 300, 339),
        ("scifact", "test", 300, 339),
        ("scifact", "train", 809, 919),
        ("cranfield/beir", None, 225, 1612),
        ("cmrc2018-dev/beir", "test", 3218, 3219),
    ],
)
def test_a_beir_folder_has_the_published_counts(
    name: str, split: str | None, cases: int, pairs: int, data: Callable[[str], Path]
) -> None:
    read = read_cases(data(name), split)
    assert len(read.cases) == cases
    assert sum(len(case.evidence) for case in read.cases) == pairs
    assert all(each.whole for case in read.cases for each in case.evidence)


@pytest.mark.data
def test_scifact_says_what_its_files_say(data: Callable[[str], Path]) -> None:
    folder = data("scifact")
    documents, broken = load("beir", folder)
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        written = {row["_id"]: row for row in map(json.loads, file)}
    assert broken == {}
    assert len(documents) == len(written) == 5183
    for id, row in written.items():
        assert documents[id].page_content == f"{row['title']} {row['text']}".strip()
        assert documents[id].metadata["title"] == row["title"].strip()
    test, train = read_cases(folder), read_cases(folder, "train")
    assert not test.notes
    assert test.digest != train.digest
    assert test.digest == read_cases(folder, "test").digest
    case = next(case for case in test.cases if case.id == "1")
    assert case.question == "0-dimensional biomaterials show inductive properties."
    assert [each.source for each in case.evidence] == ["31715818"]
    assert {each.source for case in test.cases for each in case.evidence} <= documents.keys()


@pytest.mark.data
def test_cranfield_says_that_a_judged_document_is_empty(data: Callable[[str], Path]) -> None:
    folder = data("cranfield") / "beir"
    documents, broken = load("beir", folder)
    assert (len(documents), broken) == (1398, {"471": "no text", "995": "no text"})
    (note,) = read_cases(folder).notes
    assert "lacks or has no text of" in note
    assert note.endswith(": 1 (995)")


@pytest.mark.data
def test_cmrc_has_its_paragraphs_and_every_quote_in_its_place(data: Callable[[str], Path]) -> None:
    file = data("cmrc2018-dev") / "cmrc2018_dev.json.gz"
    documents, broken = load("squad", file)
    assert (len(documents), broken) == (848, {})
    read = read_cases(file)
    assert len(read.cases) == 3219
    (note,) = read.notes
    assert note.endswith(": 3 (DEV_101_QUERY_3, DEV_110_QUERY_2, DEV_110_QUERY_3)")
    for case in read.cases:
        (evidence,) = case.evidence
        assert evidence.span is not None
        text = documents[evidence.source].page_content
        assert text[slice(*evidence.span)] == evidence.quote
    first = read.cases[0]
    assert first.evidence[0].source == "DEV_0"
    assert first.evidence[0].span == (11, 21)
    assert first.answers == ("光荣和ω-force",)


@pytest.mark.data
def test_chunking_evaluation_has_all_references_in_their_places(
    data: Callable[[str], Path],
) -> None:
    folder = data("chunking-evaluation")
    documents, broken = load("chunking_evaluation", folder)
    assert broken == {}
    for path in (folder / "corpora").glob("*.md"):
        assert documents.pop(path.name).page_content == path.read_bytes().decode()
    assert not documents
    read = read_cases(folder)
    evidence = [each for case in read.cases for each in case.evidence]
    assert (len(read.cases), len(evidence), read.notes) == (472, 790, ())
    with (folder / "questions_df.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = [each for row in rows for each in json.loads(row["references"])]
    spans = [(each["start_index"], each["end_index"]) for each in told]
    assert [each.span for each in evidence] == spans
    assert [each.quote for each in evidence] == [each["content"] for each in told]
    assert {case.tags[0] for case in read.cases} == {row["corpus_id"] for row in rows}


# -- what a folder or file is ---------------------------------------------------------------------


def test_a_format_is_told_by_the_names_of_files(beir: Path, tmp_path: Path) -> None:
    assert recognise(beir) == "beir"
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "dev.json.gz") == "squad"
    (tmp_path / "corpora").mkdir()
    assert recognise(tmp_path) == "chunking_evaluation"


@pytest.mark.parametrize("name", ["", "absent", "absent.json", "cases.txt"])
def test_what_is_no_data_set_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "cases.txt").write_text("what?")
    words = r"--cases: .* (no known data set|does not exist)"
    with pytest.raises(UsageError, match=words) as error:
        read_cases(tmp_path / name)
    assert "a BEIR folder" in error.value.remedy


def test_a_split_is_for_what_has_splits(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text("{}")
    (tmp_path / "corpora").mkdir()
    for path, words in ((tmp_path / "dev.json", "a SQuAD file"), (tmp_path, "a chunking-eval")):
        with pytest.raises(UsageError, match=f"--split: .* is {words}.* has no splits"):
            read_cases(path, "test")


# -- BEIR -----------------------------------------------------------------------------------------


def test_judgments_are_graded_and_repeated_ones_count_once(beir: Path) -> None:
    rows = ["q0\td0\t1", "q0\td0\t1", "q0\td1\t3", "q0\td2\t0", "q1\td2\t-1", "q9\td1\t1"]
    write_table(beir / "qrels" / "test.tsv", HEADER, *rows)
    read = read_cases(beir)
    (case,) = read.cases
    assert [(each.source, each.relevance) for each in case.evidence] == [("d0", 1), ("d1", 3)]
    assert case.place.endswith("queries.jsonl:1")
    none, absent = read.notes
    assert none == "queries left out, as none of their judgments is positive: 1 (q1)"
    assert absent.startswith("judged queries left out")
    assert absent.endswith(": 1 (q9)")


def test_a_document_that_the_corpus_lacks_is_told(beir: Path) -> None:
    write_table(beir / "qrels" / "test.tsv", HEADER, "q0\td0\t1", "q1\tgone\t1")
    read = read_cases(beir)
    assert [case.evidence[0].source for case in read.cases] == ["d0", "gone"]
    (note,) = read.notes
    assert note.startswith("judged documents that corpus.jsonl lacks")
    assert note.endswith(": 1 (gone)")
    (beir / "corpus.jsonl").unlink()
    assert "was not seen" in read_cases(beir).notes[0]


def test_the_digest_changes_with_a_judgment(beir: Path) -> None:
    before = read_cases(beir)
    write_table(beir / "qrels" / "test.tsv", HEADER, "q0\td0\t1", "q0\td1\t1", "q1\td2\t1")
    assert read_cases(beir).digest != before.digest


def test_the_split_is_chosen_or_asked_for(beir: Path) -> None:
    dev = beir / "qrels" / "dev.tsv"
    write_table(dev, HEADER, "q2\td3\t1")
    assert [case.id for case in read_cases(beir).cases] == ["q0", "q1"]
    assert [case.id for case in read_cases(beir, "dev").cases] == ["q2"]
    with pytest.raises(UsageError, match=r"no split 'tset'. There are: dev, test. Did you mean"):
        read_cases(beir, "tset")
    (beir / "qrels" / "test.tsv").rename(beir / "qrels" / "train.tsv")
    with pytest.raises(UsageError, match=r"several splits.* Choose one of: dev, train\."):
        read_cases(beir)
    dev.unlink()
    assert [case.id for case in read_cases(beir).cases] == ["q0", "q1"]


def test_judgments_of_mteb_are_json_lines(beir: Path) -> None:
    rows = [("q0", "d0", 1.0), ("q0", "d1", 2), ("q1", "d2", 1)]
    lines = [{"query-id": q, "corpus-id": d, "score": s} for q, d, s in rows]
    before = read_cases(beir)
    write_lines(beir / "qrels" / "test.jsonl", *lines)
    assert read_cases(beir).digest == before.digest  # both forms, which agree
    (beir / "qrels" / "test.tsv").unlink()
    assert read_cases(beir).digest == before.digest
    write_table(beir / "qrels" / "test.tsv", HEADER, "q0\td0\t1")
    with pytest.raises(UsageError, match=r"test\.jsonl and test\.tsv .* differ"):
        read_cases(beir)


def test_columns_go_by_their_names(beir: Path) -> None:
    before = read_cases(beir)
    rows = ["d0\tq0\t1", "d1\tq0\t2", "d2\tq1\t1"]
    write_table(beir / "qrels" / "test.tsv", "corpus-id\tquery-id\tscore", *rows)
    assert read_cases(beir).digest == before.digest


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["q0\td0\t1", "q0\td0\t2"], r"line 3: .* score 2 for the query 'q0', and 1 on a line be"),
        (["q0\td0\t0.5"], r"line 2: the score '0.5' is no whole number"),
        (["q0\td0\thigh"], r"line 2: the score 'high' is no whole number"),
        (["q0\td0"], r"line 2: has 2 columns, not the 3"),
        (["q0\t0\td0\t1"], r"line 2: has 4 columns"),
        (["q0\t\t1"], r"line 2: its 'corpus-id' is '', and no id"),
        (["q0\td0\t0"], r"there are no cases in it; queries left out.*: 1 \(q0\)"),
        ([], r"there are no cases in it"),
    ],
)
def test_a_broken_judgment_is_named_by_its_line(beir: Path, rows: list[str], words: str) -> None:
    write_table(beir / "qrels" / "test.tsv", HEADER, *rows)
    with pytest.raises(UsageError, match=words):
        read_cases(beir)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"_id": "q7", ', r"queries\.jsonl: line 4: is not JSON"),
        ('{"_id": "q7", "text": " "}', r"line 4: the query 'q7' has no text"),
        ('{"text": "Who?"}', r"line 4: its '_id' is None, and no id"),
        ('{"_id": "q1", "text": "Another?"}', r"line 4: the query 'q1' had another text before"),
    ],
)
def test_a_broken_query_is_named_by_its_line(beir: Path, line: str, words: str) -> None:
    with (beir / "queries.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(UsageError, match=words):
        read_cases(beir)


@pytest.mark.parametrize("lost", ["queries.jsonl", "qrels/test.tsv"])
def test_a_folder_that_lacks_a_file_says_which(beir: Path, lost: str) -> None:
    (beir / lost).unlink()
    with pytest.raises(UsageError, match=f"holds n.*{Path(lost).suffix}"):
        read_cases(beir)


def test_a_query_may_bring_answers(beir: Path) -> None:
    write_lines(beir / "queries.jsonl", {"_id": "q0", "text": "Who?", "answers": ["Ann", "Ann"]})
    assert read_cases(beir).cases[0].answers == ("Ann",)


def test_lines_of_a_corpus_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "corpus.jsonl",
        {"_id": "a", "title": "", "text": "One.", "metadata": {"year": 2001}, "url": "x"},
        '{"_id": "b", "text": ',
        {"_id": "a", "text": "Again."},
        {"_id": "c", "title": " ", "text": ""},
        {"title": "No id", "text": "Nameless."},
        "",
        {"_id": 7, "title": "Seven", "text": "A number.", "source": "s"},
        {"_id": "d", "text": ["a", "list"]},
        "[1]",
    )
    documents, broken = load("beir", tmp_path, prefix="p/")
    assert {name: each.page_content for name, each in documents.items()} == {
        "p/a": "One.",
        "p/7": "Seven A number.",
    }
    assert documents["p/a"].metadata == {"source": "p/a", "year": 2001, "url": "x"}
    assert documents["p/7"].metadata["column_source"] == "s"
    assert {name: words[:12] for name, words in broken.items()} == {
        "p/corpus.jsonl#line=2": "is not JSON:",
        "p/corpus.jsonl#line=3": "repeats the ",
        "p/c": "no text",
        "p/corpus.jsonl#line=5": "has no '_id'",
        "p/d": "its text is ",
        "p/corpus.jsonl#line=9": "holds a JSON",
    }


@pytest.mark.parametrize("packed", [False, True])
def test_a_corpus_streams(tmp_path: Path, packed: bool) -> None:
    """10 MB of lines are read in far less memory."""
    line = json.dumps({"_id": "%d", "text": "word " * 200}) + "\n"
    opened = gzip.open if packed else open
    path = tmp_path / ("corpus.jsonl.gz" if packed else "corpus.jsonl")
    with opened(path, "wt", encoding="utf-8") as file:
        for number in range(10_000):
            file.write(line % number)
    config = registry.config_class("loaders", "beir")(path=tmp_path)
    (origin,) = registry.build("loaders", "beir", config).origins()
    tracemalloc.start()
    count = sum(1 for _ in origin.load())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 5 << 20  # the names that were seen, and pieces of the file


@pytest.mark.parametrize(
    ("kind", "make", "words"),
    [
        ("beir", lambda path: path.mkdir(), "holds neither corpus.jsonl nor corpus.jsonl.gz"),
        ("beir", lambda path: None, "does not exist"),
        ("beir", lambda path: path.write_text(""), "is no folder"),
        ("squad", lambda path: path.mkdir(), "is no file"),
        ("squad", lambda path: None, "does not exist"),
        ("chunking_evaluation", lambda path: path.mkdir(), "corpora' cannot be listed"),
        ("chunking_evaluation", lambda path: (path / "corpora").mkdir(parents=True), "no file end"),
    ],
)
def test_a_source_that_is_not_there_is_refused(
    tmp_path: Path, kind: str, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "set")
    config = registry.config_class("loaders", kind)(path=tmp_path / "set")
    with pytest.raises(SourceError, match=words) as error:
        list(registry.build("loaders", kind, config).origins())
    assert error.value.where == "sources.path"


def test_a_corpus_in_two_forms_is_refused(beir: Path) -> None:
    (beir / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "One."}\n'))
    with pytest.raises(SourceError, match="holds both"):
        load("beir", beir)


# -- SQuAD ----------------------------------------------------------------------------------------

TEXT = "The Rhine rises in the Alps. The Rhine ends in the North Sea, far from the Alps."


def write_squad(path: Path, *paragraphs: Any, title: str | None = "Rhine") -> Path:
    article = {"paragraphs": list(paragraphs)} | ({"title": title} if title is not None else {})
    data = json.dumps({"version": "v2.0", "data": [article]}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def ask(id: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    given = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": id, "question": f"Question {id}?", "answers": given, **more}


def test_the_answer_of_most_is_the_evidence_and_all_are_answers(tmp_path: Path) -> None:
    second = TEXT.rindex("the Alps")
    questions = [
        ask("most", ("Alps", second + 4), ("the Alps", 19), ("the Alps", 19)),
        ask("first", ("the Alps", second), ("the Alps", 19)),
        ask("off", ("Alps", 2), ("North Sea", TEXT.index("North Sea"))),
    ]
    file = write_squad(tmp_path / "dev.json.gz", {"context": TEXT, "qas": questions})
    read = read_cases(file)
    found = {case.id: (case.evidence[0].span, case.answers) for case in read.cases}
    assert found == {
        "most": ((19, 27), ("Alps", "the Alps")),
        "first": ((second, second + 8), ("the Alps",)),
        "off": ((51, 60), ("Alps", "North Sea")),
    }
    assert {each.source for case in read.cases for each in case.evidence} == {"Rhine#1"}
    assert read.notes == ()


def test_answers_that_stand_elsewhere_or_nowhere_are_told(tmp_path: Path) -> None:
    questions = [
        ask("near", ("the Alps", 60)),
        ask("spaced", ("the\n  Alps", 0)),
        ask("nowhere", ("Danube", 0)),
        ask("past", ("Alps.", 4000)),
        ask("silent"),
        ask("both", ("Alps", 23), is_impossible=True),
        ask("impossible", is_impossible=True),
    ]
    read = read_cases(write_squad(tmp_path / "dev.json", {"context": TEXT, "qas": questions}))
    spans = {case.id: [each.span for each in case.evidence] for case in read.cases}
    second = TEXT.rindex("the Alps")
    assert spans == {
        "near": [(second, second + 8)],
        "spaced": [(19, 27)],
        "past": [(second + 4, second + 9)],
        "impossible": [],
    }
    assert not next(case for case in read.cases if case.id == "impossible").answerable
    assert [note.rpartition(": ")[2] for note in read.notes] == [
        "3 (near, spaced, past)",
        "1 (nowhere)",
        "1 (silent)",
        "1 (both)",
    ]


def test_a_paragraph_has_a_name_of_its_own(tmp_path: Path) -> None:
    articles = [
        {"title": "A", "paragraphs": [{"context": each} for each in ("a1", " \n", "a3\r\n")]},
        {"title": "A", "paragraphs": [{"context": "a4"}, {"context": "named", "id": "x"}]},
        {"paragraphs": [{"context": "untitled"}, {"context": "again", "id": "x"}, 7]},
        {"title": "B"},
    ]
    (tmp_path / "dev.json").write_text(json.dumps({"data": articles}))
    documents, broken = load("squad", tmp_path / "dev.json", prefix="s/")
    assert {name: each.page_content for name, each in documents.items()} == {
        "s/A#1": "a1",
        "s/A#3": "a3\r\n",
        "s/A#4": "a4",
        "s/x": "named",
        "s/article 3#1": "untitled",
    }
    assert documents["s/A#1"].metadata == {"source": "s/A#1", "title": "A"}
    assert {name: words[:10] for name, words in broken.items()} == {
        "s/dev.json#data[0].paragraphs[1]": "no text: i",
        "s/dev.json#data[2].paragraphs[1]": "repeats th",
        "s/dev.json#data[2].paragraphs[2]": "is no para",
        "s/dev.json#data[3]": "is no para",
    }


def test_questions_of_a_broken_paragraph_are_left_out_and_told(tmp_path: Path) -> None:
    good = {"context": TEXT, "qas": [ask("a", ("Rhine", 4))]}
    read = read_cases(write_squad(tmp_path / "dev.json", good, {"qas": [ask("b", ("x", 0))]}))
    assert [case.id for case in read.cases] == ["a"]
    (note,) = read.notes
    assert note.startswith("paragraphs that cannot be read, whose questions are left out: 1 (dev")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"data": [{"title": "A", "paragr', "is not JSON: .* it may be cut off"),
        ('{"rows": []}', 'holds no list "data"'),
        ("[]", 'holds no list "data"'),
        ('{"data": []}', "there are no paragraphs in it"),
        ("", "is empty"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [1]}]}]}', r"qas\[0\]: it is no que"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": {}}]}]}', "`qas` is a dict, and no"),
        (
            '{"data": [{"paragraphs": [{"context": "x", "qas": '
            '[{"id": 1, "question": "q", "answers": [{"text": "x"}]}]}]}]}',
            r"data\[0\]\.paragraphs\[0\]\.qas\[0\]: an answer has no text with its answer_start",
        ),
    ],
)
def test_a_file_that_is_no_squad_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "dev.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_cases(tmp_path / "dev.json")


# -- chunking-evaluation --------------------------------------------------------------------------


def write_chunking(folder: Path, corpora: dict[str, bytes], *rows: tuple[str, Any, str]) -> Path:
    (folder / "corpora").mkdir(parents=True)
    for name, content in corpora.items():
        (folder / "corpora" / f"{name}.md").write_bytes(content)
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(["question", "references", "corpus_id"])
    for question, references, corpus in rows:
        given = references if isinstance(references, str) else json.dumps(references)
        writer.writerow([question, given, corpus])
    (folder / "questions_df.csv").write_text(made.getvalue(), encoding="utf-8", newline="")
    return folder


def refer(content: str, start: int) -> dict[str, Any]:
    return {"content": content, "start_index": start, "end_index": start + len(content)}


def test_references_are_verified_in_a_corpus_as_it_stands(tmp_path: Path) -> None:
    folder = write_chunking(
        tmp_path / "set",
        {"c": b"\xef\xbb\xbfOne.\r\nTwo \xc3\xbc. One."},
        ("Which?", [refer("Two ü.", 7), refer("One.", 12)], "c"),
        ("Where?", [refer("Three.", 0)], "c"),
        ("Whose?", [refer("x", 0)], "bad"),
        ("None?", [], "c"),
    )
    documents, broken = load("chunking_evaluation", folder, prefix="p/")
    assert documents["p/c.md"].page_content == "\ufeffOne.\r\nTwo ü. One."
    assert (list(documents), broken) == (["p/c.md"], {})
    (folder / "corpora" / "bad.md").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"bad\.md: is not UTF-8"):
        load("chunking_evaluation", folder)
    read = read_cases(folder)
    assert [(case.id, case.place.rpartition(":")[2]) for case in read.cases] == [
        ("c-1", "2"),
        ("c-2", "3"),
    ]
    assert [(each.quote, each.span) for each in read.cases[0].evidence] == [
        ("Two ü.", (7, 13)),
        ("One.", (14, 18)),
    ]
    assert [(each.quote, each.span) for each in read.cases[1].evidence] == [("Three.", None)]
    assert [note.rpartition(": ")[2] for note in read.notes[1:]] == [
        "1 (c-1)",
        "1 (c-2)",
        "1 (bad-3)",
        "1 (c-4)",
    ]
    assert "bad.md: is not UTF-8" in read.notes[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("Q?", "[{", "c"), "line 2: its references are no JSON"),
        (("Q?", "{}", "c"), "line 2: its references are no list"),
        (("Q?", [{"content": "x"}], "c"), "line 2: .* is no reference with content"),
        (("", [], "c"), "line 2: has no question"),
        (("Q?", [], "absent"), r"there are no cases in it; questions left out.*: 1 \(absent-1\)"),
    ],
)
def test_a_broken_question_is_named_by_its_line(
    tmp_path: Path, row: tuple[str, Any, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        read_cases(write_chunking(tmp_path / "set", {"c": b"One."}, row))


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    folder = write_chunking(tmp_path / "set", {"c": b"One."})
    (folder / "questions_df.csv").write_text("question,answer\nQ?,A\n")
    with pytest.raises(UsageError, match="has no column references, corpus_id"):
        read_cases(folder)
