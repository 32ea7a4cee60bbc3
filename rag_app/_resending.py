"""HTTP clients that send a request again when that can help, for vendors' clients that do not.

Some vendors' clients never try again, or not when streaming, or ignore how long the server asks to
wait. They take an HTTP client to use instead of their own: one of these. It follows no redirects,
for the config alone says where requests go; the system's proxy (`HTTPS_PROXY`) stays in force.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import httpx
import tenacity

from rag_app._staying import close_when_collected
from rag_app.model_errors import can_pass, read_wait
from rag_app.remote import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

_RETRY_INFO: Final = re.compile(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')
_BACKOFF: Final = tenacity.wait_exponential_jitter(initial=0.5, max=30, jitter=1)


class ResendingClient(httpx.Client):
    """An `httpx.Client` that sends a request again while it fails in a way that can pass.

    Args:
        max_retries: how often at most.
        options: as `httpx.Client` takes them.
    """

    def __init__(self, max_retries: int, **options: Any) -> None:
        super().__init__(**options)
        self._rules = _rules(max_retries)
        close_when_collected(self)  # the vendors' clients that hold this one never close it

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As `httpx.Client.send`; the reply to the last attempt, whatever it is."""

        def attempt() -> httpx.Response:
            response = super(ResendingClient, self).send(request, **options)
            if response.is_error:
                response.read()
            return _checked(response)

        try:
            response: httpx.Response = tenacity.Retrying(**self._rules)(attempt)
        except httpx.HTTPStatusError as error:
            return error.response
        return response


class AsyncResendingClient(httpx.AsyncClient):
    """The asynchronous `ResendingClient`.

    It keeps no connection open: one would outlive its event loop, and fail in the next.
    """

    def __init__(self, max_retries: int, **options: Any) -> None:
        super().__init__(limits=httpx.Limits(max_keepalive_connections=0), **options)
        self._rules = _rules(max_retries)

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As `httpx.AsyncClient.send`; the reply to the last attempt, whatever it is."""

        async def attempt() -> httpx.Response:
            response = await super(AsyncResendingClient, self).send(request, **options)
            if response.is_error:
                await response.aread()
            return _checked(response)

        try:
            response: httpx.Response = await tenacity.AsyncRetrying(**self._rules)(attempt)
        except httpx.HTTPStatusError as error:
            return error.response
        return response


def _rules(max_retries: int) -> dict[str, Any]:
    stop: Callable[..., bool] = tenacity.stop_after_attempt(max_retries + 1)
    retry = tenacity.retry_if_exception(_worth_waiting)
    return {"stop": stop, "retry": retry, "wait": _choose_wait, "reraise": True}


def _checked(response: httpx.Response) -> httpx.Response:
    """The response; an error as an exception, which is what rules of retrying look at."""
    if response.is_error:
        raise httpx.HTTPStatusError("", request=response.request, response=response)
    return response


def _worth_waiting(error: BaseException) -> bool:
    return isinstance(error, Exception) and can_pass(error) and (_asked(error) or 0) <= LONGEST_WAIT


def _choose_wait(state: tenacity.RetryCallState) -> float:
    """What the server asks for, else growing with chance, so that clients do not march in step."""
    assert state.outcome is not None
    error = state.outcome.exception()
    asked = _asked(error) if isinstance(error, Exception) else None
    return _BACKOFF(state) if asked is None else asked


def _asked(error: Exception) -> float | None:
    """Seconds to wait by the reply's `Retry-After`, or by the `RetryInfo` in a Google reply's body.

    https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
    """
    asked = read_wait(error)
    if asked is None and isinstance(error, httpx.HTTPStatusError):
        found = _RETRY_INFO.search(error.response.text)
        asked = float(found[1]) if found else None
    return asked
