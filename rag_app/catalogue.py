"""The backends there are and the options each takes, read from the code."""

from __future__ import annotations

from typing import Any

from rag_app import registry
from rag_app.errors import RagAppError, UsageError


def list_backends(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Every backend's summary by kind and name, or those of one kind.

    Raises:
        UsageError: no such kind; the message lists them.
    """
    kinds = list(registry.KINDS) if kind is None else [_known(kind)]
    return {k: {n: _summary(k, n) for n in registry.names(k)} for k in kinds}


def describe(kind: str, name: str) -> dict[str, Any]:
    """One backend: its summary, how to install it, and each option with type and default.

    Raises:
        UsageError: no such kind or backend; the message lists what there is.
    """
    config = registry.config_class(_known(kind), name)
    schema = config.model_json_schema()
    required = set(schema.get("required", ()))
    options = [
        {
            "name": option,
            "type": _type_words(field, schema.get("$defs", {})),
            "required": option in required,
            "default": field.get("default"),
            "description": field.get("description", ""),
        }
        for option, field in schema.get("properties", {}).items()
    ]
    return {
        "kind": kind,
        "name": name,
        "summary": registry.summary(kind, name),
        "install": registry.install_command(name) or "needs nothing beyond what is installed",
        "options": options,
    }


def _summary(kind: str, name: str) -> str:
    try:
        return registry.summary(kind, name)
    except (RagAppError, ImportError) as error:  # a plug-in's fault hides no other backend
        return f"cannot be used: {error}"


def _known(kind: str) -> str:
    if kind not in registry.KINDS:
        raise UsageError("backends", *registry.unknown(kind, registry.KINDS))
    return kind


def _type_words(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in field:
        return _type_words(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if "anyOf" in field:
        return " | ".join(dict.fromkeys(_type_words(f, definitions) for f in field["anyOf"]))
    if field.get("type") == "array":
        return f"list of {_type_words(field.get('items', {}), definitions)}"
    if field.get("format") == "password":
        return "secret, as ${VARIABLE}"
    if field.get("format") == "path":
        return "path"
    return str(field.get("type", "any"))
