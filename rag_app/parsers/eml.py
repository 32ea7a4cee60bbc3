"""E-mail (RFC 5322 and MIME): headers and body, each attachment as a document of its own.

An attachment that cannot be read is reported; pictures shown inside a message are left out.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from email import errors, policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any, Final, cast

from rag_app.parsers import FORMATS, find_format
from rag_app.parsers.parsed import Broken, Parsed, ParseError
from rag_app.parsers.text import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHOWN = {"From": "from", "To": "to", "Cc": "cc", "Date": "date", "Subject": "subject"}
_CUT: Final = (errors.CloseBoundaryNotFoundDefect, errors.StartBoundaryNotFoundDefect)
_TEXTS: Final = {"text/plain", "text/html"}


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The message, then what is attached to it.

    `options`: for each format that takes any, its own under the name of its module.

    Raises:
        ParseError: it is no e-mail, or it was cut off.
    """
    message: EmailMessage = BytesParser(policy=policy.default).parsebytes(data)
    if not any(message.get(name) for name in ("From", "To", "Subject", "Message-ID")):
        raise ParseError("has no header of an e-mail")
    if _is_cut(data, message):
        raise ParseError("is cut off: its end, and any attachment there, is missing")
    headers = {ours: _header(message, theirs) for theirs, ours in _SHOWN.items()}
    lines = [f"{name}: {headers[ours]}" for name, ours in _SHOWN.items() if headers[ours]]
    content = _sort(message)
    attached = [(_name(part, number), part) for number, part in enumerate(content.attached, 1)]
    body, encoding = _read_body(content.body)
    metadata = {"title": headers["subject"], "created": _date(message)}
    people = {name: headers[name] for name in ("from", "to", "cc")}
    names = {"attachments": [name for name, _ in attached]}
    found = {k: v for k, v in {**metadata, **people, **names, **encoding}.items() if v}
    yield Parsed("\n".join([*lines, "", body]).strip(), found)
    taken: dict[str, int] = {}
    for name, part in attached:
        taken[name] = taken.get(name, 0) + 1
        place = name if taken[name] == 1 else f"{name} ({taken[name]})"
        yield from _read_attachment(place, name, part, options)


def _is_cut(data: bytes, message: EmailMessage) -> bool:
    """Whether the boundary that closes a multipart (RFC 2046, 5.1.1) or all of the body is gone."""
    if b"\n\n" not in data and b"\r\n\r\n" not in data:
        return True
    return any(isinstance(each, _CUT) for part in message.walk() for each in part.defects)


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _date(message: EmailMessage) -> str:
    stated = getattr(message.get("Date"), "datetime", None)
    return stated.isoformat() if stated is not None else ""


@dataclass(slots=True)
class _Content:
    """The parts of a message, in its order: what is shown as its text, and what is attached."""

    body: list[EmailMessage] = field(default_factory=list)
    attached: list[EmailMessage] = field(default_factory=list)


def _sort(part: EmailMessage) -> _Content:
    """Each part inside `part` that is no part of another; a forwarded message stays whole.

    Left out are the other wordings of an alternative (RFC 2046, 5.1.4) and pictures shown inside.
    """
    content = _Content()
    if not _is_multipart(part):
        _place(part, content, related=False)
    elif part.get_content_subtype() == "alternative":
        _choose(part, content)
    else:
        related = part.get_content_subtype() == "related"
        for inner in _parts(part):
            if _is_multipart(inner):
                deeper = _sort(inner)
                content.body += deeper.body
                content.attached += deeper.attached
            else:
                _place(inner, content, related=related)
    return content


def _is_multipart(part: EmailMessage) -> bool:
    return part.get_content_maintype() == "multipart" and part.is_multipart()


def _parts(part: EmailMessage) -> list[EmailMessage]:
    return cast("list[EmailMessage]", part.get_payload())


def _place(part: EmailMessage, content: _Content, *, related: bool) -> None:
    disposition, maintype = part.get_content_disposition(), part.get_content_maintype()
    if maintype == "image" and (
        disposition == "inline" or (disposition is None and (related or "Content-ID" in part))
    ):
        return
    # A multipart that could not be taken apart is shown as it is.
    shown = part.get_content_type() in _TEXTS or maintype == "multipart"
    # The first text is the body, even where a program gave it a file's name.
    if shown and disposition != "attachment" and not (part.get_filename() and content.body):
        content.body.append(part)
    else:
        content.attached.append(part)


def _choose(part: EmailMessage, content: _Content) -> None:
    """One wording, plain text before HTML and an empty one last; the attachments of all."""
    wordings = list[list[EmailMessage]]()
    others = list[EmailMessage]()
    for inner in _parts(part):
        deeper = _sort(inner)
        wordings.append(deeper.body)
        for attached in deeper.attached:
            loose = attached is inner and not _is_named(inner)
            (others if loose else content.attached).append(attached)
    content.body = min(wordings, key=_rank, default=[])
    if not content.body:
        content.attached += others


def _is_named(part: EmailMessage) -> bool:
    named = part.get_filename() or part.get_content_disposition() == "attachment"
    return bool(named) or part.get_content_type() == "message/rfc822"


def _rank(wording: list[EmailMessage]) -> int:
    filled = [part for part in wording if _payload(part).strip()]
    if not filled:
        return 2 if wording else 3
    return 0 if filled[0].get_content_type() != "text/html" else 1


def _read_body(parts: list[EmailMessage]) -> tuple[str, dict[str, str]]:
    """The text of all, and `{"encoding": name}` where one had to be guessed."""
    texts, found = list[str](), dict[str, str]()
    for part in parts:
        charset = part.get_content_charset()
        if part.get_content_type() == "text/html":
            text = _read_html(_payload(part), charset, found)
        else:
            text, guessed = decode(_payload(part), charset)
            found |= guessed
        texts.append(text.strip())
    return "\n\n".join(filter(None, texts)), found


def _read_html(data: bytes, charset: str | None, found: dict[str, str]) -> str:
    try:
        pieces = list(_parse_as("html", data, {"charset": charset}))
    except ParseError as error:
        if str(error) == "no text":  # pictures alone
            return ""
        raise
    for piece in pieces:
        found.update((k, v) for k, v in piece.metadata.items() if k == "encoding")
    return "\n".join(piece.text for piece in pieces)


def _name(part: EmailMessage, number: int) -> str:
    """The file's name; where it has none, one with the ending of its media type."""
    kind = part.get_content_type()
    endings = (ending for ending, known in FORMATS.items() if known.media_type == kind)
    return part.get_filename() or f"attachment {number}{next(endings, '')}"


def _read_attachment(
    place: str, name: str, part: EmailMessage, options: Mapping[str, Any]
) -> Iterator[Parsed | Broken]:
    parsed_as = find_format(name)
    if parsed_as is None:
        yield Broken(place, "attachments of this kind cannot be read")
        return
    try:
        data, charset = _read_file(part)
        given = {**options.get(parsed_as.module, {}), **charset}
        for piece in _parse_as(parsed_as.module, data, given):
            inner = place if piece.part is None else f"{place}#{piece.part}"
            if isinstance(piece, Broken):
                yield Broken(inner, piece.reason)
            else:
                media = {"media_type": parsed_as.media_type, **piece.metadata}
                yield Parsed(piece.text, media, inner)
    except ParseError as error:
        yield Broken(place, str(error))


def _read_file(part: EmailMessage) -> tuple[bytes, dict[str, str]]:
    """The bytes of the file; a text in the encoding its header states comes as UTF-8."""
    data, charset = _payload(part), part.get_content_charset()
    if part.get_content_maintype() == "text" and charset:
        try:
            return data.decode(charset).encode(), {"charset": "utf-8"}
        except (LookupError, UnicodeError):
            pass  # the header is wrong: the format finds out for itself, or refuses
    return data, {}


def _payload(part: EmailMessage) -> bytes:
    if part.is_multipart():  # a message of its own, or the blocks of a delivery report
        return b"\n".join(bytes(inner) for inner in _parts(part))
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _parse_as(module: str, data: bytes, options: Mapping[str, Any]) -> Iterator[Any]:
    yield from importlib.import_module(f"rag_app.parsers.{module}").parse(data, options)
