"""The web loader reads public pages only: each known way to a private address is tried on it.

Real HTTP servers on the loopback stand for both sides: the ones listed in `allow_hosts` are what
the user means to read, any other is the private service an attacker would reach by a redirect or a
name. `resolve` is the loader's own argument for finding addresses.
"""

from __future__ import annotations

import gzip
import http.server
import itertools
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from pydantic import ValidationError

from rag_app.errors import SourceError
from rag_app.loaders._fetch import check_url, find_addresses, is_public
from rag_app.loaders.web import Config, Pages
from rag_app.types import Origin, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer: TypeAlias = tuple[int, dict[str, str], Any]
"""Status, headers, and the body or an iterator of its pieces."""

HTML = {"Content-Type": "text/html; charset=utf-8"}


class Site:
    """A local HTTP server: `pages[path]` is what it answers, `asked` what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[tuple[str, str]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers["Host"]))
                status, headers, body = site.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for piece in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    return

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def make_site() -> Iterator[Callable[[], Site]]:
    made: list[Site] = []

    def make() -> Site:
        made.append(Site())
        return made[-1]

    yield make
    for site in made:
        site.server.shutdown()
        site.server.server_close()


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()


def load(pages: Pages) -> tuple[Origin, list[Any], str]:
    """The one origin, its documents, and the reason when it cannot be read."""
    try:
        (origin,) = pages.origins()
        try:
            return origin, list(origin.load()), ""
        except SourceError as error:
            return origin, [], error.wrong
    finally:
        pages.close()


def read(url: str, resolve: Any = None, **options: Any) -> tuple[Origin, list[Any], str]:
    return load(Pages(Config.model_validate({"urls": [url], **options}), resolve))


def allowing(site: Site) -> dict[str, list[str]]:
    return {"allow_hosts": [f"127.0.0.1:{site.port}"]}


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
        *("2001:db8::1", "100::1", "3fff::1", "5f00::1", "not an address", ""),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1"),
        *("0", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]"),
        *("LOCALHOST", "127。0。0。1", "①②⑦.0.0.1"),
    ],
)
def test_no_spelling_of_the_loopback_is_called(site: Site, host: str) -> None:
    site.pages["/"] = (200, HTML, b"<p>secret")
    origin, documents, reason = read(site.url(host=host))
    assert (documents, site.asked, origin.fingerprint) == ([], [], None)
    assert "not public" in reason or "not known" in reason or "not an address" in reason


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/x", "gopher://x/", "//example.org/", "http:///"],
)
def test_only_http_and_https_can_be_configured(url: str) -> None:
    with pytest.raises(ValidationError):
        Config(urls=[url])


@pytest.mark.parametrize("url", ["http://me:secret@example.org/", "https://token@example.org/x"])
def test_a_url_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValidationError) as error:
        Config(urls=[url])
    assert "secret" not in str(error.value)
    assert "token" not in str(error.value)


@pytest.mark.parametrize("backslash", ["http://example.org\\@127.0.0.1/", "http://127.0.0.1\\.x/"])
def test_a_host_is_read_the_same_way_by_everybody(backslash: str) -> None:
    """A backslash never makes the host that is checked differ from the host that is called."""
    _, documents, reason = read_if_valid(backslash)
    assert documents == []
    assert reason


def read_if_valid(url: str) -> tuple[Any, list[Any], str]:
    try:
        return read(url, resolve=lambda host, port: ["127.0.0.1"])
    except ValidationError as error:
        return None, [], str(error)


def test_an_allowed_host_is_read(site: Site) -> None:
    page = "<html><head><title>Berths</title></head><body><article><p>Größe "
    site.pages["/a"] = (
        200,
        {**HTML, "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
        (page + "of the berths in the harbour. " * 20 + "</article>").encode(),
    )
    url = site.url("/a")
    origin, (document,), _ = read(url, **allowing(site))
    assert document.page_content.startswith("Größe of the berths")
    assert document.metadata["source"] == origin.source == url
    assert document.metadata["title"] == "Berths"
    assert document.metadata["modified"] == "2015-10-21T07:28:00+00:00"
    assert site.asked == [("/a", f"127.0.0.1:{site.port}")]


def test_the_allowed_port_alone_is_allowed(make_site: Callable[[], Site]) -> None:
    allowed, private = make_site(), make_site()
    private.pages["/"] = (200, HTML, b"<p>secret")
    _, documents, reason = read(private.url(), **allowing(allowed))
    assert documents == []
    assert f"list '127.0.0.1:{private.port}' in `allow_hosts`" in reason
    assert private.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_private_address_is_not_followed(
    make_site: Callable[[], Site], status: int
) -> None:
    outer, private = make_site(), make_site()
    private.pages["/"] = (200, HTML, b"<p>secret")
    outer.pages["/"] = (status, {"Location": private.url()}, b"")
    _, documents, reason = read(outer.url(), **allowing(outer))
    assert documents == []
    assert "not public" in reason
    assert (len(outer.asked), private.asked) == (1, [])


@pytest.mark.parametrize(
    "target",
    [
        *("file:///etc/passwd", "ftp://x/", "http://me:pw@127.0.0.1/", "javascript:1", "http://["),
        *("http://xn--a/", "http://xn--zzzzzzzzzz\xff/", "http://a:99999/", "http://a..b/"),
        *("http://%00/", "http://[fe80::1%25eth0]/", f"http://{'a' * 300}/"),
        *("http://\xe9\xff/", "http://.../", "http://a\x7f/"),
    ],
    ids=lambda target: target[:30],
)
def test_a_redirect_out_of_http_is_not_followed(site: Site, target: str) -> None:
    site.pages["/"] = (302, {"Location": target}, b"")
    _, documents, reason = read(site.url(), **allowing(site))
    assert documents == []
    assert reason
    assert len(site.asked) == 1


def test_redirects_on_the_same_host_are_followed(site: Site) -> None:
    site.pages["/"] = (302, {"Location": "next?x=1"}, b"")
    site.pages["/next?x=1"] = (200, {"Content-Type": "text/plain"}, b"arrived")
    url = site.url()
    _, (document,), _ = read(url, **allowing(site))
    assert document.page_content == "arrived"
    assert document.metadata["source"] == url


def test_an_endless_redirect_ends(site: Site) -> None:
    site.pages["/"] = (302, {"Location": "/"}, b"")
    _, _, reason = read(site.url(), **allowing(site), max_redirects=3)
    assert reason == "redirects more than 3 times"
    assert len(site.asked) == 4


def test_a_name_that_leads_to_a_private_address_is_refused(site: Site) -> None:
    for addresses in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"], []):
        url = site.url(host="public.example")
        _, documents, reason = read(url, resolve=lambda host, port, given=addresses: given)
        assert documents == []
        assert "'public.example'" in reason
    assert site.asked == []


def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_called(site: Site) -> None:
    """DNS rebinding needs a second look-up; there is none, by the system's resolver neither."""
    site.pages["/"] = (200, {"Content-Type": "text/plain"}, b"words")
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    name = f"wiki.example:{site.port}"
    _, documents, _ = read(f"http://{name}/", resolve=resolve, allow_hosts=[name])
    assert [document.page_content for document in documents] == ["words"]
    assert asked == ["wiki.example"]
    assert site.asked == [("/", name)]


def test_a_gzip_bomb_is_cut_off_at_the_limit(site: Site) -> None:
    bomb = gzip.compress(gzip.compress(bytes(50_000_000)) + bytes(50_000_000))
    assert len(bomb) < 200_000
    site.pages["/"] = (200, {**HTML, "Content-Encoding": "gzip"}, bomb)
    _, documents, reason = read(site.url(), **allowing(site), max_bytes=1_000_000)
    assert documents == []
    assert reason == "is larger than 1000000 bytes"


def test_compressed_pages_are_read(site: Site) -> None:
    body = gzip.compress("# Größe\n\nwords".encode())
    headers = {"Content-Type": "text/markdown", "Content-Encoding": "gzip"}
    site.pages["/"] = (200, headers, body)
    _, (document,), _ = read(site.url(), **allowing(site))
    assert document.page_content == "# Größe\n\nwords"
    site.pages["/"] = (200, headers, body[:-6])
    assert read(site.url(), **allowing(site))[2] == "its compression ends too early"
    site.pages["/"] = (200, {**headers, "Content-Encoding": "br"}, body)
    assert "compressed with 'br'" in read(site.url(), **allowing(site))[2]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("after", [b"", b"\x1f", b"\0" * 9, b"no gzip\x1f\x8b"])
def test_every_member_of_a_compressed_page_is_read(site: Site, size: int, after: bytes) -> None:
    whole = b"".join(map(gzip.compress, (b"one ", b"", b"two ", b"three"))) + after
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    site.pages["/"] = (200, headers, pieces)
    _, (document,), _ = read(site.url(), **allowing(site))
    assert document.page_content == "one two three"


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (gzip.compress(b"two", mtime=0)[:-6], "its compression ends too early"),
        (gzip.compress(b"two", mtime=0)[:3], "its compression ends too early"),
        (b"\x1f\x8b no member", "its compression is damaged"),
        (gzip.compress(bytes(2_000_000), mtime=0), "is larger than 1000000 bytes"),
    ],
)
def test_a_broken_second_member_is_a_reason(site: Site, second: bytes, reason: str) -> None:
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    site.pages["/"] = (200, headers, gzip.compress(b"one") + second)
    _, documents, said = read(site.url(), **allowing(site), max_bytes=1_000_000)
    assert documents == []
    assert said.startswith(reason)


def test_an_endless_body_is_cut_off(site: Site) -> None:
    site.pages["/"] = (200, HTML, itertools.repeat(b"x" * 10_000))
    _, _, reason = read(site.url(), **allowing(site), max_bytes=100_000)
    assert reason == "is larger than 100000 bytes"


def test_a_body_that_drips_is_cut_off(site: Site) -> None:
    stop = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stop.wait(0.1):
            yield b"x"

    site.pages["/"] = (200, HTML, drip())
    _, _, reason = read(site.url(), **allowing(site), timeout=1)
    stop.set()
    assert reason == "took over 1 s"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, {}, b""), "answered 404"),
        ((500, HTML, b"<p>oops"), "answered 500"),
        ((200, {"Content-Type": "application/zip"}, b"PK"), "content type is 'application/zip'"),
        ((200, {}, b"x"), "content type is 'missing'"),
        ((200, {"Content-Type": "application/pdf"}, b"%PDF-"), "not a readable PDF"),
        ((200, HTML, b""), "is empty"),
    ],
)
def test_what_is_no_page_is_named_with_the_reason(site: Site, answer: Answer, reason: str) -> None:
    site.pages["/"] = answer
    _, documents, said = read(site.url(), **allowing(site))
    assert documents == []
    assert reason in said


def test_one_page_that_fails_does_not_stop_the_others(site: Site) -> None:
    site.pages["/a"] = (200, {"Content-Type": "text/plain"}, b"words")
    site.pages["/odd"] = (302, {"Location": "http://xn--a/"}, b"")
    urls = [site.url("/gone"), site.url("/odd"), site.url("/a"), "http://xn--a/"]
    pages = Pages(Config.model_validate({"urls": urls, **allowing(site)}))
    first, second, third, fourth = pages.origins()
    for odd in (third, fourth):
        with pytest.raises(SourceError, match="is not an address"):
            list(odd.load())
    assert (first.source, second.source) == (site.url("/a"), site.url("/gone"))
    assert not any(isinstance(loaded, Unreadable) for loaded in first.load())
    with pytest.raises(SourceError, match="answered 404"):
        list(second.load())
    pages.close()


def test_a_fingerprint_follows_the_body(site: Site) -> None:
    prints = []
    for body in (b"one", b"one", b"two"):
        site.pages["/"] = (200, {"Content-Type": "text/plain"}, body)
        prints.append(read(site.url(), **allowing(site))[0].fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_the_fragment_and_the_case_of_a_scheme_change_nothing() -> None:
    assert str(check_url("HTTP://Example.org/a#part")) == "http://example.org/a"


def test_the_system_resolver_knows_the_loopback() -> None:
    assert set(find_addresses("localhost", 80)) <= {"127.0.0.1", "::1"}
