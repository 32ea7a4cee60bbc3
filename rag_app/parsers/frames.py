"""What parent and child say to each other: frames of JSON, each after its length. No pickle."""

from __future__ import annotations

import json
import re
import struct
from typing import IO, Any

_LENGTH = struct.Struct(">Q")
_SURROGATES = re.compile("[\ud800-\udfff]")


def write_frame(out: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message; the caller flushes. Lone surrogates become U+FFFD."""
    try:
        body = json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        body = json.dumps(replace_surrogates(message), ensure_ascii=False).encode()
    write_bytes(out, body)


def write_bytes(out: IO[bytes], body: bytes) -> None:
    """Write one frame of plain bytes."""
    out.write(_LENGTH.pack(len(body)))
    out.write(body)


def read_frame(source: IO[bytes]) -> bytes | None:
    """The next frame's bytes, or None when the other side is gone, in the middle of a frame too."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


def replace_surrogates(value: Any) -> Any:
    """`value` with every half of a character as U+FFFD, in keys, too."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [replace_surrogates(item) for item in value]
    return value
