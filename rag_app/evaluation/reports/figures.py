"""The plots of a report, as SVG that is part of the page, in its colours and its font.

What matplotlib writes is made fit for a page that allows no inline styles: they become attributes,
references stay within the page, and ids are the plot's own.
"""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from rag_app.evaluation import plots
from rag_app.evaluation.plot_parts import INK
from rag_app.evaluation.results import Comparison
from rag_app.evaluation.verdicts import Explanations
from rag_app.registry import raise_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure

    from rag_app.evaluation.results import Evaluation

_SVG: Final = "{http://www.w3.org/2000/svg}"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_OF_FONTS: Final = re.compile(r"([\d.]+)px")
_REFERENCE: Final = re.compile(r"url\(#([^)]+)\)")
_USED: Final = re.compile(r"^#(.+)$|url\(#([^)]+)\)")
_DROPPED: Final = ("metadata", "style", "title")


def draw_figures(value: Evaluation | Comparison | Explanations) -> str:
    """The plots of `value` with their captions, as HTML.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    drawn = [
        f'<figure id="plot-{name}"><div class="plot" tabindex="0">'
        f"{to_svg(draw(), name, caption)}</div><figcaption>{escape(caption)}</figcaption></figure>"
        for name, caption, draw in _choose(value)
    ]
    return "\n".join(drawn)


def to_svg(figure: Figure, name: str, title: str) -> str:
    """A figure as an SVG element; equal figures give equal text."""
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise_missing("reports", "evaluation", error)
        raise
    written = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The reader's browser has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        figure.savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(written.getvalue())
    _drop(root)
    for element in root.iter():
        _clean(element, name)
    _drop_ids(root)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    for needless in ("height", "version"):
        root.attrib.pop(needless)
    root.attrib |= {"role": "img", "aria-label": title, "width": f"{width * 4 / 3:.0f}"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    return ElementTree.tostring(root, encoding="unicode")


def _choose(
    value: Evaluation | Comparison | Explanations,
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    if isinstance(value, Explanations):
        yield "waterfall", "Cases left after each stage", lambda: plots.waterfall(value)
    elif isinstance(value, Comparison):
        yield from _choose_for_comparison(value)
    else:
        if value.answerable:
            yield "recall", "Evidence found, by depth", lambda: plots.recall_curves([value])
        if value.answerable and any("reranker" in each.rankings for each in value.results):
            yield "movement", "What the reranker moved", lambda: plots.rank_movement(value)


def _choose_for_comparison(value: Comparison) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    caption = f"{value.metric} with 95 % intervals; filled: cannot be told from the best"
    yield "intervals", caption, lambda: plots.intervals(value)
    if any(each.answerable for each in value.evaluations):
        yield "recall", "Evidence found, by depth", lambda: plots.recall_curves(value.evaluations)
    caption = "Quality and time; filled: no other is as fast and better"
    yield "latency", caption, lambda: plots.quality_latency(value)
    if any(each.cost for each in value.evaluations):
        caption = "Quality and money; filled: no other is as cheap and better"
        yield "cost", caption, lambda: plots.quality_cost(value)
    if value.pairs:
        first = value.pairs[0]
        caption = f"Question by question: {first.b} against {first.a}"
        yield "difference", caption, lambda: plots.difference(value, first)


def _drop(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.tag.removeprefix(_SVG) in _DROPPED or child.tag.startswith(
            "{http://www.w3.org/1999"
        ):
            element.remove(child)
        else:
            _drop(child)


def _drop_ids(root: ElementTree.Element) -> None:
    """Leave the ids that something refers to; the others need not be unique."""
    settings = [setting for element in root.iter() for setting in element.attrib.values()]
    used = {id for setting in settings for found in _USED.findall(setting) for id in found if id}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)


def _clean(element: ElementTree.Element, name: str) -> None:
    element.tag = element.tag.replace(_SVG, "")
    for rule in filter(None, element.attrib.pop("style", "").split(";")):
        key, _, setting = rule.partition(":")
        _set(element, key.strip(), setting.strip())
    if reference := element.attrib.pop(_HREF, None):
        element.set("href", f"#{name}-{reference.removeprefix('#')}")
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.get('id')}")
    for key, setting in list(element.attrib.items()):
        changed = _REFERENCE.sub(rf"url(#{name}-\1)", setting)
        element.set(key, "currentColor" if changed.lower() == INK else changed)


def _set(element: ElementTree.Element, key: str, setting: str) -> None:
    """A rule of a style as the attribute that says the same; the font is the page's."""
    if key == "font":
        size = _OF_FONTS.search(setting)
        element.set("font-size", size[1] if size else "10")
    elif not key.startswith("font-") or key == "font-size":
        element.set(key, setting)
