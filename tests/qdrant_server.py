"""A real HTTP server that speaks Qdrant's REST protocol, for the vendor's own client to talk to.

Protocol: https://api.qdrant.tech/api-reference (collections, points, indexes). Errors and limits as
its documentation and the server's source give them: `{"status": {"error": …}}`, 401 without the
key, 403 for what a read-only key may not do, 404 and 409 for collections, 413 beyond 32 MiB, 422
for names, UUIDs or whole numbers as ids, and on demand the strict mode that Qdrant Cloud begins
with, which refuses filters on payload that has no index. Behind it is Qdrant's own engine
(`qdrant-edge-py`).
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote, urlsplit

import qdrant_edge as edge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_BYTES: Final = 32 * 2**20
"""`max_request_size_mb`: https://github.com/qdrant/qdrant/blob/master/config/config.yaml."""

HNSW: Final = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
INDEXES: Final = {"uuid": edge.PayloadSchemaType.Uuid, "float": edge.PayloadSchemaType.Float}


class Refused(Exception):
    """An error reply."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass
class Collection:
    """One collection: its engine, and what it was made with."""

    shard: Any
    made: dict[str, Any]
    indexes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class QdrantServer:
    """Serves on a free port of this machine while the `with` block lasts.

    With `key` set, requests without it get a 401; `read_key` may read only. With `strict` filters
    need indexes. `requests` holds everything received.
    """

    def __init__(
        self, folder: Path, key: str | None = None, *, read_key: str = "", strict: bool = False
    ) -> None:
        self.key = key
        self.read_key = read_key
        self.strict = strict
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self._folder = folder
        self._collections: dict[str, Collection] = {}
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
        for collection in self._collections.values():
            collection.shard.close()

    def answer(self, request: Request) -> Any:
        """The `result` of a request."""
        self._check_key(request)
        parts = [unquote(part) for part in urlsplit(request.path).path.strip("/").split("/")]
        match [request.method, *parts]:
            case ["GET", "collections"]:
                return {"collections": [{"name": name} for name in self._collections]}
            case ["GET", "collections", name]:
                return _describe(self._get(name))
            case ["PUT", "collections", name]:
                return self._create(name, request.body)
            case ["DELETE", "collections", name]:
                return self._delete(name)
            case ["PUT", "collections", name, "index"]:
                return self._create_index(self._get(name), request.body)
            case [method, "collections", name, *rest] if action := ACTIONS.get((method, *rest)):
                return action(self, self._get(name), request.body)
        raise Refused(404, "")

    def _check_key(self, request: Request) -> None:
        if self.key is None:
            return
        given = request.headers.get("api-key", "")
        if not given:
            raise Refused(401, "Must provide an API key or an Authorization bearer token")
        if given not in (self.key, self.read_key):
            raise Refused(401, "Invalid API key or JWT")
        reads = request.method == "GET" or (
            request.method == "POST" and not request.path.partition("?")[0].endswith("/delete")
        )
        if given == self.read_key and not reads:
            raise Refused(403, "Forbidden: Global write access is required")

    def _get(self, name: str) -> Collection:
        try:
            return self._collections[name]
        except KeyError:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!") from None

    def _create(self, name: str, body: dict[str, Any]) -> bool:
        if not 1 <= len(name) <= 255 or re.search(r'[<>:"/\\|?*\x00\x1f]', name):
            raise Refused(422, "Validation error in path parameters: collection name is invalid")
        if name in self._collections:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        graph = {**HNSW, **(body.get("hnsw_config") or {})}
        vectors = edge.EdgeVectorParams(
            body["vectors"]["size"], getattr(edge.Distance, body["vectors"]["distance"])
        )
        chosen = edge.HnswIndexConfig(*(graph[each] for each in HNSW))
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        shard = edge.EdgeShard.create(
            str(folder), edge.EdgeConfig(vectors=vectors, hnsw_config=chosen, wal_enabled=False)
        )
        self._collections[name] = Collection(shard, {**body, "hnsw_config": graph})
        return True

    def _delete(self, name: str) -> bool:
        collection = self._collections.pop(name, None)
        if collection is not None:
            collection.shard.close()
        return collection is not None

    def _create_index(self, collection: Collection, body: dict[str, Any]) -> dict[str, Any]:
        name, kind = body["field_name"], body["field_schema"]
        operation = edge.UpdateOperation.create_field_index(name, INDEXES[kind])
        collection.shard.update(operation)
        collection.indexes[name] = kind
        return {"operation_id": 0, "status": "completed"}

    def _upsert(self, collection: Collection, body: dict[str, Any]) -> dict[str, Any]:
        if "batch" in body:
            batch = body["batch"]
            rows = zip(batch["ids"], batch["vectors"], batch["payloads"], strict=True)
        else:
            rows = ((each["id"], each["vector"], each.get("payload")) for each in body["points"])
        points = [edge.Point(_to_id(id), *rest) for id, *rest in rows]
        collection.shard.update(edge.UpdateOperation.upsert_points(points))
        return {"operation_id": 0, "status": "completed"}

    def _remove(self, collection: Collection, body: dict[str, Any]) -> dict[str, Any]:
        ids = [_to_id(each) for each in body["points"]]
        collection.shard.update(edge.UpdateOperation.delete_points(ids))
        return {"operation_id": 0, "status": "completed"}

    def _retrieve(self, collection: Collection, body: dict[str, Any]) -> list[dict[str, Any]]:
        ids = [_to_id(each) for each in body["ids"]]
        found = collection.shard.retrieve(ids, body.get("with_payload"), body.get("with_vector"))
        return [_write_point(point) for point in found]

    def _scroll(self, collection: Collection, body: dict[str, Any]) -> dict[str, Any]:
        found, after = collection.shard.scroll(
            edge.ScrollRequest(
                offset=None if body.get("offset") is None else _to_id(body["offset"]),
                limit=body.get("limit", 10),
                filter=self._read_filter(collection, body.get("filter")),
                with_payload=body.get("with_payload", True),
                with_vector=body.get("with_vector", False),
            )
        )
        points = [_write_point(point) for point in found]
        return {"points": points, "next_page_offset": None if after is None else str(after)}

    def _count(self, collection: Collection, body: dict[str, Any]) -> dict[str, int]:
        chosen = self._read_filter(collection, body.get("filter"))
        request = edge.CountRequest(exact=body.get("exact", True), filter=chosen)
        return {"count": collection.shard.count(request)}

    def _query(self, collection: Collection, body: dict[str, Any]) -> dict[str, Any]:
        params = body.get("params") or {}
        query = body["query"]
        found = collection.shard.search(
            edge.SearchRequest(
                edge.Query.Nearest(query["nearest"] if isinstance(query, dict) else query),
                limit=body.get("limit", 10),
                filter=self._read_filter(collection, body.get("filter")),
                params=edge.SearchParams(params.get("hnsw_ef"), params.get("exact") or False),
                with_vector=body.get("with_vector", False),
                with_payload=body.get("with_payload", False),
            )
        )
        return {"points": [{**_write_point(p), "version": 0, "score": p.score} for p in found]}

    def _read_filter(self, collection: Collection, given: dict[str, Any] | None) -> Any:
        if given is None:
            return None
        clauses = {}
        for clause in ("must", "should", "must_not"):
            listed = given.get(clause)
            if listed is not None:
                listed = listed if isinstance(listed, list) else [listed]
                clauses[clause] = [self._read_condition(collection, each) for each in listed]
        return edge.Filter(**clauses)

    def _read_condition(self, collection: Collection, given: dict[str, Any]) -> Any:
        if "has_id" in given:
            return edge.HasIdCondition({_to_id(each) for each in given["has_id"]})
        if "key" not in given:
            return self._read_filter(collection, given)
        key = given["key"]
        if self.strict and key not in collection.indexes:
            help = "Help: Create an index for this key or use a different filter."
            raise Refused(400, f'Bad request: Index required but not found for "{key}". {help}')
        if match := given.get("match"):
            return edge.FieldCondition(key, match=edge.MatchAny(match["any"]))
        bounds = {name: value for name, value in given["range"].items() if value is not None}
        return edge.FieldCondition(key, range=edge.RangeFloat(**bounds))


ACTIONS: Final[dict[tuple[str, ...], Callable[[QdrantServer, Collection, dict[str, Any]], Any]]] = {
    ("PUT", "points"): QdrantServer._upsert,
    ("POST", "points"): QdrantServer._retrieve,
    ("POST", "points", "delete"): QdrantServer._remove,
    ("POST", "points", "scroll"): QdrantServer._scroll,
    ("POST", "points", "count"): QdrantServer._count,
    ("POST", "points", "query"): QdrantServer._query,
}


class _Handler(BaseHTTPRequestHandler):
    owner: QdrantServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _reply(self) -> None:
        try:
            body = self._read_body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            with self.owner.lock:
                self.owner.requests.append(request)
                result = self.owner.answer(request)
            self._send(200, {"result": result, "status": "ok", "time": 0.001})
        except Refused as refused:
            self._refuse(refused.status, str(refused))
        except Exception as error:  # what the engine says of a request, the server says too
            self._refuse(400, f"Wrong input: {error}")

    do_GET = do_PUT = do_POST = do_DELETE = _reply

    def _read_body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length)
        if length > MOST_BYTES:
            words = f"JSON payload ({length} bytes) is larger than allowed"
            raise Refused(413, f"Payload error: {words} (limit: {MOST_BYTES} bytes).")
        body: dict[str, Any] = json.loads(content) if content else {}
        if _measure_depth(body) > 127:
            raise Refused(400, "Format error in JSON body: recursion limit exceeded")
        return body

    def _refuse(self, status: int, message: str) -> None:
        if status == 401:
            self._send_bytes(status, message.encode(), "text/plain")
        else:
            self._send(status, {"status": {"error": message}, "time": 0.0})

    def _send(self, status: int, value: Any) -> None:
        self._send_bytes(status, json.dumps(value).encode(), "application/json")

    def _send_bytes(self, status: int, content: bytes, type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _to_id(given: Any) -> Any:
    if isinstance(given, int):
        return given
    try:
        return uuid.UUID(given)
    except ValueError:
        wrong = f"value {given} is not a valid point ID"
        words = "valid values are either an unsigned integer or a UUID"
        raise Refused(400, f"Format error in JSON body: {wrong}, {words}") from None


def _write_point(point: Any) -> dict[str, Any]:
    return {"id": str(point.id), "payload": point.payload, "vector": point.vector}


def _describe(collection: Collection) -> dict[str, Any]:
    info, made = collection.shard.info(), collection.made
    return {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": info.indexed_vectors_count,
        "points_count": info.points_count,
        "segments_count": info.segments_count,
        "config": {
            "params": {"vectors": made["vectors"], "shard_number": 1, "replication_factor": 1},
            "hnsw_config": made["hnsw_config"],
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "metadata": made.get("metadata"),
        },
        "payload_schema": {
            name: {"data_type": kind, "points": 0} for name, kind in collection.indexes.items()
        },
    }


def _measure_depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        nested = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for part in nested for each in part if isinstance(each, (dict, list))]
        if level and all(isinstance(e, list) and e and isinstance(e[0], float) for e in level):
            return depth + 1
    return depth


@contextmanager
def open_qdrant_server(folder: Path) -> Iterator[dict[str, Any]]:
    """Options of a server to test with: RAG_APP_TEST_QDRANT_URL (and _API_KEY), or ours, strict.

    What the contract suite made on the environment's server is removed from it.
    """
    if url := os.environ.get("RAG_APP_TEST_QDRANT_URL"):
        key = os.environ.get("RAG_APP_TEST_QDRANT_API_KEY")
        try:
            yield {"url": url, **({"api_key": key} if key else {})}
        finally:
            _clean(url, key)
    else:
        with QdrantServer(folder, "the-tests-key", strict=True) as server:
            yield {"url": server.url, "api_key": server.key}


def _clean(url: str, key: str | None) -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(url, headers={"api-key": key} if key else {}, check_compatibility=False)
    for collection in client.get_collections().collections:
        mark = client.get_collection(collection.name).config.metadata or {}
        if "rag_app" in mark and str(mark["name"]).startswith("contract-"):
            client.delete_collection(collection.name)
    client.close()
