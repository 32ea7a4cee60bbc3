"""Any store with any embedding backend, chosen by `--set` alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.swap_backends import swap


def test_every_pair_ingests_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("SWAP_KEY", "SWAP_POSTGRES", "PINECONE_API_KEY"):
        monkeypatch.setenv(variable, "set-by-the-script")
    with capsys.disabled():
        results = list(swap(tmp_path))
    assert len({(store, model) for store, model, _ in results}) == 7 * 6
    assert [result for result in results if result[2]] == []
