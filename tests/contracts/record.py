"""What the contract suite found, written down: `make contracts` does, and README.md shows it.

The file is `tests/contracts/results.json`: for each place that a store was tested in, how many
tests of each class passed, of how many, and the recall measured.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

RECALL: Final = "recall@10"
RESULTS: Final = Path(__file__).with_name("results.json")

_TEST: Final = re.compile(r"test_vector_stores\.py::(Test\w+)::\w+(?:\[(.+)\])?")


def summarise(reports: list[Any], places: dict[str, str], filters: int) -> dict[str, Any]:
    """The results by place, from pytest's reports of the suite.

    `places` says what each ran against. A test without a place (LangChain's own, that none of its
    tests was overridden) counts for every place that ran.
    """
    counts: dict[str, dict[str, Counter[str]]] = {}
    recalls: dict[str, float] = {}
    ran = [r for r in reports if r.when == "call" or not r.passed]
    found = [(r, match) for r in ran if (match := _TEST.search(r.nodeid)) is not None]
    seen = {place for _, match in found if (place := _place_of(match[2], places))}
    for report, match in found:
        place = _place_of(match[2], places)
        for each in seen if place is None else {place}:
            tally = counts.setdefault(each, {}).setdefault(match[1], Counter())
            tally["total"] += 1
            tally["passed"] += report.passed
            for words in [words for name, words in report.user_properties if name == RECALL]:
                recalls[each] = float(words.split()[0])
    return {
        "filters": filters,
        "places": {
            place: {
                "against": places[place],
                RECALL: recalls.get(place),
                **{
                    name: f"{t['passed']}/{t['total']}" for name, t in sorted(counts[place].items())
                },
            }
            for place in places
            if place in counts
        },
    }


def _place_of(parameters: str | None, places: Iterable[str]) -> str | None:
    """The place that a test's parameters begin with: of those that fit, the longest name."""
    given = parameters or ""
    fitting = [place for place in places if given == place or given.startswith(f"{place}-")]
    return max(fitting, key=len, default=None)


def write(results: dict[str, Any]) -> None:
    """Keep the results for README.md."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
