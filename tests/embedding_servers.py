"""Real HTTP servers that embed texts as Google, Cohere and Ollama do, for the vendors' own clients.

Protocols: https://ai.google.dev/api/embeddings, https://docs.cohere.com/reference/embed,
https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings. Each enforces the limits
documented there: texts in a request, tokens in a text (a word is one), lengths of vectors that the
model has.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np

from tests.cohere_server import CohereServer
from tests.google_server import GoogleServer
from tests.http_server import Answer, HttpServer, Refusal, Request, count_words, embed_words
from tests.ollama_server import OllamaServer

FULL = {"gemini-embedding-001": 3072, "embed-v4.0": 1536, "embed-english-v3.0": 1024}
FULL |= {"nomic-embed-text": 768, "bge-m3": 1024, "unheard-of": 32}
WINDOW = 50
"""Words in a text; the real windows are longer, and a test need not be."""


def draw(text: str, purpose: str = "", dimension: int = 32) -> np.ndarray[Any, Any]:
    """A vector of length 1, float64 (dimension,), the same for the same text and purpose.

    Texts are near that share words, and a little apart when they are for another purpose.
    """
    seed = hashlib.sha256(f"{purpose}\0{text}".encode()).digest()
    noise = np.random.default_rng(list(seed)).standard_normal(dimension)
    vector = np.array(embed_words(text, dimension)) + 0.1 * noise / np.linalg.norm(noise)
    return vector / np.linalg.norm(vector)


class EmbeddingRoutes(HttpServer):
    """What the three have in common: refusals to come, and what a test wants to be wrong."""

    refusing: list[Refusal]
    cuts: bool = True
    """Whether a shorter vector that is asked for is given."""

    def next_refusal(self) -> Refusal | None:
        if not hasattr(self, "refusing"):
            self.refusing = []
        return self.refusing.pop(0) if self.refusing else None


class GoogleEmbeddingServer(EmbeddingRoutes, GoogleServer):
    """At most 100 texts; shortened vectors are not of length 1, as the service's are not."""

    def embed(self, request: Request) -> Answer:
        if refusal := self.next_refusal():
            return refusal
        model = request.path.rpartition("/models/")[2].partition(":")[0]
        if model not in FULL:
            return Refusal(404, f"models/{model} is not found for API version v1beta")
        asked = request.body["requests"]
        if len(asked) > 100:
            return Refusal(400, "at most 100 requests can be in one batch")
        if any(each["model"] != f"models/{model}" for each in asked):
            return Refusal(400, "model must be that of the path")
        return {"embeddings": [self._embed(each, FULL[model]) for each in asked]}

    def _embed(self, asked: dict[str, Any], full: int) -> dict[str, Any]:
        text = "".join(part["text"] for part in asked["content"]["parts"])
        length = asked.get("outputDimensionality", full) if self.cuts else full
        return {"values": draw(text, asked.get("taskType", ""), full)[:length].tolist()}

    routes: ClassVar = {
        **GoogleServer.routes,
        r"POST /v1beta/models/[\w.-]+:batchEmbedContents": embed,
    }


class CohereEmbeddingServer(EmbeddingRoutes, CohereServer):
    """At most 96 texts, an input type for each request, and other lengths for embed-v4.0 alone."""

    def embed(self, request: Request) -> Answer:
        body = request.body
        refusal = self.next_refusal() or self._judge(body)
        if refusal:
            return refusal
        full = FULL[body["model"]]
        length = body.get("output_dimension", full) if self.cuts else full
        vectors = [draw(text, body["input_type"], full)[:length].tolist() for text in body["texts"]]
        billed = {"input_tokens": count_words(body["texts"])}
        return {
            "id": "embed-1",
            "texts": body["texts"],
            "embeddings": {"float": vectors},
            "response_type": "embeddings_by_type",
            "meta": {"api_version": {"version": "2"}, "billed_units": billed},
        }

    def _judge(self, body: dict[str, Any]) -> Refusal | None:
        if body["model"] not in FULL:
            return Refusal(404, f"model '{body['model']}' not found")
        if not 1 <= len(body["texts"]) <= 96:
            return Refusal(400, "invalid request: texts must hold 1 to 96 texts")
        if body.get("input_type") not in {"search_document", "search_query"}:
            return Refusal(400, "invalid request: valid input_type must be provided")
        if body["embedding_types"] != ["float"]:
            return Refusal(400, "invalid request: embedding_types")
        given = body.get("output_dimension")
        if given and (body["model"] != "embed-v4.0" or given not in {256, 512, 1024, 1536}):
            return Refusal(400, f"invalid request: output_dimension {given} is not supported")
        long = any(count_words([text]) > WINDOW for text in body["texts"])
        if long and body.get("truncate", "END") == "NONE":
            return Refusal(400, f"invalid request: a text is over {WINDOW} tokens")
        return None

    routes: ClassVar = {**CohereServer.routes, "POST /v2/embed": embed}


class OllamaEmbeddingServer(EmbeddingRoutes, OllamaServer):
    """A text over the window is cut, unless `truncate` is false; then the request is refused."""

    def embed(self, request: Request) -> Answer:
        if refusal := self.next_refusal():
            return refusal
        body = request.body
        model = body["model"].removesuffix(":latest")
        if model not in FULL:
            return Refusal(404, f'model "{model}" not found, try pulling it first')
        window = body.get("options", {}).get("num_ctx", WINDOW)
        if body.get("truncate") is False and any(
            count_words([text]) > window for text in body["input"]
        ):
            return Refusal(400, "the input length exceeds the context length")
        full = FULL[model]
        length = body.get("dimensions", full) if self.cuts else full
        vectors = [draw(text, "", full)[:length] for text in body["input"]]
        return {
            "model": body["model"],
            "embeddings": [(vector / np.linalg.norm(vector)).tolist() for vector in vectors],
            "total_duration": 1,
            "load_duration": 1,
            "prompt_eval_count": count_words(body["input"]),
        }

    routes: ClassVar = {**OllamaServer.routes, "POST /api/embed": embed}
