"""The client of a Weaviate server: where its two addresses are, and what it takes to reach them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from rag_app.errors import StoreError
from rag_app.urls import show_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_app.vector_stores.weaviate import Config

SECONDS: Final = 10
"""How long a server may take to accept a connection."""

PAUSES: Final = (0.2, 1.0)
"""Seconds to wait before a call is tried again that did not reach the server."""

LARGEST: Final = 104_858_000
"""Bytes of a gRPC message, where the server does not tell its own limit."""

OLDEST: Final = (1, 29)
"""The first version that counts objects by gRPC; before, GraphQL was needed."""

CLOUD: Final = (".weaviate.cloud", ".weaviate.network")


class UnreachableError(Exception):
    """A gRPC call reached no server, however often it was tried. The message holds gRPC's words."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected client and what its server told of itself."""

    client: Any
    can_negate: bool
    message_bytes: int


def connect(config: Config) -> Connection:
    """A `weaviate` client of the server that `config` names.

    Raises:
        StoreError: nothing answers there, or not as Weaviate does, or the key is refused.
    """
    import weaviate
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    from weaviate.config import GrpcConfig
    from weaviate.connect import ConnectionParams

    told = _ask(config)
    version = _require_version(str(told["version"]), config)
    logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)  # it logs whole objects
    rest, grpc = urlsplit(config.url), urlsplit(grpc_url(config))
    key = config.api_key
    client = weaviate.WeaviateClient(
        connection_params=ConnectionParams.from_params(
            *_parts(rest, 443 if rest.scheme == "https" else 80), *_parts(grpc, 50051)
        ),
        auth_client_secret=Auth.api_key(key.get_secret_value()) if key else None,
        additional_config=AdditionalConfig(
            timeout=Timeout(init=SECONDS, query=config.timeout, insert=config.timeout),
            grpc_config=GrpcConfig(channel_options=[("grpc.max_reconnect_backoff_ms", 5000)]),
        ),
        # They would ask PyPI for a newer client; whether both addresses answer is asked here.
        skip_init_checks=True,
    )
    try:
        client.connect()
        _reach_grpc(client, config)
    except BaseException:
        client.close()
        raise
    return Connection(client, version >= (1, 33), int(told.get("grpcMaxMessageSize", LARGEST)))


def grpc_url(config: Config) -> str:
    """The gRPC address that `config` gives or implies.

    Weaviate Cloud's rule: https://weaviate.io/developers/weaviate/connections/connect-cloud
    """
    if config.grpc_url is not None:
        return config.grpc_url
    parts = urlsplit(config.url)
    host = parts.hostname or ""
    if host.endswith(".weaviate.network"):
        name, _, domain = host.partition(".")
        return f"https://{name}.grpc.{domain}:443"
    if host.endswith(CLOUD):
        return f"https://grpc-{host}:443"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:50051"


def _parts(url: SplitResult, default_port: int) -> tuple[str, int, bool]:
    return url.hostname or "", url.port or default_port, url.scheme == "https"


def _ask(config: Config) -> dict[str, Any]:
    """What the server tells of itself; Weaviate's client would wait long for a silent one."""
    import httpx

    key = config.api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    where = show_url(config.url)
    try:
        with httpx.Client(timeout=SECONDS, trust_env=False) as http:
            reply = http.get(f"{config.url.rstrip('/')}/v1/meta", headers=headers)
    except httpx.HTTPError as error:
        raise StoreError(
            "vector_store.url",
            f"no server answers at {where!r} ({type(error).__name__}: {error})",
            "Start Weaviate there, or give the address of one that runs.",
        ) from error
    if reply.status_code in (401, 403):
        wrong = f"Weaviate at {where!r} refuses {'the key' if key else 'calls without a key'}"
        raise StoreError("vector_store.api_key", wrong, "Give the API key of this server.")
    try:
        told: dict[str, Any] = reply.raise_for_status().json()
        _parse_version(str(told["version"]))
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "vector_store.url",
            f"what answers at {where!r} is no Weaviate (status {reply.status_code} of /v1/meta)",
            "Give the address of Weaviate's REST interface.",
        ) from error
    return told


def _parse_version(words: str) -> tuple[int, ...]:
    return tuple(int(part) for part in words.split(".")[:2])


def _require_version(words: str, config: Config) -> tuple[int, ...]:
    version = _parse_version(words)
    if version < OLDEST:
        raise StoreError(
            "vector_store.url",
            f"the server at {show_url(config.url)!r} is Weaviate {words}",
            f"Use version {'.'.join(map(str, OLDEST))} or newer.",
        )
    return version


def _reach_grpc(client: Any, config: Config) -> None:
    """Wait for the gRPC address to accept, and have the client's calls fail fast from then on."""
    import grpc

    connection = client._connection
    ready = grpc.channel_ready_future(connection._grpc_channel)
    try:
        ready.result(timeout=SECONDS)
    except grpc.FutureTimeoutError as error:
        raise StoreError(
            "vector_store.grpc_url",
            f"Weaviate's REST interface answers at {show_url(config.url)!r}, but no gRPC at "
            f"{show_url(grpc_url(config))!r} (tried for {SECONDS} seconds)",
            "Give the server's gRPC address as grpc_url; its port is 50051 by default.",
        ) from error
    finally:
        ready.cancel()
    connection._grpc_stub = _Impatient(connection._grpc_stub)


class _Impatient:
    """The calls of Weaviate's gRPC stub, given up after seconds when no server is there.

    The client itself would try for a minute, and each try may wait. All calls made here may be
    repeated: they search, or write and delete by id.
    """

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._stub, name)

        def try_call(*args: Any, **kwargs: Any) -> Any:
            for pause in (*PAUSES, None):
                try:
                    return call(*args, **kwargs)
                except Exception as error:
                    if not _is_unreachable(error):
                        raise
                    if pause is None:
                        raise UnreachableError(_details(error)) from error
                    time.sleep(pause)
            raise AssertionError  # the last try returns or raises

        return try_call


def _is_unreachable(error: Exception) -> bool:
    import grpc

    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE


def _details(error: Any) -> str:
    return str(error.details())
