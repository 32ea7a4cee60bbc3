"""What went wrong with a model, in words a user can act on; whichever vendor's package it is.

Vendors' errors are told apart by what they share: an HTTP status, and the names of the connection
and timeout errors. No vendor's package is imported.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from rag_app.errors import ModelError, RagAppError
from rag_app.urls import show_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_core.language_models import BaseChatModel

_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|lsv2|hf|AIza|Bearer)[-_ ]?[\w*.-]{8,}", re.IGNORECASE)
_RETRY_INFO: Final = re.compile(r"'retryDelay': '(\d+(?:\.\d+)?)s'")
_TIMEOUTS: Final = {"APITimeoutError", "TimeoutError", "TimeoutException"}
_CONNECTIONS: Final = {"APIConnectionError", "TransportError", "ConnectError", "ConnectionError"}
_PASSING: Final = frozenset([408, 409, 425, 429, 500, 502, 503, 504, 529])
"""Statuses after which the same request may succeed."""
_KEY_VARIABLES: Final = {
    "openai-chat": "OPENAI_API_KEY",
    "anthropic-chat": "ANTHROPIC_API_KEY",
    "chat-google-generative-ai": "GOOGLE_API_KEY",
    "cohere-chat": "CO_API_KEY",
    "chat-ollama": "OLLAMA_API_KEY",
}
"""The variable a key is usually in, by what LangChain's class calls its kind."""
_BAD_KEY: Final = re.compile("API_KEY_INVALID|API key (?:not valid|expired)")
"""What Google says of a wrong key, with status 400."""
LONGEST_QUOTE: Final = 300
"""Characters of a server's words in a message."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is asked, as messages name it.

    Attributes:
        part: the config's section: "chat_model", "embeddings", "reranker".
        address: where requests go, or who answers, fit to be shown.
        model: the model's name there.
        variable: the environment variable a key is usually in.
        secrets: what no message may hold.
        server: the address without secrets, where it is not the vendor's own.
        start: the command that starts such a server on this machine.
        obtain: the command that brings a model to such a server.
    """

    part: str
    address: str
    model: str
    variable: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    start: str = ""
    obtain: str = ""
    server: str = ""

    def clean(self, words: str) -> str:
        """`words` without secrets and without a full stop."""
        for value in self.secrets:
            words = words.replace(value, "…")
        return _KEY.sub("…", words).rstrip(". ")

    def quote(self, error: Exception) -> str:
        """The server's own words without secrets, shortened."""
        # First cleaned, then cut: half of a secret is not known for one.
        return self.clean(read_message(error))[:LONGEST_QUOTE].rstrip(". ")

    def quote_refusal(self, error: Exception) -> str:
        """Why a text has no vector."""
        return f"the embedding model refused its text ({read_status(error)}): {self.quote(error)}"


@contextmanager
def chat_model_errors(model: BaseChatModel) -> Iterator[None]:
    """Whatever the model raises inside becomes a `ModelError` that names the option to change."""
    try:
        yield
    except RagAppError:
        raise
    except Exception as error:
        raise explain(error, describe_chat_model(model)) from error


def describe_chat_model(model: BaseChatModel) -> Endpoint:
    """The endpoint of any vendor's chat model, from what its attributes tell."""
    values = (v.get_secret_value() for v in vars(model).values() if isinstance(v, SecretStr))
    name = getattr(model, "model_name", None) or getattr(model, "model", None) or "unnamed"
    secrets = tuple(value for value in values if value)
    variable = _KEY_VARIABLES.get(model._llm_type, "")
    return Endpoint("chat_model", _address(model), str(name), variable, secrets)


def explain(error: Exception, endpoint: Endpoint) -> ModelError:
    """The `ModelError` for an error of the vendor's package; holds neither keys nor a traceback."""
    part, address = endpoint.part, endpoint.address
    error = _unwrap(error)
    status = read_status(error)
    if status is not None:
        return _explain_status(status, error, endpoint)
    names = _names(error)
    if names & _TIMEOUTS:
        wrong = f"{address} did not answer in time"
        remedy = "Raise it, or see whether the server is busy."
        return ModelError(f"{part}.timeout", wrong, remedy)
    if names & _CONNECTIONS:
        remedy = "See whether the server runs and the address is right, then try again."
        if endpoint.start:
            remedy = f"Start the server with: {endpoint.start}. Or correct the address."
        return ModelError(f"{part}.base_url", f"{address} cannot be reached", remedy)
    wrong = f"{type(error).__name__}: {endpoint.clean(str(error))}"
    return ModelError(part, wrong, "See the model's own documentation for this error.")


def read_status(error: Exception) -> int | None:
    """The HTTP status of a vendor's error; None when it has none."""
    response = getattr(error, "response", None)
    for holder, name in ((error, "status_code"), (error, "code"), (response, "status_code")):
        status = getattr(holder, name, None)
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def is_bad_key(error: Exception) -> bool:
    """Whether the service refused the key, or what the key may do, and not the request."""
    status = read_status(error)
    if status == 400:
        return _BAD_KEY.search(f"{read_message(error)} {error}") is not None
    return status in (401, 403)


def can_pass(error: Exception) -> bool:
    """Whether the same request may succeed later: busy, failing or unreachable servers.

    A used-up quota is a 429 too, but waiting does not fill it.
    """
    status = read_status(error)
    if status is not None:
        return status in _PASSING and "insufficient_quota" not in read_message(error)
    return bool(_names(error) & (_TIMEOUTS | _CONNECTIONS))


def first_line(error: Exception) -> str:
    """The first line of an error's words, without a full stop; its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def read_wait(error: Exception) -> float | None:
    """Seconds the server asks to wait; None when it does not.

    By its `Retry-After` (RFC 9110), or by the `RetryInfo` in a Google reply
    (https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto).
    """
    headers = _headers(error)
    if found := _RETRY_INFO.search(str(getattr(error, "details", ""))):
        return float(found[1])
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    if given is None:
        return None
    if (seconds := _number(given)) is not None:
        return seconds
    try:
        when = parsedate_to_datetime(given)
    except ValueError:
        return None
    if when.tzinfo is None:  # the date says no zone, or "-0000"
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def read_message(error: Exception) -> str:
    """The server's own words, as they came: secrets are still in them."""
    body = getattr(error, "body", None) or getattr(error, "details", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        said = inner.get("message") if isinstance(inner, dict) else inner
        code = inner.get("code") if isinstance(inner, dict) else None
        if said:
            return f"{said}" + (f" ({code})" if isinstance(code, str) else "")
    said = getattr(error, "error", None)
    return said if isinstance(said, str) else str(error)


def _explain_status(status: int, error: Exception, endpoint: Endpoint) -> ModelError:
    part, address = endpoint.part, endpoint.address
    said = endpoint.quote(error)
    if is_bad_key(error):
        wrong = f"{address} refused the key ({status})"
        variable = f" ({endpoint.variable})" if endpoint.variable else ""
        remedy = f"Set the right key in the variable that api_key names{variable}."
        return ModelError(f"{part}.api_key", wrong, remedy)
    match status:
        case 404:
            wrong = f"{address} has no model {endpoint.model!r} (404)"
            remedy = "Choose a model the server offers, and see whether base_url ends rightly."
            if endpoint.obtain:
                remedy = f"Run: {endpoint.obtain}"
            return ModelError(f"{part}.model", wrong, remedy)
        case 429:
            wrong = f"{address} takes no more requests now (429): {said}"
            return ModelError(part, wrong, _advise_wait(error, part))
        case 408 | 504:
            wrong = f"{address} did not answer in time ({status})"
            return ModelError(f"{part}.timeout", wrong, "Try again later, or raise it.")
    if status >= 500:
        wrong = f"{address} failed ({status}): {said}"
        return ModelError(part, wrong, f"Try again later, or raise {part}.max_retries.")
    wrong = f"{address} refused the request for {endpoint.model!r} ({status}): {said}"
    return ModelError(part, wrong, "Change the option the server names.")


def _advise_wait(error: Exception, part: str) -> str:
    seconds = read_wait(error)
    when = "later" if seconds is None else f"in {seconds:g} s"
    return f"Try again {when}, see the account's limits, or raise {part}.max_retries."


def _headers(error: Exception) -> Mapping[str, str]:
    """The response's headers by lower-case name."""
    for holder in (error, getattr(error, "response", None)):
        if headers := getattr(holder, "headers", None):
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {}


def _number(given: str | None) -> float | None:
    return float(given) if given and re.fullmatch(r"\d+(\.\d+)?", given.strip()) else None


def _unwrap(error: Exception) -> Exception:
    """The vendor's own error where another, which tells less, was raised from it."""
    cause = error.__cause__
    if read_status(error) is None and isinstance(cause, Exception):
        told = read_status(cause) is not None or _names(cause) & (_TIMEOUTS | _CONNECTIONS)
        return cause if told else error
    return error


def _names(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _address(model: Any) -> str:
    for attribute in ("openai_api_base", "anthropic_api_url", "base_url", "endpoint"):
        if value := getattr(model, attribute, None):
            return show_address(str(value))
    return f"the service of {model._llm_type}"


def show_address(url: str) -> str:
    """A server's address as messages show it, quoted and without what may be secret."""
    return repr(_KEY.sub("…", show_url(url)))
