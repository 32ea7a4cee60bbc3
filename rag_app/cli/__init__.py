"""The command `rag-app`: thin commands over `rag_app.app`, each loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

COMMANDS = {
    "init": "Write a commented config, sample documents and cases into a folder.",
    "check": "Validate the config, then prove that each part works.",
    "ingest": "Make the index hold what the sources hold now.",
    "search": "Find chunks, with their scores.",
    "ask": "Answer a question from the documents, with citations.",
    "chat": "Ask in turns; a follow-up may lean on what was said before.",
    "backends": "List the backends, or the options of one.",
    "schema": "Print the JSON Schema of the config, for editor completion.",
    "demo": "Ask rag-app about rag-app: index the guide, answer with citations.",
}


class _LazyGroup(click.Group):
    """A group that imports a command's module only to run it or show its help."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"rag_app.cli.{cmd_name}").command
        command.name = cmd_name
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from rag_app import __version__

        click.echo(f"rag-app {__version__}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
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
    6 over --max-cost.
    """


def main() -> None:
    """Run the command line; whatever goes wrong ends in a sentence and an exit status."""
    try:
        status: Any = group(standalone_mode=False)
    except BaseException as error:  # the last stop before the user: no traceback goes past it
        status = _explain(error)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: BaseException) -> int:
    """Say on stderr what went wrong, in the terms of whoever raised it; the exit status for it."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):  # click's way to end when nobody reads its output
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.ClickException):
        error.show()
        return 2
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        click.echo("Stopped. What was done is kept; the same command goes on from there.", err=True)
        return 130
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _explain_failure(error)


def _explain_failure(error: BaseException) -> int:
    from rag_app.errors import RagAppError

    if os.environ.get("RAG_APP_DEBUG"):
        raise error
    if isinstance(error, RagAppError):
        click.echo(str(error), err=True)
        return error.exit_status
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "output"
        remedy = "See that there is room and that it may be written to."
        click.echo(f"{place}: {error.strerror}. {remedy}", err=True)
        return 1
    click.echo(
        f"rag-app: an error that should not be: {type(error).__name__}: {error}. "
        "Set RAG_APP_DEBUG=1 for the traceback, and please report it.",
        err=True,
    )
    return 1
