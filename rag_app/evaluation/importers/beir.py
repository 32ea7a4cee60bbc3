"""The queries of a BEIR or MTEB folder: evidence is whole documents, as relevant as judged."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from rag_app.datasets import beir
from rag_app.errors import UsageError
from rag_app.evaluation.importers.notes import Notes, close_cases
from rag_app.evaluation.results import Case, Evidence
from rag_app.parsers.parsed import Parsed, ParseError
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rag_app.evaluation.results import Cases


def read_cases(folder: Path, split: str | None) -> Cases:
    """The queries of a split that have a positive judgment, in the order of `queries.jsonl`.

    A judged document that the corpus lacks stays evidence, as it does for trec_eval; a note tells.

    Raises:
        UsageError: there is no such split, or no such query.
        ParseError, UnreadError: a file is missing, damaged or cannot be read.
    """
    splits = beir.list_splits(folder)
    name = _choose(folder, splits, split)
    notes = Notes()
    judged = _read_positive(splits[name], notes)
    cases = list(_read(beir.find_file(folder, beir.QUERIES), judged))
    there = {case.id for case in cases}
    what = f"judged queries left out, as {beir.QUERIES} does not have them"
    notes.add(what, *(query for query in judged if query not in there))
    _note_absent(folder, cases, notes)
    return close_cases(cases, f"{folder} ({name})", notes)


def _choose(folder: Path, splits: Mapping[str, list[Path]], split: str | None) -> str:
    if not splits:
        place = str(folder / beir.JUDGMENTS)
        raise ParseError(f"there are no judgments: {place!r} holds no .tsv or .jsonl file")
    if split is not None and split not in splits:
        remedy = f"There are: {', '.join(splits)}. {did_you_mean(split, splits)}".strip()
        raise UsageError("--split", f"{str(folder)!r} has no split {split!r}", remedy)
    if split is None and "test" not in splits and len(splits) > 1:
        wrong = f"{str(folder)!r} has several splits, and none called 'test'"
        raise UsageError("--split", wrong, f"Choose one of: {', '.join(splits)}.")
    return split or ("test" if "test" in splits else next(iter(splits)))


def _read_positive(paths: list[Path], notes: Notes) -> dict[str, dict[str, int]]:
    """The positive scores by query and document; a query without any is noted."""
    judged = _read_judgments(paths[0])
    for path in paths[1:]:
        if _read_judgments(path) != judged:
            wrong = f"{paths[0].name} and {path.name} are of the same split, and differ"
            raise ParseError(f"{wrong}; remove one")
    positive = {}
    for query, scores in judged.items():
        kept = {document: score for document, score in scores.items() if score > 0}
        if kept:
            positive[query] = kept
        else:
            notes.add("queries left out, as none of their judgments is positive", query)
    return positive


def _read_judgments(path: Path) -> dict[str, dict[str, int]]:
    try:
        return beir.read_judgments(path)
    except ParseError as error:
        raise ParseError(f"{path.name}: {error}") from error


def _read(path: Path, judged: Mapping[str, Mapping[str, int]]) -> Iterator[Case]:
    try:
        for query in beir.read_queries(path):
            scores = judged.get(query.id)
            if scores is not None:
                yield Case(
                    id=query.id,
                    question=query.text,
                    evidence=tuple(Evidence(d, relevance=s) for d, s in scores.items()),
                    answers=query.answers,
                    place=f"{path}:{query.line}",
                )
    except ParseError as error:
        raise ParseError(f"{path.name}: {error}") from error


def _note_absent(folder: Path, cases: list[Case], notes: Notes) -> None:
    """Note the judged documents that the corpus lacks, or holds without text."""
    wanted = dict.fromkeys(each.source for case in cases for each in case.evidence)
    try:
        corpus = beir.find_file(folder, beir.CORPUS)
    except ParseError as error:
        notes.add("whether the judged documents exist was not seen, as the folder", str(error))
        return
    try:
        with closing(beir.read_documents(corpus)) as documents:
            for piece in documents:
                if isinstance(piece, Parsed):
                    wanted.pop(piece.part or "", None)
                if not wanted:
                    return
    except ParseError as error:
        raise ParseError(f"{corpus.name}: {error}") from error
    what = f"judged documents that {corpus.name} lacks or has no text of; they stay evidence"
    notes.add(what, *wanted)
