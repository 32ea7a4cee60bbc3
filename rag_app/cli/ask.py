"""`rag-app ask`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.options import config_options, filter_option, json_option, open_app
from rag_app.cli.output import answer_json, note, print_json
from rag_app.cli.places import place

if TYPE_CHECKING:
    from rag_app.app import RagApp
    from rag_app.config import AppConfig
    from rag_app.types import Answer


@click.command()
@click.argument("question")
@config_options
@json_option
@filter_option
@click.option("--show-prompt", is_flag=True, help="Print the messages for the chat model instead.")
def command(
    question: str,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    filter: Any,
    show_prompt: bool,
) -> None:
    """Answer QUESTION from the documents, with citations."""
    with open_app(config, overrides) as app:
        if show_prompt:
            print_prompt(app, question, filter)
        else:
            print_answer(app.config, app.ask(question, filter=filter), as_json=as_json)


def print_answer(config: AppConfig, answer: Answer, *, as_json: bool) -> None:
    """The answer with its `[1]` marks, and under it each source with its quote and place."""
    if as_json:
        print_json(answer_json(answer))
        return
    click.echo(answer.answer)
    print_citations(config, answer.citations)
    if config.chat_model and not answer.citations:
        note("No passage is cited: treat this as not found in the documents.")


def print_citations(config: AppConfig, citations: Any) -> None:
    """Each citation: number, place, heading, quote."""
    if citations:
        click.echo("\nSources")
    for citation in citations:
        heading = f"  {citation.heading}" if citation.heading else ""
        click.echo(f"  [{citation.number}] {place(config, citation)}{heading}")
        click.echo(f"      “{' '.join(citation.quote.split())}”")


def print_prompt(app: RagApp, question: str, filter: Any) -> None:
    """The messages exactly as the chat model would get them."""
    for message in app.prompt(question, filter=filter):
        click.echo(f"--- {message.type} ---\n{message.text}")
