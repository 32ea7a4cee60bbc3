"""The configs of a comparison: every choice of every search dimension, and stages on and off."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_app.config.space import LARGEST, read_space
from rag_app.errors import ConfigError, Problem, UsageError
from rag_app.evaluation.ablations import find_ablations, with_ablations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.config.model import AppConfig
    from rag_app.config.space import Picked

__all__ = [
    "Variant",
    "expand",
    "expand_many",
    "find_ablations",
    "find_void",
    "name_all",
    "with_ablations",
]


@dataclass(frozen=True, slots=True)
class Variant:
    """One config of several.

    Attributes:
        name: short, and no other's.
        values: what was chosen, by the option's path; a backend with options by its short name.
    """

    name: str
    values: Mapping[str, Any]
    config: AppConfig


def expand(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Sequence[str] = ()
) -> list[Variant]:
    """Every config that a config with lists where one value belongs stands for.

    The first has the first value of each list; the last list changes fastest. A config without
    such lists is one variant, named as its file, or by `name` where it is a mapping.

    Raises:
        ConfigError: with every problem of all of them, each told once; or they are more than 1,000.
    """
    space = read_space(source, overrides)
    picked = space.every()
    configs = space.assemble(picked)
    return [
        Variant(name, {c.dimension.path: c.value for c in each.choices}, config)
        for each, name, config in zip(picked, name_all(picked, configs[0]), configs, strict=True)
    ]


def expand_many(
    sources: Sequence[str | Path | Mapping[str, Any]],
    overrides: Mapping[str, Any] | Sequence[str] = (),
) -> list[Variant]:
    """The variants of several configs; names begin with the file's where there are several.

    Raises:
        ConfigError: with every problem of every file.
        UsageError: the same file twice, or more than 1,000 variants.
    """
    groups: list[list[Variant]] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            groups.append(expand(source, overrides))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    if len(groups) == 1:
        return groups[0]
    found: list[Variant] = []
    for file, group in zip(_name_files(groups), groups, strict=True):
        for variant in group:
            name = file if not variant.values or len(group) == 1 else f"{file}: {variant.name}"
            found.append(replace(variant, name=name))
    if len(found) > LARGEST:
        wrong = f"{len(found):,} configs, more than {LARGEST:,}"
        raise UsageError("compare", wrong, "Name fewer files, or shorten their lists.")
    return found


def find_void(variants: Sequence[Variant], answers: bool) -> list[str]:
    """The options that vary and decide nothing of what is measured, as `retriever.k`.

    Rankings are measured to the largest cutoff, however many chunks the pipeline takes: `k` decides
    how many reach the answer, and of a retriever also how many reach a reranker.

    Args:
        answers: answers are measured, too, and by them such an option can be judged.
    """
    if answers:
        return []
    found = []
    for name in ("retriever", "reranker"):
        seen: dict[str, set[int]] = {}
        for variant in variants:
            if (k := _find_void_k(variant.config, name)) is not None:
                seen.setdefault(getattr(variant.config, name).kind, set()).add(k)
        if any(len(values) > 1 for values in seen.values()):
            found.append(f"{name}.k")
    return found


def _find_void_k(config: AppConfig, name: str) -> int | None:
    """The `k` of a section where it decides nothing about rankings; None where it does."""
    section = getattr(config, name)
    if section is None:
        return None
    k: int | None = getattr(section.options, "k", None)
    if k is None or name == "reranker":
        return k
    if config.reranker is not None:  # it is what the reranker gets to choose from
        return None
    pool = getattr(section.options, "fetch_k", None)
    chooses = getattr(section.options, "mmr_lambda", 0) is not None
    return None if chooses and pool is not None and k > pool else k


def name_all(picked: Sequence[Picked], first: AppConfig) -> list[str]:
    """A name for each: what was chosen where there was a choice, as `k=8 retriever=dense`."""
    sizes: dict[str, int] = {}
    for each in picked:
        for choice in each.choices:
            dimension = choice.dimension
            sizes[dimension.path] = max(sizes.get(dimension.path, 0), len(dimension.candidates))
    paths = [path for path, size in sizes.items() if size != 1]
    last = Counter(path.rpartition(".")[2] for path in paths)
    shown = {path: _shorten(path, last) for path in paths}
    return [
        " ".join(f"{shown[path]}={label}" for path, label in _labels(each) if path in shown)
        or name_config(first)
        for each in picked
    ]


def _shorten(path: str, last: Mapping[str, int]) -> str:
    option = path.rpartition(".")[2]
    if option == "kind":
        return path.removesuffix(".kind")
    return option if last[option] == 1 else path


def _labels(picked: Picked) -> list[tuple[str, str]]:
    return [(choice.dimension.path, choice.label) for choice in picked.choices]


def name_config(config: AppConfig) -> str:
    """The name of a config without dimensions: its file's."""
    return config.name if config.file is None else config.file.stem


def _name_files(groups: Sequence[Sequence[Variant]]) -> list[str]:
    """A name for each file: its stem; with the folder, or the place, where stems are alike."""
    configs = [group[0].config for group in groups]
    files = [config.file and config.file.resolve() for config in configs]
    for place, file in enumerate(files):
        if file is not None and file in files[:place]:
            raise UsageError(str(file), "named twice", "Name each config once.")
    for depth in (1, 2, 3):
        names = [
            name_config(c) if f is None else Path(*f.with_suffix("").parts[-depth:]).as_posix()
            for c, f in zip(configs, files, strict=True)
        ]
        if len(set(names)) == len(names):
            return names
    return [f"{name}#{place}" for place, name in enumerate(names, 1)]
