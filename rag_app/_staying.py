"""HTTP clients for vendors' SDKs that follow no redirects: the config alone says where texts go.

The SDKs' own follow a 307 to another host, with the whole request.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def open_client(kind: Callable[..., Any], timeout: float) -> Any:
    """A client of the SDK's class `kind`, closed when it is collected: the SDK never closes it.

    Args:
        kind: `DefaultHttpxClient` of the SDK; the system's proxy stays in force.
        timeout: seconds.
    """
    client = kind(follow_redirects=False, timeout=timeout)
    close_when_collected(client)
    return client


def open_async_client(kind: Callable[..., Any], limits: Any, timeout: float) -> Any:
    """The asynchronous `open_client`.

    It keeps no connection open: one would outlive its event loop, and fail in the next.

    Args:
        kind: `DefaultAsyncHttpxClient` of the SDK.
        limits: the SDK's `DEFAULT_CONNECTION_LIMITS`, which name the class that `kind` takes.
        timeout: seconds.
    """
    none_kept = type(limits)(max_keepalive_connections=0)
    return kind(follow_redirects=False, limits=none_kept, timeout=timeout)


def close_when_collected(client: Any) -> None:
    """Close the connections of an HTTPX client when it is collected.

    A `__del__` comes too late when it is collected in a cycle.
    """
    weakref.finalize(client, _close, [client._transport, *client._mounts.values()])


def _close(transports: Iterable[Any]) -> None:
    for transport in transports:
        if transport is not None:
            transport.close()
