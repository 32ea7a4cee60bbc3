"""Groups of commands, each imported only to run it or to show its help."""

from __future__ import annotations

import importlib
import keyword
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """A group whose commands are modules of one package, each with a `command`.

    Args:
        package: where the modules are.
        listed: what the commands do, in a line, by their names.
    """

    def __init__(
        self, *args: Any, package: str = "", listed: Mapping[str, str] | None = None, **given: Any
    ) -> None:
        super().__init__(*args, **given)
        self._package, self._listed = package, listed or {}

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self._listed)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._listed:
            return None
        # A module cannot have the name of a keyword, as the command `import` does.
        name = cmd_name + "_" * keyword.iskeyword(cmd_name)
        module = importlib.import_module(f"{self._package}.{name}")
        command: click.Command = module.command
        command.name = cmd_name
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._listed.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from rag_app import __version__

        click.echo(f"rag-app {__version__}")
        ctx.exit()


class _Root(LazyGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # for which click would print an empty line
            raise click.Abort from error


@click.group(
    cls=_Root,
    package="rag_app.cli",
    listed=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: rag-app demo",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
def group() -> None:
    """Retrieval-augmented generation on LangChain that is never silently wrong.

    Edit one YAML file, then: rag-app ingest, rag-app ask "...". Results go to stdout, messages to
    stderr. Exit status: 0 ok, 1 failed, 2 usage or config, 3 partly done (something quarantined),
    4 locked by another process, 5 another model's or splitter's index, 6 over --max-cost, 7 doctor
    found damage, 10 evaluation worse than its baseline or floor, 130 and 143 stopped by a signal.
    """
