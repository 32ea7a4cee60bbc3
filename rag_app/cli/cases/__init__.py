"""`rag-app cases`: the questions that pipelines are measured on."""

from __future__ import annotations

import click

from rag_app.cli.groups import LazyGroup

LISTED = {
    "check": "See that every quote stands in its source, as it is indexed.",
    "generate": "Draft cases from an index with the chat model, for a person to confirm.",
}


@click.group(cls=LazyGroup, package="rag_app.cli.cases", listed=LISTED)
def command() -> None:
    """The questions that pipelines are measured on: check them, draft them.

    A case is a question with the passages of the documents that answer it.
    """
