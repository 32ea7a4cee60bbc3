"""What the plots share: a bare figure, colours for light and dark, labels that do not collide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rag_app.registry import raise_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#1f83c4", "#dd6b10", "#0e9b74", "#c0679f", "#a07f00", "#7d74d8")
"""After Okabe and Ito's, which colour-blind readers can tell apart; 3:1 on white and on black."""

INK: Final = "#767676"
"""Of words: 4.5:1 on white and on black. In a report it is the colour of the text around it."""

FAINT: Final = "#9a9a9a"
"""Of lines that only guide the eye, and of configs that are not the point."""

BETTER, WORSE = COLOURS[0], COLOURS[1]
SIZE: Final = 9.5
"""Points of words."""

LONGEST: Final = 40
"""Characters of a name that are shown."""


def blank(width: float = 7.2, height: float = 3.6) -> tuple[Figure, Axes]:
    """A transparent figure with one pair of axes without a box; sizes in inches.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise_missing("plots", "evaluation", error)
        raise
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(colors=INK, labelsize=SIZE, width=0.7, length=3)
    return figure, axes


def title_axes(axes: Axes, x: str = "", y: str = "") -> None:
    """What the axes show: `x` below, `y` level above them rather than turned beside them."""
    axes.set_xlabel(x, color=INK, fontsize=SIZE, loc="left", parse_math=False)
    axes.set_title(y, color=INK, fontsize=SIZE, loc="left", parse_math=False)


def write(axes: Axes, x: float, y: float, words: str, **how: Any) -> None:
    """Words as they are; `$` in a name is no formula."""
    given = {"color": INK, "fontsize": SIZE, "va": "center", "parse_math": False, **how}
    axes.annotate(words, (x, y), annotation_clip=False, **given)


def after(axes: Axes, x: float, y: float, words: str, **how: Any) -> None:
    """Words to the right of a point."""
    write(axes, x, y, words, xytext=(6, 0), textcoords="offset points", **how)


def beside(axes: Axes, y: float, level: float, words: str, **how: Any) -> None:
    """Words to the right of the axes, at the height `level`, for what stands at `y`."""
    place = axes.get_yaxis_transform()
    write(axes, 1, y, words, xycoords=place, xytext=(1.02, level), textcoords=place, **how)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """A horizontal line of the plot for each name, the first on top."""
    axes.set_yticks(range(len(names)), shorten_all(names), parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def shorten_all(names: Sequence[str]) -> list[str]:
    """Names that fit, each still another: the middle goes; places tell the rest apart."""
    short = [_shorten(name) for name in names]
    return [
        name if short.count(name) == 1 else f"{place}. {name}"
        for place, name in enumerate(short, 1)
    ]


def spread(wanted: Sequence[float], gap: float, top: float) -> list[float]:
    """Positions near the wanted ones, in their order, no two nearer than `gap`, none over `top`.

    Of equal ones the first is highest.
    """
    order = sorted(range(len(wanted)), key=lambda place: (wanted[place], -place))
    groups: list[tuple[list[int], float]] = []
    for place in order:
        groups.append(([place], wanted[place]))
        while len(groups) > 1 and _touch(groups[-2], groups[-1], gap):
            (low, a), (high, b) = groups[-2:]
            centre = (a * len(low) + b * len(high)) / (len(low) + len(high))
            groups[-2:] = [(low + high, centre)]
    placed = dict.fromkeys(order, 0.0)
    for members, centre in groups:
        for number, place in enumerate(members):
            placed[place] = centre + (number - (len(members) - 1) / 2) * gap
    ceiling = top
    for place in reversed(order):
        placed[place] = min(placed[place], ceiling)
        ceiling = placed[place] - gap
    return [placed[place] for place in range(len(wanted))]


def _touch(low: tuple[list[int], float], high: tuple[list[int], float], gap: float) -> bool:
    top = low[1] + (len(low[0]) - 1) / 2 * gap
    bottom = high[1] - (len(high[0]) - 1) / 2 * gap
    return bottom - top < gap


def _shorten(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    kept = LONGEST - 1
    return f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"
