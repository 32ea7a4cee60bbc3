"""The clients of Milvus: one of a server, and what both kinds need."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from rag_app.errors import StoreError
from rag_app.urls import show_url

SECONDS: Final = 10
"""How long a server may take to accept a connection."""


def import_pymilvus() -> Any:
    """The package `pymilvus`, without what its import does to the rest of the process.

    It reads a `.env` file found above its own folder into the environment, and logs every error
    with its traceback although it also raises it.
    """
    before = set(os.environ)
    import pymilvus

    for name in set(os.environ) - before:
        del os.environ[name]
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return pymilvus


def tell(error: Exception) -> str:
    """What an error of Milvus's client says, in one line."""
    details = getattr(error, "details", None)  # gRPC's errors are shown with all their trace
    if callable(details):
        return f"{error.code().name}: {details()}"  # type: ignore[attr-defined]
    return str(getattr(error, "message", "") or error)


def connect(url: str, token: str, database: str) -> Any:
    """A `MilvusClient` of the server at `url`.

    Raises:
        StoreError: nothing answers there.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 19530)
    try:  # Milvus's client would try for long
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        raise StoreError(
            "vector_store.url",
            f"no server answers at {show_url(url)!r} (tried {host}, port {port}: {error})",
            "Start Milvus there, or leave url out to keep the vectors in a folder.",
        ) from error
    pymilvus = import_pymilvus()
    client = pymilvus.MilvusClient(uri=url, token=token, db_name=database, timeout=SECONDS)
    if database != "default":
        try:  # asked for a collection of a database that is not there, Milvus finds none
            client.list_collections(timeout=SECONDS)
        except BaseException:
            client.close()
            raise
    return client
