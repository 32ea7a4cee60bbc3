"""Showing a URL without what may be secret in it."""

from __future__ import annotations

import re
from typing import Final

_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:@\[\]\s]+)(?::\d+)?")
_HIDDEN: Final = "…"


def show_url(url: str) -> str:
    """`url` without user name, password, query and fragment: `https://host:8000/path`.

    An `@` after the host may end a password that was not percent-encoded; then, and whenever the
    host cannot be told, nothing but the scheme is shown.
    """
    scheme, mark, rest = url.strip().partition("://")
    if not mark:
        return _HIDDEN
    found = re.match(r"([^/?#\\]*)(/[^?#]*)?", rest)
    assert found is not None
    authority, path = found[1], found[2] or ""
    ambiguous = "@" in rest[len(authority) :] and re.search("[:@]", authority)
    server = authority.rpartition("@")[2]
    if ambiguous or not _SERVER.fullmatch(server):
        return f"{scheme}://{_HIDDEN}"
    return f"{scheme}://{server}{path}"
