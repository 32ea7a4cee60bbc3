"""Pydantic's errors in plain words, at their place in the file.

Pydantic's own text is not shown where it could repeat a value: values may be secrets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel

from rag_app.config.nodes import Branch, Items, Leaf, find, show, show_word, walk, write_path
from rag_app.config.ranges import is_range
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from rag_app.config.nodes import Node, Place, Problems, Steps

DIMENSION: Final = "a list where one value belongs; that is a search dimension of compare and tune"
RANGE: Final = "a range where one value belongs; that is a search dimension of compare and tune"

_NUMBER_ERRORS: Final = frozenset(["int_type", "float_type"])
_TYPES: Final = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping of options",
    "url": "a URL",
    "date": "a date",
    "datetime": "a date and time",
    "none": "nothing",
}
_BOUNDS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
}


def report(
    error: ValidationError, model: type[BaseModel], branch: Branch, at: Steps, problems: Problems
) -> None:
    """Note every error of validating `branch`, which stands at `at`, as the options of `model`."""
    kind = branch.entries.get("kind")
    name = kind.text if isinstance(kind, Leaf) else write_path(at)
    for steps, errors in _by_value(error, branch).items():
        above = steps[:-1] if errors[0]["type"] == "extra_forbidden" else steps
        if not _is_broken(branch, above):
            wrong, remedy = _explain(errors, steps, find(branch, steps), model, name)
            if at == ("index",) and wrong in {DIMENSION, RANGE}:
                wrong, remedy = wrong.partition(";")[0], "Give one value: it is not searched."
            place = _place(branch, steps, errors[0]["type"])
            problems.add(place, (*at, *steps), _mask(wrong, branch), remedy)


def _by_value(error: ValidationError, branch: Branch) -> dict[Steps, list[ErrorDetails]]:
    """Errors by the value they concern; the members of a union all concern the same."""
    grouped: dict[Steps, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        steps = _steps(detail, branch)
        grouped.setdefault(steps, []).append(detail)
    return {s: e for s, e in grouped.items() if not _is_above_another(s, grouped, branch)}


def _is_above_another(steps: Steps, all_steps: Iterable[Steps], branch: Branch) -> bool:
    """Whether a list is refused as a whole where one of its values is the reason."""
    inside = any(len(s) > len(steps) and s[: len(steps)] == steps for s in all_steps)
    return inside and bool(steps) and isinstance(find(branch, steps), Items)


def _steps(detail: ErrorDetails, branch: Branch) -> Steps:
    """The way to the value: pydantic's, without the names it adds for members of a union."""
    steps: Steps = ()
    for step in detail["loc"]:
        if find(branch, (*steps, step)) is not None:
            steps = (*steps, step)
    if detail["type"] == "missing":
        steps = (*steps, detail["loc"][-1])
    return steps


def _explain(
    errors: list[ErrorDetails],
    steps: Steps,
    node: Node | None,
    model: type[BaseModel],
    name: str,
) -> tuple[str, str]:
    first, kinds = errors[0], {error["type"] for error in errors}
    if first["type"] == "extra_forbidden":
        return _explain_unknown(str(steps[-1]), steps, model, name)
    field = _describe_field(model, steps)
    if first["type"] == "missing":
        return f"is missing; '{name}' needs it", _sentence(field.get("description", ""))
    if "value_error" in kinds or "assertion_error" in kinds:
        said = next(e for e in errors if e["type"] in {"value_error", "assertion_error"})
        wrong, _, remedy = str(said.get("ctx", {}).get("error", "not allowed")).partition(". ")
        given = show(node) if isinstance(node, Leaf) and node.text not in wrong else ""
        return f"{given}: {wrong.rstrip('.')}".removeprefix(": "), remedy
    if isinstance(node, Items) and not kinds & {"too_short", "too_long"}:
        return DIMENSION, "Give one value, or run: rag-app compare"
    if isinstance(node, Branch) and is_range(node) and kinds & _NUMBER_ERRORS:
        return RANGE, "Give one number, or run: rag-app compare"
    if "literal_error" in kinds or "enum" in kinds:
        return _explain_choice(errors, node)
    return _explain_type(errors, node, field)


def _explain_unknown(key: str, steps: Steps, model: type[BaseModel], name: str) -> tuple[str, str]:
    inner = _model_at(model, steps[:-1])
    taken = sorted(inner.model_fields) if inner else []
    owner = f"'{name}'" if len(steps) == 1 else f"'{show_word(str(steps[-2]))}'"
    remedy = f"It takes: {', '.join(taken)}." if taken else "It takes none."
    return f"not an option of {owner}", f"{remedy} {did_you_mean(key, taken)}".strip()


def _explain_choice(errors: list[ErrorDetails], node: Node | None) -> tuple[str, str]:
    said = next(e for e in errors if e["type"] in {"literal_error", "enum"})
    expected = str(said.get("ctx", {}).get("expected", ""))
    allowed = re.findall(r"'([^']*)'", expected) or expected.replace(" or ", ", ").split(", ")
    given = show(node) if node is not None else "the default"
    hidden = not isinstance(node, Leaf) or node.variables or node.hidden
    hint = "" if hidden else did_you_mean(node.text, allowed)  # type: ignore[union-attr]
    return f"{given} is not one of {', '.join(allowed)}", hint


def _explain_type(
    errors: list[ErrorDetails], node: Node | None, field: Mapping[str, Any]
) -> tuple[str, str]:
    given = show(node) if node is not None else "the default"
    prefixes = [e["type"].partition("_")[0] for e in errors]
    types = list(dict.fromkeys(_TYPES[p] for p in prefixes if p in _TYPES))
    bounds = _bounds(field)
    if any(_is_type_error(e["type"]) for e in errors) and types:
        remedy = f"Give {' or '.join(types)}{f' of {bounds}' if bounds else ''}."
        if types in (["text"], ["a path"]) and isinstance(node, Leaf) and node.value is not None:
            remedy = f"Write it in quotes: '{show_word(node.text)}'."
        return f"{given} is not {' or '.join(types)}", remedy
    return _explain_limit(errors[0], given, bounds, field)


def _explain_limit(
    error: ErrorDetails, given: str, bounds: str, field: Mapping[str, Any]
) -> tuple[str, str]:
    """A value of the right type that is too small, too long or of the wrong form."""
    limits, told = error.get("ctx", {}), _sentence(str(field.get("description", "")))
    if error["type"].endswith(("too_short", "too_long")):
        few = error["type"].endswith("too_short")
        many = limits.get("min_length" if few else "max_length")
        unit = "character" if error["type"].startswith("string") else "item"
        size = f"at {'least' if few else 'most'} {many} {unit}{'s' * (many != 1)}"
        return f"{given} is too {'short' if few else 'long'}", f"Give {size}."
    if "pattern" in limits:
        return f"{given} has not the form {limits['pattern']}", told
    if bounds:
        return f"{given} is out of bounds", f"Allowed: {bounds}."
    return f"{given} is not allowed here", told


def _is_type_error(kind: str) -> bool:
    return kind.endswith(("_type", "_parsing", "_from_float", "_number", "_size"))


def _bounds(field: Mapping[str, Any]) -> str:
    parts = [field, *field.get("anyOf", ())]
    words = [w.format(p[b]) for p in parts for b, w in _BOUNDS.items() if b in p]
    return " and ".join(dict.fromkeys(words))


def _describe_field(model: type[BaseModel], steps: Steps) -> Mapping[str, Any]:
    inner = _model_at(model, steps[:-1])
    if inner is None or not steps:
        return {}
    found: Mapping[str, Any] = inner.model_json_schema()["properties"].get(str(steps[-1]), {})
    return found


def _model_at(model: type[BaseModel] | None, steps: Steps) -> type[BaseModel] | None:
    for step in steps:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step) if model else None
        model = next(_models_in(field.annotation), None) if field else None
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _is_broken(branch: Branch, steps: Steps) -> bool:
    nodes = [find(branch, steps[: i + 1]) for i in range(len(steps))]
    return any(node is not None and node.broken for node in nodes)


def _place(branch: Branch, steps: Steps, kind: str) -> Place:
    """Of the value; of the key where that is what is wrong; of what should hold it if missing."""
    node = find(branch, steps)
    above = find(branch, steps[:-1])
    if kind == "extra_forbidden" and isinstance(above, Branch):
        return above.keys[str(steps[-1])]
    while node is None and steps:
        steps = steps[:-1]
        node = find(branch, steps)
    return branch.place if node is None else node.place


def _mask(words: str, branch: Branch) -> str:
    """`words` with what variables and secrets hold replaced by what was written."""
    for _, leaf in walk(branch):
        if (leaf.variables or leaf.hidden) and len(str(leaf.value)) > 2:
            words = words.replace(str(leaf.value), leaf.text if leaf.variables else "***")
    return words


def _sentence(words: str) -> str:
    words = words.strip().rstrip(".")
    return f"{words[:1].upper()}{words[1:]}." if words else ""
