"""Results as figures: each function returns a `matplotlib.figure.Figure` of its own.

They stand on a transparent ground and read on a light page and on a dark one. No global state of
matplotlib is touched; a notebook shows a figure that a cell returns, `figure.savefig` writes it.
All raise MissingPackageError where matplotlib is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rag_app.evaluation.frames import cost_per_thousand
from rag_app.evaluation.metrics import measure_ranking
from rag_app.evaluation.plot_parts import (
    BETTER,
    COLOURS,
    FAINT,
    INK,
    SIZE,
    WORSE,
    after,
    beside,
    blank,
    name_rows,
    shorten_all,
    spread,
    title_axes,
    write,
)
from rag_app.evaluation.results import LOWER_IS_BETTER
from rag_app.evaluation.verdicts import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rag_app.evaluation.results import CaseResult, Comparison, Evaluation, Pair, Retrieved
    from rag_app.evaluation.verdicts import Explanations

_NAMED = 6
"""Points and lines up to this many are all named or coloured; of more, the ones that matter."""


def recall_curves(evaluations: Sequence[Evaluation]) -> Figure:
    """Recall at every k up to the deepest cutoff, a line for each config, named at its end."""
    deepest = max((max(each.ks) for each in evaluations), default=1)
    figure, axes = blank(height=max(3.4, 0.21 * len(evaluations) + 0.8))
    curves = [recall_by_depth(each) for each in evaluations]
    for place, (each, curve) in enumerate(zip(evaluations, curves, strict=True)):
        colour = COLOURS[place] if place < _NAMED else FAINT
        depths = range(1, len(curve) + 1)
        axes.plot(depths, curve, color=colour, lw=1.8, zorder=3 - place / 100, label=each.name)
    drawn = [value for curve in curves for value in curve]
    low = np.floor(min(drawn, default=0.0) * 10 - 0.01) / 10
    axes.set_ylim(max(0.0, low), 1.0)
    axes.set_xlim(1, deepest)
    axes.set_xticks(_ticks(deepest))
    title_axes(axes, "k, chunks or documents looked at", "recall@k: share of the evidence found")
    ends = {place: curve[-1] for place, curve in enumerate(curves) if curve}
    names = shorten_all([each.name for each in evaluations])
    inch = (1.0 - axes.get_ylim()[0]) / (figure.get_figheight() - 0.8)
    levels = spread(list(ends.values()), 0.185 * inch, 1.0)
    for (place, end), y in zip(ends.items(), levels, strict=True):
        colour = COLOURS[place] if place < _NAMED else INK
        beside(axes, end, y, f"{end:.3f}  {names[place]}", color=colour)
    return figure


def recall_by_depth(evaluation: Evaluation) -> list[float]:
    """Mean recall@k over the answerable cases, for each k from 1 to the deepest cutoff."""
    depths = range(1, max(evaluation.ks) + 1)
    measured = [
        measure_ranking(_units(result), [each.relevance for each in result.located], depths)
        for result in evaluation.results
        if result.located
    ]
    if not measured:
        return []
    return [float(np.mean([each[f"recall@{k}"] for each in measured])) for k in depths]


def intervals(comparison: Comparison) -> Figure:
    """The metric of each config with its 95 % interval; filled: cannot be told from the best."""
    names = [each.name for each in comparison.evaluations]
    figure, axes = blank(height=0.32 * len(names) + 1.0)
    best = comparison.evaluations[0].metrics.get(comparison.metric) if names else None
    if best is not None:
        axes.axvline(best, color=FAINT, lw=0.7, ls=(0, (2, 3)), zorder=0)
    for row, each in enumerate(comparison.evaluations):
        if comparison.metric not in each.metrics:
            continue
        value = each.metrics[comparison.metric]
        low, high = each.intervals.get(comparison.metric, (value, value))
        tied = each.name in comparison.tied
        colour = BETTER if tied else FAINT
        axes.hlines(row, low, high, color=colour, lw=2, gid="interval")
        face = colour if tied else "none"
        axes.plot([value], [row], "o", color=colour, ms=6.5, mfc=face, mew=1.6, gid="value")
        beside(axes, row, row, f"{value:.3f}")
    name_rows(axes, names)
    axes.grid(axis="x", color=FAINT, alpha=0.25, lw=0.6)
    title_axes(axes, comparison.metric)
    return figure


def quality_latency(comparison: Comparison) -> Figure:
    """The metric against the median wall time of a question, with the front of the two."""
    return _trade(
        comparison,
        lambda each: each.latency_ms.get("total", {}).get("p50"),
        "milliseconds a question, median",
        "no latency",
    )


def quality_cost(comparison: Comparison) -> Figure:
    """The metric against US dollars for 1,000 questions; configs without a price are named."""
    return _trade(comparison, cost_per_thousand, "US dollars for 1,000 questions", "no price known")


def rank_movement(before: Evaluation, after: Evaluation | None = None) -> Figure:
    """Where the first chunk with evidence stood, and stands: a line for each way, as wide as many.

    Args:
        after: another config; without it the reranker of the first is compared with its retriever.
    """
    pairs = rank_pairs(before, after)
    depth = max([rank for pair in pairs for rank in pair if rank], default=1)
    lost = depth + 1.4
    missed = any(None in pair for pair in pairs)
    figure, axes = blank(width=5.2, height=min(7.0, 1.6 + 0.24 * depth))
    ways = [(a or lost, b or lost) for a, b in pairs]
    for way in sorted(set(ways), key=ways.count):
        colour = FAINT if way[0] == way[1] else BETTER if way[1] < way[0] else WORSE
        width = 0.8 + 7 * (ways.count(way) / max(len(ways), 1)) ** 0.5
        axes.plot((0, 1), way, color=colour, lw=width, alpha=0.75, solid_capstyle="round")
    rows = {rank: str(rank) for rank in _ticks(depth)} | ({lost: "not found"} if missed else {})
    axes.set_yticks(list(rows), list(rows.values()))
    axes.set_ylim(max(rows) + 0.5, 0.5)
    axes.set_xlim(-0.05, 1.05)
    labels = ("retriever", "reranker") if after is None else (before.name, after.name)
    axes.set_xticks((0, 1), shorten_all(labels), parse_math=False)
    up, down = (sum(b < a for a, b in ways), sum(b > a for a, b in ways))
    words = f"better {up} · worse {down} · as before {len(ways) - up - down}"
    title_axes(axes, "", f"rank of the first evidence: {words}")
    return figure


def rank_pairs(
    before: Evaluation, after: Evaluation | None = None
) -> list[tuple[int | None, int | None]]:
    """For each answerable case the rank, from 1, of the first hit with evidence; see above."""
    if after is None:
        return [
            (_first(each.rankings["retriever"]), _first(each.ranking))
            for each in before.results
            if each.located
        ]
    ranks = {each.case.id: _first(each.ranking) for each in before.results if each.located}
    return [
        (ranks[each.case.id], _first(each.ranking))
        for each in after.results
        if each.case.id in ranks
    ]


def waterfall(explanations: Explanations) -> Figure:
    """The cases that are left after each stage that lost some."""
    total = sum(explanations.lost.values())
    losing = [(stage, n) for stage, n in explanations.lost.items() if n and stage != "reached"]
    names = ["cases", *(STAGES.get(stage, stage) for stage, _ in losing), STAGES["reached"]]
    figure, axes = blank(height=0.36 * len(names) + 0.7)
    left = total
    axes.barh(0, total, color=FAINT, alpha=0.45, height=0.62, gid="left")
    after(axes, total, 0, str(total))
    for row, (_, n) in enumerate(losing, 1):
        left -= n
        axes.barh(row, left, color=FAINT, alpha=0.45, height=0.62, gid="left")
        axes.barh(row, n, left=left, color=WORSE, height=0.62, gid="lost")
        after(axes, left + n, row, f"−{n}", color=WORSE)
    axes.barh(len(names) - 1, left, color=BETTER, height=0.62, gid="left")
    after(axes, left, len(names) - 1, str(left))
    name_rows(axes, names)
    axes.set_xlim(0, max(total, 1) * 1.08)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def difference(comparison: Comparison, pair: Pair) -> Figure:
    """How often the second of a pair was better, and by how much; the mean with its interval."""
    a, b = (
        next(each for each in comparison.evaluations if each.name == name).scores(pair.metric)
        for name in (pair.a, pair.b)
    )
    values = np.array([b[id] - a[id] for id in a if id in b])
    figure, axes = blank(height=2.6)
    from matplotlib.ticker import MaxNLocator

    span = max(float(np.abs(values).max(initial=0.0)), 0.05)
    edges = np.linspace(-span, span, 22)  # 21 bins: the one in the middle holds the ties
    counts, _ = np.histogram(values, edges)
    centres = (edges[:-1] + edges[1:]) / 2
    middle = len(counts) // 2
    left, right = (BETTER, WORSE) if pair.metric in LOWER_IS_BETTER else (WORSE, BETTER)
    colours = [left] * middle + [FAINT] + [right] * middle
    axes.bar(centres, counts, width=0.92 * (edges[1] - edges[0]), color=colours)
    top = float(counts.max(initial=1)) * 1.12
    low, high = pair.paired.interval
    axes.hlines(top, low, high, color=INK, lw=2, gid="interval")
    axes.plot([pair.paired.difference], [top], "o", color=INK, ms=5, gid="mean")
    told = f"{pair.paired.difference:+.3f}, 95 % {low:+.3f} to {high:+.3f}"
    after(axes, high, top, f"mean {told}")
    axes.set_ylim(0, top * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    won = pair.paired
    words = f"better on {won.wins}, worse on {won.losses}, the same on {won.ties}"
    x = f"difference of {pair.metric}, question by question: {words}"
    side = "left" if pair.metric in LOWER_IS_BETTER else "right"
    title_axes(axes, x, f"questions; {side} of 0, {shorten_all([pair.b])[0]} is better")
    return figure


def _trade(
    comparison: Comparison, price: Callable[[Evaluation], float | None], words: str, without: str
) -> Figure:
    figure, axes = blank(height=3.9)
    points: dict[int, tuple[float, float]] = {}
    for place, each in enumerate(comparison.evaluations):
        x, y = price(each), each.metrics.get(comparison.metric)
        if x is not None and y is not None:
            points[place] = (x, y)
    missing = [each.name for n, each in enumerate(comparison.evaluations) if n not in points]
    if missing:
        words += f"\n{without}: {', '.join(shorten_all(missing[:3]))}"
        words += f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    title_axes(axes, words, comparison.metric)
    _scale(axes, [x for x, _ in points.values()])
    sign = -1 if comparison.metric in LOWER_IS_BETTER else 1
    front = find_front({place: (x, sign * y) for place, (x, y) in points.items()})
    if front:
        xs, ys = zip(*(points[place] for place in front), strict=True)
        axes.plot(xs, ys, color=BETTER, lw=1.2, alpha=0.6, zorder=1, gid="front")
    for place, (x, y) in points.items():
        colour, face = (BETTER, BETTER) if place in front else (FAINT, "none")
        axes.plot([x], [y], "o", color=colour, mfc=face, ms=7, mew=1.6, zorder=2, gid="point")
    _name_points(axes, comparison, points, front)
    return figure


def find_front(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """From the left, the points for which no other is as far left and as high."""
    front = []
    best = -np.inf
    for place, (_, y) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if y > best:
            front.append(place)
            best = y
    return front


def _name_points(
    axes: Axes,
    comparison: Comparison,
    points: Mapping[int, tuple[float, float]],
    front: Sequence[int],
) -> None:
    """Names beside the points; of many points those of the front, and places for the others."""
    names = shorten_all([each.name for each in comparison.evaluations])
    low, high = axes.get_ylim()
    if len(points) > _NAMED:
        for words, (x, y) in _number(points, (high - low) * 0.02).items():
            after(axes, x, y, words, fontsize=SIZE - 1.5)
        listed = [f"{place + 1}  {names[place]}" for place in front]
        for row, words in enumerate(["front:", *listed]):
            y = high - row * (high - low) * 0.065
            beside(axes, y, y, words, color=BETTER if row else INK)
        return
    heights = spread([y for _, y in points.values()], (high - low) * 0.065, high)
    for (place, (x, y)), height in zip(points.items(), heights, strict=True):
        share = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
        side, away = ("left", 9.0) if share < 0.55 else ("right", -9.0)
        shift = (away, (height - y) / (high - low) * 205)
        how: dict[str, Any] = {"xytext": shift, "textcoords": "offset points", "ha": side}
        write(axes, x, y, f"{place + 1}. {names[place]}", **how)


def _number(
    points: Mapping[int, tuple[float, float]], near: float
) -> dict[str, tuple[float, float]]:
    """The places of the points, those that would cover each other together."""
    groups: list[tuple[list[int], tuple[float, float]]] = []
    for place, (x, y) in points.items():
        for members, (left, level) in groups:
            if abs(level - y) < near and abs(left - x) <= 0.04 * max(left, x):
                members.append(place + 1)
                break
        else:
            groups.append(([place + 1], (x, y)))
    return {", ".join(map(str, members)): at for members, at in groups}


def _scale(axes: Axes, xs: Sequence[float]) -> None:
    """From zero, or logarithmic where the largest is ten times the smallest or more."""
    from matplotlib.ticker import FuncFormatter

    axes.margins(0.1, 0.14)
    if xs and 0 < min(xs) * 10 <= max(xs):
        axes.set_xscale("log")
        axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
    else:
        axes.set_xlim(0, max(xs, default=0.0) * 1.12 or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))


def _ticks(deepest: int) -> list[int]:
    """1 and the multiples of 1, 5, 10 … up to the deepest, at most a dozen or so."""
    step = next(step for step in (1, 5, 10, 50, 100, 500, deepest) if deepest <= 12 * step)
    return sorted({1, *range(step, deepest + 1, step)})


def _units(result: CaseResult) -> list[tuple[int, ...]]:
    """The evidence that each unit of the ranking holds: documents where it is whole ones."""
    if any(each.spans for each in result.located):
        return [each.evidence for each in result.ranking]
    firsts = {each.hit.source: each.evidence for each in reversed(result.ranking)}
    return [firsts[source] for source in dict.fromkeys(e.hit.source for e in result.ranking)]


def _first(ranking: Sequence[Retrieved]) -> int | None:
    found = (rank for rank, each in enumerate(ranking, 1) if each.evidence)
    return next(found, None)
