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
        "The documents do not answer this question.",
        "I could not find this in the provided passages.",
        "The passages do not contain information about the deposit.",
        "I do not know the answer.",
        "Sorry, I don't have enough information to answer that.",
        "I'm sorry, but the documents do not say how much it is.",
        "I am sorry. I cannot answer this question.",
        "Unfortunately, the provided documents do not contain an answer to this question.",
        "Based on the provided context, I cannot answer this question.",
        "Based on the provided passages, there is no information about pets.",
        "The documents don't say.",
        "The documents do not specify whether dogs are allowed.",
        "None of the passages answer this question.",
        "Nothing in the documents answers the question.",
        "The answer is not in the provided documents.",
        "This question cannot be answered from the documents.",
        "The answer cannot be found in the passages.",
        "This information is not provided in the documents.",
        "I was unable to find any information about the deposit in the documents.",
        "I couldn't find the deposit in the documents.",
        "Not mentioned in the passages.",
        "It cannot be determined from the passages.",
        "The documents do not provide enough information to answer.",
        "The passages provided do not answer this question.",
        "**The documents do not directly answer this question**",
        "I can't find any mention of dogs in the text.",
        "No answer.",
        "Die bereitgestellten Dokumente enthalten keine Informationen zur Kaution.",
        "Leider enthalten die Dokumente keine Informationen dazu.",
        "In den Dokumenten finden sich keine Angaben dazu.",
        "Ich konnte dazu in den Unterlagen nichts finden.",
        "Ich konnte keine Informationen dazu finden.",
        "Die Texte sagen dazu nichts.",
        "Diese Frage kann anhand der Dokumente nicht beantwortet werden.",
        "Ich kann diese Frage anhand der Dokumente nicht beantworten.",
        "Ich wei\xdf es nicht.",
        "Die Dokumente enthalten dazu keine Informationen.",
        "Les documents ne contiennent pas d'informations sur la caution.",
        "Les documents ne contiennent aucune information \xe0 ce sujet.",
        "Je n'ai pas trouv\xe9 cette information dans les documents.",
        "Los documentos no contienen informaci\xf3n sobre el dep\xf3sito.",
        "No he encontrado informaci\xf3n al respecto.",
        "\u6587\u6863\u4e2d\u6ca1\u6709\u5173\u4e8e\u62bc\u91d1\u7684\u4fe1\u606f\u3002",
        "\u6839\u636e\u6240\u63d0\u4f9b\u7684\u6587\u6863\uff0c\u65e0\u6cd5\u56de\u7b54\u8fd9\u4e2a\u95ee\u9898\u3002",
        "\u63d0\u4f9b\u7684\u8d44\u6599\u4e2d\u6ca1\u6709\u63d0\u5230\u62bc\u91d1\u3002",
        "\u6211\u65e0\u6cd5\u4ece\u6587\u4ef6\u4e2d\u627e\u5230\u7b54\u6848\u3002",
        "\u9019\u4e9b\u6587\u4ef6\u6c92\u6709\u56de\u7b54\u9019\u500b\u554f\u984c\u3002",
        "\u62b1\u6b49\uff0c\u6587\u6863\u4e2d\u6ca1\u6709\u76f8\u5173\u4fe1\u606f\u3002",
        "\u6211\u4e0d\u77e5\u9053\u3002",
        "\u6587\u4ef6\u672a\u63d0\u53ca\u62bc\u91d1\u3002",
        "\u6587\u66f8\u306b\u306f\u6577\u91d1\u306b\u95a2\u3059\u308b\u60c5\u5831\u304c\u3042\u308a\u307e\u305b\u3093\u3002",
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
        "There is no evidence that vaccines cause autism.",
        "No, the study found no evidence of an effect.",
        "According to the documents, the fee cannot be refunded; they say it covers postage.",
        "Die Texte belegen, dass der Vertrag nicht verl\xe4ngert wurde.",
        "\u6839\u636e\u6587\u4ef6\uff0c\u8be5\u4ea7\u54c1\u4e0d\u542b\u7cd6\u3002",
        "The documents do not contain the required signatures, so it is void.",
        "The source does not contain sugar.",
        "The text does not say that dogs are forbidden.",
        "There is no information desk in the building.",
        "Tenants cannot find a parking space there.",
        "You cannot determine the rent yourself; the documents say the council does.",
        "No information may be shared with third parties.",
        "Los documentos no se devuelven.",
        "Los textos no fueron escritos por Cervantes.",
        "Die Unterlagen werden nicht zur\xfcckgeschickt.",
        "Die Dokumente m\xfcssen keine Unterschrift tragen.",
        "Les documents ne sont pas remboursables.",
        "\u6587\u4ef6\u4e0d\u5f97\u590d\u5236\u3002",
        "\u6839\u636e\u8d44\u6599\uff0c\u60a3\u8005\u4e0d\u80fd\u670d\u7528\u963f\u53f8\u5339\u6797\u3002",
        "\u8d44\u6599\u663e\u793a\u6ca1\u6709\u526f\u4f5c\u7528\u3002",
        "\u6750\u6599\u4e0d\u542b\u94c5\u3002",
        "\u6587\u7ae0\u6ca1\u6709\u88ab\u5220\u9664\u3002",
        "\u6587\u4ef6\u65e0\u6cd5\u9000\u8fd8\u3002",
        "\u3053\u306e\u8cc7\u6599\u306f\u8fd4\u5374\u3055\u308c\u307e\u305b\u3093\u3002",
        "\u3053\u306e\u88fd\u54c1\u306b\u306f\u7802\u7cd6\u304c\u542b\u307e\u308c\u3066\u3044\u307e\u305b\u3093\u3002",
        "According to the passages, no evidence of fraud was found.",
        "Based on the provided context, the answer is no.",
        "In the documents, the fee does not include VAT.",
        "I cannot be reached on Sundays, writes the author.",
        "It is not available in Germany.",
        "This is not covered by the warranty.",
        "The information must not be shared.",
        "The files do not have to be signed.",
        "The context cannot contain variables.",
        "The material does not give off heat.",
        "Cats are allowed. " * 20 + "The passages do not mention dogs.",
    ],
)
def test_a_negative_answer_is_an_answer(answer: str) -> None:
    assert not has_abstained(answer, [])


def test_an_answer_in_part_with_citations_is_an_answer() -> None:
    said = "Cats are allowed [1]. The passages do not mention dogs."
    assert not has_abstained(said, CITED)
    assert not has_abstained(f"Cats are allowed [1]. {qa.NO_EVIDENCE}", CITED)
