"""The command line in this process, as a user meets it: stdout, stderr, exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_app.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.stdout)


Run = Callable[..., Done]


def make_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`run("evaluate", "--cases", …)` in that folder."""
    monkeypatch.chdir(folder)

    def run(*args: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["rag-app", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        status = ended.value.code
        assert isinstance(status, int)
        assert "Traceback" not in shown.err
        return Done(status, shown.out, shown.err)

    return run


def write_config(path: Path, **sections: Any) -> None:
    """A config over `docs` that is quick: words are hashed, documents are chunks."""
    config = {
        "name": "small",
        "sources": [{"kind": "files", "path": "docs"}],
        "splitter": "none",
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": "vectors.sqlite"},
        "retriever": "bm25",
        "index": {"path": "index"},
    }
    path.write_text(yaml.safe_dump({**config, **sections}))


def write_cases(path: Path, cases: Iterable[Mapping[str, Any]]) -> None:
    """A JSONL file of cases."""
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
