"""E-mail (RFC 5322 and MIME): headers and body, each attachment as a document of its own.

An attachment that cannot be read is reported; pictures shown inside a message are left out.
"""

from __future__ import annotations

import importlib
from email import policy
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

from rag_app.parsers import find_format
from rag_app.parsers.parsed import Broken, Parsed, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import EmailMessage

_SHOWN = {"From": "from", "To": "to", "Cc": "cc", "Date": "date", "Subject": "subject"}


def parse(data: bytes, options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The message, then what is attached to it.

    `options`: for each format that takes any, its own under the name of its module.

    Raises:
        ParseError: it is no e-mail.
    """
    message: EmailMessage = BytesParser(policy=policy.default).parsebytes(data)
    if not any(message.get(name) for name in ("From", "To", "Subject", "Message-ID")):
        raise ParseError("has no header of an e-mail")
    headers = {ours: _header(message, theirs) for theirs, ours in _SHOWN.items()}
    lines = [f"{name}: {headers[ours]}" for name, ours in _SHOWN.items() if headers[ours]]
    attached = list(_list_attachments(message))
    body = _read_body(message)
    metadata = {"title": headers["subject"], "created": _date(message)}
    people = {name: headers[name] for name in ("from", "to", "cc")}
    names = {"attachments": [name for name, _ in attached]}
    found = {k: v for k, v in {**metadata, **people, **names}.items() if v}
    yield Parsed("\n".join([*lines, "", body.strip()]).strip(), found)
    taken: dict[str, int] = {}
    for name, part in attached:
        taken[name] = taken.get(name, 0) + 1
        place = name if taken[name] == 1 else f"{name} ({taken[name]})"
        yield from _read_attachment(place, name, part, options)


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _date(message: EmailMessage) -> str:
    stated = getattr(message.get("Date"), "datetime", None)
    return stated.isoformat() if stated is not None else ""


def _read_body(message: EmailMessage) -> str:
    """The plain text; where there is none, the HTML's."""
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    content = body.get_content()
    if body.get_content_type() == "text/plain":
        return str(content).replace("\r\n", "\n")
    return "\n".join(
        piece.text for piece in _parse_as("html", str(content).encode(), {"charset": "utf-8"})
    )


def _list_attachments(message: EmailMessage) -> Iterator[tuple[str, EmailMessage]]:
    for number, part in enumerate(message.iter_attachments(), 1):
        if part.get_content_disposition() == "inline" and part.get_content_maintype() == "image":
            continue
        kind = part.get_content_type()
        ending = ".eml" if kind == "message/rfc822" else ""
        yield part.get_filename() or f"attachment {number}{ending}", part


def _read_attachment(
    place: str, name: str, part: EmailMessage, options: Mapping[str, Any]
) -> Iterator[Parsed | Broken]:
    parsed_as = find_format(name)
    if parsed_as is None:
        yield Broken(place, "attachments of this kind cannot be read")
        return
    try:
        for piece in _parse_as(parsed_as.module, _bytes(part), options.get(parsed_as.module, {})):
            inner = place if piece.part is None else f"{place}#{piece.part}"
            if isinstance(piece, Broken):
                yield Broken(inner, piece.reason)
            else:
                media = {"media_type": parsed_as.media_type, **piece.metadata}
                yield Parsed(piece.text, media, inner)
    except ParseError as error:
        yield Broken(place, str(error))


def _bytes(part: EmailMessage) -> bytes:
    content = part.get_content()
    if isinstance(content, str):
        return content.encode()
    return content if isinstance(content, bytes) else bytes(content)


def _parse_as(module: str, data: bytes, options: Mapping[str, Any]) -> Iterator[Any]:
    yield from importlib.import_module(f"rag_app.parsers.{module}").parse(data, options)
