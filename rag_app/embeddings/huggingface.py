"""Embedding models of the Hugging Face hub, or of a folder, run here with sentence-transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rag_app.options import OPERATIONAL, Field, FolderOrName, Options

if TYPE_CHECKING:
    from rag_app.embeddings._huggingface import HuggingFaceEmbeddings

Pooling: TypeAlias = Literal["cls", "mean", "last_token"]


class Config(Options):
    """Which model, and how it is run."""

    model: FolderOrName = Field(
        min_length=1,
        description="A folder with a model, or a name on the Hugging Face hub, for example "
        "BAAI/bge-m3; a name is downloaded at first use and kept.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit on the hub; a commit pins the model."
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Shorter vectors, for models that were trained for it; the model's own length "
        "when left out.",
    )
    query_prefix: str | None = Field(
        None,
        description="What stands before a question; the model card's when left out, or else what "
        "the model's own folder says.",
    )
    document_prefix: str | None = Field(
        None,
        description="What stands before a chunk; the model card's when left out, or else what the "
        "model's own folder says.",
    )
    pooling: Pooling | None = Field(
        None,
        description="Which state becomes the vector: cls, mean or last_token. Only for a model "
        "whose folder does not say it.",
    )
    max_tokens: int | None = Field(
        None,
        ge=8,
        description="Tokens that are read of a text; the model's own window when left out.",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Numbers to compute with; auto is what the weights are stored as."
    )
    batch_size: int = Field(
        32, ge=1, description="Texts computed at a time.", json_schema_extra=OPERATIONAL
    )
    device: str | None = Field(
        None,
        description="cpu, cuda, cuda:1, mps; the best there is when left out.",
        json_schema_extra=OPERATIONAL,
    )

    def identity(self) -> dict[str, Any]:
        """What decides the vectors; a folder counts by its content, wherever it lies, and a
        revision by the commit that it leads to."""
        left_out = {"revision", "model"} if Path(self.model).is_dir() else {"revision"}
        return {n: v for n, v in super().identity().items() if n not in left_out}


def build(config: Config) -> HuggingFaceEmbeddings:
    """The model as embeddings; it is read at the first text.

    Raises:
        UsageError: the model is known not to have vectors of that many dimensions.
        ModelError: no such folder, or the hub has no such model or cannot be reached.
    """
    from rag_app.embeddings._huggingface import HuggingFaceEmbeddings
    from rag_app.hub_models import find_model
    from rag_app.model_cards import check_dimension, find_card

    if importlib.util.find_spec("sentence_transformers") is None:
        raise ModuleNotFoundError("sentence_transformers", name="sentence_transformers")
    card = find_card(config.model)
    check_dimension(card, config.dimensions)
    return HuggingFaceEmbeddings(
        config, card, lambda: find_model(config.model, config.revision, "embeddings")
    )
