"""The matter of the word index: gathered, and carried over when chunks come and go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_app import postings
from rag_app.lexical import LexicalIndex, Scoring
from rag_app.postings import Gathering

if TYPE_CHECKING:
    from rag_app.postings import Postings

SCORING = Scoring("words", 1.5, 0.75)
WORDS = st.lists(st.sampled_from(["sea", "cat", "dog", "fish", "fly", "ship"]), max_size=9)
CHUNKS = st.dictionaries(st.from_regex("[a-f0-9]{4}", fullmatch=True), WORDS, max_size=20)


def gather(chunks: dict[str, list[str]], earlier: Postings | None = None) -> Postings:
    gathering = Gathering()
    if earlier is not None:
        gathering.keep(earlier, chunks)
    for id, words in chunks.items():
        if earlier is None or id not in earlier.ids:
            gathering.add(id, words)
    return gathering.finish()


def counts_of(found: Postings) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {id: {} for id in found.ids}
    for number, word in enumerate(found.words):
        part = slice(found.starts[number], found.starts[number + 1])
        for chunk, count in zip(found.chunks[part], found.counts[part], strict=True):
            counts[found.ids[chunk]][word] = int(count)
    return counts


def count_words(chunks: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    return {id: {word: words.count(word) for word in words} for id, words in chunks.items()}


@given(CHUNKS, CHUNKS, st.integers(1, 40))
@settings(deadline=None)
def test_what_is_carried_over_is_as_if_gathered_anew(
    first: dict[str, list[str]], then: dict[str, list[str]], block: int
) -> None:
    kept = {id: words for place, (id, words) in enumerate(first.items()) if place % 3}
    now = {id: words for id, words in then.items() if id not in first} | kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "BLOCK", block)
        earlier = gather(first)
        found = gather(now, earlier)
    assert counts_of(earlier) == count_words(first)
    assert counts_of(found) == count_words(now)
    assert list(found.ids) == sorted(now)
    assert list(found.words) == sorted({word for words in now.values() for word in words})
    lengths = {id: len(words) for id, words in now.items()}
    assert found.lengths.tolist() == [lengths[id] for id in sorted(now)]


def test_a_word_may_come_more_often_than_a_byte_counts() -> None:
    found = gather({"a": ["sea"] * 70_000 + ["cat"], "b": ["sea"] * 300})
    assert counts_of(found) == {"a": {"sea": 70_000, "cat": 1}, "b": {"sea": 300}}


def test_scores_are_those_of_bm25s() -> None:
    chance = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    texts = {
        f"{place:03}": " ".join(words[min(59, n)] for n in chance.zipf(1.5, place % 40 + 1))
        for place in range(300)
    }
    built = LexicalIndex.build(texts.items(), SCORING)
    theirs = bm25s.BM25(method="lucene", k1=SCORING.k1, b=SCORING.b, backend="numpy")
    theirs.index([re.findall(r"\w+", text) for text in texts.values()], show_progress=False)
    for word in ("w1", "w2", "w30"):
        expected = dict(zip(texts, theirs.get_scores([word]).tolist(), strict=True))
        found = dict(built.rank(word))
        assert found == pytest.approx({id: score for id, score in expected.items() if score})
