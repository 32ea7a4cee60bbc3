"""The command `rag-app`: thin commands over `rag_app.app`, each loaded only when it is called."""

from __future__ import annotations

import os
import sys
from typing import Any

from rag_app.cli.stopping import Stop

COMMANDS = {
    "init": "Write a commented config, sample documents and cases into a folder.",
    "check": "Validate the config, then prove that each part works.",
    "ingest": "Make the index hold what the sources hold now.",
    "index": "List, roll back, export and import what the index serves.",
    "migrate": "Change the model, the splitter or the store, with searches answered throughout.",
    "doctor": "Name what is damaged in the index, and mend it.",
    "search": "Find chunks, with their scores.",
    "ask": "Answer a question from the documents, with citations.",
    "chat": "Ask in turns; a follow-up may lean on what was said before.",
    "cases": "Check that evidence stands in its sources; draft cases from an index.",
    "evaluate": "Measure search and answers on questions whose evidence is known.",
    "compare": "Tell whether one config is better than another, and what it costs.",
    "tune": "Search a config's options for the best values, judged by other questions.",
    "why": "Name the stage that lost the evidence of a question, with proof.",
    "backends": "List the backends, or the options of one.",
    "schema": "Print the JSON Schema of the config, for editor completion.",
    "demo": "Ask rag-app about rag-app: index the guide, answer with citations.",
}


def main() -> None:
    """Run the command line; whatever goes wrong ends in a sentence and an exit status."""
    with Stop() as stop:
        try:
            from rag_app.cli.groups import group

            status: Any = group(standalone_mode=False)
        except BaseException as error:  # the last stop before the user: no traceback goes past it
            status = _explain(error, stop)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: BaseException, stop: Stop) -> int:
    """Say on stderr what went wrong, in the terms of whoever raised it; the exit status for it."""
    import click

    if stop.number is not None or isinstance(error, (KeyboardInterrupt, click.Abort)):
        stop.tell()
        return stop.status
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):  # click's way to end when nobody reads its output
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.ClickException):
        error.show()
        return 2
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _explain_failure(error)


def _explain_failure(error: BaseException) -> int:
    import click

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
