"""Collections of the Weaviate server that the tests run: schemas, objects, indexes and filters.

In memory, and exact where Weaviate's HNSW is approximate. It holds to the documented rules: names,
types, tokenization, what may be filtered, lengths of vectors, and how many results one may ask for.

Sources: https://docs.weaviate.io/weaviate/config-refs/collections (names, properties),
https://docs.weaviate.io/weaviate/api/graphql/filters (operators),
https://docs.weaviate.io/deploy/configuration/env-vars (limits).
"""

from __future__ import annotations

import copy
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

CLASS_NAME: Final = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")
PROPERTY_NAME: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")
RESERVED: Final = {"_additional", "_id", "id"}
IMMUTABLE: Final = ("distance", "efConstruction", "maxConnections", "cleanupIntervalSeconds")
TYPES: Final = {"text", "int", "number", "boolean", "date", "uuid", "blob", "object"}
HNSW: Final = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": 10**12,
    "flatSearchCutoff": 40_000,
    "distance": "cosine",
    "filterStrategy": "sweeping",
}
FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "text": lambda v: isinstance(v, str),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "int": lambda v: isinstance(v, (int, float)) and float(v).is_integer(),
    "boolean": lambda v: isinstance(v, bool),
}


class Rejected(Exception):
    """What the server refuses: an HTTP status and Weaviate's words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class Object:
    """One stored object. `number` is its place in the order of writing."""

    uuid: uuid.UUID
    properties: dict[str, Any]
    vector: np.ndarray[Any, Any] | None
    number: int


@dataclass
class Collection:
    """One class: its schema as the REST interface shows it, its objects and its indexes."""

    schema: dict[str, Any]
    objects: dict[uuid.UUID, Object] = field(default_factory=dict)
    inverted: dict[str, dict[Any, set[uuid.UUID]]] = field(default_factory=dict)
    dimension: int | None = None
    numbers: int = 0
    _matrix: tuple[list[Object], Any] | None = None
    _declared: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def compressed(self) -> bool:
        """Whether its vectors are compressed."""
        return bool(self.schema["vectorConfig"]["default"]["vectorIndexConfig"]["rq"]["enabled"])

    def put(self, id: str, properties: dict[str, Any], vector: Any) -> None:
        """Write one object whole. Raises Rejected."""
        try:
            key = uuid.UUID(id)
        except ValueError as error:
            raise Rejected(422, f"invalid UUID: {id!r}") from error
        for name, value in properties.items():
            self._check(name, value)
        if vector is not None:
            self._check_vector(vector)
        self.remove(key)
        self.numbers += 1
        self.objects[key] = Object(key, properties, vector, self.numbers)
        for name in properties:
            index = self.inverted.setdefault(name, {})
            for term in self._terms(name, properties[name]):
                index.setdefault(term, set()).add(key)

    def remove(self, key: uuid.UUID) -> bool:
        """Remove one object; whether it was there."""
        held = self.objects.pop(key, None)
        self._matrix = None
        if held is None:
            return False
        for name, value in held.properties.items():
            for term in self._terms(name, value):
                holders = self.inverted[name][term]
                holders.discard(key)
                if not holders:
                    del self.inverted[name][term]
        return True

    def nearest(
        self, vector: Any, only: set[uuid.UUID] | None, limit: int
    ) -> list[tuple[Object, float]]:
        """The objects of least cosine distance, nearest first. Raises Rejected."""
        if not self.objects:
            return []
        self._check_vector(vector)
        if self._matrix is None:
            rows = [each for each in self.objects.values() if each.vector is not None]
            self._matrix = rows, np.stack([each.vector for each in rows])
        rows, matrix = self._matrix
        places = np.arange(len(rows))
        if only is not None:
            places = np.array([i for i, each in enumerate(rows) if each.uuid in only], dtype=int)
        distances = 1 - matrix[places] @ (vector / np.linalg.norm(vector))
        order = np.argsort(distances, kind="stable")[:limit]
        return [(rows[places[i]], float(distances[i])) for i in order]

    def property_named(self, name: str) -> dict[str, Any] | None:
        listed = self.schema["properties"]
        if len(self._declared) != len(listed):
            self._declared = {each["name"]: each for each in listed}
        return self._declared.get(name)

    def _check(self, name: str, value: Any) -> None:
        if (declared := self.property_named(name)) is None:
            self.schema["properties"].append(guess_property(name, value))
            return
        kind = declared["dataType"][0]
        given = value if isinstance(value, list) else [value]
        fits = FITS.get(kind.removesuffix("[]"), lambda _: True)
        if isinstance(value, list) is not kind.endswith("[]") or not all(map(fits, given)):
            words = f"invalid {kind} property {name!r} on class {self.schema['class']!r}"
            raise Rejected(422, f"{words}: not a {kind}, but {type(value).__name__}")

    def _check_vector(self, vector: Any) -> None:
        if self.dimension is None:
            self.dimension = len(vector)
        if len(vector) != self.dimension:
            raise Rejected(
                422,
                f"vector lengths don't match: existing nodes have vectors with length "
                f"{self.dimension}, new node has vector with length {len(vector)}",
            )

    def _terms(self, name: str, value: Any) -> Iterable[Any]:
        declared = self.property_named(name)
        if declared is None or not declared["indexFilterable"]:
            return set()
        values = value if isinstance(value, list) else [value]
        if declared["dataType"][0].startswith("text"):
            return {t for text in values for t in tokenize(text, declared["tokenization"])}
        return set(values)


def tokenize(text: str, tokenization: str) -> list[str]:
    """https://docs.weaviate.io/weaviate/config-refs/collections#tokenization"""
    if tokenization == "field":
        return [text.strip()]
    if tokenization == "whitespace":
        return text.split()
    if tokenization == "lowercase":
        return text.lower().split()
    return re.findall(r"[^\W_]+", text.lower())


def guess_property(name: str, value: Any) -> dict[str, Any]:
    """Weaviate's auto-schema: what it makes of a property that was not declared."""
    first = value[0] if isinstance(value, list) and value else value
    kind = "boolean" if isinstance(first, bool) else "text" if isinstance(first, str) else "number"
    return complete_property(
        {"name": name, "dataType": [f"{kind}[]" if isinstance(value, list) else kind]}
    )


def complete_property(given: dict[str, Any]) -> dict[str, Any]:
    """A property with the defaults filled in. Raises Rejected."""
    name, kinds = given.get("name", ""), given.get("dataType") or [""]
    if not PROPERTY_NAME.fullmatch(name):
        raise Rejected(
            422,
            f"'{name}' is not a valid property name. Property names in Weaviate are restricted to "
            "valid GraphQL names, which must be “/[_A-Za-z][_0-9A-Za-z]{0,230}/”.",
        )
    if name in RESERVED:
        raise Rejected(422, f"'{name}' is a reserved property name")
    kind = kinds[0]
    if kind.removesuffix("[]") not in TYPES:
        raise Rejected(422, f"property {name!r}: invalid dataType: {kinds}")
    text = kind.removesuffix("[]") == "text"
    if given.get("tokenization") and not text:
        raise Rejected(422, f"Tokenization is not allowed for data type '{kind}'")
    if given.get("indexSearchable") and not text:
        raise Rejected(
            422,
            "`indexSearchable` is allowed only for text/text[] data types. For other data types "
            "set false or leave empty",
        )
    tokenization = {"tokenization": given.get("tokenization") or "word"} if text else {}
    return {
        "name": name,
        "dataType": [kind],
        "indexFilterable": given.get("indexFilterable", True),
        "indexSearchable": given.get("indexSearchable", text),
        "indexRangeFilters": given.get("indexRangeFilters", False),
        **tokenization,
    }


class Engine:
    """All collections of one server."""

    def __init__(self, maximum_results: int = 10_000) -> None:
        self.lock = threading.RLock()
        self.maximum_results = maximum_results
        self.collections: dict[str, Collection] = {}

    def create(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make a collection from what a client posts. Raises Rejected."""
        name = given.get("class", "")
        name = name[:1].upper() + name[1:]
        if not CLASS_NAME.fullmatch(name):
            raise Rejected(422, f"'{name}' is not a valid class name")
        for other in self.collections:
            if other.lower() == name.lower():
                words = f"class name {name} already exists"
                similar = "" if other == name else f': found similar class "{other}"'
                raise Rejected(422, words + similar)
        schema = {
            "class": name,
            "description": given.get("description", ""),
            "properties": [complete_property(each) for each in given.get("properties") or []],
            "invertedIndexConfig": {
                "bm25": {"b": 0.75, "k1": 1.2},
                "cleanupIntervalSeconds": 60,
                "stopwords": {"preset": "en", "additions": None, "removals": None},
            },
            "multiTenancyConfig": {"enabled": False},
            "replicationConfig": {"factor": 1, "asyncEnabled": False},
            "shardingConfig": {
                **{"virtualPerPhysical": 128, "desiredCount": 1, "actualCount": 1},
                **{"desiredVirtualCount": 128, "actualVirtualCount": 128, "key": "_id"},
                **{"strategy": "hash", "function": "murmur3"},
            },
            "vectorConfig": {
                vector: complete_vector(config)
                for vector, config in (given.get("vectorConfig") or {}).items()
            },
        }
        self.collections[name] = Collection(schema)
        return schema

    def change(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """What a PUT of a schema may change. Raises Rejected."""
        schema = self.find(name).schema
        for vector, config in given["vectorConfig"].items():
            old = schema["vectorConfig"][vector]["vectorIndexConfig"]
            new = config["vectorIndexConfig"]
            for option in IMMUTABLE:
                if new[option] != old[option]:
                    words = f"{option} is immutable: attempted change from"
                    raise Rejected(422, f'{words} "{old[option]}" to "{new[option]}"')
        schema["vectorConfig"] = copy.deepcopy(given["vectorConfig"])
        schema["description"] = given.get("description", "")
        return schema

    def find(self, name: str) -> Collection:
        """Raises Rejected."""
        try:
            return self.collections[name]
        except KeyError:
            raise Rejected(404, f"could not find class {name} in schema") from None

    def find_or_guess(self, name: str) -> Collection:
        """The collection to write to: auto-schema makes one that is not there."""
        if name not in self.collections:
            self.create({"class": name, "vectorConfig": {"default": {"vectorizer": {"none": {}}}}})
        return self.collections[name]

    def list(self, name: str, limit: int, after: uuid.UUID | None) -> list[Object]:
        """Objects in the order of their ids, those above `after`."""
        self.check_limit(0, limit)
        held = sorted(self.find(name).objects.items())
        above = [each for key, each in held if after is None or key > after]
        return above[:limit]

    def check_limit(self, offset: int, limit: int) -> None:
        """Raises Rejected."""
        if offset + limit > self.maximum_results:
            raise Rejected(
                422,
                f"query maximum results exceeded: the total limit calculated from the provided "
                f"offset '{offset}' and limit '{limit}' exceeds the configured value for "
                f"QUERY_MAXIMUM_RESULTS '{self.maximum_results}'",
            )


def complete_vector(given: dict[str, Any]) -> dict[str, Any]:
    """A vector's configuration with the defaults filled in. Raises Rejected."""
    graph = {**HNSW, **(given.get("vectorIndexConfig") or {})}
    for option, words in (("maxConnections", "maxConnections"), ("efConstruction", "")):
        if graph[option] < 4:
            wrong = f"invalid hnsw config: {words or option} must be a positive integer"
            raise Rejected(422, f"{wrong} with a minimum of 4")
    if graph["distance"] != "cosine":
        raise Rejected(422, "this test server knows the cosine distance only")
    quantized = not graph.pop("skipDefaultQuantization", False)
    graph["rq"] = {"enabled": quantized, "bits": 8, "rescoreLimit": 20}
    return {
        "vectorizer": given.get("vectorizer") or {"none": {}},
        "vectorIndexType": "hnsw",
        "vectorIndexConfig": graph,
    }


Test = Callable[[Any], bool]


def find_where(
    collection: Collection, operator: str, name: str, value: Any, negation_known: bool
) -> set[uuid.UUID]:
    """The objects that one condition lets pass. Raises Rejected."""
    if operator == "CONTAINS_NONE" and not negation_known:
        raise Rejected(422, "unknown filter operator OPERATOR_CONTAINS_NONE")
    if name in ("_id", "id"):
        return _find_ids(collection, operator, value)
    declared = collection.property_named(name)
    if declared is None:
        wrong = f"no such prop with name '{name}' found in class"
        raise Rejected(422, f"{wrong} '{collection.schema['class']}' in the schema")
    if not declared["indexFilterable"]:
        wrong = f"Filtering by property '{name}' requires inverted index to be enabled"
        raise Rejected(422, f"{wrong}. Set indexFilterable to true.")
    _check_type(declared, value)
    values = value if isinstance(value, list) else [value]
    if declared["dataType"][0].startswith("text"):
        values = [term for text in values for term in tokenize(text, declared["tokenization"])]
    return _find_values(collection, operator, collection.inverted.get(name, {}), values)


def _find_values(
    collection: Collection, operator: str, index: dict[Any, set[uuid.UUID]], values: list[Any]
) -> set[uuid.UUID]:
    if operator in ("EQUAL", "CONTAINS_ALL"):
        return set.intersection(*(index.get(each, set()) for each in values))
    if operator in ("NOT_EQUAL", "CONTAINS_NONE"):
        return set(collection.objects) - set().union(*(index.get(each, ()) for each in values))
    if operator == "CONTAINS_ANY":
        return set().union(*(index.get(each, ()) for each in values))
    passes = _order(operator, values[0])
    return set().union(*(holders for each, holders in index.items() if passes(each)))


def _find_ids(collection: Collection, operator: str, value: Any) -> set[uuid.UUID]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise Rejected(422, 'using ["_id"] to filter by uuid: must use "valueText"')
    asked = {uuid.UUID(each) for each in values}
    if operator in ("EQUAL", "CONTAINS_ANY"):
        return asked & collection.objects.keys()
    if operator in ("NOT_EQUAL", "CONTAINS_NONE"):
        return collection.objects.keys() - asked
    raise Rejected(422, f"operator {operator} is not supported on ids")


def _order(operator: str, bound: Any) -> Test:
    orders: dict[str, Test] = {
        "GREATER_THAN": lambda held: held > bound,
        "GREATER_THAN_EQUAL": lambda held: held >= bound,
        "LESS_THAN": lambda held: held < bound,
        "LESS_THAN_EQUAL": lambda held: held <= bound,
    }
    if operator not in orders:
        raise Rejected(422, f"unknown filter operator {operator}")
    return orders[operator]


def _check_type(declared: dict[str, Any], value: Any) -> None:
    kind = declared["dataType"][0].removesuffix("[]")
    first = value[0] if isinstance(value, list) else value
    given = (
        "boolean" if isinstance(first, bool)
        else "text" if isinstance(first, str)
        else "number" if isinstance(first, (int, float))
        else "other"
    )  # fmt: skip
    if given != ("number" if kind == "int" else kind):
        raise Rejected(
            422,
            f"data type filter cannot use {given!r} on type {declared['dataType'][0]!r}, "
            f"use {kind!r} instead",
        )
