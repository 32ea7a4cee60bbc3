"""How good an answer is, as far as that can be told without a model.

    exact_match         1 if the answer is one of the right ones, but for case, punctuation,
                        articles and white space
    token_f1            harmonic mean of precision and recall of the answer's words, over the right
                        answer that it shares most with
    citation_precision  share of the citations that overlap evidence of the case
    citation_recall     share of the pieces of evidence that a citation overlaps
    answer_rate         of questions that the documents answer: 1 if there is an answer
    false_answer_rate   of questions that they do not answer: 1 if there is an answer all the same

An answer that says it has none gets 0 for what it should have said; its citations are not judged.

Sources: the official script of SQuAD 2.0 (https://rajpurkar.github.io/SQuAD-explorer/) for the
first two; in text with Chinese, Japanese or Korean characters each of these is a word and their
punctuation goes too, as in the one of CMRC 2018 (https://github.com/ymcui/cmrc2018), whose F1
counts the longest common run while this counts the words in common. Citations: Gao et al.,
"Enabling Large Language Models to Generate Text with Citations", EMNLP 2023, with the evidence of
the case in place of a model's opinion.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final

from chains.qa import NO_EVIDENCE
from rag_app.evaluation.projection import overlaps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.evaluation.results import Case, Located
    from rag_app.types import Citation

_MARK: Final = re.compile(r"[ \t]*\[\d+\]")
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_CJK: Final = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
_CJK_WORD: Final = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_HAS_CJK: Final = re.compile(f"[{_CJK}]")

OPENING: Final = 200
"""Characters of an answer without citations in which it must say that it has none."""

_DOCUMENTS: Final = r"\b(?:documents?|passages?|context|texts?|sources?|excerpts?|materials?)\b"
_ABSTAINING: Final = re.compile(
    rf"{_DOCUMENTS}[^.!?]{{0,40}}\b(?:do(?:es)? not|don't|doesn't|did not|didn't|cannot|can't)\b"
    r"[^.!?]{0,30}\b(?:answer|contain|mention|provide|include|say|state|specify|hold|address|"
    r"cover|tell|give|have|discuss|offer|indicate)"
    r"|\b(?:can ?not|can't|could not|couldn't|unable to|not able to)\b[^.!?]{0,20}"
    r"\b(?:answer|find|determine|tell)\b"
    r"|\b(?:no|not enough|insufficient|not any)\b[^.!?]{0,20}\b(?:information|evidence|answer)\b"
    r"|\bi (?:do not|don't) know\b"
    r"|\b(?:dokumenten?|texten?|passagen?|quellen?|unterlagen|abschnitten?)\b[^.!?]{0,60}"
    r"\b(?:nicht|keine?[nmrs]?)\b"
    r"|\b(?:documents?|passages?|textes?|extraits?|sources?)\b[^.!?]{0,20}\bne\b"
    r"[^.!?]{0,30}\b(?:pas|aucune?)\b"
    r"|\b(?:documentos?|pasajes?|textos?|fuentes?|fragmentos?)\b[^.!?]{0,10}\bno\b"
    r"|(?:文档|文件|资料|文獻|文献|段落|文章|材料|原文)[^。]{0,15}(?:没有|沒有|未|不|无法|無法)"
    r"|(?:文書|資料|ドキュメント|文章)[^。]{0,30}(?:ません|ない)",
    re.IGNORECASE,
)
"""Ways to say that there is no answer, of models that put the sentence asked for in their words."""


def measure_answer(
    case: Case,
    located: Sequence[Located],
    answer: str,
    citations: Sequence[Citation],
    abstained: bool,
    judged: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The metrics of the module's list that the case has something to compare with.

    Args:
        located: the evidence of the case; empty for a question that the documents do not answer,
            of which only `false_answer_rate` is measured.
        abstained: whether the answer says that there is none; see `has_abstained`.
        judged: what a judge measured, to be added.

    An answer without citations has a citation precision of 0, one that abstains has none.
    """
    if not case.answerable:
        return {"false_answer_rate": float(not abstained), **(judged or {})}
    metrics = {"answer_rate": float(not abstained)}
    if case.answers:
        given = "" if abstained else answer
        metrics["exact_match"] = max(match_exactly(given, right) for right in case.answers)
        metrics["token_f1"] = max(compare_words(given, right) for right in case.answers)
    pairs = [[_rests_on(citation, each) for each in located] for citation in citations]
    if not abstained:
        metrics["citation_precision"] = sum(map(any, pairs)) / len(pairs) if pairs else 0.0
    if located:
        cited = sum(map(any, zip(*pairs, strict=True)))
        metrics["citation_recall"] = cited / len(located)
    return {**metrics, **(judged or {})}


def has_abstained(answer: str, citations: Sequence[Citation]) -> bool:
    """Whether an answer says that the documents do not hold one.

    It does if it is empty; if it begins with the sentence that rag-app's chains use for it,
    `The documents do not answer this question.`, whatever follows; or if it cites nothing and has
    that sentence, or begins with another that says so. The latter are known in English, German,
    French, Spanish, Chinese and Japanese, as models put it; an answer that cites something beside
    them is an answer in part, and counts as one.
    """
    said = normalise(_MARK.sub("", answer))
    sentence = normalise(NO_EVIDENCE)
    if not said or said.startswith(sentence):
        return True
    if citations:
        return False
    plain = answer.replace("\u2019", "'")
    return sentence in said or _ABSTAINING.search(plain[:OPENING]) is not None


def match_exactly(answer: str, right: str) -> float:
    """1.0 if both have the same words in the same order, as `split_words` gives them, else 0.0."""
    return float(_split_answer(answer) == split_words(right))


def compare_words(answer: str, right: str) -> float:
    """Harmonic mean of the shares of words that each has in common with the other.

    Where one of them has no words it is 1.0 if neither has, else 0.0.
    """
    given, expected = _split_answer(answer), split_words(right)
    if not given or not expected:
        return float(given == expected)
    common = (Counter(given) & Counter(expected)).total()
    return 2 * common / (len(given) + len(expected))


def split_words(text: str) -> list[str]:
    """The words of `text` in order, as `normalise` leaves them; each CJK character is one."""
    words = normalise(text)
    if not _HAS_CJK.search(words):
        return words.split()
    kept = (char for char in words if not unicodedata.category(char).startswith(("P", "S")))
    return _CJK_WORD.findall("".join(kept))


def normalise(text: str) -> str:
    """`text` in lower case without ASCII punctuation, English articles and surplus white space."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _split_answer(answer: str) -> list[str]:
    return split_words(_MARK.sub("", answer))


def _rests_on(citation: Citation, located: Located) -> bool:
    if citation.source != located.source:
        return False
    place = (citation.start, citation.end)
    return not located.spans or any(overlaps(place, span) for span in located.spans)
