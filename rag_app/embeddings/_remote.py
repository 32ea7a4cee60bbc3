"""The class behind every embedding service: batches, pace, retries, and no text lost on the way."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from langchain_core.embeddings import Embeddings

from rag_app.errors import IncompleteError, ModelError, RagAppError, TruncationWarning
from rag_app.model_errors import is_bad_key, read_status
from rag_app.token_estimate import estimate_spans, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rag_app.embeddings._remote_options import RemoteEmbeddingOptions
    from rag_app.model_cards import Card
    from rag_app.remote import Caller
    from rag_app.types import Span

Purpose: TypeAlias = Literal["document", "query"]

REFUSED: Final = frozenset([400, 413, 422])
"""Statuses that are about what a request holds: fewer texts, or others, may be taken."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The reply to one request: a vector for each text, and tokens as the service counted them."""

    vectors: Sequence[Sequence[float]]
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was sent so far. `tokens` are the service's own count where it gives one.

    Attributes:
        cost: US dollars by the price in force; None where there is no price.
    """

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a service takes in one request."""

    texts: int
    tokens: int


@dataclass(frozen=True, slots=True)
class PerMinute:
    """Requests and tokens allowed per minute; None for any number."""

    requests: float | None
    tokens: float | None


class RemoteEmbeddings(Embeddings):
    """LangChain's `Embeddings` over one service, and an estimate of its tokens.

    A request that the service finds too large is cut in halves; one that it refuses is too, until
    the text that it refuses is alone. A broken connection or a busy server is tried again by
    `Caller`. No text that has a vector is sent a second time.

    Args:
        send: one request: texts, prefixes included, and their purpose, to the vendor's client.
        caller: paces and repeats requests.
        card: what is known of the model.
        options: the user's, which win over the card.
        limits: the service's, per request.
        dimension: numbers per vector that were asked for; None to take what comes.
        scaled: whether `send` scales what the service returns to length 1.
    """

    def __init__(
        self,
        send: Callable[[list[str], Purpose], Sent],
        caller: Caller,
        card: Card,
        options: RemoteEmbeddingOptions,
        limits: Limits,
        dimension: int | None = None,
        *,
        scaled: bool = False,
    ) -> None:
        self.card, self.dimension, self._scaled = card, dimension, scaled
        self._send, self._caller, self._options = send, caller, options
        self._prefixes: dict[Purpose, str] = {
            "query": _first(options.query_prefix, card.query_prefix),
            "document": _first(options.document_prefix, card.document_prefix),
        }
        self._price = card.price if options.price is None else options.price
        per_minute = int(options.tokens_per_minute or limits.tokens)
        self._limits = Limits(options.batch_size or limits.texts, min(limits.tokens, per_minute))
        self._lock = threading.Lock()
        self._truncated = 0
        self._usage = Usage(cost=None if self._price is None else 0.0)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the vectors beside the config: what is in force, whoever named it.

        And the server, where it is not the vendor's own: another may compute other vectors by a
        model of the same name. No service tells the revision of its model.
        """
        named = {
            "dimensions": self.dimension or self.card.dimension,
            "normalised": "to length 1" if self._scaled else "as served",
            **{f"{name}_prefix": words for name, words in self._prefixes.items()},
            "max_tokens": self.max_tokens,
        }
        server = self._caller.endpoint.server
        return {**named, "server": server} if server else named

    @property
    def max_tokens(self) -> int | None:
        """The window in tokens; None when it is not known."""
        return self._options.max_tokens or self.card.window

    @property
    def truncated(self) -> int:
        """How many texts so far were longer than the window, by the estimate of their tokens."""
        return self._truncated

    @property
    def usage(self) -> Usage:
        """Requests, texts, tokens and cost so far."""
        return self._usage

    @property
    def limits_per_minute(self) -> PerMinute:
        """What the config allows per minute."""
        return PerMinute(self._options.requests_per_minute, self._options.tokens_per_minute)

    def count_requests(self, texts: int, tokens: int) -> int:
        """About how many requests so many texts of so many tokens take."""
        return max(-(-texts // self._limits.texts), -(-tokens // self._limits.tokens))

    @property
    def price(self) -> float | None:
        """US dollars per million tokens; None where it is not known."""
        return self._price

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text, in order.

        Raises:
            IncompleteError: the service refuses some of the texts, or failed on the way.
            ModelError: it takes none, whatever they hold.
        """
        return self.embed_as_it_comes(texts, lambda _: None)

    def embed_as_it_comes(
        self, texts: list[str], received: Callable[[Mapping[int, Sequence[float]]], None]
    ) -> list[list[float]]:
        """As `embed_documents`; each request's vectors are handed over before the next is sent.

        Args:
            texts: to be embedded.
            received: called with vectors by the text's place. Whatever ends this process later,
                what it has kept need not be paid for again.
        """
        done: dict[int, list[float]] = {}
        refused: dict[int, str] = {}
        row: list[int] = []
        waiting = list(self._batches(texts))[::-1]
        while waiting:
            batch = self._cut(waiting)
            try:
                vectors = self._request([texts[place] for place in batch], "document")
            except RagAppError as error:
                self._stop(error, done, refused)
            except Exception as error:
                if not self._is_about_the_texts(error, done):
                    self._stop(self._caller.explain(error), done, refused)
                if len(batch) == 1:
                    refused[batch[0]] = self._caller.endpoint.quote_refusal(error)
                    row.append(batch[0])
                    self._doubt(row, done, refused)
                else:
                    waiting += self._halve(batch, error)
            else:
                done.update(zip(batch, vectors, strict=True))
                row.clear()
                received({place: done[place] for place in batch})
        self._warn([texts[place] for place in done])
        if refused:
            wrong = f"{len(refused)} of {len(texts)} texts were refused: {refused[min(refused)]}"
            raise self._incomplete(wrong, "Change or leave out these texts.", done, refused)
        return [done[place] for place in range(len(texts))]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question.

        Raises:
            ModelError: the service refused it or cannot be reached.
        """
        try:
            vector = self._request([text], "query")[0]
        except RagAppError:
            raise
        except Exception as error:
            raise self._caller.explain(error) from error
        self._warn([text])
        return vector

    def count_tokens(self, text: str) -> int:
        """About how many tokens `text` is, with the prefix of a document; nothing is downloaded."""
        return estimate_tokens(self._prefixes["document"] + text)

    def token_spans(self, text: str) -> Sequence[Span]:
        """Spans of about a token each."""
        return estimate_spans(text)

    def _request(self, texts: list[str], purpose: Purpose) -> list[list[float]]:
        prefix = self._prefixes[purpose]
        sent = [prefix + text for text in texts]
        announced = sum(map(estimate_tokens, sent))
        self._require_within_minute(announced)
        reply = self._caller.call(lambda: self._send(sent, purpose), announced)
        vectors = [list(vector) for vector in reply.vectors]
        self._check(vectors, len(texts))
        tokens = announced if reply.tokens is None else reply.tokens
        self._caller.pacer.correct(tokens - announced)
        with self._lock:
            was = self._usage
            cost = None if was.cost is None else was.cost + tokens * (self._price or 0) / 1e6
            self._usage = Usage(was.requests + 1, was.texts + len(texts), was.tokens + tokens, cost)
        return vectors

    def _require_within_minute(self, tokens: int) -> None:
        most = self._options.tokens_per_minute
        if most is not None and tokens > most:
            raise ModelError(
                "embeddings.tokens_per_minute",
                f"a text of about {tokens} tokens can never be sent within {most:g} a minute",
                "Raise it, or set splitter.chunk_size lower.",
            )

    def _check(self, vectors: list[list[float]], wanted: int) -> None:
        """What a server returns is not taken on trust."""
        where, address = "embeddings", self._caller.endpoint.address
        if len(vectors) != wanted:
            wrong = f"{address} returned {len(vectors)} vectors for {wanted} texts"
            raise ModelError(where, wrong, "Check that it really serves this protocol.")
        lengths = {len(vector) for vector in vectors}
        if self.dimension is not None and lengths != {self.dimension}:
            found = ", ".join(map(str, sorted(lengths)))
            wrong = f"{address} returned {found} dimensions where {self.dimension} were asked for"
            raise ModelError(where, wrong, "The model cannot shorten its vectors: leave it out.")

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        batch: list[int] = []
        tokens = 0
        for place, text in enumerate(texts):
            size = self.count_tokens(text)
            full = len(batch) >= self._limits.texts or tokens + size > self._limits.tokens
            if batch and full:
                yield batch
                batch, tokens = [], 0
            batch.append(place)
            tokens += size
        if batch:
            yield batch

    def _cut(self, waiting: list[list[int]]) -> list[int]:
        """The next batch, no larger than the service is known to take by now."""
        batch, most = waiting.pop(), self._limits.texts
        if len(batch) > most:
            waiting.append(batch[most:])
        return batch[:most]

    def _halve(self, batch: list[int], error: Exception) -> list[list[int]]:
        """Two batches, the later first, as the stack wants them; a limit learnt is kept."""
        middle = (len(batch) + 1) // 2
        if read_status(error) == 413:
            self._limits = replace(self._limits, texts=min(self._limits.texts, middle))
        return [batch[middle:], batch[:middle]]

    def _is_about_the_texts(self, error: Exception, done: dict[int, list[float]]) -> bool:
        """Whether other texts may pass: a wrong model or option refuses even the plainest."""
        status = read_status(error)
        if status not in REFUSED or is_bad_key(error):
            return False
        if status == 413 or done or self._usage.requests:
            return True
        try:
            self._request(["a"], "document")
        except Exception:
            return False  # the caller explains the first error, which says the same
        return True

    def _doubt(self, row: list[int], done: dict[int, list[float]], refused: dict[int, str]) -> None:
        """After two texts refused in a row: whether even the plainest is, and then give up.

        An account that is closed on the way is no fault of the texts: those of the row are not
        called refused. Once for each row.
        """
        if len(row) != 2:
            return
        try:
            self._request(["a"], "document")
        except Exception as error:
            for place in row:
                del refused[place]
            self._stop(self._caller.explain(error), done, refused)

    def _stop(
        self, error: RagAppError, done: dict[int, list[float]], refused: dict[int, str]
    ) -> None:
        """Give up, handing over what was paid for."""
        if not done and not refused:
            raise error
        made = IncompleteError(
            error.where, error.wrong, error.remedy, vectors=done, refused=refused, stopped=True
        )
        raise made from error

    def _incomplete(
        self, wrong: str, remedy: str, done: dict[int, list[float]], refused: dict[int, str]
    ) -> IncompleteError:
        return IncompleteError(
            "embeddings", wrong, remedy, vectors=done, refused=refused, stopped=False
        )

    def _warn(self, texts: Sequence[str]) -> None:
        window = self.max_tokens
        if window is None:
            return
        over = sum(self.count_tokens(text) > window for text in texts)
        if over:
            with self._lock:
                self._truncated += over
            words = f"{over} texts are longer than the model's window of {window} tokens"
            warnings.warn(words, TruncationWarning, stacklevel=3)


def _first(given: str | None, known: str) -> str:
    return known if given is None else given
