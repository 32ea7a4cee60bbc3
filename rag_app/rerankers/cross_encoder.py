"""Reads question and chunk together with a cross-encoder of sentence-transformers."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from rag_app.options import OPERATIONAL, Field, FolderOrName, Options

if TYPE_CHECKING:
    from rag_app.rerankers._cross_encoder import CrossEncoderReranker


class Config(Options):
    """Options of the cross-encoder."""

    model: FolderOrName = Field(
        min_length=1,
        description="A folder with a model, or a name on the Hugging Face hub, for example "
        "cross-encoder/ms-marco-MiniLM-L6-v2; a name is downloaded at first use and kept.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit on the hub; a commit pins the model."
    )
    k: int = Field(4, ge=1, le=10_000, description="How many chunks to keep.")
    max_length: int | None = Field(
        None, ge=8, description="Tokens of question and chunk that are read; the model's own limit."
    )
    batch_size: int = Field(
        32, ge=1, description="Pairs read at a time.", json_schema_extra=OPERATIONAL
    )
    device: str | None = Field(
        None,
        description="cpu, cuda, cuda:1, mps; the best there is when left out.",
        json_schema_extra=OPERATIONAL,
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="Numbers the model computes with; 'auto' is what its weights are stored as. "
        "Half precision halves memory and moves scores a little.",
    )


def build(config: Config) -> CrossEncoderReranker:
    """The reranker; the model is read at its first use."""
    from rag_app.rerankers._cross_encoder import CrossEncoderModel, CrossEncoderReranker

    if importlib.util.find_spec("sentence_transformers") is None:
        raise ModuleNotFoundError("sentence_transformers", name="sentence_transformers")
    return CrossEncoderReranker(model=CrossEncoderModel(config), k=config.k)
