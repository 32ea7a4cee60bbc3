"""What a secret looks like when somebody wrote one into a config, and where one may stand."""

from __future__ import annotations

import re
from typing import Final

_KEYS: Final = (
    r"sk-(?:ant|proj|or|svcacct|live|test|lf)-[\w-]{4,}",
    r"sk-[A-Za-z0-9_]{16,}",
    r"sk-(?=[\w-]*\d)[\w-]{12,}",
    r"AIza[\w-]{20,}",
    r"(?:hf|gsk|glpat|pplx|tvly|pcsk|npm|dop_v1|r8)[_-](?=[\w-]*\d)[\w-]{16,}",
    r"(?:hf|gsk|pcsk)_[A-Za-z0-9]{16,}",
    r"gh[pousr]_\w{16,}",
    r"github_pat_\w{16,}",
    r"xox[abeoprs]-[\w-]{8,}",
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    r"(?i:bearer)\s+[^\s$]{16,}",
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
)
_KEY: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_KEYS)})")
_IN_QUERY: Final = re.compile(
    r"://\S*[?&](?:api_?key|key|token|access_token|password|secret)=[^&\s]{6,}", re.I
)
_PASSWORD: Final = re.compile(r"[a-z][\w+.-]{0,40}://[^\s/?#@:]{0,200}:([^\s/?#]{1,400})@", re.I)


def looks_like_secret(text: str) -> bool:
    """Whether `text` holds something shaped like an API key, a token or a private key."""
    return _KEY.search(text) is not None or _IN_QUERY.search(text) is not None


def has_url_password(text: str) -> bool:
    """Whether `text` holds a URL with a literal password, `scheme://user:password@host`.

    A password that is a `${VARIABLE}` is none.
    """
    found = _PASSWORD.finditer(text)
    return any(re.sub(r"\$\{\w+\}", "", match[1]) for match in found)
