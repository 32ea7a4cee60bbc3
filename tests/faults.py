"""What goes wrong with real services, on purpose: in front of any protocol server of the tests."""

from __future__ import annotations

import time
from collections import Counter
from typing import ClassVar

from tests.embedding_servers import CohereEmbeddingServer
from tests.http_server import Answer, Hangup, HttpServer, Refusal, Request
from tests.openai_server import OpenAIServer


class Faulty(HttpServer):
    """A protocol whose requests fail by turns, before any work is done.

    Busy with a `Retry-After`, failing, resetting connections, slow, silent until the client gives
    up; too large above `most` texts; and it refuses every request with a text that holds POISON.
    `embedded` counts the texts that got a vector.
    """

    field: ClassVar[str]
    most: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.embedded: Counter[str] = Counter()
        self.busy_at: list[float] = []

    def answer(self, method: str, request: Request) -> Answer:
        texts = request.body.get(self.field, [])
        answer = self._fail_by_turns(len(self.requests), request) or self._refuse(texts)
        if answer is None:
            answer = super().answer(method, request)
            if isinstance(answer, dict):
                self.embedded.update(texts)
        return answer

    def count_within(self, seconds: float) -> int:
        """The most requests that arrived in any such time."""
        times = [request.at for request in self.requests]
        return max(sum(start <= t < start + seconds for t in times) for start in times)

    def _fail_by_turns(self, number: int, request: Request) -> Answer | None:
        if number == 12:
            time.sleep(3.5)  # longer than the client waits
            return Hangup()
        match number % 9:
            case 2:
                self.busy_at.append(request.at)
                return Refusal(429, "Rate limit reached", {"Retry-After": "1"})
            case 4:
                return Refusal(503, "The server is overloaded")
            case 6:
                return Hangup()
            case 8:
                time.sleep(0.3)
        return None

    def _refuse(self, texts: list[str]) -> Answer | None:
        if len(texts) > self.most:
            return Refusal(413, "Request entity too large")
        if any("POISON" in text for text in texts):
            return Refusal(400, "The text cannot be processed")
        return None


class FaultyOpenAI(Faulty, OpenAIServer):
    """OpenAI's embeddings, failing."""

    field, most = "input", 64


class FaultyCohere(Faulty, CohereEmbeddingServer):
    """Cohere's embeddings, failing."""

    field, most = "texts", 48
