"""Makes the models of `chat_models/any.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

import importlib.util
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr, ValidationError

from rag_app.errors import MissingPackageError, ModelError
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AT: Final = "chat_model.options"
_PROVIDERS: Final = re.compile(r"[Ss]upported (?:model )?providers(?: are)?: (\w+(?:, \w+)+)")
_NOT_OURS: Final = frozenset(["model", "model_provider", "configurable_fields", "config_prefix"])


def make(
    model: str, options: Mapping[str, Any], secret: frozenset[str], **shared: Any
) -> BaseChatModel:
    """The model `provider:name` with those options.

    Args:
        model: as `init_chat_model` takes it.
        options: of the provider's class, secrets among them.
        secret: the names of those that came as secrets.
        shared: what every LangChain chat model takes.

    Raises:
        MissingPackageError, ModelError: see `chat_models/any.py`.
    """
    for name in sorted(_NOT_OURS & options.keys()):
        raise ModelError(f"{_AT}.{name}", "not an option of the class", "Write it into model.")
    provider = model.partition(":")[0]
    try:
        with warnings.catch_warnings(action="ignore"):  # of options it does not know; see below
            made: BaseChatModel = init_chat_model(model, **options, **shared)
    except ImportError as error:
        raise _missing(provider, error) from error
    except ValidationError as error:
        raise _refused(error, options) from None
    except Exception as error:  # each vendor's class has errors of its own, for a missing key too
        raise _explain(provider, _clean(str(error), options)) from None
    _check_names(type(made), options, secret)
    return made


def _check_names(
    made: type[BaseChatModel], options: Mapping[str, Any], secret: frozenset[str]
) -> None:
    """Every option is a field of the class, and the secret ones were given as secrets.

    Classes take an unknown option with a warning at best, and send it along or drop it.
    """
    known = _names(made)
    for name in options:
        if name not in known:
            raise _unknown(made.__name__, name, known)
        if known[name] and name not in secret:
            wrong = "a secret among the options"
            remedy = f"Write it under secrets, as in secrets: {{{name}: ${{VARIABLE}}}}."
            raise ModelError(f"{_AT}.{name}", wrong, remedy)


def _names(made: type[BaseChatModel]) -> dict[str, bool]:
    """The names by which the class takes options, and whether each is secret."""
    found = {}
    for name, field in made.model_fields.items():
        secret = "SecretStr" in str(field.annotation)
        found[name] = secret
        if isinstance(field.alias, str):
            found[field.alias] = secret
    return found


def _unknown(class_name: str, name: str, known: Mapping[str, bool]) -> ModelError:
    wrong = f"not an option of {class_name}"
    near = did_you_mean(name, known)
    return ModelError(f"{_AT}.{name}", wrong, near or f"It takes: {', '.join(sorted(known))}.")


def _refused(error: ValidationError, options: Mapping[str, Any]) -> ModelError:
    """Pydantic's own words hold the values, keys among them; so only its messages are shown."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(map(str, first["loc"]))
    found = next((made for made in _chat_models() if made.__name__ == error.title), None)
    if first["type"] == "extra_forbidden" and found is not None:
        return _unknown(error.title, name, _names(found))
    remedy = f"Change it; {error.title} takes it so."
    where = f"{_AT}.{name}" if name else _AT
    return ModelError(where, _clean(first["msg"], options).rstrip("."), remedy)


def _chat_models(above: type[BaseChatModel] = BaseChatModel) -> Iterator[type[BaseChatModel]]:
    for made in above.__subclasses__():
        yield made
        yield from _chat_models(made)


def _explain(provider: str, words: str) -> ModelError:
    if known := _PROVIDERS.search(words):
        names = re.findall(r"\w+", known[1])
        wrong = f"{provider!r} is not one of {', '.join(names)}"
        return ModelError("chat_model.model", wrong, did_you_mean(provider, names))
    remedy = "See the options of the provider's class in LangChain's documentation."
    return ModelError(_AT, f"{provider!r} does not take them: {words}", remedy)


def _missing(provider: str, error: ImportError) -> Exception:
    """What to raise for `error`; an import that breaks inside an installed package stays itself."""
    cause: BaseException = error
    while isinstance(cause.__cause__, ImportError):
        cause = cause.__cause__
    package = (getattr(cause, "name", None) or "").partition(".")[0]
    if not package or importlib.util.find_spec(package) is not None:
        return error
    wrong = f"{provider!r} needs the package {package!r}, which is not installed"
    return MissingPackageError(
        "chat_model.model", wrong, f"Run: pip install {package.replace('_', '-')}"
    )


def _clean(words: str, options: Mapping[str, Any]) -> str:
    for value in options.values():
        if isinstance(value, SecretStr) and value.get_secret_value():
            words = words.replace(value.get_secret_value(), "…")
    return " ".join(words.split()).rstrip(". ")
