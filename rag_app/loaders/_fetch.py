"""Fetching public web pages only: every hop's addresses are checked, and the checked one is called.

What it refuses follows the IANA special-purpose address registries (IPv4 and IPv6); of an address
that holds an IPv4 address (mapped, NAT64) that one is judged.
"""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl

Resolve = Callable[[str, int], list[str]]
"""Host and port to addresses, as text."""

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PORTS: Final = {"http": 80, "https": 443}
_HEADERS: Final[tuple[tuple[bytes | str, bytes | str], ...]] = (
    ("Accept", "text/html,application/xhtml+xml,text/markdown,text/plain,application/pdf"),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", "rag-app"),
)
_CLOSED: Final = tuple(
    ip_network(block)
    for block in (
        *("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "100.64.0.0/10"),
        *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16"),
        *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10"),
    )
)
_GZIP: Final = b"\x1f\x8b"
_NAT64: Final = ip_network("64:ff9b::/96")


class Refused(Exception):
    """The page is not fetched; the message says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """What an address answered: the decoded body, its media type, and when it was last modified.

    `url` is the address that answered, after all redirects.
    """

    body: bytes
    media_type: str
    charset: str | None
    modified: str | None  # the header as it came
    url: str


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` for a page with its redirects; `size` of the decoded body in bytes; `redirects`."""

    seconds: float
    size: int
    redirects: int


def find_addresses(host: str, port: int) -> list[str]:
    """The addresses the system's resolver knows for `host`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_public(address: str) -> bool:
    """Whether `address` is a global unicast address, and none that leads to another network."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inside = _find_inside(ip)
        if inside is not None:
            return is_public(str(inside))
        if ip.scope_id is not None:
            return False
    if any(ip in block for block in _CLOSED if block.version == ip.version):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _find_inside(ip: IPv6Address) -> IPv4Address | None:
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


class Fetcher:
    """Fetches pages; `allowed` ("host:port") may have addresses that are not public.

    Args:
        limits: see `Limits`.
        allowed: hosts exempt from the address check, lower case, with their port.
        resolve: how a host's addresses are found.
        tls: the context to trust; certifi's by default.
    """

    def __init__(
        self,
        limits: Limits,
        allowed: Iterable[str] = (),
        resolve: Resolve = find_addresses,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits, self.allowed, self.resolve = limits, frozenset(allowed), resolve
        self.tls = tls

    def fetch(self, url: str) -> Page:
        """The page at `url`, redirects followed with the same checks at every hop.

        Raises:
            Refused: an address that is not public, an answer that is no page, too much, too slow.
        """
        deadline = time.monotonic() + self.limits.seconds
        at = check_url(url)
        network = _CheckedNetwork(self, deadline)
        with httpcore.ConnectionPool(ssl_context=self.tls, network_backend=network) as pool:
            for _ in range(self.limits.redirects + 1):
                found = self._visit(pool, at)
                if isinstance(found, Page):
                    return found
                at = found
        raise Refused(f"redirects more than {self.limits.redirects} times")

    def find_checked(self, host: str, port: int) -> list[str]:
        """The addresses to call for `host`.

        Raises:
            Refused: one of them is not public, or there is none.
        """
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Refused(f"the host {host!r} is not known ({error})") from error
        if not addresses:
            raise Refused(f"the host {host!r} has no address")
        if f"{host}:{port}" not in self.allowed and not all(map(is_public, addresses)):
            raise Refused(
                f"the host {host!r} leads to an address that is not public; "
                f"if it may be read, list '{host}:{port}' in `allow_hosts`"
            )
        return addresses

    def _visit(self, pool: httpcore.ConnectionPool, at: httpx.URL) -> Page | httpx.URL:
        headers = [*_HEADERS, ("Host", at.netloc.decode("ascii"))]
        url = httpcore.URL(scheme=at.raw_scheme, host=at.raw_host, port=at.port, target=at.raw_path)
        try:
            with pool.stream("GET", url, headers=headers) as response:
                given = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in given:
                    return _follow(at, given[b"location"])
                if response.status != 200:
                    raise Refused(f"answered {response.status}")
                return self._read(response, given, str(at))
        except httpcore.TimeoutException as error:
            raise Refused(f"took over {self.limits.seconds:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Refused(f"cannot be reached: {error or type(error).__name__}") from error

    def _read(self, response: httpcore.Response, given: dict[bytes, str], url: str) -> Page:
        media_type, _, parameters = given.get(b"content-type", "").partition(";")
        charset = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'") or None
        encoding = given.get(b"content-encoding", "identity").strip().lower()
        if encoding not in ("gzip", "x-gzip", "identity", ""):
            raise Refused(f"is compressed with {encoding!r}, which was not asked for")
        pieces = response.iter_stream()
        unpacked = self._unpack(pieces) if "gzip" in encoding else pieces
        body = bytearray()
        for piece in unpacked:
            body += piece
            if len(body) > self.limits.size:
                raise Refused(f"is larger than {self.limits.size} bytes")
        modified = given.get(b"last-modified")
        return Page(bytes(body), media_type.strip().lower(), charset, modified, url)

    def _unpack(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        """The gzip stream's content, all its members, never more than 64 KiB at once.

        What follows the last member and begins none is left out, as browsers do (RFC 1952, 2.2).
        """
        member, left = zlib.decompressobj(wbits=31), b""
        try:
            for piece in pieces:
                left += piece
                while left:
                    if member.eof and len(left) < len(_GZIP):
                        break
                    if member.eof and not left.startswith(_GZIP):
                        return
                    member = zlib.decompressobj(wbits=31) if member.eof else member
                    yield member.decompress(left, 1 << 16)
                    left = member.unused_data if member.eof else member.unconsumed_tail
            yield member.flush()
        except zlib.error as error:
            raise Refused(f"its compression is damaged: {error}") from error
        if not member.eof:
            raise Refused("its compression ends too early")


def check_url(url: str) -> httpx.URL:
    """The parsed `url`.

    Raises:
        Refused: it is not plain http or https: another scheme, no host, a user name or a password.
    """
    try:
        parsed = httpx.URL(url).copy_with(fragment=None)
        host = parsed.host  # decoded, which not every name that begins with xn-- can be
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Refused(f"is not an address: {error}") from error
    if parsed.scheme not in _PORTS:
        raise Refused(f"only http and https are fetched, not {parsed.scheme or 'a bare path'!r}")
    if parsed.userinfo:
        raise Refused("holds a user name or password, which addresses may not")
    if not host:
        raise Refused("names no host")
    return parsed


def _follow(at: httpx.URL, location: str) -> httpx.URL:
    try:
        return check_url(str(at.join(location)))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Refused(f"redirects to an address that is none: {error}") from error


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to addresses that were checked, so that no second look-up can give another one."""

    def __init__(self, fetcher: Fetcher, deadline: float) -> None:
        self._fetcher, self._deadline = fetcher, deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in self._fetcher.find_checked(host, port):
            left = _time_left(self._deadline)
            try:
                stream = self._network.connect_tcp(
                    address, port, left, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failure or httpcore.ConnectError(f"no address of {host!r} answered")


class _TimedStream(httpcore.NetworkStream):
    """A connection that ends at the deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _time_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _time_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left = _time_left(self._deadline)
        secured = self._stream.start_tls(ssl_context, server_hostname, left)
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left
