"""How well the sentences of passages support an answer to a question, without a chat model.

support = cosine(question, sentence under its heading)
        + WORDS x share of the question's words the sentence and its heading hold
        + SPREAD x share of the question's words the sentences hold together
        - UNKNOWN_NAME when the question names something that no passage does

A word counts the more, the fewer sentences hold it; grammar words do not count. A name is a word
with a digit or a capital inside. The last two terms tell a question about something the documents
never mention from one that they answer in other words. Weights and threshold were fitted for
`minilm` on 86 answerable and 70 unanswerable questions about two sets of documentation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.citations import words
from rag_app.sentences import sentence_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.embeddings import Embeddings

    from rag_app.citations import Passage
    from rag_app.types import Span

WORDS: Final = 0.4
SPREAD: Final = 0.3
UNKNOWN_NAME: Final = 0.3
THRESHOLD: Final = 0.785

_NAME: Final = re.compile(r"\w*\d[\w-]*|(?<=\s)[A-Z][\w-]+|\b\w*[a-z][A-Z]\w*")
_LONGEST: Final = 600
_FEWEST_WORDS: Final = 4
_GRAMMAR_WORDS: Final = """
    a about an and any are as at be because been being but by can could did do doe does for from get
    go had has have how i if in into is it its many may me might much must my need no not of on or
    our shall should so such that the their them then there these they thi those to us use used
    using was we were what when where which while who whom whose why will with would you your
"""
_GRAMMAR: Final = frozenset(_GRAMMAR_WORDS.split())
_ENDINGS: Final = ("ing", "ion", "ed", "es", "ly", "e")
_BULLET: Final = re.compile(r"(?:[-*+>•]|\d{1,3}[.)])[ \t]+")
_HEADER_RULE: Final = re.compile(r"\s*\|[\s:|-]+\|")
_NOT_PROSE: Final = re.compile(
    r"#{1,6}\s|```|~~~|///|:::|\|[\s:|-]+\|?$|<!--|import |from \w+ import "
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that could be an answer: its passage, its span there, its words."""

    passage: Passage
    span: Span
    text: str


def find_candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """The sentences, items and table rows of the passages; no headings, code, questions, scraps."""
    found = []
    seen = set()
    for passage in passages:
        for span in sentence_spans(passage.text):
            start, end = _without_bullet(passage.text, span)
            place = (passage.source, passage.start + start)
            is_header = _HEADER_RULE.match(passage.text, end)
            if place not in seen and not is_header and _is_statement(passage.text[start:end]):
                seen.add(place)  # chunks overlap
                found.append(Candidate(passage, (start, end), passage.text[start:end]))
    return found


def score(
    question: str, candidates: Sequence[Candidate], embeddings: Embeddings
) -> np.ndarray[Any, Any]:
    """The support of each candidate, float64 (n,), higher is better, about 0 to 1.7."""
    under_heading = [_under_heading(c) for c in candidates]
    shortened = [_shorten(text, embeddings) for text in under_heading]
    vectors = np.asarray(embeddings.embed_documents(shortened), dtype=np.float64)
    asked = np.asarray(embeddings.embed_query(_shorten(question, embeddings)), dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked)
    cosine = vectors @ asked / np.maximum(lengths, 1e-12)
    shares, spread = _share_words(question, under_heading)
    unknown = UNKNOWN_NAME if _names_unknown(question, candidates) else 0.0
    support: np.ndarray[Any, Any] = cosine + WORDS * shares + SPREAD * spread - unknown
    return support


def _without_bullet(text: str, span: Span) -> Span:
    start, end = span
    while bullet := _BULLET.match(text, start, end):
        start = bullet.end()
    return start, end


def _is_statement(sentence: str) -> bool:
    letters = sum(map(str.isalpha, sentence))
    return (
        len(sentence) <= _LONGEST
        and letters > len(sentence) / 2
        and not _NOT_PROSE.match(sentence)
        and sentence.rstrip("*_`\"') ")[-1:] not in ("?", "？", ":")  # noqa: RUF001
        and len(words(sentence)) >= _FEWEST_WORDS
    )


def _under_heading(candidate: Candidate) -> str:
    above = candidate.passage.heading or candidate.passage.title
    return f"{above}: {candidate.text}" if above else candidate.text


def _shorten(text: str, embeddings: Any) -> str:
    window = getattr(embeddings, "max_tokens", None)
    if window is None or len(text) < window - 2:
        return text
    spans = embeddings.token_spans(text)
    return text if len(spans) <= window - 2 else text[: spans[window - 3][1]]


def _share_words(question: str, sentences: Sequence[str]) -> tuple[np.ndarray[Any, Any], float]:
    """The share of the question's words, by weight: in each sentence, and in all together."""
    held = [frozenset(_stems(sentence)) for sentence in sentences]
    spread = Counter(stem for stems in held for stem in stems)
    weights = {stem: math.log(1 + len(held) / (0.5 + spread[stem])) for stem in _stems(question)}
    total = sum(weights.values())
    if not total:
        return np.zeros(len(held)), 0.0
    shares = [sum(weights[stem] for stem in stems & weights.keys()) for stems in held]
    return np.asarray(shares) / total, sum(weights[s] for s in weights if spread[s]) / total


def _names_unknown(question: str, candidates: Sequence[Candidate]) -> bool:
    """Whether a name in the question stands in none of the passages the candidates come from."""
    named = {word for name in _NAME.findall(question) for word in words(name)}
    passages = {candidate.passage.number: candidate.passage for candidate in candidates}.values()
    held = {w for p in passages for w in words(f"{p.text} {p.heading} {p.title} {p.source}")}
    return bool(named - held - _GRAMMAR)


def _stems(text: str) -> list[str]:
    return [_cut_ending(word) for word in words(text) if word not in _GRAMMAR]


def _cut_ending(word: str) -> str:
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= 4), "")
    return word.removesuffix(ending)
