"""A chat model of the Hugging Face hub or a folder, run on this machine by transformers.

Nothing leaves the machine, but for the download of a model that is named and not yet there. Code
from the hub is never run.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from rag_app.options import OPERATIONAL, Field, FolderOrName, Options

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class Config(Options):
    """Which model, on what, and how it writes."""

    model: FolderOrName = Field(
        min_length=1,
        description="A folder with a model that has a chat template, or a name on the Hugging Face "
        "hub, for example Qwen/Qwen3-4B-Instruct-2507; a name is downloaded at first use and kept.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit on the hub; a commit pins the model."
    )
    max_tokens: int = Field(1024, ge=1, description="Longest reply in tokens.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 repeats itself, higher varies; the model's own if unset."
    )
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="The same reply to the same prompt on the same device."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="Numbers the model computes with; 'auto' is what its weights are stored as.",
    )
    device: str | None = Field(
        None,
        pattern=r"^[a-z]+(:\d+)?$",
        description="cpu, cuda, cuda:1, mps; the best there is when left out.",
        json_schema_extra=OPERATIONAL,
    )
    streaming: bool = Field(
        True,
        description="False for an answer in one piece.",
        json_schema_extra=OPERATIONAL,
    )


def build(config: Config) -> BaseChatModel:
    """The chat model; its weights are read at its first use."""
    from rag_app.chat_models._huggingface import HuggingFaceChatModel, LocalModel

    for package in ("transformers", "torch"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(package, name=package)
    return HuggingFaceChatModel(local=LocalModel(config), disable_streaming=not config.streaming)
