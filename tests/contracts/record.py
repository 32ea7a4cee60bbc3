"""What the contract suite found, written down: `make contracts` does, and README.md shows it.

The file is `tests/contracts/results.json`: for each place that a store was tested in, how many
tests of each class passed, of how many, and the recall measured.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results.json")

_TEST: Final = re.compile(r"test_vector_stores\.py::(Test\w+)::\w+(?:\[(.+)\])?")


def summarise(reports: list[Any], places: dict[str, str], filters: int) -> dict[str, Any]:
    """The results by place, from pytest's reports of the suite.

    `places` says what each ran against. A test without one (LangChain's, that none of its tests was overridden) counts for each.
    """
    counts: dict[str, dict[str, Counter[str]]] = {}
    recalls: dict[str, float] = {}
    ran = [r for r in reports if r.when == "call" or not r.passed]
    found = [(r, match) for r in ran if (match := _TEST.search(r.nodeid)) is not None]
    named = {p for _, match in found for p in places if _is_of(match[2], p, list(places))}
    for report, match in found:
        for place in (
            named if match[2] is None else [p for p in named if _is_of(match[2], p, list(places))]
        ):
            tally = counts.setdefault(place, {}).setdefault(match[1], Counter())
            tally["total"] += 1
            tally["passed"] += report.passed
            for name, words in report.user_properties:
                if name == "recall@10":
                    recalls[place] = float(words.split()[0])
    return {
        "filters": filters,
        "places": {
            place: {
                "against": places[place],
                "recall@10": recalls.get(place),
                **{
                    name: f"{t['passed']}/{t['total']}" for name, t in sorted(counts[place].items())
                },
            }
            for place in places
            if place in counts
        },
    }


def _is_of(parameters: str | None, place: str, places: list[str]) -> bool:
    """Whether a test's parameters begin with this place, and no longer name of one does."""
    if parameters is None:
        return False
    fitting = [p for p in places if parameters == p or parameters.startswith(f"{p}-")]
    return place == max(fitting, key=len, default=None)


def write(results: dict[str, Any]) -> None:
    """Keep the results for README.md."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
