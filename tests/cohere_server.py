"""A real HTTP server that speaks Cohere's API, version 2, for the vendor's own client to talk to.

Protocol: https://docs.cohere.com/v2/reference/chat and https://docs.cohere.com/v2/reference/rerank
(JSON and server-sent events); errors: https://docs.cohere.com/v2/reference/errors. A reranking of
more than 1,000 documents is refused, and so is a `top_n` of none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from tests.http_server import (
    Answer,
    HttpServer,
    Refusal,
    Request,
    Script,
    Stream,
    count_words,
    events,
)

Score = Callable[[str, str], float]

MOST_DOCUMENTS = 1000


class CohereServer(HttpServer):
    """See `HttpServer`; its `url` is the one that `base_url` takes.

    `score` says how well a document fits a query, from 0 to 1.
    """

    def __init__(
        self,
        reply: Script | str = "",
        *,
        key: str | None = None,
        score: Score = lambda query, text: 0.0,
    ) -> None:
        super().__init__(reply, key=key)
        self.score = score
        self.refusals: list[Refusal] = []
        """What the next rerankings are answered with."""

    def write_error(self, refusal: Refusal) -> dict[str, Any]:
        return {"id": "error-1", "message": refusal.message}

    def chat(self, request: Request) -> Answer:
        if not 0 <= request.body.get("temperature", 0) <= 1:
            return Refusal(400, "invalid request: temperature must be between 0 and 1")
        reply = self.reply(request)
        if isinstance(reply, Refusal):
            return reply
        tokens = [reply] if isinstance(reply, str) else reply
        if request.body.get("stream"):
            return Stream("text/event-stream", events(_events(request, tokens), named=True))
        return _message(request, "".join(tokens))

    def rerank(self, request: Request) -> Answer:
        if self.refusals:
            return self.refusals.pop(0)
        query, documents = request.body["query"], request.body["documents"]
        if not query or not documents:
            return Refusal(400, "invalid request: query and documents must not be empty")
        if len(documents) > MOST_DOCUMENTS:
            return Refusal(400, f"invalid request: more than {MOST_DOCUMENTS} documents")
        if request.body.get("top_n", 1) < 1:
            return Refusal(400, "invalid request: top_n must be at least 1")
        scored = [(self.score(query, text), place) for place, text in enumerate(documents)]
        best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[: request.body.get("top_n")]
        return {
            "id": "rerank-1",
            "results": [{"index": place, "relevance_score": score} for score, place in best],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        }

    routes: ClassVar = {"POST /v2/chat": chat, "POST /v2/rerank": rerank}


def _message(request: Request, text: str) -> dict[str, Any]:
    return {
        "id": "chat-1",
        "finish_reason": "MAX_TOKENS" if request.cut else "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
        "usage": _usage(request, text),
    }


def _events(request: Request, tokens: Iterable[str]) -> Iterator[dict[str, Any]]:
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
    yield {"type": "message-start", "id": "chat-1", "delta": {"message": start}}
    yield {"type": "content-start", "index": 0, **_delta({"type": "text", "text": ""})}
    written = ""
    for token in tokens:
        written += token
        yield {"type": "content-delta", "index": 0, **_delta({"text": token})}
    yield {"type": "content-end", "index": 0}
    ended = {
        "finish_reason": "MAX_TOKENS" if request.cut else "COMPLETE",
        "usage": _usage(request, written),
    }
    yield {"type": "message-end", "delta": ended}


def _delta(content: dict[str, str]) -> dict[str, Any]:
    return {"delta": {"message": {"content": content}}}


def read_prompt(request: Request) -> list[tuple[str, str]]:
    """Role and text of what the model is shown."""
    return [(m["role"], _text(m["content"])) for m in request.body["messages"]]


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(b["text"] for b in content)


def _usage(request: Request, text: str) -> dict[str, dict[str, int]]:
    read = count_words(said for _, said in read_prompt(request))
    counts = {"input_tokens": read, "output_tokens": count_words([text])}
    return {"billed_units": counts, "tokens": counts}
