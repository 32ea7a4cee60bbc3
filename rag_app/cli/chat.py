"""`rag-app chat`"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.ask import print_citations
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import answer_json, note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.app import RagApp


@click.command()
@config_options
@json_option
def command(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Ask in turns, a question a line; an empty line or Ctrl-D ends.

    With `chain: conversational` a follow-up may lean on what was said before. With --json each
    answer is one line of JSON.
    """
    with open_app(config, overrides) as app:
        app.index.check_ready()
        history: list[dict[str, str]] = []
        for question in _questions():
            answer = (
                _answer_json(app, question, history) if as_json else _answer(app, question, history)
            )
            history += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]


def _questions() -> Iterator[str]:
    terminal = sys.stdin.isatty()
    if terminal:
        note("Ask away; an empty line ends.")
    while True:
        if terminal:
            click.echo("\n> ", nl=False, err=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def _answer(app: RagApp, question: str, history: list[dict[str, str]]) -> str:
    answer = ""
    citations: list[Any] = []
    for piece in app.stream(question, chat_history=history):
        token = piece.get("answer", "")
        answer += token
        click.echo(token, nl=False)
        citations += piece.get("citations", [])
    click.echo()
    print_citations(app.config, citations)
    return answer


def _answer_json(app: RagApp, question: str, history: list[dict[str, str]]) -> str:
    answer = app.ask(question, chat_history=history)
    click.echo(json.dumps(answer_json(answer), ensure_ascii=False))
    return answer.answer
