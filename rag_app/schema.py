"""JSON Schema (draft-07) of the YAML, made from the backends' own `Config` classes.

For completion and first checks in an editor. The config's own reading is stricter: it also knows
secrets, variables that are not set, and checks between options.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rag_app import registry
from rag_app.config.model import KIND_OF_SECTION, NAME, OPTIONAL, IndexOptions

if TYPE_CHECKING:
    from rag_app.options import Options

DESCRIPTIONS: Final = {
    "splitter": "How documents are cut into chunks. Left out: recursive.",
    "embeddings": "The model that turns text into vectors. Left out: minilm.",
    "vector_store": "Where vectors are kept and searched. Left out: memory.",
    "retriever": "How chunks are found. Left out: hybrid.",
    "reranker": "Orders what was found once more. Left out: none.",
    "chat_model": "The model that writes answers. Left out: none.",
    "chain": "From question to answer. Left out: qa, or extractive without a chat model.",
}

VARIABLE: Final = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
    "description": "From the environment: ${VARIABLE} or ${VARIABLE:-default}.",
}
_SECRET: Final = {
    "type": "string",
    "pattern": r"^(Bearer )?\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\}$",
    "description": "A secret, by the name of its environment variable: ${VARIABLE}.",
}
_KEPT: Final = frozenset(
    [
        "type",
        "description",
        "default",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "required",
        "examples",
    ]
)
_TOLD: Final = ("description", "default", "examples")
_FREE_TEXT: Final = frozenset({"type", *_TOLD})


def build_schema() -> dict[str, Any]:
    """The schema of a config, with every backend that is installed."""
    definitions: dict[str, Any] = {"variable": VARIABLE, "secret": _SECRET}
    for kind in sorted(registry.KINDS):
        for name in registry.names(kind):
            model = registry.config_class(kind, name)
            _add_options(definitions, f"{kind}.{name}", model, (name, registry.summary(kind, name)))
    _add_options(definitions, "index", IndexOptions, None)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "rag-app config",
        "description": "One pipeline of rag-app.",
        "type": "object",
        "additionalProperties": False,
        "required": ["sources"],
        "properties": _sections(definitions),
        "definitions": definitions,
    }


def schema_text() -> str:
    """The schema as it is written to `rag_app/schema.json`."""
    return json.dumps(build_schema(), indent=1, ensure_ascii=False) + "\n"


def _sections(definitions: dict[str, Any]) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "name": {
            "description": "The index's name. Left out: the name of the file.",
            "anyOf": [{"type": "string", "pattern": f"^{NAME}$"}, _ref("variable")],
        },
        "sources": {
            "description": "Where documents come from.",
            "type": "array",
            "minItems": 1,
            "items": _choice("loaders", definitions, optional=False),
        },
    }
    for section, kind in KIND_OF_SECTION.items():
        choice = _choice(kind, definitions, optional=section in OPTIONAL)
        sections[section] = {"description": DESCRIPTIONS[section], **choice}
    described = {"description": "Where the index keeps its own files."}
    sections["index"] = {**described, "allOf": [_ref("index")]}
    return sections


def _choice(kind: str, definitions: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """A backend by its name alone, or a mapping whose `kind` decides which options it takes."""
    names = registry.names(kind)
    bare = [name for name in names if definitions[f"{kind}.{name}"]["required"] == ["kind"]]
    none = ["none"] if optional and "none" not in names else []
    branches = [{"if": _has_kind(name), "then": _ref(f"{kind}.{name}")} for name in names]
    return {
        "if": {"type": "object"},
        "then": {
            "required": ["kind"],
            "properties": {"kind": {"enum": [*names, *none]}},
            "allOf": branches,
        },
        "else": {"enum": [*bare, *none, *([None] if optional else [])]},
    }


def _has_kind(name: str) -> dict[str, Any]:
    return {"properties": {"kind": {"const": name}}, "required": ["kind"]}


def _add_options(
    definitions: dict[str, Any],
    key: str,
    model: type[Options],
    backend: tuple[str, str] | None,
) -> None:
    """Add the options of `model` under `key`, with `kind` as the first if it is a backend's."""
    schema = model.model_json_schema()
    for inner, nested in schema.pop("$defs", {}).items():
        definitions[f"{key}.{inner}"] = _convert_object(nested, key)
    converted = _convert_object(schema, key)
    if backend is not None:
        name, summary = backend
        converted["description"] = summary
        converted["required"] = ["kind", *converted["required"]]
        kind = {"const": name, "description": summary}
        converted["properties"] = {"kind": kind, **converted["properties"]}
    definitions[key] = converted


def _convert_object(schema: dict[str, Any], key: str) -> dict[str, Any]:
    if "properties" not in schema and schema.get("type") != "object":
        return _convert(schema, key)
    properties = schema.get("properties", {})
    return {
        "type": "object",
        "description": schema.get("description", ""),
        "additionalProperties": False,
        "required": schema.get("required", []),
        "properties": {name: _convert(field, key) for name, field in properties.items()},
    }


def _convert(field: dict[str, Any], key: str) -> dict[str, Any]:
    """One option as draft-07; where a value belongs, a variable may stand."""
    described: dict[str, Any] = {n: field[n] for n in _TOLD if n in field}
    if field.get("format") == "password":
        written = {"type": "string"} if field.get("literal") else _ref("secret")
        return {**described, "anyOf": [written]}
    if "$ref" in field:
        inner = field["$ref"].rpartition("/")[2]
        return {**described, "allOf": [_ref(f"{key}.{inner}")]}
    for union in ("anyOf", "oneOf", "allOf"):
        if union in field:
            extra = {"literal": True} if field.get("literal") else {}
            parts = [_convert({**part, **extra}, key) for part in field[union]]
            return {**described, union: parts}
    return _convert_value(field, described, key)


def _convert_value(field: dict[str, Any], described: dict[str, Any], key: str) -> dict[str, Any]:
    value = {n: v for n, v in field.items() if n in _KEPT and n not in described}
    if field.get("type") == "array":
        return {**described, **value, **_convert_items(field, key)}
    if field.get("type") == "object":
        inner = field.get("additionalProperties", True)
        more = _convert(inner, key) if isinstance(inner, dict) else inner
        return {**described, **value, "additionalProperties": more}
    if field.get("type") == "null" or (
        value.keys() <= _FREE_TEXT and field.get("type") == "string"
    ):
        return {**described, **value}
    return {**described, "anyOf": [value, _ref("variable")]}


def _convert_items(field: dict[str, Any], key: str) -> dict[str, Any]:
    if "prefixItems" in field:
        return {"items": [_convert(item, key) for item in field["prefixItems"]]}
    return {"items": _convert(field["items"], key)} if field.get("items") else {}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}
