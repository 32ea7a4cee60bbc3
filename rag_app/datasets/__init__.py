"""Published data sets in their own formats: documents, and questions with what answers them.

beir                  a folder of `corpus.jsonl`, `queries.jsonl` and `qrels/`
squad                 a JSON file of paragraphs with questions
chunking_evaluation   a folder of `corpora/` and `questions_df.csv`

Each reads its files and names its documents, for a loader and for whoever wants the questions, so
that both mean the same document by the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.datasets import beir, chunking_evaluation, squad

if TYPE_CHECKING:
    from pathlib import Path


def recognise(path: Path) -> str | None:
    """The format of a folder or file, told by the names of files; None for none of these."""
    if path.is_dir():
        if beir.is_one(path):
            return "beir"
        return "chunking_evaluation" if chunking_evaluation.is_one(path) else None
    return "squad" if squad.is_one(path) else None
