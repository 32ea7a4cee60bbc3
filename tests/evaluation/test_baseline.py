"""A result held against an earlier one and against floors: noise is no regression, a fall is."""

from __future__ import annotations

import random
import re
import statistics
from dataclasses import replace
from typing import Any

import pytest
import scipy.stats

from rag_app.errors import UsageError
from rag_app.evaluation.baseline import (
    check_baseline,
    check_floors,
    list_metrics,
    read_floors,
    require_metrics,
    require_same_cases,
    require_sight,
)
from rag_app.evaluation.results import Case, CaseResult, Evaluation, Evidence, Located


def make_result(
    scores: dict[str, list[float]], *, digest: str = "d", name: str = "x"
) -> Evaluation:
    """An evaluation with these scores by metric, one for each case."""
    count = len(next(iter(scores.values())))
    results = tuple(
        CaseResult(
            case=Case(f"c{place}", f"Question {place}?", (Evidence("a.md", "words"),)),
            located=(Located("a.md", ((0, 5),)),),
            rankings={"retriever": ()},
            metrics={metric: values[place] for metric, values in scores.items()},
            stages={},
            timings_ms={"total": 1.0},
        )
        for place in range(count)
    )
    return Evaluation(
        name=name,
        config={},
        origin="cases.jsonl",
        digest=digest,
        ks=(1, 10),
        results=results,
        metrics={metric: sum(values) / count for metric, values in scores.items()},
        intervals={},
        stages={},
        latency_ms={},
        tokens={},
        cost=None,
        index={},
        seconds=0.0,
    )


def lower(values: list[float], by: float) -> list[float]:
    return [max(0.0, value - by) for value in values]


@pytest.fixture
def scores() -> list[float]:
    chance = random.Random(7)
    return [chance.random() for _ in range(60)]


def test_a_clear_fall_is_worse_and_the_same_result_is_not(scores: list[float]) -> None:
    then = make_result({"ndcg@10": scores, "recall@10": scores})
    now = make_result({"ndcg@10": lower(scores, 0.2), "recall@10": scores})
    by_metric = {change.metric: change for change in check_baseline(now, then)}
    assert by_metric["ndcg@10"].worse
    assert by_metric["ndcg@10"].now < by_metric["ndcg@10"].baseline
    assert not by_metric["recall@10"].worse
    assert not any(change.worse for change in check_baseline(then, now))  # better is not worse


def test_noise_around_the_same_mean_is_seldom_worse() -> None:
    chance = random.Random(3)
    alarms = 0
    for _ in range(40):
        then = [chance.random() for _ in range(50)]
        now = [chance.random() for _ in range(50)]
        found = check_baseline(make_result({"ndcg@10": now}), make_result({"ndcg@10": then}))
        alarms += found[0].worse
    assert alarms <= 4  # one side of a test at 5 %: 1 of 40 expected


def test_a_fall_of_the_mean_that_few_questions_cannot_show_is_not_worse() -> None:
    then, now = make_result({"ndcg@10": [1.0] * 6}), make_result({"ndcg@10": [0.0] + [1.0] * 5})
    (change,) = check_baseline(now, then)
    assert change.now < change.baseline
    assert not change.worse


def test_of_false_answers_more_is_worse() -> None:
    then = make_result({"ndcg@10": [1.0] * 30, "false_answer_rate": [0.0] * 30})
    now = make_result({"ndcg@10": [1.0] * 30, "false_answer_rate": [1.0] * 30})
    worse = {change.metric for change in check_baseline(now, then) if change.worse}
    assert worse == {"false_answer_rate"}
    assert not any(change.worse for change in check_baseline(then, now))


def test_the_more_metrics_are_looked_at_the_more_it_takes(scores: list[float]) -> None:
    chance = random.Random(5)
    names = ["ndcg@10", *(f"recall@{k}" for k in range(1, 20))]
    noisy = {name: [chance.random() for _ in scores] for name in names}
    then, now = make_result({n: scores for n in names}), make_result(noisy)
    alone = check_baseline(now, then, ["ndcg@10"])[0].paired
    among = check_baseline(now, then, names)[0].paired
    assert alone.p == among.p
    assert among.adjusted >= alone.adjusted == alone.p


def test_unless_named_the_deepest_cutoffs_and_the_answers_are_compared() -> None:
    scores = {n: [0.5, 1.0] * 4 for n in ("recall@1", "recall@10", "map@10", "token_f1", "mrr@10")}
    found = check_baseline(make_result(scores), make_result(scores))
    assert [change.metric for change in found] == ["recall@10", "mrr@10", "token_f1"]


def test_other_cases_are_refused_with_what_differs() -> None:
    then = make_result({"ndcg@10": [1.0, 0.5]})
    cases = [
        replace(then.results[0].case, question="Another?"),
        Case("new", "New?"),
    ]
    require_same_cases(cases, "d", then)  # the digest decides
    with pytest.raises(UsageError, match=r"other cases \(1 new, 1 gone, 1 changed\).*--save"):
        require_same_cases(cases, "e", then)
    with pytest.raises(UsageError, match="other cases"):
        check_baseline(make_result({"ndcg@10": [1.0, 0.5]}, digest="e"), then)


def test_cases_that_are_gone_are_refused_and_those_the_baseline_lacks_are_not_compared() -> None:
    whole = make_result({"ndcg@10": [1.0, *[0.5, 0.0] * 5]})
    part = replace(whole, results=whole.results[1:])
    (change,) = check_baseline(whole, part)
    assert (change.paired.n, change.baseline, change.now) == (10, 0.25, 0.25)
    with pytest.raises(
        UsageError, match=r"1 of its 11 cases are left out now: c0\. .*--stale miss"
    ):
        check_baseline(part, whole)


NAMES = ("recall@10", "mrr@10", "ndcg@10", "answer_rate", "token_f1")


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("metrics", [1, 2, 3, 5])
def test_a_total_collapse_is_worse_or_the_baseline_is_refused(count: int, metrics: int) -> None:
    names = NAMES[:metrics]
    then = make_result({name: [1.0] * count for name in names})
    now = make_result({name: [0.0] * count for name in names})
    if 2 / 2**count * metrics < 0.05:  # only all falling and all rising are as extreme
        require_sight(names, then)
        assert all(change.worse and not change.blind for change in check_baseline(now, then))
        return
    words = f"these {count} cases cannot show any fall in {metrics} metrics"
    for refused in (lambda: check_baseline(now, then), lambda: require_sight(names, then)):
        with pytest.raises(UsageError, match=words) as error:
            refused()
        least = re.search(r"Give (\d+) cases", str(error.value))
        assert least
        assert 2 / 2 ** int(least[1]) * metrics < 0.05 <= 2 / 2 ** (int(least[1]) - 1) * metrics
        assert ("fewer --metric" in str(error.value)) is (count >= 6)


def test_a_metric_of_too_few_cases_is_named_and_the_others_are_compared() -> None:
    then = make_result({"ndcg@10": [1.0] * 12, "false_answer_rate": [0.0] * 12})
    few = tuple(
        result if place < 3 else replace(result, metrics={"ndcg@10": result.metrics["ndcg@10"]})
        for place, result in enumerate(then.results)
    )
    then = replace(then, results=few)
    assert [change.blind for change in check_baseline(then, then)] == [False, True]


def test_what_may_be_missed_is_of_each_metrics_share_of_the_five_percent(
    scores: list[float],
) -> None:
    chance = random.Random(4)
    later = [score + chance.gauss(0, 0.1) for score in scores]
    names = NAMES[:3]
    then = make_result({name: scores for name in names})
    now = make_result({name: later for name in names})
    alone = check_baseline(now, then, names[:1])[0].paired.detectable
    among = check_baseline(now, then, names)[0].paired.detectable
    spread = statistics.stdev(b - a for a, b in zip(scores, later, strict=True)) / 60**0.5
    z = scipy.stats.norm.ppf
    assert alone == pytest.approx((z(1 - 0.025) + z(0.8)) * spread)
    assert among == pytest.approx((z(1 - 0.025 / 3) + z(0.8)) * spread)


def test_of_false_answers_those_it_no_longer_gives_are_wins() -> None:
    then = make_result({"false_answer_rate": [1.0] * 9 + [0.0]})
    now = make_result({"false_answer_rate": [0.0] * 9 + [1.0]})
    paired = check_baseline(now, then)[0].paired
    assert (paired.wins, paired.ties, paired.losses) == (9, 0, 1)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("filter", {"source": "a.md"}, r'filter none there, \{"source": "a.md"\} here'),
        ("answers", True, "answers false there, true here"),
        ("judge", {"class": "ChatOpenAI", "model": "n"}, '"model": "m".* there, .*"n".* here'),
    ],
)
def test_a_baseline_that_was_measured_in_another_way_is_refused(
    name: str, value: Any, words: str
) -> None:
    judge = {"class": "ChatOpenAI", "model": "m"}
    plan = {"filter": None, "stale": "error", "answers": False, "judge": judge}
    then = replace(make_result({"ndcg@10": [1.0] * 10}), plan=plan)
    now = replace(then, plan={**plan, name: value})
    with pytest.raises(UsageError, match=words):
        check_baseline(now, then)
    with pytest.raises(UsageError, match="does not say how it was measured"):
        check_baseline(then, replace(then, plan={}))
    check_baseline(replace(then, plan={**plan, "stale": "miss"}), then)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ndcg@10", "no metric with a value"),
        ("ndcg@10=70", "from 0 to 1"),
        ("ndcg@10=nan", "from 0 to 1"),
        ("ndcg@10=-0.1", "from 0 to 1"),
        ("=0.5", "no metric"),
    ],
)
def test_a_floor_is_a_metric_with_a_share(given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_floors([given])


def test_floors_hold_for_the_mean_and_ceilings_for_false_answers() -> None:
    result: Any = make_result({"ndcg@10": [0.6, 0.8], "false_answer_rate": [0.0, 0.4]})
    floors = {"ndcg@10": 0.7, "false_answer_rate": 0.2}
    assert [each.broken for each in check_floors(result, floors)] == [False, False]
    floors = {"ndcg@10": 0.71, "false_answer_rate": 0.1}
    assert [each.broken for each in check_floors(result, floors)] == [True, True]
    with pytest.raises(UsageError, match="given twice"):
        read_floors(["ndcg@10=0.7", "ndcg@10=0.8"])


def test_a_metric_that_is_not_measured_is_refused_with_the_nearest() -> None:
    known = list_metrics((1, 10))
    with pytest.raises(UsageError, match=r"'ndgc@10' is not measured.*Did you mean 'ndcg@10'\?"):
        require_metrics(["ndgc@10"], known, "--fail-under")
    with pytest.raises(UsageError, match=r"Add 7 to --k\."):
        require_metrics(["ndcg@7"], known, "--fail-under")
    assert "token_f1" not in known
    assert "token_f1" in list_metrics((1,), answers=True)
