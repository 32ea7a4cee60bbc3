"""Short names of values that are compared: `256`, `dense`, `hybrid(k=8)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rag_app.config.nodes import Branch, Items
from rag_app.config.ranges import is_range
from rag_app.config.secret_shapes import looks_like_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.config.nodes import Node

NOT_SHOWN: Final = "(not shown)"

_LONGEST: Final = 40


def tell_apart(nodes: Sequence[Node], *, secret: bool = False) -> tuple[str, ...]:
    """A name for each, no two alike; values of `secret` options are numbered, and not shown."""
    if secret:
        return tuple(f"#{place}" for place in range(1, len(nodes) + 1))
    named = [_name(node) for node in nodes]
    for lists in (False, True):  # lists inside are dimensions, most of them, and named apart
        told = [_tell(node, _like(place, nodes, named), lists) for place, node in enumerate(nodes)]
        named = [
            longer if named.count(name) > 1 else name
            for name, longer in zip(named, told, strict=True)
        ]
    return tuple(
        name if named.count(name) == 1 else f"{name}#{named[: place + 1].count(name)}"
        for place, name in enumerate(named)
    )


def show_value(node: Node) -> str:
    """A value in few characters, as written: variables by name, nothing like a secret."""
    if isinstance(node, Items):
        text = f"[{','.join(map(show_value, node.items))}]"
    elif isinstance(node, Branch):
        text = f"{{{','.join(f'{k}={show_value(v)}' for k, v in node.entries.items())}}}"
    elif node.value is None:
        text = "none"
    elif node.hidden or looks_like_secret(node.text):
        text = NOT_SHOWN
    else:
        text = "".join(c if c.isprintable() else "?" for c in node.text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _name(node: Node) -> str:
    """A backend by its kind, all else by its value."""
    kind = node.entries.get("kind") if isinstance(node, Branch) else None
    return show_value(node if kind is None else kind)


def _like(place: int, nodes: Sequence[Node], names: Sequence[str]) -> list[Node]:
    """The others that have the same name."""
    return [
        node
        for other, (node, name) in enumerate(zip(nodes, names, strict=True))
        if other != place and name == names[place]
    ]


def _tell(node: Node, others: Sequence[Node], lists: bool) -> str:
    """`node` by its kind and the options that it does not share with all the others."""
    own, *theirs = [_options(each, lists) for each in (node, *others)]
    differ = [f"{k}={v}" for k, v in own.items() if any(o.get(k) != v for o in theirs)]
    return f"{_name(node)}({','.join(differ)})" if differ else _name(node)


def _options(node: Node, lists: bool) -> dict[str, str]:
    entries = node.entries if isinstance(node, Branch) else {}
    return {k: show_value(v) for k, v in entries.items() if k != "kind" and (lists or _is_plain(v))}


def _is_plain(node: Node) -> bool:
    if isinstance(node, Branch):
        return not is_range(node) and all(map(_is_plain, node.entries.values()))
    return not isinstance(node, Items)
