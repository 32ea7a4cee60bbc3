"""Where sentences end: prose, abbreviations, East Asian text, Markdown; any text in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.sentences import sentence_spans


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rains.", "Why?", "Go away!", "Really?!", "Fine"],
        ["Dr. Smith et al. found 3.5 % in Fig. 2.", "It was good (e.g. in the U.S. Army)."],
        ["I live in the U.S.", "He does too."],
        ["John F. Kennedy and J. R. R. Tolkien met.", "So they did."],
        ["The vaccine against hepatitis C.", "The dose was low."],
        ["He said no.", "Then No. 5 came at 5 p.m.", "It left."],
        ['"Is it?" he said.', '"Yes."', "[1] Next (see vol. 3)."],
        ["See https://a.example/b.c?d=1.", "Use v1.2.", "Then 1.2.", "Go on... slowly."],
        ["Wrapped lines\nare one sentence.", "Another."],
        ["今天天气很好。", "我们去公园吧！", "好吗？", "第3.5节。"],
        ["彼は「行く。」と言った。", "「終わり。」", "そう。"],
        ["Das ist z.B. gut.", "Ende."],
    ],
)
def test_prose(sentences: list[str]) -> None:
    assert cut(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["# A heading", "Text under it.", "More"],
        ["- one item", "- another\n  goes on", "1. First", "2. Second"],
        ["| a | b |", "| c | d |", "after"],
        ["Title\n=====", "Text."],
        ["Before.", "```\nx = 1. Y = 2. Z\n```", "After."],
    ],
)
def test_lines(sentences: list[str]) -> None:
    assert cut("\n".join(sentences)) == sentences


def test_blank_lines_end_sentences_and_part_code() -> None:
    assert cut("One\n\ntwo\n \nthree") == ["One", "two", "three"]
    assert cut("~~~\na. B\n\nc. D\n~~~\nEnd") == ["~~~\na. B", "c. D\n~~~", "End"]


@given(st.text(alphabet=st.sampled_from("aB1 .!?\n。」)\"'-#|`=\u3000🙂"), max_size=80))
def test_spans_are_trimmed_ordered_and_complete(text: str) -> None:
    spans = sentence_spans(text)
    borders = [border for span in spans for border in span]
    assert borders == sorted(borders)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    kept = "".join(text[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(text.split())


@pytest.mark.parametrize("piece", [".", ". ", "1. ", "A. ", "- ", "`", "(", "=", "。」", ".'\n"])
def test_long_runs_of_marks_are_no_trap(piece: str) -> None:
    """100,000 repetitions end within the test's time limit only when the work is linear."""
    text = piece * 100_000
    assert sentence_spans(text + "x")[-1][1] == len(text) + 1
