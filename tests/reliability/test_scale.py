"""A large ingest stays small: the memory of the command, word index included.

RAG_APP_SCALE says how many chunks; `make reliability` takes 100,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHUNKS: Final = int(os.environ.get("RAG_APP_SCALE", "30000"))
LIMIT_MB: Final = 150 + CHUNKS * 0.0045
"""600 MB for 100,000 chunks. The first part is what a command takes that ingests nothing."""

# The child tells its own peak at its end; the parent's would count what it held before.
_COMMAND: Final = """
import sys
from pathlib import Path
from rag_app.cli import main
try:
    main()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    Path(sys.argv[-1]).with_name("peak").write_text(peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_chunks(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    with records.open("w", encoding="utf-8") as file:
        for number in range(CHUNKS // 50):
            words = [f"word{number * 7 % 9973} item{number}x{piece}" for piece in range(50)]
            text = "\n\n".join(f"{each} and some more that all of them have" for each in words)
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")
    config = tmp_path / "config.yaml"
    described = {
        "name": "scale",
        "sources": [{"kind": "files", "path": str(records)}],
        "splitter": {"kind": "recursive", "chunk_size": 12, "chunk_overlap": 0},
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": str(tmp_path / "store.sqlite")},
        "retriever": "hybrid",
        "chain": "extractive",
        "index": {"path": str(tmp_path / "index")},
    }
    config.write_text(json.dumps(described), encoding="utf-8")  # which is YAML, too
    command = [sys.executable, "-c", _COMMAND, "ingest", "-c", str(config)]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{CHUNKS} in the index" in output.stdout + output.stderr
    assert int((tmp_path / "peak").read_text()) * 1024 < LIMIT_MB * 1e6
