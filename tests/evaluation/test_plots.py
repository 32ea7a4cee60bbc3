from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from rag_app.errors import MissingPackageError
from rag_app.evaluation import plots
from rag_app.evaluation.frames import frame
from rag_app.evaluation.plot_parts import BETTER, COLOURS, INK, shorten_all, spread
from rag_app.evaluation.results import Comparison, Evaluation, Located, Retrieved
from tests.evaluation.results_samples import (
    make_comparison,
    make_evaluation,
    make_explanations,
)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation("hybrid", 30, skill=0.4)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return make_comparison(5, 24)


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in axes_of(figure).texts]


def points_of(figure: Figure, gid: str) -> list[tuple[float, float]]:
    lines = [line for line in axes_of(figure).lines if line.get_gid() == gid]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def first_rank(ranking: tuple[Retrieved, ...]) -> int | None:
    return next((rank for rank, each in enumerate(ranking, 1) if each.evidence), None)


def with_ranks(evaluation: Evaluation, ranks: list[tuple[int | None, int | None]]) -> Evaluation:
    """The first cases of `evaluation` with the evidence at these ranks of its two stages."""

    def place(rank: int | None, ranking: tuple[Retrieved, ...]) -> tuple[Retrieved, ...]:
        return tuple(
            replace(e, evidence=(0,) if n == rank else ()) for n, e in enumerate(ranking, 1)
        )

    results = [
        replace(
            result,
            rankings={
                "retriever": place(first, result.rankings["retriever"]),
                "reranker": place(last, result.rankings["reranker"]),
            },
        )
        for result, (first, last) in zip(evaluation.results, ranks, strict=False)
    ]
    return replace(evaluation, results=tuple(results))


def test_recall_curves_draw_the_share_found_at_every_depth(evaluation: Evaluation) -> None:
    figure = plots.recall_curves([evaluation])
    (line,) = axes_of(figure).lines
    ranks = [first_rank(each.ranking) for each in evaluation.results if each.located]
    expected = [sum(r is not None and r <= k for r in ranks) / len(ranks) for k in range(1, 11)]
    assert list(line.get_xdata()) == list(range(1, 11))
    assert list(line.get_ydata()) == pytest.approx(expected)
    assert words_of(figure) == [f"{expected[-1]:.3f}  hybrid"]


def test_recall_of_whole_documents_counts_documents(evaluation: Evaluation) -> None:
    result = evaluation.results[0]
    hits = [each.hit for each in result.ranking[:4]]
    named = [replace(hit, source=name) for hit, name in zip(hits, "aabb", strict=True)]
    ranking = tuple(Retrieved(hit, (0,) if hit.source == "b" else ()) for hit in named)
    found = replace(result, located=(Located("b", ()),), rankings={"retriever": ranking})
    one = replace(evaluation, results=(found,), ks=(1, 3))
    assert plots.recall_by_depth(one) == [0.0, 1.0, 1.0]


def test_intervals_are_where_they_were_measured_and_ties_are_filled(comparison: Comparison) -> None:
    figure = plots.intervals(comparison)
    axes = axes_of(figure)
    assert points_of(figure, "value") == [
        (each.metrics["ndcg@10"], row) for row, each in enumerate(comparison.evaluations)
    ]
    segments = [s for c in axes.collections if c.get_gid() == "interval" for s in c.get_segments()]
    drawn = [(float(s[0][0]), float(s[1][0])) for s in segments]
    assert drawn == [each.intervals["ndcg@10"] for each in comparison.evaluations]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_gid() == "value"]
    filled = [
        each.name
        for each, face in zip(comparison.evaluations, faces, strict=True)
        if face == BETTER
    ]
    assert filled == [each.name for each in comparison.evaluations if each.name in comparison.tied]
    assert words_of(figure) == [f"{each.metrics['ndcg@10']:.3f}" for each in comparison.evaluations]


def test_quality_and_latency_are_drawn_with_the_front_of_the_two(comparison: Comparison) -> None:
    figure = plots.quality_latency(comparison)
    points = [(e.latency_ms["total"]["p50"], e.metrics["ndcg@10"]) for e in comparison.evaluations]
    assert points_of(figure, "point") == points
    front = [
        (x, y)
        for x, y in sorted(points)
        if not any((a <= x and b > y) or (a < x and b >= y) for a, b in points)
    ]
    (line,) = [line for line in axes_of(figure).lines if line.get_gid() == "front"]
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == front


def test_a_config_without_a_price_is_named_not_drawn(comparison: Comparison) -> None:
    figure = plots.quality_cost(comparison)
    priced = [each for each in comparison.evaluations if each.cost is not None]
    assert len(priced) == 4
    assert [x for x, _ in points_of(figure, "point")] == pytest.approx(
        [each.cost / 24 * 1000 for each in priced if each.cost is not None]
    )
    (unpriced,) = [each.name for each in comparison.evaluations if each.cost is None]
    assert f"no price known: {shorten_all([unpriced])[0]}" in axes_of(figure).get_xlabel()


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({0: (1.0, 0.5), 1: (2.0, 0.7), 2: (3.0, 0.6)}, [0, 1]),
        ({0: (1.0, 0.5), 1: (1.0, 0.7)}, [1]),
        ({0: (2.0, 0.5), 1: (1.0, 0.5)}, [1]),
        ({}, []),
    ],
)
def test_the_front(points: dict[int, tuple[float, float]], front: list[int]) -> None:
    assert plots.find_front(points) == front


def test_rank_movement_shows_ways_and_counts_them(evaluation: Evaluation) -> None:
    moved = with_ranks(evaluation, [(5, 1), (5, 1), (1, 2), (3, 3), (None, 4), (2, None)])
    figure = plots.rank_movement(moved)
    axes = axes_of(figure)
    assert axes.get_title(loc="left").endswith("better 3 · worse 2 · as before 1")
    ways = {tuple(map(float, line.get_ydata())): line for line in axes.lines}
    assert set(ways) == {(5, 1), (1, 2), (3, 3), (6.4, 4), (2, 6.4)}
    assert ways[(5, 1)].get_linewidth() > ways[(1, 2)].get_linewidth()
    assert axes.get_yticklabels()[-1].get_text() == "not found"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["retriever", "reranker"]


def test_rank_movement_of_two_configs_pairs_their_cases(evaluation: Evaluation) -> None:
    before = with_ranks(evaluation, [(1, 1), (1, 4)])
    after = with_ranks(evaluation, [(1, 2), (1, 4)])
    after = replace(after, results=after.results[::-1])
    assert sorted(plots.rank_pairs(before, after)) == [(1, 2), (4, 4)]


def test_the_waterfall_starts_with_all_and_ends_with_what_reached() -> None:
    explanations = make_explanations(24)
    figure = plots.waterfall(explanations)
    axes = axes_of(figure)
    boxes = [bar.get_extents().transformed(axes.transData.inverted()) for bar in axes.patches]
    left, expected = 24.0, {(0.0, 0.0): 24.0}
    losing = [(s, n) for s, n in explanations.lost.items() if n and s != "reached"]
    for row, (_, n) in enumerate(losing, 1):
        left -= n
        expected |= {(row, 0.0): left, (row, left): n}
    expected[(len(losing) + 1, 0.0)] = explanations.lost["reached"]
    drawn = {(round((b.y0 + b.y1) / 2), round(b.x0, 6)): round(abs(b.width), 6) for b in boxes}
    assert drawn == expected
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "cases"
    assert labels[-1] == "reached the answer"


def test_the_distribution_of_differences_counts_every_question(comparison: Comparison) -> None:
    pair = comparison.pairs[-1]
    figure = plots.difference(comparison, pair)
    a, b = (next(e for e in comparison.evaluations if e.name == name) for name in (pair.a, pair.b))
    first, second = a.scores("ndcg@10"), b.scores("ndcg@10")
    values = [second[id] - first[id] for id in first]
    bars = [bar for bar in axes_of(figure).patches if bar.get_height()]
    assert sum(bar.get_height() for bar in bars) == len(values)
    drawn = {bar.get_facecolor(): 0.0 for bar in bars}
    for bar in bars:
        drawn[bar.get_facecolor()] += bar.get_height()
    edge = 1 / 21 * max(map(abs, values))
    assert drawn[to_rgba(BETTER)] == sum(value > edge for value in values)
    assert points_of(figure, "mean")[0][0] == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_any_number_of_configs_with_any_names(count: int) -> None:
    whole = make_comparison(count, 3, hostile=" $x^{2_$ <b>" + "long " * 20)
    for figure in (
        plots.recall_curves(whole.evaluations),
        plots.intervals(whole),
        plots.quality_latency(whole),
        plots.quality_cost(whole),
    ):
        figure.savefig(io.BytesIO(), format="svg")
    names = [label.get_text() for label in axes_of(plots.intervals(whole)).get_yticklabels()]
    assert len(set(names)) == count
    assert max(map(len, names)) <= 45


def test_names_that_are_cut_still_differ() -> None:
    long = [f"{'a' * 50}{number}{'b' * 50}" for number in range(3)]
    short = shorten_all([*long, "plain"])
    assert len(set(short)) == 4
    assert short[-1] == "plain"


def test_labels_are_spread_in_order_below_the_top() -> None:
    placed = spread([1.0, 1.0, 0.99, 0.2], 0.1, 1.0)
    assert placed == sorted(placed, reverse=True)
    assert max(placed) <= 1.0
    assert min(a - b for a, b in zip(placed, placed[1:], strict=False)) > 0.0999
    assert placed[-1] == 0.2


@pytest.mark.parametrize("colour", [INK, *COLOURS])
def test_colours_read_on_white_and_on_black(colour: str) -> None:
    def luminance(code: str) -> float:
        parts = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    level = luminance(colour)
    least = 4.5 if colour == INK else 3.0
    assert 1.05 / (level + 0.05) >= least
    assert (level + 0.05) / 0.05 >= least


def test_pyplot_and_its_global_figures_are_not_used() -> None:
    code = (
        "import sys; from tests.evaluation.results_samples import make_comparison\n"
        "from rag_app.evaluation import plots; c = make_comparison(2, 3)\n"
        "plots.intervals(c), plots.recall_curves(c.evaluations), plots.difference(c, c.pairs[0])\n"
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def draw(evaluation: Evaluation) -> Any:
    return plots.recall_curves([evaluation])


@pytest.mark.parametrize(("package", "use"), [("matplotlib", draw), ("pandas", frame)])
def test_without_the_package_the_error_says_what_to_install(
    package: str, use: Callable[[Evaluation], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r'pip install "rag-app\[evaluation\]"'):
        use(make_evaluation(n=2))


def test_a_frame_of_an_evaluation_has_a_row_for_each_case(evaluation: Evaluation) -> None:
    table = frame(evaluation)
    assert list(table.index) == [result.case.id for result in evaluation.results]
    assert table["ndcg@10"].mean() == pytest.approx(evaluation.metrics["ndcg@10"])
    assert table["ndcg@10"].isna().sum() == 30 - evaluation.answerable
    assert table.loc["case-10", "abstained"]
    assert table.loc["case-0", "total_ms"] == evaluation.results[0].timings_ms["total"]


def test_a_frame_of_a_comparison_has_a_row_for_each_config(comparison: Comparison) -> None:
    table = frame(comparison)
    assert list(table.index) == [each.name for each in comparison.evaluations]
    assert list(table["splitter.chunk_size"]) == [
        comparison.settings[name]["splitter.chunk_size"] for name in table.index
    ]
    assert set(table.index[table["tied"]]) == set(comparison.tied)
    assert table["cost"].isna().sum() == 1
    assert list(table["p95_ms"]) == [e.latency_ms["total"]["p95"] for e in comparison.evaluations]


def test_a_frame_of_nothing_is_empty(evaluation: Evaluation) -> None:
    assert frame(replace(evaluation, results=())).empty
