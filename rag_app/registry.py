"""Kind and name -> module. The name in the YAML is the file's name; nothing else is registered.

A backend is a module with two names: `Config`, a strict pydantic model, and `build(config,
**parts)`. Ours are the files of one folder per kind; installed packages add theirs through the
entry point group `rag_app.<kind>`. Listing names imports no backend, and choosing one imports that
one only.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import MissingPackageError, UsageError
from rag_app.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from rag_app.options import Options

KINDS: Final = {
    "loaders": "rag_app.loaders",
    "splitters": "rag_app.splitters",
    "embeddings": "rag_app.embeddings",
    "vector_stores": "rag_app.vector_stores",
    "retrievers": "rag_app.retrievers",
    "rerankers": "rag_app.rerankers",
    "chat_models": "rag_app.chat_models",
    "chains": "chains",
}
"""Each kind of backend and the package whose files are its names."""


def names(kind: str) -> list[str]:
    """The names a `kind` can take, sorted: our files and installed entry points, none imported."""
    return sorted({*_own(kind), *_installed(kind)})


def module(kind: str, name: str) -> ModuleType:
    """Import the backend `name` of `kind`.

    Raises:
        UsageError: no such backend, with those there are and the nearest; or two of that name.
        MissingPackageError: the module itself needs a package that is not installed.
    """
    own, installed = name in _own(kind), _installed(kind).get(name, [])
    _refuse_two(kind, name, own, installed)
    if own:
        return importlib.import_module(f"{KINDS[kind]}.{name}")
    if installed:
        return _load(kind, name, installed[0])
    raise UsageError(kind, *unknown(name, names(kind)))


def config_class(kind: str, name: str) -> type[Options]:
    """The pydantic model of the options of backend `name`."""
    found: type[Options] = module(kind, name).Config
    return found


def summary(kind: str, name: str) -> str:
    """The first line of the backend's docstring."""
    return (inspect.getdoc(module(kind, name)) or "").partition("\n")[0]


def build(kind: str, name: str, config: Options, **parts: Any) -> Any:
    """Build the backend from its config, with those of `parts` that its `build` names.

    Raises:
        MissingPackageError: a package it needs is not installed; the message has the command.
    """
    made = module(kind, name).build
    wanted = list(inspect.signature(made).parameters)[1:]
    try:
        return made(config, **{part: parts[part] for part in wanted if part in parts})
    except ImportError as error:
        raise_missing(f"{kind}.{name}", name, error)
        raise


def needs(kind: str, name: str, part: str) -> bool:
    """Whether the backend's `build` cannot do without `part`."""
    found = inspect.signature(module(kind, name).build).parameters.get(part)
    return found is not None and found.default is found.empty


def build_chain(name: str, options: Options, parts: Mapping[str, Callable[[], Any]]) -> Any:
    """Build the chain `name` from those of `parts` that its `build` names, each made on demand."""
    made = module("chains", name).build
    wanted = inspect.signature(made).parameters
    try:
        return made(options=options, **{p: make() for p, make in parts.items() if p in wanted})
    except ImportError as error:
        raise_missing(f"chains.{name}", name, error)
        raise


def missing_package(where: str, extra: str, error: ImportError) -> Exception:
    """What to raise for `error`: the install command if its package is absent, else the error.

    An import that breaks *inside* an installed package is not a missing package.
    """
    cause = error
    while isinstance(cause.__cause__, ImportError):
        cause = cause.__cause__
    package = (cause.name or "").partition(".")[0]
    if not package or importlib.util.find_spec(package) is not None:
        return error
    return MissingPackageError(
        where,
        f"needs the package {package!r}, which is not installed",
        f"Run: {install_command(extra) or f'pip install {package}'}",
    )


def install_command(extra: str) -> str | None:
    """The command that installs what a backend needs beyond the core; None if it needs nothing."""
    try:
        listed = requires("rag-app") or []
    except PackageNotFoundError:  # run from its source; what the extra holds cannot be known
        return f'pip install "rag-app[{extra}]"'
    asked = re.compile(rf"extra == ['\"]{extra.replace('_', '[-_]')}['\"]")
    beyond = any(asked.search(requirement) for requirement in listed)
    return f'pip install "rag-app[{extra}]"' if beyond else None


def raise_missing(where: str, extra: str, error: ImportError) -> None:
    """Raise MissingPackageError if that is what `error` is; else leave it to the caller."""
    found = missing_package(where, extra, error)
    if found is not error:
        raise found from error


def unknown(given: str, allowed: Iterable[str]) -> tuple[str, str]:
    """The words for a name that is not `allowed`: what is wrong, and the nearest name."""
    listed = sorted(allowed)
    return f"{given!r} is not one of {', '.join(listed)}", did_you_mean(given, listed)


def _own(kind: str) -> set[str]:
    package = importlib.import_module(KINDS[kind])
    here = Path(__file__).parents[1]
    if not any(Path(folder).resolve().is_relative_to(here) for folder in package.__path__):
        wrong = f"{next(iter(package.__path__))!r} hides rag-app's own package of that name"
        raise UsageError(KINDS[kind], wrong, "Rename that folder, or start Python elsewhere.")
    return {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}


def _installed(kind: str) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in _points(f"rag_app.{kind}", tuple(sys.path)):
        found.setdefault(point.name, []).append(point)
    return found


@cache
def _points(group: str, _path: tuple[str, ...]) -> list[EntryPoint]:
    """The entry points on this `sys.path`; it takes a while to read every package's metadata."""
    return list(entry_points(group=group))


def _refuse_two(kind: str, name: str, own: bool, installed: list[EntryPoint]) -> None:
    """Which of two backends of one name was meant cannot be known."""
    offered = ["rag-app"] * own + sorted(p.dist.name if p.dist else p.value for p in installed)
    if len(offered) > 1:
        wrong = f"two packages offer {name!r}: {', '.join(offered)}"
        raise UsageError(kind, wrong, "Uninstall the one you do not want.")


def _load(kind: str, name: str, point: EntryPoint) -> ModuleType:
    try:
        loaded: ModuleType = point.load()
    except ImportError as error:
        raise_missing(f"{kind}.{name}", name, error)
        raise
    lacking = [part for part in ("Config", "build") if not hasattr(loaded, part)]
    if lacking:
        wrong = f"{name!r} ({point.value}) has no {' and no '.join(lacking)}"
        raise UsageError(kind, wrong, "A backend is a module with `Config` and `build`.")
    return loaded
