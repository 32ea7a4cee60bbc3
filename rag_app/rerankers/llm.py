"""Lets the pipeline's chat model put the chunks in order, a list at a time.

Method: listwise permutation with a sliding window from the end to the front, after "Is ChatGPT Good
at Search?", Sun et al. 2023, https://arxiv.org/abs/2304.09542.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from rag_app.options import Field, Options

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from rag_app.rerankers._llm import LlmReranker


class Config(Options):
    """How many chunks are read at a time, and how much of each."""

    k: int = Field(4, ge=1, le=10_000, description="How many chunks to keep.")
    window: int = Field(20, ge=2, le=200, description="Chunks that the model orders at a time.")
    step: int = Field(
        10,
        ge=1,
        description="How far the window moves towards the front; the best `window - step` chunks "
        "stay in it. At most window - 1.",
    )
    passage_chars: int = Field(
        4000, ge=100, description="Characters of each chunk that the model reads."
    )

    @model_validator(mode="after")
    def _step_within_window(self) -> Any:
        if self.step >= self.window:
            raise ValueError(f"step must be smaller than window, which is {self.window}")
        return self


def build(config: Config, chat_model: BaseChatModel) -> LlmReranker:
    """The reranker, on the pipeline's own chat model."""
    from rag_app.rerankers._llm import LlmReranker

    return LlmReranker(
        chat_model=chat_model,
        k=config.k,
        window=config.window,
        step=config.step,
        passage_chars=config.passage_chars,
    )
