"""Every way to lose a web page without meaning it, on a real server: it is named and kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.http_server import Answer, Hangup, HttpServer, Refusal, Request, Stream
from tests.reliability.losing import Losing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Site(HttpServer):
    """Answers with `pages[path]`: a text is a page of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, str | Answer] = {}

    def answer(self, method: str, request: Request) -> Answer:
        page = self.pages.get(request.path, Refusal(404, "no such page"))
        return Stream("text/html", [page]) if isinstance(page, str) else page


def write_page(name: str) -> str:
    words = f"The page {name} tells of {name} in many words. " * 10
    return f"<html><head><title>{name}</title></head><body><article><p>{words}</article>"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def web(tmp_path: Path, site: Site) -> Losing:
    """The index of three pages, filled."""
    site.pages = {f"/{name}": write_page(name) for name in ("one", "two", "three")}
    urls = [site.url + path for path in site.pages]
    host = site.url.removeprefix("http://")
    index = Losing(tmp_path, {"kind": "web", "urls": urls, "allow_hosts": [host], "timeout": 2})
    assert index.ingest().indexed == 3
    return index


def drip() -> Iterator[str]:
    yield "<html>"
    time.sleep(3)
    yield "late"


def break_off() -> Iterator[str]:
    yield "<html><body><p>The page two te"
    raise ConnectionResetError


LOGIN = "<html><form><input name=user><input type='password' name=word></form></html>"
PAGE: dict[str, tuple[Callable[[], str | Answer], str]] = {
    "not found": (lambda: Refusal(404, ""), "answered 404"),
    "gone": (lambda: Refusal(410, ""), "answered 410"),
    "denied": (lambda: Refusal(403, ""), "answered 403"),
    "failing": (lambda: Refusal(500, ""), "answered 500"),
    "busy": (lambda: Refusal(503, "", {"Retry-After": "1"}), "answered 503"),
    "no content": (lambda: Refusal(204, ""), "answered 204"),
    "reset": (Hangup, "cannot be reached"),
    "slow": (lambda: Stream("text/html", drip()), "took over 2 s"),
    "cut": (lambda: Stream("text/html", break_off()), "cannot be reached"),
    "empty": (lambda: Stream("text/html", []), "is empty|no text"),
    "another kind": (lambda: {"status": "maintenance"}, "content type is 'application/json'"),
    "a log-in page": (
        lambda: Refusal(302, "", {"Location": "/welcome?next=/two"}),
        "leads to http://[0-9.:]+/welcome, which asks to log in",
    ),
    "a log-in page without a password": (
        lambda: Refusal(302, "", {"Location": "/oauth/sign-in"}),
        "leads to http://[0-9.:]+/oauth/sign-in, which asks to log in",
    ),
    "a circle": (lambda: Refusal(302, "", {"Location": "/two"}), "redirects more than 5 times"),
}


@pytest.mark.parametrize("way", PAGE)
def test_a_page_that_is_lost_is_named_and_kept(web: Losing, site: Site, way: str) -> None:
    make, words = PAGE[way]
    site.pages |= {
        "/two": make(),
        "/welcome?next=/two": LOGIN,
        "/oauth/sign-in": write_page("who are you"),
    }
    assert web.quarantine(words) == [f"{site.url}/two"]


def test_a_site_that_is_down_keeps_all_its_pages(web: Losing, site: Site) -> None:
    site.pages = dict.fromkeys(site.pages, Hangup())
    assert len(web.quarantine("cannot be reached")) == 3


def test_a_page_that_moved_is_read_where_it_is(web: Losing, site: Site) -> None:
    site.pages |= {"/two": Refusal(301, "", {"Location": "/zwei"}), "/zwei": write_page("two")}
    assert web.ingest().unchanged == 3


def test_a_page_taken_from_the_list_leaves_the_index(web: Losing) -> None:
    web.sources[0]["urls"].pop()
    report = web.ingest()
    assert (report.deleted, report.unchanged) == (1, 2)
