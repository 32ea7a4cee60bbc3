"""The class behind `rerankers/cross_encoder.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence  # noqa: TC003  (pydantic reads signatures)
from typing import TYPE_CHECKING, Any

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import SkipValidation  # noqa: TC002  (pydantic reads it)

from rag_app.errors import ModelError
from rag_app.hub_models import find_model
from rag_app.model_errors import first_line
from rag_app.retrieval import reorder
from rag_app.whole_weights import require_all_weights

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

    from rag_app.rerankers.cross_encoder import Config


class CrossEncoderModel:
    """A cross-encoder that is loaded once, when first asked."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._loaded: Any = None

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text fits the query, by the model's own scale; higher is better.

        Raises:
            ModelError: the model cannot be loaded or run, or gives no single finite score.
        """
        model = self._load()
        try:
            scores = model.predict(
                [(query, text) for text in texts],
                batch_size=self._config.batch_size,
                show_progress_bar=False,
            )
        except RuntimeError as error:
            raise self._fail(f"failed: {first_line(error)}", "Try a smaller batch_size.") from error
        if scores.ndim != 1 or not all(map(math.isfinite, scores)):
            wrong = "does not give one finite score for a pair"
            raise self._fail(wrong, "Choose a model trained for reranking.")
        return [float(score) for score in scores]

    def _load(self) -> Any:
        with self._lock:
            if self._loaded is None:
                folder = str(
                    find_model(self._config.model, self._config.revision, "reranker").folder
                )
                try:
                    self._refuse_others(folder)
                    self._loaded = self._open(folder)
                except (OSError, ValueError, RuntimeError) as error:
                    wrong = f"cannot be loaded: {first_line(error)}"
                    raise self._fail(wrong, "See whether the folder is whole.") from error
            return self._loaded

    def _open(self, folder: str) -> Any:
        from sentence_transformers import CrossEncoder

        with require_all_weights(self._fail):
            return CrossEncoder(
                folder,
                max_length=self._config.max_length,
                device=self._config.device,
                model_kwargs={"dtype": self._config.dtype},
                trust_remote_code=False,
                local_files_only=True,
            )

    def _refuse_others(self, folder: str) -> None:
        """Any other model would be given a scoring layer of random numbers, with a log line."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kinds = config.architectures or []
        if kinds and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
            wrong = f"is no cross-encoder but a {kinds[0]}, which gives no score for a pair"
            raise self._fail(wrong, "Choose a model trained for reranking.")

    def _fail(self, wrong: str, remedy: str) -> ModelError:
        return ModelError("reranker.cross_encoder", f"{self._config.model!r} {wrong}", remedy)


class CrossEncoderReranker(BaseDocumentCompressor):
    """Orders documents by a cross-encoder's score and keeps the first `k`."""

    model: SkipValidation[CrossEncoderModel]
    k: int

    model_config = {"arbitrary_types_allowed": True}

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002
    ) -> list[Document]:
        """The best `k` documents, best first; `_hit` has the score and the rank `cross_encoder`."""
        if not documents:
            return []
        scores = self.model.score(query, [document.page_content for document in documents])
        return reorder(documents, scores, "cross_encoder", self.k)
