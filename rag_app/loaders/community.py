"""Any document loader of langchain-community, by its class name, with its own options.

The name comes from the closed list `langchain_community.document_loaders.__all__`, and the options
are checked against what the class takes. What such a loader reads, it reads in this process.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence  # noqa: TC003  (a decorator reads it)
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, quote_plus

from pydantic import ValidationError, ValidationInfo, field_validator

from rag_app.errors import MissingPackageError, SourceError, UsageError
from rag_app.loaders._doubts import doubt_failure
from rag_app.options import OPERATIONAL, Field, Options, Secret
from rag_app.spelling import did_you_mean
from rag_app.types import Doubt, Origin, Unreadable

if TYPE_CHECKING:
    from langchain_core.documents import Document

    from rag_app.loaders._source import SourceLoader

_PATHS: Final = frozenset(["file_path", "path", "folder_path", "repo_path", "web_path"])
"""Options of loaders that name a file or folder; a relative one starts at the config's folder."""

_SECRET: Final = re.compile(r"(?:key|token|password|passwd|secret|credentials)\Z", re.IGNORECASE)
"""Names of options that hold a secret."""


class Config(Options):
    """The options of a `community` source."""

    loader: str = Field(
        pattern=r"^[A-Z]\w+$", description="The class, as in CSVLoader or WikipediaLoader."
    )
    options: dict[str, Any] = Field(
        {}, description="What the class takes, by name, as its documentation says."
    )

    secrets: dict[str, Secret] = Field(
        {},
        description="Those of its options that are secret, as in {access_token: ${GITHUB_TOKEN}}.",
        json_schema_extra=OPERATIONAL,
    )

    @field_validator("options")
    @classmethod
    def _start_at_config(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        folder = (info.context or {}).get("folder")
        return {
            name: str(Path(folder) / value)
            if folder and name in _PATHS and isinstance(value, str) and "://" not in value
            else value
            for name, value in options.items()
        }


def build(config: Config) -> SourceLoader:
    """The loader, made with its options; nothing is read yet.

    Raises:
        UsageError: there is no such loader, or it does not take such an option.
    """
    from rag_app.loaders._source import SourceLoader

    return SourceLoader(Community(config))


class Community:
    """One community loader as one `Origin`: its documents are told apart, its values made plain."""

    def __init__(self, config: Config) -> None:
        self._name = f"community:{config.loader}:{_digest(config.options)}"
        self._whole = True
        self._secrets = [secret.get_secret_value() for secret in config.secrets.values()]
        made = _find_class(config.loader)
        _check_options(made, config)
        try:
            with _quiet():
                given = dict(zip(config.secrets, self._secrets, strict=True))
                self._loader = made(**config.options, **given)
        except ImportError:
            raise
        except Exception as error:
            words = self._clean(_tell(error))
            wrong = f"{config.loader} cannot be made: {type(error).__name__}: {words}"
            remedy = "See the loader's own documentation."
            cause = error if words == str(error) else None
            raise UsageError("sources.options", wrong.rstrip("."), remedy) from cause

    def close(self) -> None:
        """Nothing is open."""

    def origins(self) -> Iterator[Origin]:
        """The loader as a whole: only it can tell what it holds."""
        yield Origin(self._name, None, self._load)

    def doubts(self) -> Sequence[Doubt]:
        """Where it failed: with other options its documents had another origin before."""
        if self._whole:
            return ()
        return (doubt_failure("sources.options", self._name, self._name.rpartition(":")[0]),)

    def _load(self) -> Iterator[Document | Unreadable]:
        """Its documents, each under a name of its own: a source that comes again gets a number.

        Raises:
            SourceError: the loader failed, warned, or gave nothing; what it gave counts as read.
        """
        times: dict[str, int] = {}
        self._whole = False
        try:
            with _Warnings() as warned:
                documents = iter(self._loader.lazy_load())
                while (document := _next(documents)) is not None:
                    yield self._name_apart(document, times)
        except ImportError as error:
            wrong = f"needs a package that is not installed ({error})"
            remedy = "Install it with pip, as the loader's own documentation says."
            raise MissingPackageError(self._name, wrong.rstrip("."), remedy) from error
        except Exception as error:
            words = self._clean(_tell(error))
            wrong = f"the loader failed: {type(error).__name__}: {words}"
            remedy = "See the loader's own documentation."
            cause = error if words == str(error) else None
            raise SourceError(self._name, wrong.rstrip("."), remedy) from cause
        if warned.said:
            wrong = f"the loader went on after a warning: {self._clean(warned.said[0])}"
            remedy = "What it left out is not taken for deleted; see its options."
            raise SourceError(self._name, wrong.rstrip("."), remedy)
        if not times:
            remedy = "Check its options, or take the entry out of `sources`."
            raise SourceError(self._name, "the loader gave no documents", remedy)
        self._whole = True

    def _name_apart(self, document: Document, times: dict[str, int]) -> Document | Unreadable:
        source = str(document.metadata.get("source") or self._name)
        times[source] = times.get(source, 0) + 1
        name = source if times[source] == 1 else f"{source}#{times[source]}"
        if not document.page_content.strip():
            return Unreadable(name, "no text")
        metadata = _make_plain(document.metadata) | {"source": name}
        return document.model_copy(update={"metadata": metadata})

    def _clean(self, words: str) -> str:
        for secret in sorted({*self._secrets} - {""}, key=len, reverse=True):
            for form in (secret, quote(secret, safe=""), quote_plus(secret)):
                words = words.replace(form, "…")
        return words


class _Warnings(logging.Handler):
    """What loaders log as a warning or worse: most go on like that over what they cannot read."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage().strip().partition("\n")[0])

    def __enter__(self) -> Self:
        logging.getLogger("langchain_community.document_loaders").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("langchain_community.document_loaders").removeHandler(self)


def _tell(error: Exception) -> str:
    """The words of an error; of pydantic's not the values, which may be secret."""
    if not isinstance(error, ValidationError):
        return str(error)
    listed = error.errors(include_url=False, include_context=False, include_input=False)
    told = ((".".join(map(str, each["loc"])), each["msg"]) for each in listed)
    return "; ".join(f"{name}: {words}" if name else words for name, words in told)


def _digest(options: dict[str, Any]) -> str:
    """What tells sources of one class apart."""
    whole = json.dumps(_make_plain(options), sort_keys=True)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _next(documents: Iterator[Document]) -> Document | None:
    with _quiet():
        return next(documents, None)


def _find_class(name: str) -> Any:
    with _quiet():
        package = importlib.import_module("langchain_community.document_loaders")
        if name not in package.__all__:
            wrong = f"{name!r} is no loader of langchain-community"
            remedy = did_you_mean(name, package.__all__) or "See its documentation for the list."
            raise UsageError("sources.loader", wrong, remedy)
        return getattr(package, name)


def _check_options(made: Any, config: Config) -> None:
    taken = {
        name: parameter
        for name, parameter in inspect.signature(made.__init__).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    }
    named = {n for n, p in taken.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    listed = ", ".join(sorted(named)) or "no options"
    given = [*config.options, *config.secrets]
    for name in given:
        if name not in named and len(named) == len(taken):
            wrong = f"{config.loader} takes no {name!r}"
            remedy = f"It takes: {listed}. {did_you_mean(name, named)}".strip()
            raise UsageError("sources.options", wrong, remedy)
    _refuse_open_secrets(config)
    missing = [n for n in named if taken[n].default is inspect.Parameter.empty and n not in given]
    if missing:
        wrong = f"{config.loader} needs {', '.join(sorted(missing))}"
        raise UsageError("sources.options", wrong, f"It takes: {listed}.")


def _refuse_open_secrets(config: Config) -> None:
    for name, value in config.options.items():
        if name in config.secrets:
            wrong = "stands under options and under secrets"
            raise UsageError(f"sources.options.{name}", wrong, "Keep the one under secrets.")
        if _SECRET.search(name) and isinstance(value, str):
            remedy = f"Write it under secrets, as in secrets: {{{name}: ${{VARIABLE}}}}."
            raise UsageError(f"sources.options.{name}", "a secret among the options", remedy)


def _make_plain(value: Any) -> Any:
    """Metadata as JSON values: dates and paths as text, what cannot be one left as its words."""
    if isinstance(value, dict):
        return {str(key): _make_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_make_plain(inner) for inner in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Without langchain-community's own notice that it is no longer developed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
