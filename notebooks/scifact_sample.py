"""SciFact for the notebooks: all of it, or a part that is quick to embed.

SciFact is 5,183 abstracts and 300 claims to check, each with the abstracts that hold its evidence.
Its publisher has it in BEIR's form: https://github.com/beir-cellar/beir (scifact.zip).
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
from pathlib import Path

WHOLE = 5_183
"""Abstracts in all."""

DATA = Path(os.environ.get("RAG_APP_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""The folder that holds `scifact`: RAG_APP_DATA, or `shared/data` beside the project."""


def make_sample(documents: int, folder: Path) -> Path:
    """A BEIR folder of so many abstracts: all that a claim of the test split needs, and others.

    The others are drawn at random, always the same. All claims are kept. With 5,183 or more it is
    the whole set, as it is.
    """
    whole = DATA / "scifact"
    if not whole.is_dir():
        raise SystemExit(f"No folder {whole}. Unpack BEIR's scifact.zip there: {__doc__}")
    if documents >= WHOLE:
        return whole
    lines = _read_corpus(whole)
    judgments = (whole / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]
    needed = {line.split("\t")[1] for line in judgments}
    ids = [line.split('"', 4)[3] for line in lines]
    others = [id for id in ids if id not in needed]
    random.Random(0).shuffle(others)
    kept = needed | set(others[: max(0, documents - len(needed))])
    made = folder / f"scifact-{documents}"
    (made / "qrels").mkdir(parents=True, exist_ok=True)
    chosen = [line for id, line in zip(ids, lines, strict=True) if id in kept]
    (made / "corpus.jsonl").write_text("\n".join(chosen) + "\n", "utf-8")
    for name in ("queries.jsonl", "qrels/test.tsv"):
        shutil.copyfile(whole / name, made / name)
    return made


def _read_corpus(folder: Path) -> list[str]:
    plain = folder / "corpus.jsonl"
    if plain.exists():
        return plain.read_text("utf-8").splitlines()
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as stream:
        return stream.read().splitlines()
