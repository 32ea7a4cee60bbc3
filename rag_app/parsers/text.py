"""Plain text, and the decoding every text format shares."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The whole file as one document. `options["charset"]`: the encoding it came with, if any."""
    text, found = decode(data, options.get("charset"))
    yield Parsed(refuse_empty(text), found)


def decode(data: bytes, charset: str | None = None) -> tuple[str, dict[str, str]]:
    """Text of `data` with `\\n` newlines and without a byte-order mark, as `Path.read_text` would.

    Tried in order: the byte-order mark, `charset`, UTF-8, and what charset-normalizer finds; only
    that last one is a guess, and it is returned as `{"encoding": name}` for the metadata.

    Raises:
        ParseError: the bytes are binary, or in no encoding it can tell.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_as(data[len(mark) :], encoding), {}
    if b"\0" in data[:65536]:
        raise ParseError("holds binary data, not text")
    for encoding in filter(None, (charset, "utf-8")):
        try:
            return unify_newlines(data.decode(encoding)), {}
        except (UnicodeDecodeError, LookupError):
            continue
    return _guess(data)


def unify_newlines(text: str) -> str:
    """`\\r\\n` and `\\r` become `\\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decode_as(data: bytes, encoding: str) -> str:
    try:
        return unify_newlines(data.decode(encoding))
    except UnicodeDecodeError as error:
        raise ParseError(f"begins as {encoding} but is not: {error.reason}") from error


def _guess(data: bytes) -> tuple[str, dict[str, str]]:
    from charset_normalizer import from_bytes

    best = from_bytes(data).best()
    if best is None:
        raise ParseError("is not text in UTF-8 nor in any encoding that can be told from it")
    return unify_newlines(str(best)), {"encoding": best.encoding}
