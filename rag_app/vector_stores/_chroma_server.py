"""The client of a Chroma server."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from rag_app.errors import StoreError
from rag_app.urls import show_url

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS: Final = 10
"""How long a server may take to accept a connection."""


def connect(url: str, headers: Mapping[str, str], tenant: str, database: str) -> Any:
    """A `chromadb` client of the server at `url`.

    Raises:
        StoreError: nothing answers there.
    """
    import chromadb
    from chromadb.config import Settings

    parts = urlsplit(url)
    ssl = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if ssl else 8000)
    try:  # Chroma's client would wait for a silent host without end
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        raise StoreError(
            "vector_store.url",
            f"no server answers at {show_url(url)!r} (tried {host}, port {port}: {error})",
            f"Start one: chroma run --path .rag/chroma-server --port {port}",
        ) from error
    return chromadb.HttpClient(
        host=host,
        port=port,
        ssl=ssl,
        headers=dict(headers),
        settings=Settings(anonymized_telemetry=False),
        tenant=tenant,
        database=database,
    )


def disconnect(client: Any) -> None:
    """Close the client and its connections, which Chroma's own `close` leaves open."""
    servers = [getattr(part, "_server", None) for part in (client, client._admin_client)]
    client.close()
    for session in [getattr(server, "_session", None) for server in servers]:
        if session is not None:
            session.close()
