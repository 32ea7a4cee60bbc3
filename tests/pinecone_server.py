"""A real HTTP server that speaks Pinecone's REST protocol, for the vendor's own client to talk to.

Protocol: https://docs.pinecone.io/reference/api/2026-07 (control and data plane, the operations on
vectors), with the limits of https://docs.pinecone.io/reference/api/database-limits enforced. New
indexes are ready after a while, and a write is seen by reads after a while, as the position in the
headers tells: https://docs.pinecone.io/guides/index-data/check-data-freshness. Stricter than what
is documented: a URL may have 8,192 characters, and null characters are refused everywhere.
"""

from __future__ import annotations

import base64
import operator
import os
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import orjson
from pinecone import Pinecone

MOST_BODY = 2_000_000
MOST_METADATA = 40_960
MOST_ANSWER = 4_000_000
MOST_URL = 8192
MOST_VALUES = 10_000
VERSION = "2026-07"

Passes = Callable[[dict[str, Any]], bool]


class RefusedError(Exception):
    """An error reply: its status, words and headers."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


@dataclass
class Namespace:
    """The records that reads see, and the writes that they do not see yet."""

    records: dict[str, tuple[Any, dict[str, Any]]] = field(default_factory=dict)
    pending: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    written: int = 0
    matrix: Any = None

    @property
    def seen(self) -> int:
        return self.written - len(self.pending)

    def write(self, due: float, change: Callable[[], None]) -> int:
        self.pending.append((due, change))
        self.written += 1
        return self.written

    def settle(self) -> None:
        """Let the writes be seen whose time has come, in their order."""
        while self.pending and self.pending[0][0] <= time.monotonic():
            self.pending.popleft()[1]()
            self.matrix = None

    def unit_vectors(self) -> Any:
        if self.matrix is None and self.records:
            matrix = np.stack([vector for vector, _ in self.records.values()])
            self.matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        return self.matrix


@dataclass
class Index:
    """One index: what the control plane says of it, and its namespaces."""

    model: dict[str, Any]
    dimension: int
    ready_at: float
    namespaces: dict[str, Namespace] = field(default_factory=dict)


class PineconeServer:
    """Serves on a free port of this machine while the `with` block lasts.

    `delay` is the time in seconds until a write is seen, `ready_delay` the time until a new index
    is ready. With `key` set, another key gets a 401. `throttle(n, seconds)` answers the next n
    requests to the data plane with 429. `requests` holds method and path of everything received.
    """

    def __init__(
        self, *, key: str | None = None, delay: float = 0.02, ready_delay: float = 0.05
    ) -> None:
        self.key, self.delay, self.ready_delay = key, delay, ready_delay
        self.positions = True
        self.requests: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.indexes: dict[str, Index] = {}
        self.lock = threading.RLock()
        self._throttled, self._retry_after = 0, 0.0
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def throttle(self, times: int, retry_after: float) -> None:
        self._throttled, self._retry_after = times, retry_after

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of the reply."""
        if path == "/indexes" or path.startswith("/indexes/"):
            return (*self._control(method, path.removeprefix("/indexes").lstrip("/"), body), {})
        _, name, rest = path.split("/", 2)
        if name not in self.indexes:
            raise RefusedError(404, f"no index is served at {name}")
        if self._throttled:
            self._throttled -= 1
            words = "You've reached the max requests per second for this namespace."
            raise RefusedError(429, words, {"Retry-After": str(self._retry_after)})
        place, _, argument = rest.partition("/")
        index = self.indexes[name]
        for namespace in index.namespaces.values():
            namespace.settle()
        if place == "namespaces":
            return 200, self._namespace(index, method, unquote(argument)), {}
        calls = {
            "POST vectors/upsert": self._upsert,
            "POST vectors/delete": self._delete,
            "POST query": self._query,
            "GET vectors/fetch": self._fetch,
            "GET vectors/list": self._list,
        }
        call = calls.get(f"{method} {rest}")
        if call is None:
            raise RefusedError(404, f"no such address: {path}")
        given = {**{key: values[-1] for key, values in query.items()}, **body}
        given["ids"] = query.get("ids", body.get("ids"))
        answer, headers = call(index, given)
        return 200, answer, headers if self.positions else {}

    # -- the control plane ----------------------------------------------------------------------

    def _control(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        for index in self.indexes.values():
            if index.model["status"]["state"] == "Initializing":
                ready = time.monotonic() >= index.ready_at
                state = "Ready" if ready else "Initializing"
                index.model["status"] = {"ready": ready, "state": state}
        if method == "GET" and not name:
            return 200, {"indexes": [index.model for index in self.indexes.values()]}
        if method == "POST" and not name:
            return 201, self._create(body)
        if name not in self.indexes:
            raise RefusedError(404, f"Resource {name} not found")
        if method == "DELETE":
            del self.indexes[name]
            return 202, {}
        return 200, self.indexes[name].model

    def _create(self, body: dict[str, Any]) -> Any:
        name = body.get("name", "")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?", name):
            raise RefusedError(
                400, "Name must consist of lower case alphanumeric characters or '-'"
            )
        if name in self.indexes:
            raise RefusedError(409, "Resource already exists")
        (vectors,) = body["schema"]["fields"].values()
        if vectors["type"] != "dense_vector" or not 1 <= vectors["dimension"] <= 20_000:
            raise RefusedError(400, "Bad schema")
        deployment = body.get("deployment") or {
            "deployment_type": "managed",
            "cloud": "aws",
            "region": "us-east-1",
        }
        model = {
            "name": name,
            "host": f"{self.url}/{name}",
            "status": {"ready": False, "state": "Initializing"},
            "schema": body["schema"],
            "deployment": {"environment": "test", **deployment},
            "deletion_protection": "disabled",
            "tags": None,
        }
        ready_at = time.monotonic() + self.ready_delay
        self.indexes[name] = Index(model, vectors["dimension"], ready_at)
        return model

    # -- the data plane -------------------------------------------------------------------------

    def _namespace(self, index: Index, method: str, name: str) -> Any:
        there = index.namespaces.get(name)
        if there is None or (not there.records and not there.pending):
            raise RefusedError(404, "Namespace not found")
        if method == "DELETE":
            there.write(time.monotonic() + self.delay, there.records.clear)
            return {}
        return {"name": name, "record_count": str(len(there.records))}

    def _upsert(self, index: Index, given: dict[str, Any]) -> Any:
        vectors = given["vectors"]
        if not 1 <= len(vectors) <= 1000:
            raise RefusedError(400, f"{len(vectors)} vectors: the limit is 1000")
        made = {}
        for each in vectors:
            metadata = each.get("metadata") or {}
            _check_id(each["id"])
            _check_metadata(metadata)
            vector = np.array(each["values"], dtype=np.float32)
            _check_dimension(vector, index)
            if not vector.any():
                raise RefusedError(400, "Dense vectors must contain at least one non-zero value.")
            made[each["id"]] = (vector, metadata)
        name = given.get("namespace", "")
        if not name.isascii() or len(name) > 512 or "\x00" in name:
            raise RefusedError(400, "Namespace must be ASCII of at most 512 characters")
        namespace = index.namespaces.setdefault(name, Namespace())
        position = namespace.write(
            time.monotonic() + self.delay, lambda: namespace.records.update(made)
        )
        return {"upsertedCount": len(made)}, {"x-pinecone-request-lsn": str(position)}

    def _delete(self, index: Index, given: dict[str, Any]) -> Any:
        namespace = self._existing(index, given)
        ids, condition = given.get("ids"), given.get("filter")
        if ids is not None and len(ids) > 1000:
            raise RefusedError(400, f"{len(ids)} ids: the limit is 1000")
        passes = None if condition is None else _read_filter(condition)

        def remove() -> None:
            for id in list(namespace.records) if ids is None else ids:
                held = namespace.records.get(id)
                if held is not None and (passes is None or passes(held[1])):
                    del namespace.records[id]

        position = namespace.write(time.monotonic() + self.delay, remove)
        return {}, {"x-pinecone-request-lsn": str(position)}

    def _query(self, index: Index, given: dict[str, Any]) -> Any:
        top, vector = given["topK"], np.array(given["vector"], dtype=np.float32)
        if not 1 <= top <= 10_000:
            raise RefusedError(400, f"topK {top}: the limit is 10000")
        _check_dimension(vector, index)
        passes = _read_filter(given["filter"]) if given.get("filter") is not None else None
        namespace = index.namespaces.get(given.get("namespace", ""), Namespace())
        kept = [("values", 0)] if given.get("includeValues") else []
        kept += [("metadata", 1)] if given.get("includeMetadata") else []
        found = [
            {"id": id, "score": score, **{key: namespace.records[id][at] for key, at in kept}}
            for id, score in islice(_rank(namespace, vector, passes), top)
        ]
        answer = {"matches": found, "namespace": given.get("namespace", ""), "usage": {}}
        return answer, {"x-pinecone-max-indexed-lsn": str(namespace.seen)}

    def _fetch(self, index: Index, given: dict[str, Any]) -> Any:
        ids = given["ids"] or []
        if not 1 <= len(ids) <= 1000:
            raise RefusedError(400, f"{len(ids)} ids: the limit is 1000")
        namespace = index.namespaces.get(given.get("namespace", ""), Namespace())
        held = {id: namespace.records[id] for id in ids if id in namespace.records}
        vectors = {id: {"id": id, "values": v, "metadata": m} for id, (v, m) in held.items()}
        return {"vectors": vectors, "namespace": given.get("namespace", ""), "usage": {}}, {}

    def _list(self, index: Index, given: dict[str, Any]) -> Any:
        namespace = self._existing(index, given)
        limit = int(given.get("limit", 100))
        if not 1 <= limit <= 100:
            raise RefusedError(400, f"limit {limit}: at most 100")
        token = given.get("paginationToken")
        after = base64.b64decode(token).decode() if token else ""
        ids = sorted(id for id in namespace.records if id > after)
        page = {"vectors": [{"id": id} for id in ids[:limit]], "usage": {"readUnits": 1}}
        if len(ids) > limit:
            page["pagination"] = {"next": base64.b64encode(ids[limit - 1].encode()).decode()}
        return page, {}

    @staticmethod
    def _existing(index: Index, given: dict[str, Any]) -> Namespace:
        there = index.namespaces.get(given.get("namespace", ""))
        if there is None:
            raise RefusedError(404, "Namespace not found")
        return there


@contextmanager
def open_pinecone() -> Iterator[dict[str, Any]]:
    """The store's options: for a server of this kind, or for Pinecone itself where the environment
    has a key for tests. There the indexes are deleted in the end."""
    key = os.environ.get("RAG_APP_TEST_PINECONE_API_KEY")
    if not key:
        with PineconeServer() as server:
            yield {"url": server.url}
        return
    name = f"rag-app-test-{uuid.uuid4().hex[:6]}"
    try:
        yield {"api_key": key, "index_name": name}
    finally:
        with Pinecone(key) as client:
            for model in client.indexes.list():
                if model.name.startswith(f"{name}-"):
                    client.indexes.delete(model.name, timeout=-1)


class _Handler(BaseHTTPRequestHandler):
    owner: PineconeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer("GET", b"")

    def do_DELETE(self) -> None:
        self._answer("DELETE", b"")

    def do_POST(self) -> None:
        self._answer("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, method: str, content: bytes) -> None:
        parts = urlsplit(self.path)
        try:
            self._check(content)
            body = orjson.loads(content) if content else {}
            with self.owner.lock:
                self.owner.requests.append(f"{method} {parts.path}")
                self.owner.bodies.append(body)
                status, value, headers = self.owner.answer(
                    method, parts.path, parse_qs(parts.query), body
                )
                written = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
            if parts.path.endswith("/query") and len(written) > MOST_ANSWER:
                raise RefusedError(400, "Response size exceeds the limit of 4MB")
        except RefusedError as refused:
            status, headers = refused.status, refused.headers
            written = orjson.dumps(self._write_error(parts.path, refused))
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)
        self.wfile.flush()

    def _check(self, content: bytes) -> None:
        key = self.headers.get("Api-Key", "")
        if self.owner.key is not None and key != self.owner.key:
            raise RefusedError(401, f"Invalid API Key: {key}")
        if self.headers.get("X-Pinecone-Api-Version") != VERSION:
            raise RefusedError(400, "Unsupported API version")
        if len(self.path) > MOST_URL:
            raise RefusedError(414, "URI too long")
        if len(content) > MOST_BODY:
            raise RefusedError(413, f"Request of {len(content)} bytes exceeds the limit of 2MB")

    def _write_error(self, path: str, refused: RefusedError) -> Any:
        if path.startswith("/indexes"):
            codes = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}
            code = codes.get(refused.status, "INVALID_ARGUMENT")
            return {"error": {"code": code, "message": refused.message}, "status": refused.status}
        numbers = {401: 16, 404: 5, 429: 8}
        return {"code": numbers.get(refused.status, 3), "message": refused.message, "details": []}


def _rank(namespace: Namespace, vector: Any, passes: Passes | None) -> Iterator[tuple[str, float]]:
    """Ids and scores of those that pass, best first. The scores are rough on purpose."""
    if not namespace.records:
        return
    scores = namespace.unit_vectors() @ vector / np.linalg.norm(vector)
    ids = list(namespace.records)
    for place in np.argsort(-scores, kind="stable"):
        if passes is None or passes(namespace.records[ids[place]][1]):
            yield ids[place], round(float(scores[place]), 3)


def _check_dimension(vector: Any, index: Index) -> None:
    if len(vector) != index.dimension:
        told = f"Vector dimension {len(vector)} does not match the dimension of the index"
        raise RefusedError(400, f"{told} {index.dimension}")


def _check_id(id: str) -> None:
    if not 1 <= len(id) <= 512 or not id.isascii() or "\x00" in id:
        raise RefusedError(400, f"Vector ID must be ASCII of 1 to 512 characters, got {id!r}")


def _check_metadata(metadata: dict[str, Any]) -> None:
    if (size := len(orjson.dumps(metadata))) > MOST_METADATA:
        raise RefusedError(
            400, f"Metadata size is {size} bytes, which exceeds the limit of 40960 bytes per vector"
        )
    for key, value in metadata.items():
        strings = isinstance(value, list) and value and all(isinstance(v, str) for v in value)
        if key.startswith("$") or not (strings or isinstance(value, (str, int, float))):
            raise RefusedError(
                400,
                "Metadata value must be a string, number, boolean or list of strings, "
                f"got {value!r} for field '{key}'",
            )
        if isinstance(value, str) and "\x00" in value:
            raise RefusedError(400, f"null character in field '{key}'")
        if isinstance(value, int) and not isinstance(value, bool):
            metadata[key] = float(value)


# -- filters: https://docs.pinecone.io/guides/search/filter-by-metadata ----------------------------

ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def _read_filter(given: Any) -> Passes:
    if not isinstance(given, dict) or not given:
        raise RefusedError(400, f"{given!r} is not a filter")
    parts = [_read_entry(key, value) for key, value in given.items()]
    return lambda metadata: all(part(metadata) for part in parts)


def _read_entry(key: str, value: Any) -> Passes:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise RefusedError(400, f"{key} needs a list of filters")
        parts = [_read_filter(each) for each in value]
        join = all if key == "$and" else any
        return lambda metadata: join(part(metadata) for part in parts)
    if key.startswith("$"):
        raise RefusedError(400, f"{key} is not a valid operator")
    conditions = value if isinstance(value, dict) else {"$eq": value}
    tests = [_read_condition(*each) for each in conditions.items()]
    return lambda metadata: all(test(metadata.get(key)) for test in tests)


def _read_condition(name: str, bound: Any) -> Callable[[Any], bool]:
    if name in ORDER:
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise RefusedError(400, f"the {name} operator must be followed by a number")
        compare = ORDER[name]
        return lambda held: (
            isinstance(held, (int, float)) and not isinstance(held, bool) and compare(held, bound)
        )
    if name == "$exists":
        return lambda held: (held is not None) is bound
    if name not in ("$eq", "$ne", "$in", "$nin"):
        raise RefusedError(400, f"{name} is not a valid operator")
    many = name in ("$in", "$nin")
    if many and (not isinstance(bound, list) or not 1 <= len(bound) <= MOST_VALUES):
        raise RefusedError(400, f"{name} takes 1 to {MOST_VALUES} values")
    wanted = {(isinstance(each, bool), each) for each in (bound if many else [bound])}
    if any(not isinstance(each, (str, int, float)) for _, each in wanted):
        raise RefusedError(400, f"{name} takes strings, numbers and booleans")
    negated = name in ("$ne", "$nin")

    def test(held: Any) -> bool:
        own = held if isinstance(held, list) else [held]
        return any((isinstance(each, bool), each) in wanted for each in own) is not negated

    return test
