"""Answers: words as the official scripts count them, citations, and who says there is no answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chains import extractive, qa
from rag_app.evaluation.answers import compare_words, has_abstained, match_exactly, measure_answer
from rag_app.evaluation.results import Case, Evidence, Located
from rag_app.types import Citation

CITED = [Citation(1, "a.md", 10, 20, "ten letters")]


def ask(*answers: str, sources: Sequence[str] = ("a.md",)) -> Case:
    return Case("1", "?", tuple(Evidence(source) for source in sources), answers)


# -- words, by the definition of SQuAD's official script ------------------------------------------


@pytest.mark.parametrize(
    ("answer", "right", "exact", "f1"),
    [
        ("The Broncos", "broncos", 1, 1),
        ("Denver  Broncos.", "the Denver Broncos", 1, 1),
        ("Santa Clara, California", "Santa Clara", 0, 0.8),
        ("a an the", "", 1, 1),
        ("", "gold", 0, 0),
        ("gold", "", 0, 0),
        ("1990s", "1990", 0, 0),
        ("24-10", "2410", 1, 1),
        ("Carolina's defence", "carolinas defence", 1, 1),
        ("theatre", "atre", 0, 0),
        ("to be or not to be", "to be", 0, 0.5),
        ("gold gold gold", "gold", 0, 0.5),
        ("gold \u201cleaf\u201d", "gold leaf", 0, 0.5),
        ("two months of rent [1][2].", "two months of rent", 1, 1),
        ("Cats [1] and dogs [12].", "cats and dogs", 1, 1),
        ("item[3]", "item", 1, 1),
        ("item", "item[3]", 0, 0),
    ],
)
def test_english_is_compared_as_in_squad(answer: str, right: str, exact: int, f1: float) -> None:
    assert match_exactly(answer, right) == exact
    assert compare_words(answer, right) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "right", "exact", "f1"),
    [
        ("\u5317\u4eac", "\u5317\u4eac", 1, 1),
        ("\u5317\u4eac\u3002", "\u300c\u5317\u4eac\u300d", 1, 1),
        ("\u5317\u4eac\u5e02", "\u5317\u4eac", 0, 0.8),
        ("\u5728\u5317\u4eac[1]\u3002", "\u5317\u4eac", 0, 0.8),
        ("iPhone 4s\u624b\u673a", "iphone4s\u624b\u673a", 0, 4 / 7),
        ("1998 \u5e74", "1998\u5e74", 1, 1),
        ("\u4e1c\u4eac", "\u5317\u4eac", 0, 0.5),
        ("\u3068\u3046\u304d\u3087\u3046\uff5e", "\u3068\u3046\u304d\u3087\u3046", 1, 1),
    ],
)
def test_cjk_characters_are_words(answer: str, right: str, exact: int, f1: float) -> None:
    assert match_exactly(answer, right) == exact
    assert compare_words(answer, right) == pytest.approx(f1)


def test_the_right_answer_that_fits_best_counts() -> None:
    metrics = measure_answer(ask("gold", "gold leaf"), [], "Gold leaf!", [], abstained=False)
    assert (metrics["exact_match"], metrics["token_f1"]) == (1.0, 1.0)
    metrics = measure_answer(ask("iron", "gold leaf"), [], "gold", [], abstained=False)
    assert (metrics["exact_match"], metrics["token_f1"]) == (0.0, pytest.approx(2 / 3))


# -- citations ------------------------------------------------------------------------------------


def test_citations_are_held_against_the_evidence() -> None:
    located = [
        Located("a.md", ((0, 11), (500, 510))),
        Located("a.md", ((20, 30),)),
        Located("b.md", ()),
        Located("c.md", ((0, 5),)),
    ]
    citations = [
        *CITED,
        Citation(2, "b.md", 0, 3, "any"),
        Citation(3, "c.md", 5, 9, "next"),
        Citation(4, "a.md", 509, 600, "other place"),
    ]
    metrics = measure_answer(ask(), located, "Some [1].", citations, abstained=False)
    assert metrics == {
        "answer_rate": 1.0,
        "citation_precision": 3 / 4,
        "citation_recall": 2 / 4,
    }


def test_an_answer_without_citations_cites_nothing_right() -> None:
    metrics = measure_answer(ask("x"), [Located("a.md", ())], "x", [], abstained=False)
    assert metrics["citation_precision"] == metrics["citation_recall"] == 0.0
    assert metrics["exact_match"] == 1.0


def test_abstaining_from_a_question_with_an_answer_misses_all_of_it() -> None:
    case, located = ask("The documents"), [Located("a.md", ())]
    metrics = measure_answer(case, located, qa.NO_EVIDENCE, [], abstained=True)
    assert metrics == {
        "answer_rate": 0.0,
        "exact_match": 0.0,
        "token_f1": 0.0,
        "citation_recall": 0.0,
    }


def test_of_a_question_without_an_answer_only_abstention_is_measured() -> None:
    case = ask(sources=())
    assert measure_answer(case, [], "x", CITED, abstained=False) == {"false_answer_rate": 1.0}
    assert measure_answer(case, [], "", [], abstained=True) == {"false_answer_rate": 0.0}
    judged = measure_answer(case, [], "x", [], abstained=False, judged={"faithfulness": 0.25})
    assert judged == {"false_answer_rate": 1.0, "faithfulness": 0.25}


# -- abstention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [qa.NO_EVIDENCE, extractive.NO_EVIDENCE])
def test_the_chains_own_sentence_abstains(answer: str) -> None:
    assert has_abstained(answer, [])
    assert has_abstained(answer.rstrip(".").upper() + " [1]", CITED)
    assert has_abstained(f"{answer} They only say that cats are allowed [1].", CITED)
    assert has_abstained(f"I am sorry. {answer}", [])


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n",
        "[1]",
        "The passages do not mention a deposit.",
        "The provided context doesn\u2019t contain that information.",
        "I could not find this in your files.",
        "There is no information about dogs.",
        "I don't know.",
        "Die Dokumente beantworten diese Frage nicht.",
        "Les documents ne r\u00e9pondent pas \u00e0 cette question.",
        "Los documentos no responden a esta pregunta.",
        "\u6587\u6863\u6ca1\u6709\u56de\u7b54\u8fd9\u4e2a\u95ee\u9898\u3002",
        "\u3053\u306e\u6587\u66f8\u306f\u3053\u306e\u8cea\u554f\u306b\u7b54\u3048\u3066\u3044\u307e\u305b\u3093\u3002",
    ],
)
def test_models_abstain_in_words_of_their_own(answer: str) -> None:
    assert has_abstained(answer, [])


@pytest.mark.parametrize(
    "answer",
    [
        "Two months of rent.",
        "No, dogs are not allowed.",
        "The deposit does not exceed two months.",
        "Nein, Hunde sind nicht erlaubt.",
        "Non, les chiens ne sont pas permis.",
        "\u4e0d\u5141\u8bb8\u517b\u72d7\u3002",
        "Cats are allowed. " * 20 + "The passages do not mention dogs.",
    ],
)
def test_a_negative_answer_is_an_answer(answer: str) -> None:
    assert not has_abstained(answer, [])


def test_an_answer_in_part_with_citations_is_an_answer() -> None:
    said = "Cats are allowed [1]. The passages do not mention dogs."
    assert not has_abstained(said, CITED)
    assert not has_abstained(f"Cats are allowed [1]. {qa.NO_EVIDENCE}", CITED)
