"""Files of cases: what is written is read again; what is wrong is told with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_app.errors import UsageError
from rag_app.evaluation.cases import make_cases, parse_cases, read_cases, take_cases, write_cases
from rag_app.evaluation.results import Case, Cases, Evidence

GOOD = {"id": "a", "question": "Who?", "evidence": []}

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
SPANS = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda at: (at[0], at[0] + at[1]))
EVIDENCE = st.builds(
    Evidence, WORDS, st.none() | WORDS, st.none() | SPANS, relevance=st.integers(1, 3)
)
FILTERS = st.sampled_from([{"year": {"$gte": 2024}}, {"$or": [{"a": "\u2028"}, {"b": None}]}])
CASES = st.builds(
    Case,
    WORDS,
    WORDS,
    st.lists(EVIDENCE, max_size=3, unique_by=lambda e: (e.source, e.quote, e.span)).map(tuple),
    st.lists(WORDS, max_size=2).map(tuple),
    st.lists(WORDS, max_size=2).map(tuple),
    st.none() | FILTERS,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases") / "cases.jsonl"


@settings(deadline=None)
@given(st.lists(CASES, min_size=1, max_size=4, unique_by=lambda case: case.id))
def test_what_is_written_is_read_again(file: Path, cases: list[Case]) -> None:
    write_cases(cases, file)
    made = read_cases(file)
    expected = make_cases(cases, "elsewhere")
    assert made.digest == expected.digest
    assert [each.place for each in made.cases] == [f"{file}:{n + 1}" for n in range(len(cases))]
    assert made.origin == str(file)
    for read, written in zip(made.cases, cases, strict=True):
        for name in ("id", "question", "evidence", "answers", "tags", "filter"):
            assert getattr(read, name) == getattr(written, name)


@settings(deadline=None)
@given(CASES, CASES)
def test_digests_differ_when_cases_do_and_only_then(one: Case, other: Case) -> None:
    same = all(
        getattr(one, name) == getattr(other, name)
        for name in ("id", "question", "evidence", "answers", "tags", "filter")
    )
    assert (make_cases([one], "a").digest == make_cases([other], "b").digest) is same


@pytest.mark.parametrize("apart", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_ends_where_a_line_of_the_file_does(tmp_path: Path, apart: str) -> None:
    lines = [json.dumps({**GOOD, "id": name, "question": f"Who{apart}is?"}) for name in "ab"]
    raw = [{**GOOD, "id": "c", "question": f"Who{apart}else?"}]
    if apart in "\u2028\u2029\x85":  # these may stand in a JSON string as they are
        lines.append(json.dumps(raw[0], ensure_ascii=False))
    (tmp_path / "cases.jsonl").write_bytes("\r\n".join(["", *lines, "  "]).encode())
    made = read_cases(tmp_path / "cases.jsonl")
    assert [case.question for case in made.cases][:2] == [f"Who{apart}is?"] * 2
    assert [case.place.rpartition(":")[2] for case in made.cases] == ["2", "3", "4"][: len(lines)]


def test_a_byte_order_mark_is_no_part_of_the_first_case(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("\ufeff" + json.dumps(GOOD), encoding="utf-8")
    assert read_cases(tmp_path / "cases.jsonl").cases[0].id == "a"


def evidence(**given: Any) -> dict[str, Any]:
    return {**GOOD, "evidence": [{"source": "s.md", **given}]}


WRONG = [
    ("{", "it is no JSON"),
    ("[" * 100_000, "it is no JSON"),
    ("[]", "it is no object"),
    ("null", "it is no object"),
    ({**GOOD, "id": ""}, "`id` is '', and no text"),
    ({**GOOD, "id": 7}, "`id` is 7, and no text"),
    ({**GOOD, "question": " \n"}, "`question` is"),
    ({"id": "a", "evidence": []}, "`question` is None"),
    ({"id": "a", "question": "Who?"}, "`evidence` is None, and no list"),
    ({**GOOD, "evidence": {"source": "s.md"}}, "and no list"),
    ({**GOOD, "evidence": ["s.md"]}, "names no `source`"),
    ({**GOOD, "evidence": [{"quote": "x"}]}, "names no `source`"),
    ({**GOOD, "evidence": [{"source": 3}]}, "names no `source`"),
    (evidence(quote=""), "`quote` is '', and no text to look for"),
    (evidence(quote=None), "`quote` is None, and no text to look for"),
    (evidence(start=3), "`start` is 3 and `end` None"),
    (evidence(end=3), "`start` is None and `end` 3"),
    (evidence(start=3, end=3), "no span of characters"),
    (evidence(start=-1, end=3), "no span of characters"),
    (evidence(start=0.0, end=3), "no span of characters"),
    (evidence(start=True, end=3), "no span of characters"),
    (evidence(relevance=0), "`relevance` is 0"),
    (evidence(relevance=1.5), "`relevance` is 1.5"),
    (evidence(relevance=True), "`relevance` is True"),
    (evidence(qoute="x"), "'qoute' is no key"),
    ({**GOOD, "answer": 3}, "`answer` is 3"),
    ({**GOOD, "answer": ["x", None]}, "neither a text nor a list of texts"),
    ({**GOOD, "tags": "draft"}, "`tags` is 'draft', and no list of texts"),
    ({**GOOD, "expected": "x"}, "'expected' is no key of a case"),
    ({**GOOD, "filter": {"year": {"$gtt": 1}}}, "its filter is wrong"),
    ({**GOOD, "filter": "year"}, "its filter is wrong"),
    ({**GOOD, "evidence": [{"source": "s.md"}] * 2}, "is listed twice"),
    (
        {**GOOD, "evidence": [{"source": "s.md"}, {"source": "s.md", "relevance": 2}]},
        "is listed twice",
    ),
    (GOOD, "the id 'a' is that of"),
    ('{"id": "b", "question": "\\ud800?", "evidence": []}', "no Unicode"),
    ('{"id": "b", "question": "x", "evidence": [{"source": "\\udfff"}]}', "no Unicode"),
    ('{"id": "b", "id": "c", "question": "x", "evidence": []}', "'id' is given twice"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=range(len(WRONG)))
def test_a_line_that_is_no_case_is_told_with_file_and_line(
    tmp_path: Path, line: Any, words: str
) -> None:
    file = tmp_path / "cases.jsonl"
    written = line if isinstance(line, str) else json.dumps({"id": "b", **line})
    file.write_text(f"{json.dumps(GOOD)}\n\n{written}\n")
    with pytest.raises(UsageError) as told:
        read_cases(file)
    assert told.value.where == f"{file}:3"
    assert words in told.value.wrong
    assert told.value.remedy


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text(json.dumps(evidence(qoute="x")))
    with pytest.raises(UsageError, match=r"Did you mean 'quote'\?"):
        read_cases(tmp_path / "cases.jsonl")


def test_a_file_without_cases_and_one_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl"
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="there are no cases in it"):
        read_cases(empty)
    with pytest.raises(UsageError, match="it is not UTF-8 text"):
        read_cases(binary)
    with pytest.raises(UsageError, match="No such file"):
        read_cases(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="has no splits"):
        read_cases(empty, "test")


def test_cases_from_python_are_told_by_their_place() -> None:
    with pytest.raises(UsageError) as told:
        parse_cases([GOOD, {**GOOD, "id": "b", "tags": 3}])
    assert told.value.where == "cases[1]"
    with pytest.raises(UsageError, match=r"the id 'a' is that of cases\[0\] too"):
        parse_cases([GOOD, GOOD])
    with pytest.raises(UsageError, match="there are no cases"):
        parse_cases([])
    with pytest.raises(UsageError, match="only a data set has splits"):
        take_cases([GOOD], "test")
    made = take_cases([GOOD])
    assert isinstance(made, Cases)
    assert take_cases(made) is made


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_cases([Case("a", "Who?")], tmp_path / "no" / "cases.jsonl")
    file = tmp_path / "cases.jsonl"
    write_cases([Case("a", "Who?")], file)
    before = file.read_bytes()
    with pytest.raises(UsageError, match="cannot be written"):
        write_cases([Case("a", "Who \ud800?")], file)
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["cases.jsonl"]
