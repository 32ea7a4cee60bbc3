"""The guide's figures on its own cases: how often quoting answers them, as the page on chains says.

The pipeline is the one of `rag-app demo`. Pages change, so the figures may drift by a few questions
before the page must be corrected.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rag_app

if TYPE_CHECKING:
    from collections.abc import Mapping

GUIDE = Path(rag_app.__file__).parent / "guide"
DRIFT = 2
"""Questions by which a figure of the page may be off."""

pytestmark = pytest.mark.timeout(600)


def find_spans(case: Mapping[str, Any], folder: Path) -> list[tuple[str, int, int]]:
    """Where the evidence of a case stands: page, start, end."""
    spans = []
    for piece in case["evidence"]:
        start = (folder / piece["source"]).read_text(encoding="utf-8").index(piece["quote"])
        spans.append((piece["source"], start, start + len(piece["quote"])))
    return spans


def judge(answer: rag_app.Answer, evidence: list[tuple[str, int, int]]) -> str:
    """What became of a question: `quoted` evidence, `other` sentences, or `declined`."""
    if not answer.citations:
        return "declined"
    hit = any(
        cited.source == source and cited.start < end and start < cited.end
        for cited in answer.citations
        for source, start, end in evidence
    )
    return "quoted" if hit else "other"


def test_the_page_on_chains_says_how_often_quoting_answers(tmp_path: Path) -> None:
    shutil.copytree(GUIDE, tmp_path / "guide")
    cases = list(map(json.loads, (GUIDE / "cases.jsonl").read_text("utf-8").splitlines()))
    answerable: Counter[str] = Counter()
    unanswerable: Counter[str] = Counter()
    with rag_app.load(tmp_path / "guide" / "rag-app.yaml") as app:
        app.ingest()
        for case in cases:
            evidence = find_spans(case, tmp_path / "guide")
            counts = answerable if evidence else unanswerable
            counts[judge(app.ask(case["question"]), evidence)] += 1
    measured = [answerable[n] for n in ("quoted", "other", "declined")]
    measured.append(unanswerable["declined"])
    (told,) = re.findall(
        r"quoted the evidence for (\d+) of the 50 answerable questions, quoted other sentences for "
        r"(\d+), and said for (\d+) that there was no answer; it declined (\d+) of the 10",
        (GUIDE / "chains.md").read_text(encoding="utf-8"),
    )
    print(f"quoted, other, declined, rightly declined: {measured}")
    assert measured == pytest.approx(list(map(int, told)), abs=DRIFT)
