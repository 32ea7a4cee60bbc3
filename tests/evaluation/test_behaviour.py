from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from rag_app.errors import UsageError
from rag_app.evaluation.behaviour import changes, find_flip, pair_hits
from rag_app.evaluation.results import AnswerResult, Evaluation, Retrieved
from rag_app.types import Hit
from tests.evaluation.results_samples import make_evaluation


def retrieved(id: str, start: int = 0, end: int = 100, source: str = "a.md") -> Retrieved:
    return Retrieved(Hit(id, source, "x", start, end, 0.5, 0.5, {}, {}), ())


def told(
    before: list[Retrieved], after: list[Retrieved]
) -> list[tuple[str, str | None, str | None]]:
    return [
        (move.kind, move.before and move.before[1].id, move.after and move.after[1].id)
        for move in pair_hits(before, after)
    ]


def test_chunks_of_the_same_id_stay_move_vanish_and_appear() -> None:
    before = [retrieved(id, source=id) for id in "abcd"]
    after = [retrieved(id, source=id) for id in "acbe"]
    assert told(before, after) == [
        ("stayed", "a", "a"),
        ("moved", "b", "b"),
        ("moved", "c", "c"),
        ("vanished", "d", None),
        ("appeared", None, "e"),
    ]


def test_chunks_cut_otherwise_are_the_same_text_when_half_of_the_shorter_is_shared() -> None:
    before = [retrieved("long", 0, 400), retrieved("other", 0, 400, "b.md")]
    after = [
        retrieved("first", 0, 100),
        retrieved("second", 100, 200),
        retrieved("mostly out", 351, 451),
    ]
    assert told(before, after) == [
        ("stayed", "long", "first"),
        ("moved", "long", "second"),
        ("vanished", "other", None),
        ("appeared", None, "mostly out"),
    ]
    assert told(before[:1], [retrieved("half out", 350, 450)]) == [("stayed", "long", "half out")]


def test_a_chunk_is_paired_with_the_one_it_overlaps_most() -> None:
    after = [retrieved("less", 0, 60), retrieved("most", 40, 140)]
    assert told([retrieved("was", 30, 130)], after[1:] + after[:1])[0] == ("stayed", "was", "most")
    assert ("moved", "was", "most") in told([retrieved("was", 30, 130)], after)
    assert told([retrieved("was", 30, 130)] * 2, [after[0]])[0] == ("stayed", "was", "less")


def test_empty_rankings_have_no_moves() -> None:
    assert pair_hits([], []) == ()
    assert told([], [retrieved("a")]) == [("appeared", None, "a")]


def test_a_pipeline_against_itself_has_no_change() -> None:
    evaluation = make_evaluation("hybrid", 12)
    found = changes(evaluation, evaluation)
    assert len(found) == 12
    assert not [change for change in found if change.changed]


def test_every_question_is_there_worst_first_with_its_difference() -> None:
    before = make_evaluation("good", 30, skill=0.9)
    after = make_evaluation("bad", 30, skill=0.1)
    found = changes(before, after)
    a, b = before.scores("ndcg@10"), after.scores("ndcg@10")
    assert {change.case.id for change in found} == {result.case.id for result in before.results}
    assert all(change.metric == "ndcg@10" for change in found)
    expected = {change.case.id: None for change in found} | {id: b[id] - a[id] for id in a}
    assert {change.case.id: change.difference for change in found} == expected
    differences = [change.difference or 0.0 for change in found]
    assert all(first <= second for first, second in pairwise(differences))
    assert differences[0] < 0


def test_moves_tell_of_every_hit_of_both() -> None:
    before = make_evaluation("small", 10, size=300)
    after = make_evaluation("large", 10, size=900)
    for change in changes(before, after):
        sides = zip(*((move.before, move.after) for move in change.moves), strict=True)
        for side, result in zip(sides, (change.before, change.after), strict=True):
            ranks = {placed[0] for placed in side if placed}
            assert ranks == set(range(1, len(result.ranking) + 1))


def answered(text: str, *, abstained: bool = False, **metrics: float) -> Evaluation:
    evaluation = make_evaluation("one", 1, answers=False)
    result = evaluation.results[0]
    answer = AnswerResult(text, (), abstained, metrics)
    measured = replace(result, answer=answer, metrics={**result.metrics, **metrics})
    return replace(evaluation, results=(measured,))


@pytest.mark.parametrize(
    ("before", "after", "flip"),
    [
        (answered("yes", token_f1=0.9), answered("no", token_f1=0.1), "now wrong"),
        (answered("no", correctness=0.0), answered("yes", correctness=1.0), "now right"),
        (answered("yes", token_f1=0.9), answered("", abstained=True), "now wrong"),
        (answered("no", token_f1=0.1), answered("", abstained=True), "now abstains"),
        (answered("", abstained=True), answered("something"), "now answers"),
        (answered("yes", token_f1=0.9), answered("indeed", token_f1=0.6), ""),
    ],
)
def test_answers_that_flip(before: Evaluation, after: Evaluation, flip: str) -> None:
    assert find_flip(before.results[0], after.results[0]) == flip
    assert changes(before, after)[0].flip == flip


def test_a_question_without_evidence_is_right_when_it_abstains() -> None:
    evaluation = make_evaluation("one", 11)
    last = evaluation.results[10]
    assert not last.case.answerable
    assert last.answer is not None
    invented = replace(last, answer=replace(last.answer, abstained=False, answer="42"))
    assert find_flip(last, invented) == "now wrong"
    assert find_flip(invented, last) == "now right"


def test_other_cases_are_refused() -> None:
    with pytest.raises(UsageError, match="measured on other cases than 'hybrid'"):
        changes(make_evaluation(n=5), make_evaluation(n=6))


def test_a_metric_that_was_not_measured_is_refused_with_those_that_were() -> None:
    evaluation = make_evaluation(n=3)
    with pytest.raises(UsageError, match="'ndcg@7' is not measured in both. Both have: recall@1"):
        changes(evaluation, evaluation, "ndcg@7")
    assert changes(evaluation, evaluation, "mrr@5")[0].metric == "mrr@5"


def test_of_a_metric_where_less_is_better_more_is_worse() -> None:
    first = make_evaluation("two", 2, answers=False)

    def rated(*rates: float) -> Evaluation:
        results = [
            replace(result, metrics={"false_answer_rate": rate})
            for result, rate in zip(first.results, rates, strict=True)
        ]
        return replace(first, results=tuple(results), metrics={"false_answer_rate": 0.5})

    found = changes(rated(1.0, 0.0), rated(0.0, 1.0))
    assert [(change.case.id, change.difference) for change in found] == [
        ("case-1", 1.0),
        ("case-0", -1.0),
    ]
