"""Differences are told from chance as often as they should be, and never more often."""

from __future__ import annotations

import gzip
import json
import math
import re
import tracemalloc
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeAlias

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import rag_app
from rag_app.errors import UsageError
from rag_app.evaluation.metrics import measure_run
from rag_app.evaluation.results import Paired
from rag_app.evaluation.significance import (
    adjust,
    compare_paired,
    describe,
    mean_interval,
    power_of,
    questions_needed,
)
from rag_app.evaluation.storing import to_json

Scores: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


def make_paired(p: float = 0.5, **values: Any) -> Paired:
    made: dict[str, Any] = {
        "n": 300,
        "difference": 0.068,
        "interval": (0.042, 0.094),
        "p": p,
        "adjusted": p,
        "effect": 0.3,
        "wins": 90,
        "ties": 180,
        "losses": 30,
        "needed": 90,
        "detectable": 0.04,
    }
    return Paired(**{**made, **values})


def draw(seed: int, n: int, shift: float = 0.0, spread: float = 0.3) -> tuple[Scores, Scores]:
    """Scores of two systems, the second better by `shift` on average."""
    random = np.random.default_rng(seed)
    a = random.random(n)
    return a, a + random.normal(shift, spread, n)


# -- against brute force and scipy ----------------------------------------------------------------

eighths = st.integers(0, 8).map(lambda number: number / 8)
pairs_of_scores = st.lists(st.tuples(eighths, eighths), min_size=1, max_size=8)


@given(pairs_of_scores)
def test_p_is_the_share_of_all_flips_that_are_as_extreme(pairs: list[tuple[float, float]]) -> None:
    differences = [Fraction(b) - Fraction(a) for a, b in pairs]
    seen = abs(sum(differences))
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = Fraction(sum(each >= seen for each in sums), len(sums))

    paired = compare_paired([a for a, _ in pairs], [b for _, b in pairs])

    assert paired.p == paired.adjusted == pytest.approx(float(expected), abs=1e-15)
    assert paired.difference == pytest.approx(float(sum(differences) / len(differences)))
    assert paired.wins == sum(each > 0 for each in differences)
    assert paired.ties == sum(each == 0 for each in differences)
    assert paired.losses == sum(each < 0 for each in differences)


@given(pairs_of_scores)
def test_every_figure_is_finite_or_none_and_stands_in_json(
    pairs: list[tuple[float, float]],
) -> None:
    paired = compare_paired([a for a, _ in pairs], [b for _, b in pairs], resamples=50)
    assert json.loads(json.dumps(to_json(paired), allow_nan=False))["n"] == len(pairs)
    assert 0 < paired.p <= 1
    assert paired.interval[0] <= paired.interval[1]
    verdict = describe("a", "b", "ndcg@10", paired)
    assert "nan" not in verdict
    assert "None" not in verdict


def mean_difference(a: Any, b: Any, axis: int) -> Any:
    return np.mean(b - a, axis=axis)


@pytest.mark.parametrize("n", [5, 9, 13])
def test_few_cases_have_the_exact_p_of_scipy(n: int) -> None:
    a, b = draw(n, n, 0.1)
    oracle = stats.permutation_test(
        (a, b), mean_difference, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert compare_paired(a, b).p == pytest.approx(float(oracle.pvalue), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.06])
def test_many_cases_have_the_p_of_scipy_but_for_the_draw(shift: float) -> None:
    a, b = draw(3, 100, shift)
    oracle = stats.permutation_test(
        (a, b),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        batch=1000,
        rng=np.random.default_rng(7),
    )
    error = 4 * math.sqrt(2 * oracle.pvalue * (1 - oracle.pvalue) / 10_000)
    assert compare_paired(a, b).p == pytest.approx(float(oracle.pvalue), abs=error + 2e-4)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_interval_is_scipys_percentile_bootstrap_but_for_the_draw(level: float) -> None:
    scores = np.random.default_rng(4).beta(0.3, 0.2, 80)  # many near 0 and near 1, as nDCG
    oracle = stats.bootstrap(
        (scores,),
        np.mean,
        confidence_level=level,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(8),
    ).confidence_interval
    standard_error = float(scores.std(ddof=1)) / math.sqrt(len(scores))
    found = mean_interval(scores.tolist(), level=level)
    assert found == pytest.approx((oracle.low, oracle.high), abs=0.15 * standard_error)


def test_the_paired_interval_is_that_of_the_differences() -> None:
    a, b = draw(5, 60, 0.05)
    assert compare_paired(a, b).interval == mean_interval((b - a).tolist())


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(11)
    samples = (random.random(60) ** 2 for _ in range(400))  # of mean 1/3
    intervals = [mean_interval(each.tolist(), resamples=1000) for each in samples]
    held = sum(low <= 1 / 3 <= high for low, high in intervals) / 400
    assert held == pytest.approx(0.94, abs=0.03)


@given(st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.03, 0.2, 0.6, 1.0]), max_size=7))
def test_holm_is_the_closure_of_bonferroni(values: list[float]) -> None:
    """Adjusted p: the largest Bonferroni p of all the families that the pair is in."""
    pairs = [make_paired(p, n=place) for place, p in enumerate(values)]
    families = [
        family
        for size in range(1, len(values) + 1)
        for family in combinations(range(len(values)), size)
    ]
    adjusted = adjust(pairs)
    assert [pair.n for pair in adjusted] == list(range(len(values)))
    assert [pair.p for pair in adjusted] == values
    for place, pair in enumerate(adjusted):
        expected = max(
            min(1.0, len(family) * min(values[each] for each in family))
            for family in families
            if place in family
        )
        assert pair.adjusted == pytest.approx(expected)


# -- how many questions ---------------------------------------------------------------------------


def t_test_power(n: int, sd: float, difference: float) -> float:
    """The exact power of the paired t-test when differences are normal."""
    critical = stats.t.ppf(0.975, n - 1)
    shift = difference * math.sqrt(n) / sd
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


@pytest.mark.parametrize("n", [50, 100, 300, 1000])
@pytest.mark.parametrize("difference", [0.01, 0.03, 0.05])
def test_power_is_that_of_the_t_test_when_questions_are_many(n: int, difference: float) -> None:
    expected = t_test_power(n, 0.25, difference)
    assert power_of(n, 0.25, difference) == pytest.approx(expected, abs=1 / n)
    assert power_of(n, 0.25, -difference) == power_of(n, 0.25, difference)


@given(sd=st.floats(0.02, 0.6), difference=st.floats(0.005, 0.5), power=st.floats(0.5, 0.99))
def test_questions_needed_are_the_fewest_with_that_power(
    sd: float, difference: float, power: float
) -> None:
    n = questions_needed(sd, difference, power=power)
    assert n is not None
    assert power_of(n, sd, difference) >= power - 1e-9
    # One fewer is too few; of the other tail's share of the power the formula knows nothing.
    assert n == 6 or power_of(n - 1, sd, difference) < power + 0.001


def test_no_test_reaches_5_percent_with_fewer_than_six_questions() -> None:
    assert compare_paired([0.0] * 5, [1.0] * 5).p == 2 / 2**5
    assert compare_paired([0.0] * 6, [1.0] * 6).p == 2 / 2**6
    assert questions_needed(0.01, 1.0) == questions_needed(0.0, 1.0) == 6
    assert power_of(5, 0.01, 1.0) == 0
    assert power_of(6, 0.0, 1.0) == 1
    assert questions_needed(0.2, 0.0) is None


def test_needed_and_detectable_are_two_sides_of_one_thing() -> None:
    paired = compare_paired(*draw(6, 200, 0.02))
    assert paired.effect is not None
    assert paired.detectable is not None
    sd = paired.difference / paired.effect
    assert paired.needed == questions_needed(sd, paired.difference)
    assert power_of(200, sd, paired.detectable) == pytest.approx(0.8, abs=1e-4)
    assert questions_needed(sd, paired.detectable * 1.0001) == 200


# -- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 300])
def test_identical_systems_are_not_distinguishable(n: int) -> None:
    scores = draw(1, n)[0]
    noise = np.where(np.arange(n) % 2, 1e-14, -1e-14)
    paired = compare_paired(scores, scores + noise)
    assert not paired.distinguishable
    assert (paired.p, paired.difference, paired.effect) == (1, 0, 0)
    assert (paired.wins, paired.ties, paired.losses) == (0, n, 0)
    assert paired.interval == (0, 0)
    assert paired.needed is paired.detectable is None
    assert describe("dense", "dense2", "ndcg@10", paired).startswith(
        "not distinguishable: dense and dense2 (difference 0.000 ndcg@10, the same in "
    )


def test_of_one_case_the_interval_is_its_value_twice() -> None:
    assert mean_interval([0.7]) == (0.7, 0.7)
    paired = compare_paired([0.25], [0.5])
    assert paired.interval == (0.25, 0.25)
    assert (paired.p, paired.effect, paired.needed, paired.detectable) == (1, None, None, None)


def test_scores_that_are_all_alike_have_an_interval_without_width() -> None:
    assert mean_interval([0.1] * 7) == (0.1, 0.1)


def test_swapping_the_systems_mirrors_the_verdict() -> None:
    a, b = draw(2, 12, 0.1)
    there, back = compare_paired(a, b), compare_paired(b, a)
    assert back.p == there.p
    assert back.difference == -there.difference
    assert (back.wins, back.losses) == (there.losses, there.wins)


def test_a_seed_gives_the_same_figures_and_another_gives_others() -> None:
    a, b = draw(9, 60, 0.03)
    assert compare_paired(a, b) == compare_paired(a, b, seed=0)
    other = compare_paired(a, b, seed=1)
    assert other.interval != compare_paired(a, b).interval
    assert other.p == pytest.approx(compare_paired(a, b).p, abs=0.03)


def test_a_sampled_p_is_never_zero() -> None:
    assert compare_paired([0.0] * 40, [1.0] * 40, resamples=999).p == 1 / 1000


def test_memory_stays_bounded_however_many_the_cases() -> None:
    a, b = draw(8, 20_000)
    tracemalloc.start()
    compare_paired(a, b, resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6  # all at once would be 160 MB


@pytest.mark.parametrize(
    ("ask", "where", "words"),
    [
        (lambda: mean_interval([]), "scores", "there are no scores"),
        (lambda: mean_interval([0.5, math.nan]), "scores", "the score at place 1 is nan"),
        (lambda: mean_interval([0.5], level=95), "level", "95 is no share"),
        (lambda: mean_interval([0.5], resamples=0), "resamples", "0 is too few"),
        (lambda: compare_paired([], []), "a", "there are no scores"),
        (lambda: compare_paired([1.0], [math.inf]), "b", "the score at place 0 is inf"),
        (lambda: compare_paired([1.0], [1.0, 2.0]), "scores", "1 of a and 2 of b"),
        (lambda: questions_needed(-1, 0.1), "sd", "-1 is no standard deviation"),
        (lambda: questions_needed(0.1, math.nan), "difference", "nan is not finite"),
        (lambda: questions_needed(0.1, 0.1, power=1), "power", "1 is no share"),
        (lambda: power_of(10, 0.1, 0.1, alpha=0), "alpha", "0 is no share"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    ask: Callable[[], object], where: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        ask()
    assert caught.value.where == where
    assert words in caught.value.wrong
    assert caught.value.remedy


# -- the verdict in words -------------------------------------------------------------------------

APART = {"p": 0.0001, "adjusted": 0.0006}
TOGETHER = {"p": 0.07, "difference": 0.012, "interval": (-0.004, 0.028), "adjusted": 0.14}


@pytest.mark.parametrize(
    ("metric", "values", "words"),
    [
        (
            "ndcg@10",
            APART,
            "hybrid beats dense by 0.068 ndcg@10 (95 % interval 0.042 to 0.094, p = 0.0006 "
            "corrected)",
        ),
        (
            "ndcg@10",
            {**APART, "difference": -0.068, "interval": (-0.094, -0.042), "adjusted": 0.0001},
            "dense beats hybrid by 0.068 ndcg@10 (95 % interval 0.042 to 0.094, p = 0.0001)",
        ),
        (
            "false_answer_rate",
            APART,
            "dense beats hybrid by 0.068 less false_answer_rate (95 % interval 0.042 to 0.094, "
            "p = 0.0006 corrected)",
        ),
        (
            "ndcg@10",
            {**APART, "difference": 0.00023, "interval": (0.0001, 0.00041)},
            "hybrid beats dense by 0.00023 ndcg@10 (95 % interval 0.00010 to 0.00041, p = 0.0006 "
            "corrected)",
        ),
        (
            "ndcg@10",
            {**TOGETHER, "needed": 1234},
            "not distinguishable: dense and hybrid (difference 0.012 ndcg@10, higher for hybrid, "
            "95 % interval -0.004 to 0.028, p = 0.14 corrected); about 1,240 questions would show "
            "a difference of this size",
        ),
        (
            "ndcg@10",
            {**TOGETHER, "difference": -0.012, "interval": (-0.028, 0.0004), "needed": 3_000_000},
            "not distinguishable: dense and hybrid (difference 0.012 ndcg@10, higher for dense, "
            "95 % interval 0.000 to 0.028, p = 0.14 corrected); more than a million questions "
            "would show a difference of this size",
        ),
        (
            "ndcg@10",
            {**TOGETHER, "p": 0.02, "needed": 250},
            "not distinguishable: dense and hybrid (difference 0.012 ndcg@10, higher for hybrid, "
            "95 % interval -0.004 to 0.028, p = 0.14 corrected); alone it would have p = 0.0200",
        ),
        (
            "ndcg@10",
            {**TOGETHER, "n": 5, "needed": 1234},
            "not distinguishable: dense and hybrid (difference 0.012 ndcg@10, higher for hybrid, "
            "95 % interval -0.004 to 0.028, p = 0.14 corrected); fewer than 6 questions cannot "
            "show any difference",
        ),
        (
            "ndcg@10",
            {"difference": 0.0, "interval": (-0.01, 0.01), "p": 1.0, "needed": None},
            "not distinguishable: dense and hybrid (difference 0.000 ndcg@10, 95 % interval "
            "-0.010 to 0.010, p = 1.00)",
        ),
        (
            "ndcg@10",
            {"difference": 0.0, "interval": (0.0, 0.0), "p": 1.0, "needed": None, "ties": 300},
            "not distinguishable: dense and hybrid (difference 0.000 ndcg@10, the same in all 300 "
            "questions)",
        ),
    ],
)
def test_the_verdict_in_words(metric: str, values: dict[str, Any], words: str) -> None:
    values = {"adjusted": values["p"], **values}
    assert describe("dense", "hybrid", metric, make_paired(**values)) == words


# -- as often as they should: real scores ---------------------------------------------------------


def rank(texts: Sequence[str], questions: Sequence[str], stemmed: bool) -> tuple[Any, Any]:
    """Places and scores of the ten best texts by BM25."""
    stem = Stemmer.Stemmer("english") if stemmed else None
    stop_words = "en" if stemmed else []
    options: dict[str, Any] = {"stopwords": stop_words, "stemmer": stem, "show_progress": False}
    index = bm25s.BM25(k1=1.5, b=0.75)
    index.index(bm25s.tokenize(list(texts), **options), show_progress=False)
    asked = bm25s.tokenize(list(questions), return_ids=False, **options)
    found, scores = index.retrieve(asked, k=10, show_progress=False)
    return found, scores


@pytest.fixture(scope="module")
def scifact(data: Callable[[str], Path]) -> dict[str, Scores]:
    """nDCG@10 of two BM25 systems on each of SciFact's 300 judged questions."""
    folder = data("scifact")
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        corpus = {row["_id"]: f"{row['title']} {row['text']}" for row in map(json.loads, file)}
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        question, document, grade = line.split("\t")
        judged.setdefault(question, {})[document] = int(grade)
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    questions = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    names = list(corpus)
    measured: dict[str, Scores] = {}
    for system in ("stemmed", "plain"):
        found, scores = rank(
            list(corpus.values()), [questions[each] for each in judged], system == "stemmed"
        )
        measured[system] = np.array(
            [
                measure_run(
                    {names[place]: float(score) for place, score in zip(*row, strict=True)},
                    judgments,
                    (10,),
                )["ndcg@10"]
                for row, judgments in zip(
                    zip(found, scores, strict=True), judged.values(), strict=True
                )
            ]
        )
    assert len(judged) == 300
    assert measured["stemmed"].mean() == pytest.approx(0.686, abs=0.01)  # as measured elsewhere
    return measured


def split(scores: Scores, random: np.random.Generator) -> Paired:
    """A system against itself: a random half of its questions, paired at random with the other."""
    order = random.permutation(len(scores))
    return compare_paired(scores[order[::2]], scores[order[1::2]], resamples=1000)


def binomial_error(rate: float, n: int) -> float:
    """Three standard errors of a share."""
    return 3 * math.sqrt(rate * (1 - rate) / n)


@pytest.mark.data
def test_a_system_split_in_halves_seldom_beats_itself(scifact: dict[str, Scores]) -> None:
    random = np.random.default_rng(0)
    splits = [split(scifact["stemmed"], random) for _ in range(1000)]
    assert sum(each.p < 0.05 for each in splits[:20]) <= 1
    rate = sum(each.p < 0.05 for each in splits) / 1000
    assert rate == pytest.approx(0.05, abs=binomial_error(0.05, 1000))
    assert not any(each.distinguishable for each in adjust(splits[:20]))


def found_rate(differences: Scores, shift: float, n: int, runs: int) -> float:
    """How often `n` differences drawn from these, about `shift`, are told from chance."""
    random = np.random.default_rng(1)
    centred = differences - differences.mean()
    found = 0
    for _ in range(runs):
        drawn = random.choice(centred, n) + shift
        found += compare_paired(np.zeros(n), drawn, resamples=1000).distinguishable
    return found / runs


@pytest.mark.data
def test_a_planted_difference_is_found_as_often_as_stated(scifact: dict[str, Scores]) -> None:
    differences = scifact["stemmed"] - scifact["plain"]
    sd = float(differences.std())
    assert 0.1 < sd < 0.4

    stated = power_of(300, sd, 0.03)
    assert 0.3 < stated < 0.99
    found = found_rate(differences, 0.03, 300, 300)
    assert found == pytest.approx(stated, abs=binomial_error(stated, 300))

    n = questions_needed(sd, 0.05)
    assert n is not None
    found = found_rate(differences, 0.05, n, 300)
    assert found == pytest.approx(0.8, abs=binomial_error(0.8, 300))


@pytest.mark.data
def test_two_names_of_one_system_are_not_distinguishable(scifact: dict[str, Scores]) -> None:
    paired = compare_paired(scifact["stemmed"], scifact["stemmed"].copy())
    assert not paired.distinguishable
    assert describe("bm25", "bm25 again", "ndcg@10", paired) == (
        "not distinguishable: bm25 and bm25 again (difference 0.000 ndcg@10, the same in all 300 "
        "questions)"
    )


# -- the guide ------------------------------------------------------------------------------------


def test_the_guides_table_of_questions_is_computed() -> None:
    page = (Path(rag_app.__file__).parent / "guide" / "significance.md").read_text("utf-8")
    header = re.search(r"^\| Spread \| to show (.*) \|$", page, re.MULTILINE)
    assert header
    differences = [float(each) for each in header[1].split(" | ")]
    rows = re.findall(r"^\| (0\.\d) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for spread, cells in rows:
        expected = [questions_needed(float(spread), each) for each in differences]
        assert [int(cell) for cell in cells.split(" | ")] == expected
