"""Replies from a list, or with the first sentence it is shown: for tests and demos, no model.

Deterministic, needs no network; streams by words and counts words as tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import Field, Options

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(Options):
    """What it says."""

    responses: tuple[str, ...] = Field(
        (),
        description="Replies in turn, from the start again after the last. Without any it cites "
        "the first sentence of the first passage in the prompt.",
    )


def build(config: Config) -> BaseChatModel:
    """The scripted model, at the first of its replies."""
    from rag_app.chat_models._scripted import ScriptedChatModel

    return ScriptedChatModel(responses=list(config.responses))
