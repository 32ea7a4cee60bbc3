"""A real server that speaks Weaviate's protocol on two ports, for the vendor's own client.

REST: https://docs.weaviate.io/weaviate/api/rest (meta, health, schema, objects). gRPC: the service
`weaviate.v1.Weaviate` of the published proto, whose classes are part of `weaviate-client`, and
`grpc.health.v1.Health`. It holds to the documented rules and limits, see `weaviate_engine`.
Weaviate itself does not run where there is no container or its binary; what stands behind the
protocol here is exact search in memory.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import grpc
import numpy as np
from weaviate.proto.v1 import (
    aggregate_pb2,
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    health_weaviate_pb2,
    properties_pb2,
    search_get_pb2,
    tenants_pb2,
    weaviate_pb2_grpc,
)

from tests.weaviate_engine import (
    Collection,
    Engine,
    Object,
    Rejected,
    complete_property,
    find_where,
)

DEFAULT_LIMIT = 10
"""QUERY_DEFAULTS_LIMIT."""


class WeaviateServer:
    """Serves on two free ports of this machine while the `with` block lasts.

    Args:
        key: with it set, calls with another API key, or none, get a 401 and UNAUTHENTICATED.
        version: what it says it is; before 1.33 it knows no ContainsNone and no Not.
        maximum_results: QUERY_MAXIMUM_RESULTS.
        message_bytes: GRPC_MAX_MESSAGE_SIZE.

    `refuse_object`, when set, is asked about each object of a batch with its properties: words for
    one that fails, or None. `calls` counts the calls of each kind.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        version: str = "1.34.0",
        maximum_results: int = 10_000,
        message_bytes: int = 104_858_000,
    ) -> None:
        self.key, self.version, self.message_bytes = key, version, message_bytes
        self.engine = Engine(maximum_results)
        self.refuse_object: Any = None
        self.calls: list[str] = []
        handler = type("Handler", (_Rest,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._pool = ThreadPoolExecutor(8)
        self._grpc = grpc.server(
            self._pool,
            options=[
                ("grpc.max_receive_message_length", message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Grpc(self), self._grpc)
        self._grpc.add_generic_rpc_handlers([_health()])
        grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.grpc_url = f"http://127.0.0.1:{grpc_port}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of a store that lives here."""
        key = {} if self.key is None else {"api_key": self.key}
        return {"url": self.url, "grpc_url": self.grpc_url, **key}

    @property
    def negation_known(self) -> bool:
        return tuple(int(part) for part in self.version.split(".")[:2]) >= (1, 33)

    def __enter__(self) -> Self:
        logging.getLogger("grpc").setLevel(logging.CRITICAL)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self._grpc.start()
        return self

    def stop(self) -> None:
        """What `with` does at its end; a second call does nothing."""
        self._grpc.stop(None).wait()
        self._pool.shutdown()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _health() -> Any:
    reply = health_weaviate_pb2.WeaviateHealthCheckResponse(
        status=health_weaviate_pb2.WeaviateHealthCheckResponse.SERVING
    )
    check = grpc.unary_unary_rpc_method_handler(
        lambda *_: reply,
        request_deserializer=health_weaviate_pb2.WeaviateHealthCheckRequest.FromString,
        response_serializer=health_weaviate_pb2.WeaviateHealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})


# -- REST -----------------------------------------------------------------------------------------


class _Rest(BaseHTTPRequestHandler):
    owner: WeaviateServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null") if length else None
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/v1")
        self.owner.calls.append(f"{self.command} {path}")
        try:
            if not path.startswith("/.well-known"):
                self._require_key()
            with self.owner.engine.lock:
                status, value = self._route(path, parse_qs(parts.query), body)
        except Rejected as error:
            status, value = error.status, {"error": [{"message": str(error)}]}
            if error.status == 401:
                value = {"code": 401, "message": str(error)}
        self._send(status, value)

    def _require_key(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.owner.key is None or given == f"Bearer {self.owner.key}":
            return
        if not given:
            raise Rejected(401, "anonymous access not enabled, please provide an auth scheme")
        raise Rejected(401, f"invalid api key: {given.removeprefix('Bearer ')}")

    def _send(self, status: int, value: Any) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path in ("/.well-known/ready", "/.well-known/live"):
            return 200, None
        if path == "/meta":
            return 200, {
                "hostname": "http://[::]:8080",
                "version": self.owner.version,
                "grpcMaxMessageSize": self.owner.message_bytes,
                "modules": {},
            }
        if match := re.fullmatch(r"/schema(?:/(\w+))?", path):
            return self._route_schema(match[1], body)
        if match := re.fullmatch(r"/schema/(\w+)/properties", path):
            self.owner.engine.find(match[1]).schema["properties"].append(complete_property(body))
            return 200, body
        if path == "/objects" and self.command == "GET":
            after = query.get("after", [""])[0]
            found = self.owner.engine.list(
                query["class"][0], int(query["limit"][0]), uuid.UUID(after) if after else None
            )
            return 200, {"objects": [_show(query["class"][0], each) for each in found]}
        if match := re.fullmatch(r"/objects/(\w+)/([0-9a-f-]{36})", path):
            return self._route_object(match[1], uuid.UUID(match[2]))
        return 404, {"code": 404, "message": f"path {path} was not found"}

    def _route_schema(self, name: str | None, body: Any) -> tuple[int, Any]:
        engine = self.owner.engine
        if name is None and self.command == "POST":
            return 200, engine.create(body)
        if name is None:
            return 200, {"classes": [each.schema for each in engine.collections.values()]}
        if self.command == "DELETE":
            engine.collections.pop(name, None)
            return 200, None
        if self.command == "PUT":
            return 200, engine.change(name, body)
        return 200, engine.find(name).schema

    def _route_object(self, name: str, id: uuid.UUID) -> tuple[int, Any]:
        held = self.owner.engine.find(name)
        if id not in held.objects:
            return 404, None
        if self.command == "DELETE":
            held.remove(id)
            return 204, None
        return (204, None) if self.command == "HEAD" else (200, _show(name, held.objects[id]))


def _show(name: str, held: Object) -> dict[str, Any]:
    return {"class": name, "id": str(held.uuid), "properties": held.properties}


# -- gRPC -----------------------------------------------------------------------------------------


class _Grpc(weaviate_pb2_grpc.WeaviateServicer):  # type: ignore[misc]
    """Each call holds the engine's lock; what it refuses has the status UNKNOWN, as Weaviate's."""

    def __init__(self, owner: WeaviateServer) -> None:
        self._owner = owner
        self._engine = owner.engine

    def Search(self, request: Any, context: Any) -> Any:
        return self._answer(context, "Search", lambda: self._search(request))

    def BatchObjects(self, request: Any, context: Any) -> Any:
        return self._answer(context, "BatchObjects", lambda: self._write(request))

    def BatchDelete(self, request: Any, context: Any) -> Any:
        return self._answer(context, "BatchDelete", lambda: self._delete(request))

    def Aggregate(self, request: Any, context: Any) -> Any:
        return self._answer(context, "Aggregate", lambda: self._count(request))

    def TenantsGet(self, request: Any, context: Any) -> Any:
        return self._answer(context, "TenantsGet", lambda: self._list_tenants(request))

    def _answer(self, context: Any, name: str, make: Any) -> Any:
        self._owner.calls.append(name)
        given = dict(context.invocation_metadata()).get("authorization", "")
        if self._owner.key is not None and given != f"Bearer {self._owner.key}":
            words = f"extract auth: unauthorized: invalid api key: {given}"
            context.abort(grpc.StatusCode.UNAUTHENTICATED, words)
        try:
            with self._engine.lock:
                return make()
        except Rejected as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))

    def _list_tenants(self, request: Any) -> tenants_pb2.TenantsGetReply:
        self._engine.find(request.collection)
        raise Rejected(422, f"multi-tenancy is not enabled for class {request.collection!r}")

    def _count(self, request: Any) -> aggregate_pb2.AggregateReply:
        held = self._engine.find(request.collection)
        count = len(self._find(held, request.filters)) if request.HasField("filters") else None
        single = aggregate_pb2.AggregateReply.Single(
            objects_count=len(held.objects) if count is None else count
        )
        return aggregate_pb2.AggregateReply(single_result=single)

    def _delete(self, request: Any) -> batch_delete_pb2.BatchDeleteReply:
        held = self._engine.find(request.collection)
        matching = sorted(self._find(held, request.filters))
        gone = [held.remove(key) for key in matching[: self._engine.maximum_results]]
        return batch_delete_pb2.BatchDeleteReply(matches=len(matching), successful=sum(gone))

    def _write(self, request: Any) -> batch_pb2.BatchObjectsReply:
        reply = batch_pb2.BatchObjectsReply()
        for index, given in enumerate(request.objects):
            try:
                self._put(given)
            except Rejected as error:
                reply.errors.append(
                    batch_pb2.BatchObjectsReply.BatchError(index=index, error=str(error))
                )
        return reply

    def _put(self, given: Any) -> None:
        properties = _read_properties(given.properties)
        if self._owner.refuse_object and (words := self._owner.refuse_object(properties)):
            raise Rejected(500, words)
        packed = given.vector_bytes or (given.vectors[0].vector_bytes if given.vectors else b"")
        vector = np.frombuffer(packed, dtype="<f4") if packed else None
        if vector is not None:
            vector = vector / (np.linalg.norm(vector) or 1.0)  # as Weaviate does for cosine
        self._engine.find_or_guess(given.collection).put(given.uuid, properties, vector)

    def _search(self, request: Any) -> search_get_pb2.SearchReply:
        if not (request.uses_123_api and request.uses_125_api):
            raise Rejected(422, "this test server speaks the current protocol only")
        held = self._engine.find(request.collection)
        limit = request.limit or DEFAULT_LIMIT
        self._engine.check_limit(request.offset, limit)
        near = request.HasField("near_vector")
        if request.after:
            for name, given in (
                ("where", request.HasField("filters")),
                ("offset", request.offset),
                ("other params", near),
            ):
                if given:
                    wrong = f"{name} cannot be set with after and limit parameters"
                    raise Rejected(422, f"cursor api: invalid 'after' parameter: {wrong}")
        only = self._find(held, request.filters) if request.HasField("filters") else None
        found: list[tuple[Object, float | None]]
        if near:
            packed = request.near_vector.vector_bytes or request.near_vector.vectors[0].vector_bytes
            vector = np.frombuffer(packed, dtype="<f4")
            found = list(held.nearest(vector, only, request.offset + limit))
        elif only is None:
            after = uuid.UUID(request.after) if request.after else None
            found = [(each, None) for each in self._engine.list(request.collection, limit, after)]
        else:
            in_order = sorted((held.objects[key] for key in only), key=lambda each: each.number)
            found = [(each, None) for each in in_order[: request.offset + limit]]
        results = [_show_result(request, held, *pair) for pair in found[request.offset :]]
        return search_get_pb2.SearchReply(results=results)

    def _find(self, held: Collection, given: Any) -> set[uuid.UUID]:
        operator = base_pb2.Filters.Operator.Name(given.operator).removeprefix("OPERATOR_")
        if operator in ("AND", "OR", "NOT"):
            if not given.filters:
                raise Rejected(422, f"operator {operator} needs operands")
            parts = [self._find(held, each) for each in given.filters]
            if operator == "NOT":
                if not self._owner.negation_known:
                    raise Rejected(422, "unknown filter operator OPERATOR_NOT")
                return held.objects.keys() - parts[0]
            return set.intersection(*parts) if operator == "AND" else set().union(*parts)
        value = getattr(given, given.WhichOneof("test_value"))
        if hasattr(value, "values"):
            value = list(value.values)
        return find_where(held, operator, given.target.property, value, self._owner.negation_known)


def _read_properties(given: Any) -> dict[str, Any]:
    held: dict[str, Any] = dict(given.non_ref_properties.items())
    held.update({each.prop_name: list(each.values) for each in given.text_array_properties})
    held.update({each.prop_name: list(each.values) for each in given.int_array_properties})
    held.update({each.prop_name: list(each.values) for each in given.boolean_array_properties})
    for each in given.number_array_properties:
        held[each.prop_name] = np.frombuffer(each.values_bytes, dtype="<f8").tolist()
    held.update({name: [] for name in given.empty_list_props})
    return {name: value for name, value in held.items() if value is not None}


def _show_result(request: Any, held: Collection, found: Object, distance: float | None) -> Any:
    asked = request.metadata
    metadata = search_get_pb2.MetadataResult(
        id=str(found.uuid) if asked.uuid else "", id_as_bytes=found.uuid.bytes
    )
    if (asked.vector or asked.vectors) and found.vector is not None:
        metadata.vectors.append(
            base_pb2.Vectors(
                name="default",
                vector_bytes=found.vector.astype("<f4").tobytes(),
                type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32,
            )
        )
    if asked.distance and distance is not None:
        if held.compressed:  # of compressed vectors distances are rough
            distance = round(distance, 2)
        metadata.distance, metadata.distance_present = distance, True
    named = request.properties.non_ref_properties
    if request.properties.return_all_nonref_properties or not request.HasField("properties"):
        named = [each["name"] for each in held.schema["properties"]]
    result = search_get_pb2.PropertiesResult(target_collection=request.collection)
    for name in named:
        if held.property_named(name) is None:
            raise Rejected(422, f"no such prop with name '{name}' found in class")
        if name in found.properties:
            result.non_ref_props.fields[name].CopyFrom(_encode(found.properties[name]))
    return search_get_pb2.SearchResult(properties=result, metadata=metadata)


def _encode(value: Any) -> properties_pb2.Value:
    if isinstance(value, list):
        listed = properties_pb2.ListValue()
        if value and isinstance(value[0], str):
            listed.text_values.values.extend(value)
        else:
            listed.number_values.values = struct.pack(f"{len(value)}d", *value)
        return properties_pb2.Value(list_value=listed)
    if isinstance(value, bool):
        return properties_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return properties_pb2.Value(text_value=value)
    return properties_pb2.Value(number_value=value)
