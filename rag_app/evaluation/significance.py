"""Is a difference more than chance? Intervals, paired tests, and how many questions it takes.

Scores are one value a case, as `ndcg@10`; of two systems they are paired, case by case.
Nothing here can show that two systems are alike: they are distinguishable or not yet.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from rag_app.errors import UsageError
from rag_app.evaluation.results import LOWER_IS_BETTER, Paired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

RESAMPLES: Final = 10_000
ALPHA: Final = 0.05
POWER: Final = 0.8

_EQUAL: Final = 1e-12
"""Scores no further apart are the same: they differ by rounding alone."""
_BLOCK: Final = 1 << 19
"""Numbers that are drawn at once, so that memory stays bounded."""
_MANY: Final = 1_000_000
_NORMAL: Final = NormalDist()


def mean_interval(
    scores: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of the mean over all questions of this kind, by the percentile bootstrap.

    Of one score it is that score twice: one question tells nothing of how others differ from it.
    With few scores (under about 20) it is somewhat too narrow.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics
    7(1), 1979; percentile interval: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap",
    1993, chapter 13.

    Raises:
        UsageError: no scores, one that is not finite, or a level or count that cannot be.
    """
    if not 0 < level < 1:
        raise UsageError("level", f"{level} is no share", "Allowed: between 0 and 1, as 0.95.")
    _require_resamples(resamples)
    return _bootstrap(_read("scores", scores), level, resamples, seed)


def compare_paired(
    a: Sequence[float], b: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """How `b` differs from `a` on the same cases; `adjusted` is `p` until `adjust` corrects it.

    The test flips the sign of each case's difference at random: were the systems alike, either
    could have got either score. It enumerates all flips where they are no more than `resamples`;
    else p is (as extreme + 1) / (resamples + 1), never 0.

    `wins` are cases where `b` is higher, and scores within 1e-12 of each other are ties. `needed`
    and `detectable` take the spread of these differences for that of all.

    Source: M. D. Smucker, J. Allan, B. Carterette, "A comparison of statistical significance tests
    for information retrieval evaluation", CIKM 2007; T. Sakai, "Statistical reform in information
    retrieval?", SIGIR Forum 48(1), 2014 (effect sizes, intervals, and power beside p).

    Raises:
        UsageError: no scores, unequal counts, or a score that is not finite.
    """
    _require_resamples(resamples)
    first, second = _read("a", a), _read("b", b)
    if len(first) != len(second):
        raise UsageError(
            "scores",
            f"{len(first)} of a and {len(second)} of b",
            "Give those of the same cases in the same order.",
        )
    differences = second - first
    differences[np.abs(differences) <= _EQUAL] = 0.0
    n = len(differences)
    mean = float(differences.mean())
    mean = 0.0 if abs(mean) <= _EQUAL else mean
    spread = _spread(differences)
    p = _randomise(differences, resamples, seed)
    return Paired(
        n=n,
        difference=mean,
        interval=_bootstrap(differences, 0.95, resamples, seed),
        p=p,
        adjusted=p,
        effect=_effect(mean, spread),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        needed=None if spread is None else questions_needed(spread, mean),
        detectable=_detectable(n, spread),
    )


def adjust(pairs: Sequence[Paired]) -> list[Paired]:
    """The same pairs, `adjusted` for there being so many, in the order given.

    Holm's step-down: the smallest p is multiplied by the number of pairs, the next by one less, and
    so on, none below the one before. The chance that any pair of systems that are alike is called
    distinguishable stays under 5 %, however the pairs hang together.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6(2), 1979.
    """
    adjusted = [0.0] * len(pairs)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(pairs)), key=lambda place: pairs[place].p)):
        least = max(least, min(1.0, (len(pairs) - rank) * pairs[place].p))
        adjusted[place] = least
    return [replace(pair, adjusted=value) for pair, value in zip(pairs, adjusted, strict=True)]


def questions_needed(
    sd: float, difference: float, *, power: float = POWER, alpha: float = ALPHA
) -> int | None:
    """Questions that show a mean difference with this power, two-sided; None for no difference.

    By the normal approximation, ((z(1-alpha/2) + z(power)) * sd / difference)², rounded up, and
    never below what the randomisation test takes to reach `alpha` at all (6 for 5 %). Under about
    20 it is a few questions too low.

    Source: T. Sakai, "Laboratory Experiments in Information Retrieval: Sample Sizes, Effect Sizes,
    and Statistical Power", 2018.

    Args:
        sd: standard deviation of the questions' differences.

    Raises:
        UsageError: a negative or infinite value, or a share outside 0 to 1.
    """
    _require_spread(sd, difference)
    if abs(difference) <= _EQUAL:
        return None
    quotient = _reach(power, alpha) * sd / abs(difference)
    return max(_fewest(alpha), math.ceil(quotient**2))


def power_of(n: int, sd: float, difference: float, *, alpha: float = ALPHA) -> float:
    """The chance that `n` questions show a mean difference; what `questions_needed` inverts.

    0 for fewer questions than the randomisation test takes to reach `alpha` at all.

    Raises:
        UsageError: a negative or infinite value, or an `alpha` outside 0 to 1.
    """
    _require_spread(sd, difference)
    _require_share("alpha", alpha)
    if n < _fewest(alpha) or (sd == 0 and difference == 0):
        return 0.0
    if sd == 0:
        return 1.0
    shift = abs(difference) * math.sqrt(n) / sd
    critical = _NORMAL.inv_cdf(1 - alpha / 2)
    return _NORMAL.cdf(shift - critical) + _NORMAL.cdf(-shift - critical)


def describe(a_name: str, b_name: str, metric: str, paired: Paired) -> str:
    """The verdict on `b` against `a` in words; the better one stands first where there is one."""
    better = paired.difference > 0
    if metric in LOWER_IS_BETTER:
        better = not better
    show = _show_like(paired.difference)
    ends = paired.interval if paired.difference >= 0 else [-end for end in paired.interval[::-1]]
    figures = f"95 % interval {show(ends[0])} to {show(ends[1])}, {_show_p(paired)}"
    size = show(abs(paired.difference))
    if paired.distinguishable:
        winner, loser = (b_name, a_name) if better else (a_name, b_name)
        less = "less " if metric in LOWER_IS_BETTER else ""
        return f"{winner} beats {loser} by {size} {less}{metric} ({figures})"
    words = f"not distinguishable: {a_name} and {b_name} (difference {size} {metric}"
    if paired.ties == paired.n:
        return f"{words}, the same in {_count(paired.n)})"
    if paired.difference:
        words += f", higher for {b_name if paired.difference > 0 else a_name}"
    return f"{words}, {figures}){_advise(paired)}"


def _advise(paired: Paired) -> str:
    """What it would take to tell them apart."""
    if paired.n < _fewest(ALPHA):
        return f"; fewer than {_fewest(ALPHA)} questions cannot show any difference"
    if paired.needed is not None and paired.needed > _MANY:
        return "; more than a million questions would show a difference of this size"
    if paired.needed is not None and paired.needed > paired.n:
        questions = f"{_round_up(paired.needed):,}"
        return f"; about {questions} questions would show a difference of this size"
    if paired.p < ALPHA:
        return f"; alone it would have p = {_show_share(paired.p)}"
    return ""


def _count(n: int) -> str:
    return "the one question" if n == 1 else f"all {n:,} questions"


def _round_up(number: int) -> int:
    """To three digits; up, so that it is never fewer than it takes."""
    unit: int = 10 ** max(0, len(str(number)) - 3)
    return -(-number // unit) * unit


def _show_p(paired: Paired) -> str:
    corrected = " corrected" if paired.adjusted > paired.p else ""
    return f"p = {_show_share(paired.adjusted)}{corrected}"


def _show_share(p: float) -> str:
    if p < 0.1:
        return f"{p:.4f}" if p >= 0.0001 else f"{p:.1g}"
    return f"{p:.2f}"


def _show_like(difference: float) -> Callable[[float], str]:
    """Shows values with the decimals that a difference has something to say in, 3 at least."""
    size = abs(difference)
    decimals = max(3, 1 - math.floor(math.log10(size))) if size else 3

    def show(value: float) -> str:
        text = f"{value:.{decimals}f}"
        return text.removeprefix("-") if float(text) == 0 else text

    return show


def _read(name: str, scores: Sequence[float]) -> NDArray[np.float64]:
    values = np.fromiter(scores, dtype=np.float64)
    if not len(values):
        raise UsageError(name, "there are no scores", "Measure at least one case.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        wrong = f"the score at place {bad[0]} is {values[bad[0]]}"
        raise UsageError(name, wrong, "Scores are finite numbers; leave out cases without one.")
    return values


def _spread(differences: NDArray[np.float64]) -> float | None:
    """Their standard deviation; None of one difference, which has none."""
    if len(differences) < 2:
        return None
    spread = float(differences.std(ddof=1))
    return spread if spread > _EQUAL else 0.0


def _effect(mean: float, spread: float | None) -> float | None:
    if mean == 0:
        return 0.0
    return mean / spread if spread else None


def _detectable(n: int, spread: float | None) -> float | None:
    if not spread or n < _fewest(ALPHA):
        return None
    return _reach(POWER, ALPHA) * spread / math.sqrt(n)


def _bootstrap(
    values: NDArray[np.float64], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    n = len(values)
    if np.ptp(values) <= _EQUAL:
        return float(values[0]), float(values[0])
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, _BLOCK // n)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), n)
        picks = random.integers(0, n, size=size, dtype=np.int32)
        means[start : start + rows] = values[picks].mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _randomise(differences: NDArray[np.float64], resamples: int, seed: int) -> float:
    """The two-sided p of flipping signs: how often a sum is as far from 0 as the one seen."""
    moving = differences[differences != 0]
    n = len(moving)
    if not n:
        return 1.0
    total = moving.sum()
    # Sums that are equal on paper differ by rounding with the order of their terms.
    least = abs(total) - _EQUAL * np.abs(moving).sum()
    exact = n < resamples.bit_length()  # so 2**n <= resamples
    draws = 2**n if exact else resamples
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // n)
    extreme = 0
    for start in range(0, draws, rows):
        stop = min(start + rows, draws)
        flips = _all_flips(start, stop, n) if exact else _random_flips(random, stop - start, n)
        sums = total - 2 * (flips @ moving)
        extreme += int((np.abs(sums) >= least).sum())
    return extreme / draws if exact else (extreme + 1) / (draws + 1)


def _all_flips(start: int, stop: int, n: int) -> NDArray[np.float64]:
    """A row for each number: its bits say which differences are flipped."""
    return (np.arange(start, stop)[:, np.newaxis] >> np.arange(n) & 1).astype(np.float64)


def _random_flips(random: np.random.Generator, rows: int, n: int) -> NDArray[np.float64]:
    packed = random.integers(0, 256, size=(rows, -(-n // 8)), dtype=np.uint8)
    return np.unpackbits(packed, axis=1, count=n).astype(np.float64)


def _fewest(alpha: float) -> int:
    """Questions under which even the best outcome, all signs alike, has a p of `alpha` or more."""
    return math.floor(math.log2(2 / alpha)) + 1


def _reach(power: float, alpha: float) -> float:
    """How many standard errors away a difference must be."""
    _require_share("power", power)
    _require_share("alpha", alpha)
    return _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(name, f"{value} is no share", "Allowed: between 0 and 1, as 0.05.")


def _require_spread(sd: float, difference: float) -> None:
    if not (math.isfinite(sd) and sd >= 0):
        raise UsageError("sd", f"{sd} is no standard deviation", "Allowed: 0 or more.")
    if not math.isfinite(difference):
        raise UsageError("difference", f"{difference} is not finite", "Allowed: any number.")


def _require_resamples(resamples: int) -> None:
    if resamples < 1:
        raise UsageError("resamples", f"{resamples} is too few", "Allowed: 1 or more, as 10000.")
