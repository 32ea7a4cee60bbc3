"""How texts become the words that BM25 counts."""

from __future__ import annotations

import sys
from unicodedata import category, name

import pytest

from rag_app.words import ENGLISH_STOP_WORDS, cut_chunk, cut_query


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Cats' running, re-running", ["cat", "run", "re", "run"]),
        ("chunk_overlap=32 v3.5", ["chunk", "overlap", "32", "v3", "5"]),
        (
            "天气很好 Ｆａｓｔ ｶﾀｶﾅ 第5节",
            ["天气", "气很", "很好", "fast", "カタ", "タカ", "カナ"] + ["第", "5", "节"],
        ),
        ("한국어 สวัส हिन्दी", ["한국", "국어", "สว", "วั", "ัส", "हिन्दी"]),
        ("infor\u00admation", ["inform"]),
        ("Straße STRASSE", ["strass", "strass"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert cut_query("english", text) == words


def test_other_languages_keep_their_words() -> None:
    assert cut_query("words", "Die Katzen an der See") == ["die", "katzen", "an", "der", "see"]
    assert len(ENGLISH_STOP_WORDS) == 33


def test_chunks_have_the_single_characters_too() -> None:
    assert cut_chunk("english", "天气 fine") == ["天气", "天", "气", "fine"]
    assert cut_query("english", "天气 fine") == ["天气", "fine"]


def test_a_mark_parts_no_word_but_in_scripts_without_spaces() -> None:
    marks = [chr(c) for c in range(0x300, sys.maxunicode) if category(chr(c)) in ("Mn", "Mc")]
    marks = [mark for mark in marks if "KATAKANA" not in name(mark)]
    parted = {name(m).split()[0] for m in marks if len(cut_query("words", f"xa{m}bx")) > 1}
    assert len(marks) > 2000
    assert parted == {"THAI", "LAO", "MYANMAR", "KHMER"}
