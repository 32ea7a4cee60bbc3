"""`rag-app backends`"""

from __future__ import annotations

from typing import Any

import click

from rag_app.cli.options import json_option
from rag_app.cli.output import print_json


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@json_option
def command(kind: str | None, name: str | None, as_json: bool) -> None:
    """List the backends of every KIND, of one, or the options of one by NAME."""
    from rag_app.catalogue import describe, list_backends

    value: Any = describe(kind, name) if kind and name else list_backends(kind)
    if as_json:
        print_json(value)
    else:
        click.echo(_options_text(value) if name else _catalogue_text(value))


def _catalogue_text(catalogue: dict[str, dict[str, str]]) -> str:
    lines = []
    for kind, backends in catalogue.items():
        lines.append(kind)
        lines += [f"  {name:<16} {summary}" for name, summary in backends.items()]
    return "\n".join(lines)


def _options_text(backend: dict[str, Any]) -> str:
    lines = [f"{backend['kind']}/{backend['name']}: {backend['summary']}", backend["install"]]
    for option in backend["options"]:
        required = "required" if option["required"] else f"default {option['default']!r}"
        lines += ["", f"  {option['name']}: {option['type']}, {required}"]
        if option["description"]:
            lines.append(click.wrap_text(option["description"], 92, "      ", "      "))
    return "\n".join(lines)
