"""The classes behind `rerankers/cohere.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

import math
from collections.abc import Sequence  # noqa: TC003  (pydantic reads signatures)
from typing import TYPE_CHECKING, Any, Final

import cohere
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import SkipValidation  # noqa: TC002  (pydantic reads it)

from rag_app._resending import ResendingClient
from rag_app.errors import ModelError
from rag_app.model_errors import Endpoint, explain, show_address
from rag_app.remote import Pacer
from rag_app.retrieval import reorder

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

    from rag_app.options import Secret
    from rag_app.rerankers.cohere import Config

MOST_DOCUMENTS: Final = 1000
"""In one request, as the service advises. https://docs.cohere.com/v2/reference/rerank"""


class CohereModel:
    """A Rerank model at one address."""

    def __init__(self, config: Config, address: str, key: Secret) -> None:
        secret = key.get_secret_value()
        self._config = config
        self._endpoint = Endpoint(
            "reranker", show_address(address), config.model, "CO_API_KEY", (secret,)
        )
        self._pacer = Pacer(config.requests_per_minute, None)
        self._client = cohere.ClientV2(
            secret,
            base_url=address,
            client_name="rag-app",
            timeout=config.timeout,
            httpx_client=ResendingClient(config.max_retries),
        )

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text fits the query, from 0 to 1; higher is better.

        Raises:
            ModelError: the service refuses, cannot be reached, or does not score each text once.
        """
        batches = range(0, len(texts), MOST_DOCUMENTS)
        return [s for at in batches for s in self._ask(query, texts[at : at + MOST_DOCUMENTS])]

    def _ask(self, query: str, texts: Sequence[str]) -> list[float]:
        self._pacer.wait(0)
        longest = self._config.max_tokens_per_doc
        options: dict[str, Any] = {} if longest is None else {"max_tokens_per_doc": longest}
        try:
            reply = self._client.rerank(
                model=self._config.model,
                query=query,
                documents=texts,
                request_options={"max_retries": 0},  # the HTTP client sends again
                **options,
            )
        except Exception as error:
            raise explain(error, self._endpoint) from error
        scores = {result.index: result.relevance_score for result in reply.results}
        whole = len(reply.results) == len(texts) and scores.keys() == set(range(len(texts)))
        if not whole or not all(map(math.isfinite, scores.values())):
            wrong = f"{self._endpoint.address} did not score each of {len(texts)} chunks once"
            raise ModelError("reranker", wrong, "Choose another model, or ask who runs the server.")
        return [scores[place] for place in range(len(texts))]


class CohereReranker(BaseDocumentCompressor):
    """Orders documents by the service's score and keeps the first `k`."""

    model: SkipValidation[CohereModel]
    k: int

    model_config = {"arbitrary_types_allowed": True}

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002
    ) -> list[Document]:
        """The best `k` documents, best first; `_hit` has the score and the rank `cohere`."""
        if not documents:
            return []
        scores = self.model.score(query, [document.page_content for document in documents])
        return reorder(documents, scores, "cohere", self.k)
