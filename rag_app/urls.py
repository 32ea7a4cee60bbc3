"""Showing a URL without what may be secret in it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

_LONG: Final = 4
"""Characters from which a part of a password is hidden by itself."""

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


def is_ambiguous(url: str) -> bool:
    """Whether a password that was not percent-encoded may reach beyond its place in `url`."""
    rest = url.strip().partition("://")[2]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    return "@" in rest[len(authority) :] or authority.count("@") > 1


def hide_password(words: str, url: str) -> str:
    """`words` without the password that stands in `url`, as a whole and in parts.

    Whatever follows the first colon before the last `@` counts, and each value of the query.
    """
    rest = url.strip().partition("://")[2]
    given = [rest.rpartition("@")[0].partition(":")[2]]
    given += re.findall(
        r"[?&][^=&#]*(?:pass|secret|token|key)[^=&#]*=([^&#]+)", rest, re.IGNORECASE
    )
    forms = {form for each in given for form in (each, unquote(each), unquote_plus(each))}
    forms |= {
        part for form in forms for part in re.split(r"[^\w.~!$*+-]+", form) if len(part) >= _LONG
    }
    forms |= {encode(form, safe="") for form in forms for encode in (quote, quote_plus)}
    for form in sorted(filter(None, forms), key=len, reverse=True):
        words = words.replace(form, _HIDDEN)
    return words
