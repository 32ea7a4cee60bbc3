"""What every test shares: where the published data sets are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("RAG_APP_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """`data("scifact")` is that data set's folder.

    Where it is absent the test is skipped and says where it is from; under CI=true it fails.
    """

    def find(name: str) -> Path:
        folder = DATA / name
        if not folder.is_dir():
            words = f"no {name!r} in {DATA}; tests/README.md says where it is from (RAG_APP_DATA)"
            if os.environ.get("CI") == "true":
                pytest.fail(words)
            pytest.skip(words)
        return folder

    return find


_STORE = re.compile(
    r"(?:contracts/test_vector_stores|reliability/test_crash)\.py.*\[([a-z]+)"
    r"|contracts/test_([a-z]+)_store\.py"
)


LONGEST = (
    "quality/test_retrieval_quality.py",
    "reliability/test_readers.py",
    "reliability/test_failpoints.py",
    "reliability/test_disk_faults.py",
    "reliability/test_state_machine.py",
    "reliability/test_truncation.py",
    "reliability/test_crash.py",
    "test_readme.py",
    "quality/",
    "test_remote.py",
    "evaluation/",
)
"""Parts of the names of files that take long, the longest first."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, what takes long begins first, so that no worker is left with it."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    return next((rank for rank, name in enumerate(LONGEST) if name in nodeid), len(LONGEST))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers, a file's tests run on one, and so do all tests of one vector store:
    servers and models are started once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrStore(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found = _STORE.search(nodeid)
            return (found[1] or found[2]) if found else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # by number of tests; here the longest come first
    return ByFileOrStore(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each figure that a test recorded with `record_property`."""
    lines = [
        f"{report.nodeid.rpartition('[')[2].partition(']')[0]:20} {name} {value}"
        for reports in (terminalreporter.stats.get(end, []) for end in ("passed", "failed"))
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
    ]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(sorted(lines)))
