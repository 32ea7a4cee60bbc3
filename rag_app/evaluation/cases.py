"""Cases as they are written: JSON lines, each a question with the spans that answer it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import FilterError, UsageError
from rag_app.evaluation.results import Case, Cases, Evidence
from rag_app.evaluation.writing import write_whole
from rag_app.filters import parse
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KEYS: Final = ("id", "question", "answer", "evidence", "tags", "filter")
_EVIDENCE_KEYS: Final = ("source", "quote", "start", "end", "relevance")
_REMEDY: Final = (
    'A line reads {"id": …, "question": …, "evidence": [{"source": …, "quote": …}]}; '
    "an empty list of evidence is for what the documents do not answer."
)


def read_cases(path: str | Path, split: str | None = None) -> Cases:
    """The cases of a JSONL file, or of a data set in one of the forms that `sources` take.

    Args:
        path: a `.jsonl` file; or a BEIR folder, a SQuAD file, a chunking-evaluation folder.
        split: of a BEIR folder, as `test`.

    Raises:
        UsageError: it cannot be read, a line is no case, or there are none.
    """
    place = Path(path)
    if place.suffix == ".jsonl" and not place.is_dir():
        if split is not None:
            raise UsageError("--split", "a file of cases has no splits", "Leave it out.")
        return make_cases(_read_lines(place), str(path))
    from rag_app.evaluation.importers import read_cases as read_data_set

    return read_data_set(place, split)


def take_cases(
    given: str | Path | Cases | Iterable[Mapping[str, Any]], split: str | None = None
) -> Cases:
    """Cases in any form that Python hands them over.

    Raises:
        UsageError: as `read_cases`.
    """
    if isinstance(given, str | os.PathLike):
        return read_cases(given, split)
    if split is not None:
        raise UsageError("split", "only a data set has splits", "Leave it out.")
    return given if isinstance(given, Cases) else parse_cases(given)


def parse_cases(given: Iterable[Mapping[str, Any]]) -> Cases:
    """Cases from Python, each a mapping of what a line would hold.

    Raises:
        UsageError: one is no case, or there are none.
    """
    parsed = [_parse(f"cases[{number}]", each) for number, each in enumerate(given)]
    return make_cases(parsed, "cases")


def make_cases(cases: Iterable[Case], origin: str, notes: Sequence[str] = ()) -> Cases:
    """Cases that belong together, with the digest of what they say.

    Raises:
        UsageError: two have the same id, or there are none.
    """
    seen: dict[str, Case] = {}
    for case in cases:
        if (first := seen.setdefault(case.id, case)) is not case:
            wrong = f"the id {case.id!r} is that of {first.place or 'another case'} too"
            raise UsageError(case.place or origin, wrong, "Give each case an id of its own.")
    if not seen:
        raise UsageError(origin, "there are no cases in it", _REMEDY)
    said = json.dumps([to_line(case) for case in seen.values()], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    return Cases(tuple(seen.values()), origin, digest, tuple(notes))


def to_line(case: Case) -> dict[str, Any]:
    """The case as a line of a JSONL file holds it; `read_cases` makes the same case of it."""
    line: dict[str, Any] = {"id": case.id, "question": case.question}
    if case.answers:
        line["answer"] = case.answers[0] if len(case.answers) == 1 else list(case.answers)
    line["evidence"] = [_evidence_line(each) for each in case.evidence]
    if case.tags:
        line["tags"] = list(case.tags)
    if case.filter is not None:
        line["filter"] = dict(case.filter)
    return line


def write_cases(cases: Iterable[Case], path: str | Path) -> None:
    """Write a JSONL file, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    lines = [json.dumps(to_line(case), ensure_ascii=False) + "\n" for case in cases]
    try:
        data = "".join(lines).encode()
    except UnicodeEncodeError as error:
        wrong = "it cannot be written: a case is no Unicode text"
        raise UsageError(str(path), wrong, "Write its characters whole.") from error
    write_whole(path, data)


def _evidence_line(evidence: Evidence) -> dict[str, Any]:
    line: dict[str, Any] = {"source": evidence.source}
    if evidence.quote is not None:
        line["quote"] = evidence.quote
    if evidence.span is not None:
        line["start"], line["end"] = evidence.span
    if evidence.relevance != 1:
        line["relevance"] = evidence.relevance
    return line


def _read_lines(path: Path) -> Iterable[Case]:
    try:
        data = path.read_bytes()
    except OSError as error:
        wrong = f"{path} cannot be read: {error.strerror}"
        raise UsageError("--cases", wrong, "Name a JSONL file.") from error
    return parse_lines(data, path)


def parse_lines(data: bytes, path: Path) -> Iterable[Case]:
    """The cases of what stands in a JSONL file; `path` tells where a wrong one is.

    Raises:
        UsageError: it is no UTF-8 text, or a line is no case.
    """
    try:
        lines = data.decode("utf-8-sig").split("\n")  # not where a text says U+2028
    except UnicodeDecodeError as error:
        wrong = f"{path} cannot be read: it is not UTF-8 text"
        raise UsageError("--cases", wrong, "Name a JSONL file.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                given = json.loads(line, object_pairs_hook=partial(_pair_up, place))
            except (ValueError, RecursionError) as error:
                raise UsageError(place, f"it is no JSON ({error})", _REMEDY) from error
            yield _parse(place, given)


def _pair_up(place: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(place, f"it is no case: {twice!r} is given twice", "Leave one out.")
    return made


def _parse(place: str, given: Any) -> Case:
    if not isinstance(given, Mapping):
        raise UsageError(place, "it is no case: it is no object", _REMEDY)
    _refuse_half_characters(place, given)
    _refuse_unknown(place, given, _KEYS)
    for wrong in _find_wrong(given):
        raise UsageError(place, f"it is no case: {wrong}", _REMEDY)
    answer = given.get("answer") or ()
    case = Case(
        id=given["id"],
        question=given["question"],
        evidence=tuple(_parse_evidence(place, each) for each in given["evidence"]),
        answers=(answer,) if isinstance(answer, str) else tuple(answer),
        tags=tuple(given.get("tags") or ()),
        filter=given.get("filter"),
        place=place,
    )
    _refuse_twice(case)
    _check_filter(case)
    return case


def _refuse_half_characters(place: str, given: Any) -> None:
    """Half of a surrogate pair is in no document, and can neither be embedded nor written."""
    try:
        json.dumps(given, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        wrong = "it is no case: it holds half of a surrogate pair, which is no Unicode text"
        raise UsageError(place, wrong, "Write the character whole.") from error


def _refuse_twice(case: Case) -> None:
    pieces = [(each.source, each.quote, each.span) for each in case.evidence]
    for place, evidence in enumerate(case.evidence):
        if pieces[place] in pieces[:place]:
            wrong = f"it is no case: the evidence in {evidence.source!r} is listed twice"
            raise UsageError(case.place, wrong, "List each piece once.")


def _refuse_unknown(place: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in (name for name in given if name not in known):
        remedy = f"There are: {', '.join(known)}. {did_you_mean(str(name), known)}".strip()
        raise UsageError(place, f"{name!r} is no key of a case", remedy)


def _find_wrong(given: Mapping[str, Any]) -> Iterable[str]:
    for name in ("id", "question"):
        value = given.get(name)
        if not isinstance(value, str) or not value.strip():
            yield f"`{name}` is {value!r}, and no text"
    if not isinstance(given.get("evidence"), list | tuple):
        yield f"`evidence` is {given.get('evidence')!r}, and no list"
    answer = given.get("answer")
    if not (answer is None or isinstance(answer, str) or _are_texts(answer)):
        yield f"`answer` is {answer!r}, and neither a text nor a list of texts"
    if not (given.get("tags") is None or _are_texts(given["tags"])):
        yield f"`tags` is {given['tags']!r}, and no list of texts"


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _parse_evidence(place: str, given: Any) -> Evidence:
    if not isinstance(given, Mapping) or not isinstance(given.get("source"), str):
        wrong = f"it is no case: the evidence {given!r} names no `source`"
        raise UsageError(place, wrong, _REMEDY)
    _refuse_unknown(place, given, _EVIDENCE_KEYS)
    for wrong in _find_wrong_in(given):
        raise UsageError(place, f"it is no case: {wrong}", _REMEDY)
    span = (given["start"], given["end"]) if "start" in given else None
    return Evidence(given["source"], given.get("quote"), span, given.get("relevance", 1))


def _find_wrong_in(given: Mapping[str, Any]) -> Iterable[str]:
    quote = given.get("quote", "x")
    if not (isinstance(quote, str) and quote.strip()):
        yield f"`quote` is {quote!r}, and no text to look for"
    if "start" in given or "end" in given:
        start, end = given.get("start"), given.get("end")
        if not (type(start) is int and type(end) is int and 0 <= start < end):
            words = "no span of characters (0 <= start < end)"
            yield f"`start` is {start!r} and `end` {end!r}, and {words}"
    relevance = given.get("relevance", 1)
    if type(relevance) is not int or relevance < 1:
        yield f"`relevance` is {relevance!r}, and no whole number from 1"


def _check_filter(case: Case) -> None:
    if case.filter is None:
        return
    try:
        parse(case.filter)
    except FilterError as error:
        raise UsageError(case.place, f"its filter is wrong: {error.wrong}", error.remedy) from error
