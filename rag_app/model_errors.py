"""What went wrong with a chat model, in words a user can act on; whichever vendor's package it is.

Vendors' errors are told apart by what they share: an HTTP `status_code`, and the names of the
connection and timeout errors. No vendor's package is imported.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from rag_app.errors import ModelError, RagAppError
from rag_app.urls import show_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel

_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|lsv2|hf|AIza|Bearer)[-_ ]?[\w*.-]{8,}", re.IGNORECASE)
_TIMEOUTS: Final = {"APITimeoutError", "TimeoutError", "ReadTimeout", "ConnectTimeout"}
_CONNECTIONS: Final = {"APIConnectionError", "ConnectError", "ConnectionError"}


@contextmanager
def chat_model_errors(model: BaseChatModel) -> Iterator[None]:
    """Whatever the model raises inside becomes a `ModelError` that names the option to change."""
    try:
        yield
    except RagAppError:
        raise
    except Exception as error:
        raise explain(error, model) from error


def explain(error: Exception, model: BaseChatModel) -> ModelError:
    """The `ModelError` for an error of the vendor's package; holds neither keys nor a traceback."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _explain_status(status, error, model)
    names = {kind.__name__ for kind in type(error).__mro__}
    address = _address(model)
    if names & _TIMEOUTS:
        wrong = f"{address} did not answer in time"
        return ModelError(
            "chat_model.timeout", wrong, "Raise it, or see whether the server is busy."
        )
    if names & _CONNECTIONS:
        remedy = "See whether the server runs and the address is right, then try again."
        return ModelError("chat_model.base_url", f"{address} cannot be reached", remedy)
    wrong = f"{type(error).__name__}: {_without_secrets(str(error), model)}"
    return ModelError("chat_model", wrong, "See the model's own documentation for this error.")


def _explain_status(status: int, error: Exception, model: BaseChatModel) -> ModelError:
    address, name = _address(model), _name(model)
    said = _without_secrets(_message(error), model)
    match status:
        case 401 | 403:
            wrong = f"{address} refused the key ({status})"
            remedy = "Set the right key in the variable that api_key names (OPENAI_API_KEY)."
            return ModelError("chat_model.api_key", wrong, remedy)
        case 404:
            wrong = f"{address} has no model {name!r} (404)"
            remedy = "Choose a model the server offers, and see whether base_url ends rightly."
            return ModelError("chat_model.model", wrong, remedy)
        case 429:
            wrong = f"{address} takes no more requests now (429): {said}"
            return ModelError("chat_model", wrong, _wait(error))
        case 408 | 504:
            wrong = f"{address} did not answer in time ({status})"
            return ModelError("chat_model.timeout", wrong, "Try again later, or raise it.")
    if status >= 500:
        wrong = f"{address} failed ({status}): {said}"
        return ModelError("chat_model", wrong, "Try again later, or raise chat_model.max_retries.")
    wrong = f"{address} refused the request for {name!r} ({status}): {said}"
    return ModelError("chat_model", wrong, "Change the option the server names.")


def _wait(error: Exception) -> str:
    headers = getattr(getattr(error, "response", None), "headers", {})
    seconds = headers.get("retry-after")
    when = f"in {seconds} s" if seconds and seconds.isdigit() else "later"
    return f"Try again {when}, see the account's limits, or raise chat_model.max_retries."


def _message(error: Exception) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        said = inner.get("message") if isinstance(inner, dict) else inner
        if said:
            return str(said)[:300]
    return str(error)[:300]


def _without_secrets(words: str, model: BaseChatModel) -> str:
    for value in _secrets(model):
        words = words.replace(value, "…")
    return _KEY.sub("…", words).rstrip(". ")


def _secrets(model: BaseChatModel) -> list[str]:
    values = (v.get_secret_value() for v in vars(model).values() if isinstance(v, SecretStr))
    return [value for value in values if value]


def _address(model: Any) -> str:
    for attribute in ("openai_api_base", "base_url", "endpoint"):
        if value := getattr(model, attribute, None):
            return repr(_KEY.sub("…", show_url(str(value))))
    return f"the service of {model._llm_type}"


def _name(model: Any) -> str:
    return str(getattr(model, "model_name", None) or getattr(model, "model", None) or "unnamed")
