"""Evidence on documents and chunks, against searches character by character."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rag_app
from rag_app.app import RagApp
from rag_app.evaluation.cases import parse_cases
from rag_app.evaluation.projection import (
    StaleCasesError,
    find_quote,
    find_spans,
    locate,
    overlapped,
    read_chunks,
    read_texts,
)
from rag_app.evaluation.results import Case, Evidence, Located
from rag_app.hits import make_hit
from rag_app.types import Hit, Span

LETTERS = st.text(st.sampled_from("ab. (\n\u00a0\u2028"), max_size=12)
QUOTES = st.text(st.sampled_from("ab. (\n\u00a0"), min_size=1, max_size=5).filter(str.strip)


def find_exact(quote: str, text: str) -> list[Span]:
    size = len(quote)
    return [(at, at + size) for at in range(len(text)) if text[at : at + size] == quote]


def find_loose(quote: str, text: str) -> list[Span]:
    """Every place where the text reads as the quote does, white space being all alike."""
    words = quote.split()
    found = []
    for start in range(len(text)):
        at = start
        for number, word in enumerate(words):
            if number:
                if not text[at : at + 1].isspace():
                    break
                while text[at : at + 1].isspace():
                    at += 1
            if text[at : at + len(word)] != word:
                break
            at += len(word)
        else:
            found.append((start, at))
    return found


@settings(deadline=None)
@given(QUOTES, LETTERS)
@example("aba", "ababa")
@example("a a", "a  a\na")
def test_every_place_of_a_quote_is_found(quote: str, text: str) -> None:
    exact = find_exact(quote, text)
    assert list(find_quote(quote, text)) == (exact or find_loose(quote, text))


@settings(deadline=None)
@given(QUOTES, LETTERS, LETTERS, st.sampled_from(["\n\n", "\t ", "\u2003", "\r\n"]))
def test_a_quote_is_found_however_its_white_space_was_changed(
    quote: str, before: str, after: str, space: str
) -> None:
    text = f"{before}|{space.join(quote.split())}|{after}"
    spans = find_quote(quote, text)
    assert spans
    assert all(text[start:end].split() == quote.split() for start, end in spans)


@settings(deadline=None)
@given(LETTERS, st.integers(0, 15), st.integers(1, 15), st.none() | QUOTES)
def test_a_span_holds_unless_it_is_beyond_the_end_or_says_something_else(
    text: str, start: int, length: int, quote: str | None
) -> None:
    evidence = Evidence("s", quote, (start, start + length))
    inside = start + length <= len(text)
    places = [] if quote is None else find_exact(quote, text) or find_loose(quote, text)
    if inside and (quote is None or (start, start + length) in places):
        assert find_spans(evidence, {"s": text}) == ((start, start + length),)
    else:
        with pytest.raises(LookupError, match="'s' has|'s' does not hold|stands at .* of 's'"):
            find_spans(evidence, {"s": text})


def make_chunk(source: str, start: int, end: int) -> Hit:
    metadata = {"source": source, "start": start, "end": end}
    return make_hit("id", "x" * (end - start), metadata, similarity=None, score=0.0, ranks={})


RANGES = st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda at: (at[0], sum(at)))
LOCATED = st.builds(Located, st.sampled_from("st"), st.lists(RANGES, max_size=3).map(tuple))


@settings(deadline=None)
@given(st.sampled_from("st"), RANGES, st.lists(LOCATED, max_size=4))
def test_a_hit_holds_the_evidence_that_it_shares_characters_with(
    source: str, span: Span, located: list[Located]
) -> None:
    characters = {(source, at) for at in range(*span)}
    expected = []
    for place, each in enumerate(located):
        held = {(each.source, at) for one in each.spans for at in range(*one)}
        if characters & held or (not each.spans and each.source == source):
            expected.append(place)
    assert list(overlapped(make_chunk(source, *span), located)) == expected


def test_what_is_not_found_is_told_and_placed_where_no_chunk_is() -> None:
    pieces = (
        Evidence("s", "b  c"),
        Evidence("s", "never"),
        Evidence("gone"),
        Evidence("gone", "x y"),
        Evidence("s", span=(3, 9), relevance=2),
        Evidence("s"),
    )
    case = Case("a", "?", pieces)
    located, stale = locate(case, {"s": "a b c d"})
    assert [each.spans for each in located[:1]] == [((2, 5),)]
    assert located[-1] == Located("s", ())
    assert located[4].relevance == 2
    assert {each.place: each.reason for each in stale} == {
        1: "'s' does not hold the quote",
        2: "no document 'gone' is indexed",
        3: "no document 'gone' is indexed",
        4: "'s' has 7 characters, and no 3-9",
    }
    for place, length in ((1, 5), (3, 3), (4, 6)):
        (start, end) = located[place].spans[0]
        assert end - start == length
        assert start >= len("a b c d") or located[place].source == "gone"
    assert overlapped(make_chunk("s", 0, 7), located) == (0, 5)


# -- on an index ----------------------------------------------------------------------------------

TEXT = "The ant sleeps in the hall.\n\nThe bee hums.\nThe bee  hums again, and the ant wakes up."


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RagApp]:
    """Two documents in chunks of a few words."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "one.txt").write_text(TEXT)
    (folder / "two.txt").write_text("A cat.")
    config: dict[str, Any] = {
        "name": "small",
        "sources": [{"kind": "files", "path": str(folder)}],
        "splitter": {"kind": "recursive", "chunk_size": 8, "chunk_overlap": 2},
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": None},
        "index": {"path": str(tmp_path_factory.mktemp("index"))},
        "retriever": {"kind": "dense", "k": 3},
    }
    with rag_app.load(config) as made:
        made.ingest()
        yield made


def test_texts_and_chunks_are_those_of_the_index(app: RagApp) -> None:
    assert read_texts(app, ["one.txt", "none.txt"]) == {"one.txt": TEXT}
    chunks = read_chunks(app, ["one.txt", "two.txt", "none.txt"])
    assert set(chunks) == {"one.txt", "two.txt"}
    assert len(chunks["one.txt"]) > 3
    spans = [span for _, span in chunks["one.txt"]]
    assert spans == sorted(spans)
    found = {hit.id: hit for hit in app.search("ant bee cat hall hums", k=100).hits}
    for source, listed in chunks.items():
        for id, (start, end) in listed:
            assert (found[id].source, found[id].start, found[id].end) == (source, start, end)
            text = {"one.txt": TEXT, "two.txt": "A cat."}[source]
            assert text[start:end] == found[id].text
    assert sum(map(len, chunks.values())) == len(found)


def cases_of(*evidence: dict[str, Any]) -> Any:
    lines: list[dict[str, Any]] = [
        {"id": f"q{place}", "question": "ant bee", "evidence": [each]}
        for place, each in enumerate(evidence)
    ]
    return parse_cases([*lines, {"id": "none", "question": "cat?", "evidence": []}])


def test_stale_cases_are_an_alarm_and_skipped_or_missed_when_told(app: RagApp) -> None:
    cases = cases_of(
        {"source": "one.txt", "quote": "The bee hums again"},
        {"source": "one.txt", "quote": "The bee sings"},
        {"source": "one.txt", "start": 80, "end": 5000},
        {"source": "three.txt"},
        {"source": "three.txt", "quote": "cat"},
    )
    with pytest.raises(StaleCasesError) as alarm:
        app.evaluate(cases)
    assert [each.case.id for each in alarm.value.stale] == ["q1", "q2", "q3", "q4"]
    assert "4 cases" in alarm.value.wrong
    assert "--stale" in alarm.value.remedy
    skipped = app.evaluate(cases, stale="skip", ks=(100,))
    assert [each.case.id for each in skipped.results] == ["q0", "none"]
    assert skipped.metrics["recall@100"] == skipped.metrics["char_recall@100"] == 1.0
    assert any("4 cases left out" in note and "q1" in note for note in skipped.notes)
    missed = app.evaluate(cases, stale="miss", ks=(100,))
    assert len(missed.results) == 6
    assert missed.scores("recall@100") == {"q0": 1.0, "q1": 0.0, "q2": 0.0, "q3": 0.0, "q4": 0.0}
    assert missed.metrics["ndcg@100"] == pytest.approx(skipped.metrics["ndcg@100"] / 5)
    assert missed.scores("char_precision@100")["q2"] == 0.0


def test_a_case_with_some_evidence_gone_loses_that_piece_alone(app: RagApp) -> None:
    both = [{"source": "one.txt", "quote": "the ant wakes up"}, {"source": "one.txt", "quote": "x"}]
    cases = parse_cases([{"id": "q", "question": "ant wakes up", "evidence": both}])
    missed = app.evaluate(cases, stale="miss", ks=(100,))
    assert missed.metrics["recall@100"] == 0.5
    assert missed.metrics["char_recall@100"] == pytest.approx(16 / 17)


def test_many_stale_cases_are_counted_and_few_are_named(app: RagApp) -> None:
    cases = cases_of(*({"source": f"{n}.txt"} for n in range(9)))
    with pytest.raises(StaleCasesError) as alarm:
        app.evaluate(cases)
    assert "9 cases" in alarm.value.wrong
    assert "and 4 more" in alarm.value.wrong


def test_a_document_that_changed_since_is_an_alarm(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.txt").write_text("The ant sleeps in the hall.")
    config: dict[str, Any] = {
        "name": "small",
        "sources": [{"kind": "files", "path": str(tmp_path / "docs")}],
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(tmp_path / "v.sqlite")},
        "index": {"path": str(tmp_path / "index")},
        "retriever": "dense",
    }
    cases = cases_of({"source": "one.txt", "quote": "ant  sleeps\nin"})
    with rag_app.load(config) as app:
        app.ingest()
        assert app.evaluate(cases).metrics["recall@1"] == 1.0
        (tmp_path / "docs" / "one.txt").write_text("The ant has left the hall.")
        app.ingest()
        with pytest.raises(StaleCasesError, match="does not hold the quote"):
            app.evaluate(cases)
