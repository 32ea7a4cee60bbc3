"""Any store with any embedding backend, chosen by `--set` alone.

Fourteen of the 42 pairs, each store and each backend among them; RAG_APP_PAIRS=all tries all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from scripts.swap_backends import swap

EACH: Final = 1 if os.environ.get("RAG_APP_PAIRS") == "all" else 3


def test_every_pair_ingests_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("SWAP_KEY", "SWAP_POSTGRES", "PINECONE_API_KEY"):
        monkeypatch.setenv(variable, "set-by-the-script")
    with capsys.disabled():
        results = list(swap(tmp_path, EACH))
    assert len({(store, model) for store, model, _ in results}) == 7 * 6 // EACH
    assert len({store for store, _, _ in results}) == 7
    assert len({model for _, model, _ in results}) == 6
    assert [result for result in results if result[2]] == []
