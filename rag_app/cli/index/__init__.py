"""`rag-app index`: what is done to an index besides filling it."""

from __future__ import annotations

import click

from rag_app.cli.groups import LazyGroup

LISTED = {
    "list": "List the generations: which is served, which are kept.",
    "show": "Tell all about one generation.",
    "rollback": "Serve again what was served before.",
    "gc": "Remove the generations that are not served.",
    "export": "Write what is served into a folder or zip that needs no rag-app to be read.",
    "import": "Serve what was exported, in the config's vector store; nothing is embedded.",
}


@click.group(cls=LazyGroup, package="rag_app.cli.index", listed=LISTED)
def command() -> None:
    """The generations of an index: list, show, roll back, remove, export, import.

    A generation is one collection of the vector store with all that was decided when it was begun.
    """
