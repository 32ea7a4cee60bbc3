"""Glob patterns over relative paths: `**/` is any folders, `*` stays inside one."""

from __future__ import annotations

import re


def compile_glob(pattern: str) -> re.Pattern[str]:
    """The regular expression that matches whole posix paths: `*`, `?`, `[a-z]`, `[!a-z]`, `**`.

    A pattern that names a folder (`drafts/`) stands for everything in it.

    Raises:
        ValueError: a range in brackets runs backwards, as in `[z-a]`.
    """
    whole = pattern.removeprefix("./")
    whole += "**" if whole.endswith("/") else ""
    try:
        return re.compile(_TOKEN.sub(_translate, whole), re.DOTALL)
    except re.error as error:
        wrong = f"{pattern!r} is not a glob: {error.msg}"
        raise ValueError(f"{wrong}. In brackets stand characters and ranges, as [a-z].") from error


_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


def _translate(token: re.Match[str]) -> str:
    found = token.group()
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if found in known:
        return known[found]
    if len(found) > 2 and found.startswith("["):
        inner = found[1:-1].replace("\\", "\\\\")
        negated = inner.startswith("!")
        return f"[{'^/' if negated else ''}{_escape_set(inner[negated:])}]"
    return re.escape(found)


def _escape_set(inner: str) -> str:
    return re.sub(r"[\[\]^&~|]|(?<=-)-", r"\\\g<0>", inner)
