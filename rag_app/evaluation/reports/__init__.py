"""Results as one HTML file: without network, read from disk, on light and dark, wide and narrow.

`page.html`, `page.css` and the scripts are static; what they show is JSON in the page, put there
as text and never as markup, since documents and answers are other people's words. The page's own
policy lets nothing else run, load or be sent.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rag_app.evaluation.reports.contents import describe
from rag_app.evaluation.reports.figures import draw_figures
from rag_app.evaluation.writing import write_whole

if TYPE_CHECKING:
    from rag_app.evaluation.results import Comparison, Evaluation
    from rag_app.evaluation.verdicts import Explanations

_SLOT: Final = re.compile(r"\{\{(\w+)\}\}")
_SCRIPTS: Final = ("parts", "hits", "evaluation", "comparison", "explanations", "page")


def write(value: Evaluation | Comparison | Explanations, path: str | Path) -> None:
    """Write a report, whole or not at all.

    Raises:
        UsageError: it cannot be written there.
        MissingPackageError: matplotlib is not installed.
    """
    data = render(value).encode("utf-8", errors="replace")
    write_whole(path, data, what="the report")


def render(value: Evaluation | Comparison | Explanations) -> str:
    """The page. Equal results give equal pages."""
    contents = describe(value)
    script = "\n".join(_read(f"{name}.js") for name in _SCRIPTS)
    style = _read("page.css")
    parts = {
        "title": escape(contents["title"]),
        "policy": _write_policy(script, style),
        "style": style,
        "figures": draw_figures(value),
        "data": _write_json(contents),
        "script": script,
    }
    return _SLOT.sub(lambda slot: parts[slot[1]], _read("page.html"))


def _write_policy(script: str, style: str) -> str:
    """A Content-Security-Policy under which this script and this style work, and nothing else."""
    rules = {
        "default-src": "'none'",
        "script-src": f"'sha256-{_digest(script)}'",
        "style-src": f"'sha256-{_digest(style)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {allowed}" for name, allowed in rules.items())


def _digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _write_json(contents: dict[str, Any]) -> str:
    """JSON that no parser of HTML takes for markup."""
    text = json.dumps(contents, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()
