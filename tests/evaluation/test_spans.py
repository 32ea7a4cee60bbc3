"""Character metrics, against sets of characters and against published figures."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_text_splitters import RecursiveCharacterTextSplitter, TextSplitter

from rag_app.embeddings import minilm
from rag_app.errors import UsageError
from rag_app.evaluation.results import Located
from rag_app.evaluation.spans import measure_spans
from rag_app.types import Span

Char: TypeAlias = tuple[str, int]

spans = st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda s: (s[0], s[0] + s[1]))
sources = st.sampled_from(["a", "b"])
hits = st.lists(st.tuples(sources, spans).map(lambda s: (s[0], *s[1])), max_size=6)
located = st.lists(
    st.builds(lambda source, span: Located(source, (span,)), sources, spans), min_size=1, max_size=4
)
chunks = st.fixed_dictionaries({"a": st.lists(spans, max_size=6)}, optional={"b": st.lists(spans)})


def characters(source: str, span: Span) -> set[Char]:
    return {(source, at) for at in range(*span)}


def unite(sets: Sequence[set[Char]]) -> set[Char]:
    return set[Char]().union(*sets)


@settings(max_examples=300, deadline=None)
@given(found=hits, gold=located, ks=st.lists(st.integers(1, 8), min_size=1, unique=True))
def test_cutoffs_measure_as_sets_of_characters_do(
    found: list[tuple[str, int, int]], gold: list[Located], ks: list[int]
) -> None:
    measured = measure_spans(found, gold, ks)

    evidence = unite([characters(each.source, each.spans[0]) for each in gold])
    told = {}
    for k in ks:
        covered = unite([characters(s, (a, b)) for s, a, b in found[:k]]) & evidence
        length = sum(b - a for _, a, b in found[:k])
        told[f"char_recall@{k}"] = len(covered) / len(evidence)
        told[f"char_precision@{k}"] = len(covered) / length if length else 0.0
        told[f"char_iou@{k}"] = len(covered) / (length + len(evidence - covered))
    assert measured == pytest.approx(told)


@settings(max_examples=300, deadline=None)
@given(gold=located, cut=chunks)
def test_omega_measures_as_sets_of_characters_do(
    gold: list[Located], cut: dict[str, list[Span]]
) -> None:
    measured = measure_spans([], gold, [1], cut)["char_precision_omega"]

    evidence = unite([characters(each.source, each.spans[0]) for each in gold])
    ends = evidence | {(source, at + 1) for source, at in evidence}
    touching = [
        characters(source, span)
        for source, listed in cut.items()
        for span in listed
        if ends & {(source, at) for at in range(span[0], span[1] + 1)}
    ]
    joined = unite(touching)
    assert measured == pytest.approx(len(joined & evidence) / len(joined | evidence))


def test_a_known_ranking_has_the_figures_of_the_definitions() -> None:
    gold = [Located("a", ((10, 20),)), Located("a", ((15, 30),)), Located("b", ((0, 5),))]
    found = [("a", 0, 15), ("a", 10, 25), ("c", 0, 20)]
    measured = measure_spans(found, gold, [1, 3], {"a": [(0, 15), (10, 25), (25, 45)], "b": []})
    assert measured == pytest.approx(
        {
            "char_recall@1": 5 / 25,
            "char_recall@3": 15 / 25,
            "char_precision@1": 5 / 15,
            "char_precision@3": 15 / 50,
            "char_iou@1": 5 / (15 + 20),
            "char_iou@3": 15 / (50 + 10),
            "char_precision_omega": 20 / (45 + 5),
        }
    )


def test_of_a_quote_in_several_places_the_one_covered_most_counts() -> None:
    gold = [Located("a", ((0, 10), (50, 60), (90, 100)))]
    measured = measure_spans([("a", 55, 60), ("a", 88, 100)], gold, [1, 2])
    assert measured["char_recall@1"] == 0.5
    assert measured["char_recall@2"] == 1.0
    assert measured["char_precision@2"] == 10 / 17


def test_omega_takes_the_place_that_the_chunks_fit_best() -> None:
    gold = [Located("a", ((0, 10), (50, 60)))]
    measured = measure_spans([], gold, [1], {"a": [(0, 40), (49, 61)]})
    assert measured["char_precision_omega"] == 10 / 12


def test_nothing_found_and_evidence_that_stands_nowhere_are_zeros() -> None:
    nowhere = [Located("a", ((0, 0),))]
    assert set(measure_spans([("a", 0, 5)], nowhere, [1], {"a": [(0, 5)]}).values()) == {0.0}
    assert set(measure_spans([], [Located("a", ((3, 5),))], [1], {}).values()) == {0.0}


def test_whole_documents_have_no_character_metrics() -> None:
    assert measure_spans([("a", 0, 5)], [], [1], {}) == {}
    mixed = [Located("a", ()), Located("b", ((0, 5),))]
    assert measure_spans([("b", 0, 5)], mixed, [1], {}) == {}


def test_what_is_no_cutoff_is_refused() -> None:
    with pytest.raises(UsageError, match="are no cutoffs"):
        measure_spans([], [Located("a", ((3, 5),))], [0])


# -- the published figures that need no model to retrieve -----------------------------------------


def cut(splitter: TextSplitter, text: str) -> list[Span]:
    placed: list[Span] = []
    for chunk in splitter.split_text(text):
        start = text.index(chunk, placed[-1][0] + 1 if placed else 0)
        placed.append((start, start + len(chunk)))
    return placed


@pytest.mark.data
@pytest.mark.parametrize(("size", "mean", "deviation"), [(250, 26.7, 18.3), (200, 31.2, 18.4)])
def test_omega_is_as_published(
    data: Callable[[str], Path],
    size: int,
    mean: float,
    deviation: float,
    record_property: Callable[[str, object], None],
) -> None:
    folder = data("chunking-evaluation")
    splitter = RecursiveCharacterTextSplitter(
        separators=["\n\n", "\n", ".", "?", "!", " ", ""],
        chunk_size=size,
        chunk_overlap=0,
        length_function=minilm.build(minilm.Config()).count_tokens,
    )
    texts = {file.stem: file.read_text("utf-8") for file in (folder / "corpora").glob("*.md")}
    chunks = {source: cut(splitter, text) for source, text in texts.items()}
    measured = []
    with (folder / "questions_df.csv").open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            places = [(r["start_index"], r["end_index"]) for r in json.loads(row["references"])]
            gold = [Located(row["corpus_id"], (place,)) for place in places]
            measured.append(100 * measure_spans([], gold, [5], chunks)["char_precision_omega"])
    assert len(measured) == 472
    assert statistics.mean(measured) == pytest.approx(mean, abs=0.1)
    assert statistics.pstdev(measured) == pytest.approx(deviation, abs=0.1)
    record_property(f"omega, {size} tokens", f"{statistics.mean(measured):.2f}")
