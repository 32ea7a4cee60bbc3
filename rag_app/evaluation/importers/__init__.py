"""The questions of published data sets as cases: BEIR and MTEB, SQuAD, chunking-evaluation.

They name documents as the loaders of these names do, without a `prefix`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rag_app.datasets import recognise
from rag_app.errors import UsageError
from rag_app.parsers.parsed import ParseError, UnreadError

if TYPE_CHECKING:
    from pathlib import Path

    from rag_app.evaluation.results import Cases

_FORMATS: Final = (
    "a BEIR folder (queries.jsonl, corpus.jsonl, qrels/), a SQuAD file (.json, .json.gz) or a "
    "chunking-evaluation folder (questions_df.csv, corpora/)"
)


def read_cases(path: Path, split: str | None = None) -> Cases:
    """The cases of a data set, and in its notes what was left out.

    Args:
        path: a BEIR folder, a SQuAD file, a chunking-evaluation folder.
        split: of a BEIR folder, as `test`; by default that one, or the only one there is.

    Raises:
        UsageError: it is none of these, cannot be read, has no such split, or no cases.
    """
    name = recognise(path)
    if name is None or not path.exists():
        raise _refuse_unknown(path)
    if split is not None and name != "beir":
        words = "a SQuAD file" if name == "squad" else "a chunking-evaluation folder"
        wrong = f"{str(path)!r} is {words}, which has no splits"
        raise UsageError("--split", wrong, "Leave it out.")
    try:
        return _read(name, path, split)
    except (ParseError, UnreadError) as error:
        remedy = "Mend the data set, or copy it again."
        raise UsageError(str(path), str(error), remedy) from error
    except OSError as error:
        wrong = f"{str(error.filename)!r} cannot be read: {error.strerror}"
        raise UsageError(str(path), wrong, "Grant access to it.") from error


def _read(name: str, path: Path, split: str | None) -> Cases:
    from rag_app.evaluation.importers import beir, chunking_evaluation, squad

    if name == "beir":
        return beir.read_cases(path, split)
    return squad.read_cases(path) if name == "squad" else chunking_evaluation.read_cases(path)


def _refuse_unknown(path: Path) -> UsageError:
    wrong = "is no file of cases, and no known data set" if path.exists() else "does not exist"
    return UsageError("--cases", f"{str(path)!r} {wrong}", f"Give a .jsonl file, {_FORMATS}.")
