"""What a validated config is: a section for each part, with its options."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, SecretStr, ValidationError

from rag_app.options import Field, FilePath, Options, Secret
from rag_app.urls import show_url

if TYPE_CHECKING:
    from rag_app.config.nodes import Steps

KIND_OF_SECTION: Final = {
    "splitter": "splitters",
    "embeddings": "embeddings",
    "vector_store": "vector_stores",
    "retriever": "retrievers",
    "reranker": "rerankers",
    "chat_model": "chat_models",
    "chain": "chains",
}
"""Each section that names one backend, and the kind of backend it names."""

DEFAULT_KINDS: Final = {
    "splitter": "recursive",
    "embeddings": "minilm",
    "vector_store": "memory",
    "retriever": "hybrid",
    "chain": "qa",
}
"""The backend of a section that is left out; the chain is `extractive` without a chat model."""

OPTIONAL: Final = frozenset({"reranker", "chat_model"})
"""Sections that may be left out for none."""

HIDDEN: Final = "***"
"""What stands for a secret that was written out, in descriptions and on record."""

NAME: Final = r"[a-z][a-z0-9_-]{1,40}"


def _require_server(url: SecretStr) -> SecretStr:
    if not re.match(r"(rediss?|postgres(ql)?)://\S+\Z", url.get_secret_value()):
        raise ValueError("no address of a cache. Use redis://, rediss:// or postgresql://.")
    return url


def _require_postgres(url: SecretStr) -> SecretStr:
    if not re.match(r"postgres(ql)?://\S+\Z", url.get_secret_value()):
        raise ValueError("no address of a PostgreSQL database. Use postgresql://.")
    return url


ManifestUrl = Annotated[Secret, AfterValidator(_require_postgres)]
CacheUrl = Annotated[Secret, AfterValidator(_require_server)]


class IndexOptions(Options):
    """Where the index keeps what is not in the vector store."""

    path: FilePath = Field(
        Path(".rag"),
        description="folder of the record of documents, of the word index and of the cache",
    )
    cache: bool | None = Field(
        None,
        description="whether vectors are kept by text, for all indexes of `path`, so that none is "
        "computed twice; left out: yes, unless the vector store is in memory only",
    )
    cache_url: CacheUrl | None = Field(
        None,
        description="a Redis or PostgreSQL server as the cache: redis://host:6379/0, "
        "postgresql://user:${PASSWORD}@host/database",
        json_schema_extra={"literal": True},
    )
    manifest_url: ManifestUrl | None = Field(
        None,
        description="a PostgreSQL database for the record of documents, so that several machines "
        "ingest into one index in turn: postgresql://user:${PASSWORD}@host/database",
        json_schema_extra={"literal": True},
    )


@dataclass(frozen=True, slots=True)
class Section:
    """One chosen backend: its name and its options.

    Attributes:
        variables: what was written for each option that came from an environment variable.
    """

    kind: str
    options: Options
    variables: Mapping[Steps, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class AppConfig:
    """A validated pipeline. No secret shows in its repr or in `describe`.

    Attributes:
        folder: where relative paths start: the file's folder, else the current one.
        warnings: combinations that work but are known to be bad, in words.
    """

    name: str
    sources: tuple[Section, ...]
    splitter: Section
    embeddings: Section
    vector_store: Section
    retriever: Section
    reranker: Section | None
    chat_model: Section | None
    chain: Section
    index: IndexOptions
    file: Path | None
    folder: Path
    warnings: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """All of it, defaults too, as JSON values: secrets as `***`, variables as written."""
        described: dict[str, Any] = {"name": self.name, "sources": [*map(_describe, self.sources)]}
        for name in KIND_OF_SECTION:
            section = getattr(self, name)
            described[name] = None if section is None else _describe(section)
        return {**described, "index": _jsonable(self.index.model_dump())}

    def record(self) -> dict[str, Any]:
        """What `load_config` makes the same config of, when paths start at `index.path`.

        Options that were left out are left out, but for paths; secrets are written by their
        variables. A path inside the config's folder is written as it lies from `index.path`, so
        that what is moved or copied together still belongs together.
        """
        recorded: dict[str, Any] = {
            "name": self.name,
            "sources": [self._record(section) for section in self.sources],
        }
        for name in KIND_OF_SECTION:
            if (section := getattr(self, name)) is not None:
                recorded[name] = self._record(section)
        return {"config": recorded}

    def _record(self, section: Section) -> dict[str, Any]:
        given = self._anchor(section.options.model_dump(exclude_unset=True))
        recorded = {"kind": section.kind, **_with_paths(section, given, self._anchor)}
        return _write_variables(section, recorded)

    def _anchor(self, value: Any) -> Any:
        """The value with the paths in it as text, those inside the folder from `index.path`."""
        if isinstance(value, Path) and value.is_relative_to(self.folder):
            return os.path.relpath(value, self.index.path)
        if isinstance(value, SecretStr) and "://" in value.get_secret_value():
            return f"{HIDDEN} {show_url(value.get_secret_value())}"  # which place, and no more
        if isinstance(value, Mapping):
            return {name: self._anchor(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._anchor(each) for each in value]
        return _jsonable(value)


def _with_paths(
    section: Section, given: dict[str, Any], anchor: Callable[[Any], Any]
) -> dict[str, Any]:
    """The options given, with the paths that are theirs by default where these may be written."""
    options = section.options
    for name in type(options).model_fields.keys() - options.model_fields_set:
        if isinstance(path := getattr(options, name), Path):
            try:
                type(options).model_validate({**options.model_dump(exclude_unset=True), name: path})
            except ValidationError:  # it has no use beside the others
                continue
            given = {**given, name: anchor(path)}
    return given


def _write_variables(section: Section, recorded: dict[str, Any]) -> dict[str, Any]:
    for steps, text in section.variables.items():
        inner: Any = recorded
        for step in steps[:-1]:
            inner = inner[step]
        inner[steps[-1]] = text
    return recorded


def _describe(section: Section) -> dict[str, Any]:
    described = {"kind": section.kind, **_jsonable(section.options.model_dump())}
    for steps, text in section.variables.items():
        inner: Any = described
        for step in steps[:-1]:
            inner = inner[step]
        inner[steps[-1]] = inner[steps[-1]] if inner[steps[-1]] == HIDDEN else text
    return described


def _jsonable(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
