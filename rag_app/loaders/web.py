"""Web pages by URL: HTML, Markdown, text, PDF. http and https only, and no private addresses.

Each redirect is checked as the first address was. A page of the own network is read only when its
`host:port` is listed in `allow_hosts`. Proxies set in the environment are not used.
"""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from rag_app.errors import SourceError
from rag_app.options import OPERATIONAL, Field, Options
from rag_app.parsers.child import Workers
from rag_app.types import Origin
from rag_app.urls import show_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from langchain_core.documents import Document

    from rag_app.loaders._fetch import Fetcher, Page, Resolve
    from rag_app.loaders._source import SourceLoader
    from rag_app.types import Doubt, Unreadable

MODULES = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "text",
    "text/markdown": "markdown",
    "application/pdf": "pdf",
}
"""Content type -> the module of `rag_app.parsers` that reads it."""

_LOGIN = re.compile(r"[/._-](?:log-?in|sign-?in|sso|saml2?|authorize)(?![a-z])", re.IGNORECASE)
"""Part of an address that people are sent to when they are to say who they are."""

_PASSWORD = re.compile(rb"<input\b[^>]*\btype\s*=\s*[\"']?password", re.IGNORECASE)

_REMEDY = "Open it in a browser, mend or remove its line in `urls`."


def _check_scheme(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not rest.strip("/"):
        raise ValueError("a URL begins with http:// or https:// and a host")
    if "@" in rest.partition("/")[0].partition("?")[0]:
        raise ValueError("a URL may not hold a user name or password")
    return url


def _check_host(host: str) -> str:
    name, _, port = host.rpartition(":")
    if not name or not port.isdecimal():
        raise ValueError("an entry reads host:port, for example wiki.example:443")
    return host.lower()


def _refuse_repeats(urls: list[str]) -> list[str]:
    repeated = {url for url in urls if urls.count(url) > 1}
    if repeated:
        raise ValueError(f"{min(repeated)} is listed twice")
    return urls


class Config(Options):
    """The options of a `web` source."""

    urls: Annotated[
        list[Annotated[str, AfterValidator(_check_scheme)]], AfterValidator(_refuse_repeats)
    ] = Field(
        min_length=1, description="The pages.", json_schema_extra={**OPERATIONAL, "name": True}
    )
    allow_hosts: list[Annotated[str, AfterValidator(_check_host)]] = Field(
        [],
        description="`host:port` of servers that may have private addresses.",
        json_schema_extra=OPERATIONAL,
    )
    timeout: float = Field(
        20.0,
        gt=0,
        description="Longest time for one page with its redirects, seconds.",
        json_schema_extra=OPERATIONAL,
    )
    max_bytes: int = Field(
        20_000_000,
        ge=1,
        description="Largest page, decompressed, bytes.",
        json_schema_extra=OPERATIONAL,
    )
    max_redirects: int = Field(
        5, ge=0, le=20, description="Redirects followed.", json_schema_extra=OPERATIONAL
    )
    max_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest time to parse one page, seconds.",
        json_schema_extra=OPERATIONAL,
    )
    max_memory_mb: int = Field(
        1024,
        ge=128,
        description="Memory to parse one page, MiB; not enforced on Windows.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config) -> SourceLoader:
    """The loader of the listed pages."""
    from rag_app.loaders._source import SourceLoader

    return SourceLoader(Pages(config))


class Pages:
    """Web pages, each an `Origin` named by its URL, whose fingerprint is the sha-256 of its body.

    `resolve` finds the addresses of a host; the system's resolver by default.
    """

    def __init__(self, config: Config, resolve: Resolve | None = None) -> None:
        from rag_app.loaders._fetch import Fetcher, Limits, find_addresses

        limits = Limits(config.timeout, config.max_bytes, config.max_redirects)
        self.config = config
        self._fetcher: Fetcher = Fetcher(limits, config.allow_hosts, resolve or find_addresses)
        self._workers = Workers("loaders.web", "web", config.max_seconds, config.max_memory_mb)

    def close(self) -> None:
        """End the child processes."""
        self._workers.close()

    def origins(self) -> Iterator[Origin]:
        """The pages in sorted order, each fetched once, when its turn comes.

        One that cannot be fetched has no fingerprint, and loading it says why.
        """
        return map(self._fetch, sorted(self.config.urls))

    def doubts(self) -> Sequence[Doubt]:
        """None: the config names every page."""
        return ()

    def _fetch(self, url: str) -> Origin:
        from rag_app.loaders._fetch import Refused

        try:
            page = self._fetcher.fetch(url)
        except Refused as error:
            return Origin(url, None, _refuse(url, str(error)))
        if _is_login(url, page):
            what = f"leads to {show_url(page.url)}, which asks to log in"
            return Origin(url, None, _refuse(url, what))
        if page.media_type not in MODULES:
            kinds = ", ".join(MODULES)
            what = f"its content type is {page.media_type or 'missing'!r}, not one of {kinds}"
            return Origin(url, None, _refuse(url, what))
        fingerprint = hashlib.sha256(page.body).hexdigest()
        return Origin(url, fingerprint, lambda: self._load(url, page), read=lambda: page.body)

    def _load(self, url: str, page: Page) -> Iterator[Document | Unreadable]:
        from rag_app.loaders._source import to_documents

        metadata = {"media_type": page.media_type, **_read_modified(page.modified)}
        pieces = self._workers.parse_bytes(
            page.body, MODULES[page.media_type], {"charset": page.charset}
        )
        yield from to_documents(url, pieces, metadata, _REMEDY)


def _is_login(url: str, page: Page) -> bool:
    """Whether a redirect led to a form for a name and a password in place of the page."""
    if page.url.partition("#")[0].rstrip("/") == url.partition("#")[0].rstrip("/"):
        return False
    return bool(_PASSWORD.search(page.body) or (_LOGIN.search(page.url) and not _LOGIN.search(url)))


def _refuse(url: str, reason: str) -> Callable[[], Iterable[Any]]:
    def load() -> Iterable[Any]:
        raise SourceError(url, reason, _REMEDY)

    return load


def _read_modified(header: str | None) -> dict[str, str]:
    try:
        return {"modified": parsedate_to_datetime(header).isoformat()} if header else {}
    except ValueError:
        return {}  # a date the server made up is no date
