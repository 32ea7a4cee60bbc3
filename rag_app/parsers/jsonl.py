"""JSON lines, plain or gzipped: each line a document; a bad one is reported, the rest goes on."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import TYPE_CHECKING, Any

from rag_app.json_values import find_non_json
from rag_app.parsers.frames import replace_surrogates
from rag_app.parsers.parsed import Broken, Parsed, ParseError, name_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_GZIP = b"\x1f\x8b"


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """One document per line that is not blank.

    `options`: `text` (fields that make the text, a newline between them), `id` (field; None for
    `_id`, else `id`, else the line's number), `title` (field). The other fields are the metadata.
    A broken record is named by its id where that can be read, else by its line.

    Raises:
        ParseError: not one line holds anything, the last one ends in the middle of its record, or
            the gzip stream is damaged: there may have been more.
    """
    seen: dict[str, int] = {}
    empty = True
    for number, record in read_records(io.BufferedReader(io.BytesIO(data))):
        empty = False
        if isinstance(record, Broken):
            yield record
        else:
            yield _parse_record(number, record, options, seen)
    if empty:
        raise ParseError("no text")


def read_records(
    stream: io.BufferedReader[Any],
) -> Iterator[tuple[int, dict[str, Any] | Broken]]:
    """The records of a stream, plain or gzipped, with the numbers of their lines; none for blanks.

    No more than a line is held. What is no JSON object is `Broken`, named by its line.

    Raises:
        ParseError: the last line ends in the middle of its record, or the gzip stream is damaged.
    """
    for number, whole in enumerate(_read_lines(stream), 1):
        if line := whole.strip():
            if not whole.endswith(b"\n") and _is_cut(line):
                raise ParseError(f"is cut off in line {number}, in the middle of a record")
            yield number, _read_record(number, line)


def _read_lines(stream: io.BufferedReader[Any]) -> Iterator[bytes]:
    packed = stream.peek(len(_GZIP)).startswith(_GZIP)
    lines: Iterable[bytes] = gzip.GzipFile(fileobj=stream) if packed else stream
    try:
        for number, line in enumerate(lines):
            yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ParseError(f"its gzip stream is damaged: {error}") from error


def _read_record(number: int, line: bytes) -> dict[str, Any] | Broken:
    part = f"line={number}"
    try:
        return _decode(line)
    except json.JSONDecodeError as error:
        return Broken(part, f"is not JSON: {error.msg} at column {error.colno}")
    except UnicodeDecodeError as error:
        return Broken(part, f"is not UTF-8: {error.reason} at byte {error.start}")
    except RecursionError:
        return Broken(part, "is nested too deeply")
    except (ParseError, ValueError) as error:
        return Broken(part, str(error))


def _parse_record(
    number: int, record: Mapping[str, Any], options: Mapping[str, Any], seen: dict[str, int]
) -> Parsed | Broken:
    part = f"line={number}"
    try:
        part = identify(number, record, options.get("id"), seen)
        _refuse_non_json(record)
        return Parsed(_make_text(record, options["text"]), _describe(record, options), part)
    except (ParseError, ValueError) as error:
        return Broken(part, str(error))


def _decode(line: bytes) -> dict[str, Any]:
    record = json.loads(line.decode())
    if not isinstance(record, dict):
        raise ParseError(f"holds a JSON {type(record).__name__}, not an object")
    whole: dict[str, Any] = replace_surrogates(record) if b"\\u" in line else record
    return whole


def _is_cut(line: bytes) -> bool:
    """Whether the last line is the beginning of a record: lines that came after are lost too."""
    try:
        json.loads(line.decode())
    except RecursionError:
        return False
    except json.JSONDecodeError as error:
        return line.startswith(b"{") and (not line.endswith(b"}") or error.pos == len(error.doc))
    except UnicodeDecodeError:
        return line.startswith(b"{") and not line.endswith(b"}")
    return False


def _refuse_non_json(record: Mapping[str, Any]) -> None:
    if bad := find_non_json(record):
        field, wrong = bad
        raise ParseError(f"its field {field[:40]!r}: {wrong}")


def identify(
    number: int, record: Mapping[str, Any], field: str | None, seen: dict[str, int]
) -> str:
    """The record's id, else `line=<number>`; the first record with an id keeps it.

    Raises:
        ParseError: it lacks the field, or holds no id there, or one that came before.
    """
    tried = [field] if field else ["_id", "id"]
    key = next((record[name] for name in tried if record.get(name) not in (None, "")), None)
    if key is None and field:
        raise ParseError(f"has no {field!r}; its fields are {', '.join(record)}")
    if key is None:
        return f"line={number}"
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise ParseError(f"its id is neither a text nor a number but {json.dumps(key)[:60]}")
    first = seen.setdefault(str(key), number)
    if first != number:
        raise ParseError(f"repeats the id {str(key)!r} of line {first}")
    return str(key)


def _make_text(record: Mapping[str, Any], fields: list[str]) -> str:
    given = {field: record[field] for field in fields if record.get(field) is not None}
    if not given:
        wanted = ", ".join(map(repr, fields))
        raise ParseError(
            f"has none of the text fields {wanted}; its fields are {', '.join(record)}"
        )
    for field, value in given.items():
        if isinstance(value, bool | list | dict):
            raise ParseError(f"its text field {field!r} holds a {type(value).__name__}")
    text = "\n".join(words for value in given.values() if (words := str(value).strip()))
    if not text:
        raise ParseError("no text")
    return text


def _describe(record: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Every field that is neither text nor `_id`, under a name of its own, and the title."""
    title_field = options.get("title", "title")
    taken = {*options["text"], title_field, "_id"}
    kept = {name: value for name, value in record.items() if name not in taken}
    metadata = {name_column(name): value for name, value in kept.items()}
    title = record.get(title_field)
    if isinstance(title, str) and title.strip():
        metadata["title"] = title.strip()
    return metadata
