"""Whole folders of real files: each document is accounted for, nothing hangs or stops the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOOL = str(Path(sys.executable).parent / "rag-app")

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Callable[[str], Path]) -> Path:
    """A config that reads three real folders, ingested once by the command line."""
    folder = tmp_path_factory.mktemp("corpora")
    names = ("fastapi-docs", "pdf-samples", "file-types")
    config = {
        "name": "corpora",
        "sources": [
            {"kind": "files", "path": str(data(name)), "prefix": f"{name}/"} for name in names
        ],
        "embeddings": "hashing",
    }
    (folder / "rag-app.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return folder


def ingest(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [TOOL, "ingest", "--json"], cwd=folder, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_file_is_indexed_or_named_with_a_reason(
    folder: Path, data: Callable[[str], Path]
) -> None:
    report = ingest(folder)
    counts = report["documents"]
    parts = ("indexed", "unchanged", "quarantined", "excluded")
    assert counts["seen"] == sum(counts[part] for part in parts)
    assert counts["indexed"] >= 320
    assert counts["quarantined"] == len(report["quarantine"])
    assert all(each["reason"].strip() for each in report["quarantine"])

    named = {each["source"].partition("#")[0] for each in report["quarantine"]}
    found = json.loads(
        subprocess.run(
            [TOOL, "search", "the", "--json", "-k", "10000", "--set", "retriever=dense"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    indexed = {hit["source"].partition("#")[0] for hit in found["hits"]}
    for name in ("fastapi-docs", "pdf-samples", "file-types"):
        on_disk = {
            f"{name}/{path.relative_to(data(name)).as_posix()}"
            for path in data(name).rglob("*")
            if path.is_file()
        }
        assert on_disk <= indexed | named
    assert "pdf-samples/pdfjs/tracemonkey.pdf" in indexed
    assert "pdf-samples/py-pdf/libreoffice-writer-password.pdf" in named


def test_a_second_run_finds_the_same_and_embeds_nothing(folder: Path) -> None:
    ingest(folder)
    again = ingest(folder)
    assert again["documents"]["indexed"] == again["embedded"] == again["chunks"]["written"] == 0
    assert again["documents"]["deleted"] == 0
