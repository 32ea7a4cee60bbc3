"""The options that every command shares, and opening the app from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_app.app import RagApp

Command = TypeVar("Command", bound="Callable[..., Any]")

DEFAULT_CONFIG = "rag-app.yaml"

_FILTER_REMEDY = 'Write it as in \'{"lang": "en"}\'.'


def config_options(function: Command) -> Command:
    """Add `-c/--config` and `--set`; they arrive as `config` and `overrides`."""
    overrides = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override an option, as in --set retriever.k=12. Repeatable.",
    )
    config = click.option(
        "-c",
        "--config",
        default=DEFAULT_CONFIG,
        show_default=True,
        metavar="FILE",
        help="The pipeline's YAML file.",
    )
    return config(overrides(function))


def json_option(function: Command) -> Command:
    """Add `--json`; it arrives as `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON value on stdout instead of text."
    )(function)


def filter_option(function: Command) -> Command:
    """Add `--filter`; it arrives as `filter`, parsed, or None."""
    return click.option(
        "--filter",
        metavar="JSON",
        callback=_parse_filter,
        help="""Only chunks whose metadata match, as in '{"year": {"$gte": 2024}}'.""",
    )(function)


def open_app(config: str, overrides: tuple[str, ...]) -> RagApp:
    """The app of a config file with `--set` overrides.

    Raises:
        ConfigError: with every problem of the file and the overrides.
    """
    from rag_app.app import RagApp
    from rag_app.config import load_config

    return RagApp(load_config(config, overrides))


def _parse_filter(_: click.Context, __: click.Parameter, given: str | None) -> Any:
    if given is None:
        return None
    import json

    try:
        value = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{given!r} is not JSON ({error}). {_FILTER_REMEDY}") from error
    if not isinstance(value, dict):
        raise click.BadParameter(f"{given!r} is not an object. {_FILTER_REMEDY}")
    return value
