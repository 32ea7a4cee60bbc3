"""Secrets stay out of the config: options for one take `${VARIABLE}`, other options take none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, SecretStr

from rag_app.config.nodes import Leaf, Origin, find, walk
from rag_app.config.secret_shapes import has_url_password, looks_like_secret
from rag_app.config.variables import write_literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from rag_app.config.nodes import Node, Problems, Steps

LITERAL: Final = "literal"
"""`json_schema_extra={"literal": True}`: may be written out while it holds no password."""

NAME: Final = "name"
"""`json_schema_extra={"name": True}`: URLs by which documents are named, in the index and out."""

_HOST: Final = re.compile(r"https?://[^/?#\\@]*", re.IGNORECASE)


def refuse_secrets(
    node: Node, at: Steps, model: type[BaseModel] | None, problems: Problems
) -> None:
    """Note every secret that is written out below `node`, and mark it so that it is never shown.

    Args:
        model: the options that `node` holds, if known.
    """
    kind = find(node, ("kind",))
    owner = kind.text if isinstance(kind, Leaf) else ""
    for steps, leaf in walk(node):
        field = find_field(model, steps)
        leaf.hidden = leaf.hidden or (field is not None and takes_secret(field))
        if leaf.value is None or leaf.broken:
            continue
        found = _explain(leaf, (owner, *steps), field)
        if found is not None:
            leaf.broken = leaf.hidden = True
            problems.add(leaf.place, (*at, *steps), *found)


def refuse_variables(
    node: Node, at: Steps, model: type[BaseModel] | None, problems: Problems
) -> None:
    """Note every variable in a URL that names a document, its host excepted; once they are put in.

    Such a name stands in the index and with every citation, and what it takes from a variable may
    be a secret.
    """
    for steps, leaf in walk(node):
        if not leaf.variables or leaf.broken or not _is_name(find_field(model, steps)):
            continue
        written = _after_host(leaf.text)
        if "${" in written or written != _after_host(str(leaf.value)):
            leaf.broken = True
            wrong = "a variable in a URL, which answers show as the name of the page"
            remedy = "Write the URL out; only its host may be a variable, as in http://${HOST}/x."
            problems.add(leaf.place, (*at, *steps), wrong, remedy)


def find_field(model: type[BaseModel] | None, steps: Steps) -> FieldInfo | None:
    """The field of `model` that a value at `steps` belongs to; through nested models and lists."""
    field = None
    inner = model
    for step in steps:
        if isinstance(step, int) or inner is None:
            continue
        field = inner.model_fields.get(step)
        inner = next(_models_in(field.annotation), None) if field else None
    return field


def takes_secret(field: FieldInfo) -> bool:
    """Whether the field holds a secret, or a list or mapping of them."""
    return _holds_secret(field.annotation)


def _explain(leaf: Leaf, steps: Steps, field: FieldInfo | None) -> tuple[str, str] | None:
    secret = field is not None and takes_secret(field)
    literal = write_literal(leaf.text)
    from_python = leaf.place.origin is Origin.PYTHON
    if secret and from_python:
        return None
    if secret and not _allows_literal(field):
        if "${" in leaf.text and literal.strip() in {"", "Bearer"}:
            return None
        where = "in the file" if leaf.place.origin is Origin.FILE else "on the command line"
        return f"a secret written {where}", f"Write ${{{_variable(steps)}}} and set that variable."
    if has_url_password(leaf.text):
        return "a password written into a URL", "Write ${PASSWORD} there and set that variable."
    if looks_like_secret(literal):
        remedy = "Write it as ${VARIABLE}, in an option that takes a secret, such as api_key."
        return "a secret in the wrong place", remedy
    return None


def _variable(steps: Steps) -> str:
    words = (s for s in steps if isinstance(s, str) and s)
    return re.sub(r"\W", "_", "_".join(words)).upper()


def _allows_literal(field: FieldInfo | None) -> bool:
    return _is_marked(field, LITERAL)


def _is_name(field: FieldInfo | None) -> bool:
    return _is_marked(field, NAME)


def _is_marked(field: FieldInfo | None, mark: str) -> bool:
    extra: Any = field.json_schema_extra if field else None
    return isinstance(extra, dict) and bool(extra.get(mark))


def _after_host(url: str) -> str:
    host = _HOST.match(url)
    return url[host.end() :] if host else url


def _holds_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, SecretStr):
        return True
    return any(_holds_secret(part) for part in get_args(annotation))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
