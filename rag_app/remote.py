"""Requests to a remote service: paced to its limits, sent again only when that can help.

The waiting rules of one service live here, so that every vendor is treated alike whatever its own
client would do (the clients' own retries are switched off).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rag_app.errors import ModelError, RagAppError
from rag_app.model_errors import Endpoint, can_pass, explain, read_wait
from rag_app.options import OPERATIONAL, Field, Options

if TYPE_CHECKING:
    from collections.abc import Callable

Reply = TypeVar("Reply")

_LOG: Final = logging.getLogger(__name__)

WINDOW: Final = 61.0
"""Seconds over which limits per minute are kept: a minute, and what requests may bunch up by."""

LONGEST_WAIT: Final = 600.0
"""Seconds; a server that asks for a longer wait is not waited for."""


class RemoteOptions(Options):
    """How a remote service is called; part of the `Config` of every backend that calls one."""

    timeout: float = Field(
        60,
        gt=0,
        le=3600,
        description="Seconds to wait for one reply.",
        json_schema_extra=OPERATIONAL,
    )
    max_retries: int = Field(
        6,
        ge=0,
        le=100,
        description="How often a request that may pass later (429, 5xx, a broken connection) is "
        "sent again. Waits grow from half a second to 30 s, and obey the server's Retry-After.",
        json_schema_extra=OPERATIONAL,
    )
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="Never send more requests a minute; retries count. No limit when left out.",
        json_schema_extra=OPERATIONAL,
    )
    tokens_per_minute: float | None = Field(
        None,
        gt=0,
        description="Never send more tokens a minute. No limit when left out.",
        json_schema_extra=OPERATIONAL,
    )


class Pacer:
    """Says when the next request may start, for all threads that share it.

    In no `WINDOW` seconds do more requests or tokens start than a minute allows, and requests are
    spread evenly over the minute, for services count in shorter windows too.

    Args:
        requests: the most per minute; None for no limit.
        tokens: the most per minute; None for no limit. A single request of more is the caller's to
            prevent; it waits until nothing else counts.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        requests: float | None,
        tokens: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 0.0 if requests is None else WINDOW / requests
        self._tokens = tokens
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._sent: deque[tuple[float, float]] = deque()
        self._next = 0.0

    def wait(self, tokens: float) -> None:
        """Return when a request of `tokens` may be sent."""
        with self._lock:
            now = self._clock()
            start = self._fit(max(now, self._next), tokens)
            self._next = start + self._gap
            if self._tokens is not None:
                self._sent.append((start, tokens))
        if start > now:
            self._sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Let nobody send for so long: the server said so."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def correct(self, tokens: float) -> None:
        """The service counted that many more tokens than were announced."""
        with self._lock:
            if self._tokens is not None and tokens > 0:
                self._sent.append((self._clock(), tokens))

    def _fit(self, start: float, tokens: float) -> float:
        """The first moment from `start` on at which `tokens` more do not pass the limit."""
        if self._tokens is None:
            return start
        while self._sent and self._sent[0][0] <= self._clock() - WINDOW:
            self._sent.popleft()
        entries = sorted(self._sent)
        within = sum(n for at, n in entries if at > start - WINDOW)
        for at, amount in entries:
            if within + tokens <= self._tokens:
                break
            if at > start - WINDOW:
                start, within = at + WINDOW, within - amount
        return start


class Caller:
    """Sends requests to one endpoint by the options' rules. Safe to share between threads."""

    def __init__(self, endpoint: Endpoint, options: RemoteOptions) -> None:
        self.endpoint = endpoint
        self.pacer = Pacer(options.requests_per_minute, options.tokens_per_minute)
        self._attempts = options.max_retries + 1

    def call(self, send: Callable[[], Reply], tokens: float = 0) -> Reply:
        """What `send` returns, sent again while it fails in a way that can pass.

        Args:
            send: one request by the vendor's client, with its own retries off.
            tokens: what the request costs of `tokens_per_minute`.

        Raises:
            Exception: the vendor's error that no retry mends, as `explain` takes it.
        """
        import tenacity

        def attempt() -> Reply:
            self.pacer.wait(tokens)
            return send()

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=self._choose_wait,
            retry=tenacity.retry_if_exception(_worth_waiting),
            before_sleep=self._tell,
            reraise=True,
        )
        return retrying(attempt)

    def explain(self, error: Exception) -> RagAppError:
        """The vendor's error in our words."""
        if isinstance(error, RagAppError):
            return error
        wait = read_wait(error)
        if wait is not None and wait > LONGEST_WAIT:
            wrong = f"{self.endpoint.address} asks to wait {wait:.0f} s before the next request"
            return ModelError(self.endpoint.part, wrong, "Run it again then.")
        return explain(error, self.endpoint)

    def _tell(self, state: Any) -> None:
        """Nobody is left to wonder why nothing happens."""
        wrong = self.explain(state.outcome.exception()).wrong
        tries = f"{state.attempt_number} of {self._attempts - 1}"
        _LOG.warning("%s; trying again in %.1f s (%s)", wrong, state.next_action.sleep, tries)

    def _choose_wait(self, state: Any) -> float:
        """What the server asks for, else growing with chance, so that clients do not march in step.

        Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        import tenacity

        asked = read_wait(state.outcome.exception())
        if asked is not None:
            self.pacer.hold(asked)
            return asked
        backoff = tenacity.wait_exponential_jitter(initial=0.5, max=30, jitter=1)
        return float(backoff(state))


def _worth_waiting(error: BaseException) -> bool:
    return (
        isinstance(error, Exception)
        and can_pass(error)
        and (read_wait(error) or 0) <= (LONGEST_WAIT)
    )
