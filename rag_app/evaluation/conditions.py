"""What decides a result, as a digest: what was measured counts only for exactly the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from rag_app import __version__, registry
from rag_app.config.model import KIND_OF_SECTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_app.app import RagApp
    from rag_app.config import AppConfig
    from rag_app.config.model import Section
    from rag_app.evaluation.results import Cases
    from rag_app.evaluation.run import Plan

MEASURES_VERSION: Final = 1
"""Raised whenever the same pipeline gets other figures on the same cases."""

MAKE_INDEX: Final = ("sources", "splitter", "embeddings", "vector_store")
"""Sections that decide what an index holds and where; configs that agree in them share one."""

_SENDING: Final = ("max_retries", "requests_per_minute", "timeout", "tokens_per_minute")

_HOW_ONLY: Final = {
    "embeddings": frozenset({"api_key", "batch_size", "device", "price", "threads", *_SENDING}),
    "vector_store": frozenset({"connections", "timeout", "wait_seconds"}),
}
"""Options that decide how an index is made and not what it holds, nor where it is."""

_READ_DOCUMENTS: Final = frozenset({"sources", "vector_store"})
"""Sections whose files an index's revision tells of."""

_PLAIN: Final = (str, int, float, bool, list, tuple, dict, type(None))


def digest_config(config: AppConfig) -> str:
    """Of all in a config that decides results, whatever it is called and however it is written.

    Options count by their values: paths absolute, variables expanded, secrets hashed. So do the
    size and time of a local model's files, the code of chains and of backends that are not
    rag-app's own, and the versions of rag-app and of what it measures.
    """
    return digest([__version__, MEASURES_VERSION, digest_sections(config, _ALL)])


def digest_sections(config: AppConfig, names: Sequence[str]) -> str:
    """Of all options of some sections, and of the files they name, as `digest_config`."""
    return digest([[name, _describe_all(config, name, frozenset())] for name in names])


def digest_index(config: AppConfig) -> str:
    """Of what an index holds and where it is; not of what making it costs or how fast it is."""
    sections = [
        [name, _describe_all(config, name, _HOW_ONLY.get(name, frozenset()))] for name in MAKE_INDEX
    ]
    return digest([*sections, config.index.path, config.index.manifest_url])


def digest_conditions(app: RagApp, cases: Cases, plan: Plan) -> str:
    """Of all that decides the result of a case: config, models, index, cases, and how it is
    measured."""
    return digest(
        [
            digest_config(app.config),
            app.index.identity,
            app.index.revision,
            cases.digest,
            digest_plan(plan),
        ]
    )


def digest_plan(plan: Plan) -> str:
    """Of how cases are measured; not of what it may cost."""
    judge = _describe_judge(plan.judge)
    return digest([plan.ks, plan.answers, judge, plan.filter, plan.stale])


def digest(value: Any) -> str:
    """The SHA-256 of a value's content, in hexadecimal digits; nothing can be read from it."""
    resolved = json.dumps(_resolve(value), sort_keys=True)
    return hashlib.sha256(resolved.encode("utf-8", "surrogatepass")).hexdigest()


def _describe_all(config: AppConfig, name: str, left_out: frozenset[str]) -> Any:
    found = getattr(config, name)
    if isinstance(found, tuple):
        return [_describe(name, "loaders", section, left_out) for section in found]
    return None if found is None else _describe(name, KIND_OF_SECTION[name], found, left_out)


def _describe(name: str, kind: str, section: Section, left_out: frozenset[str]) -> list[Any]:
    options = section.options.model_dump(exclude=set(left_out))
    files = [] if name in _READ_DOCUMENTS else [_list_files(p) for p in _find_paths(options)]
    return [section.kind, options, files, _digest_code(kind, section.kind)]


def _resolve(value: Any) -> Any:
    """The value as JSON values, the same in every process."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value().encode("utf-8", "surrogatepass")
        return {"sha256": hashlib.sha256(secret).hexdigest()}
    if isinstance(value, Path):
        return os.path.realpath(value)
    if isinstance(value, Mapping):
        return {str(name): _resolve(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_resolve(each), sort_keys=True) for each in value)
    if isinstance(value, str | int | float | bool | None):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


def _find_paths(value: Any, name: str = "") -> Iterator[Path]:
    """The files and folders that options name; a model is a folder or a name."""
    if isinstance(value, Path) or (name == "model" and isinstance(value, str)):
        if (path := Path(value)).exists():
            yield path
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _find_paths(each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _find_paths(each, name)


def _list_files(path: Path) -> list[list[Any]]:
    """Name, size and time of change of a file, or of each in a folder."""
    listed = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(str(each), each.stat()) for each in listed if each.is_file()]
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def _digest_code(kind: str, name: str) -> list[list[str]]:
    """The source of a backend with what lies beside it in its package; none of rag-app's own, of
    which the version tells."""
    module = registry.module(kind, name)
    if module.__name__.startswith("rag_app.") or module.__file__ is None:
        return []
    file = Path(module.__file__)
    files = sorted(file.parent.glob("*.py")) if module.__package__ else [file]
    return [[each.name, hashlib.sha256(each.read_bytes()).hexdigest()] for each in files]


def _describe_judge(judge: Any) -> Any:
    """A chat model by its class and by what it is set to; keys and clients are left out."""
    if judge is None:
        return None
    kind = type(judge)
    fields = {name: getattr(judge, name, None) for name in getattr(kind, "model_fields", ())}
    plain = {name: value for name, value in fields.items() if isinstance(value, _PLAIN)}
    told = getattr(judge, "_identifying_params", {})
    files = [_list_files(path) for path in _find_paths([plain, told])]
    name = f"{kind.__module__}.{kind.__qualname__}"
    return [name, getattr(judge, "_llm_type", ""), plain, told, files]


_ALL: Final = ("sources", *KIND_OF_SECTION)
