"""Optional stages on and off, everything else alike: do they pay?

Stages that can be left out: the reranker; of hybrid search each of its two lists; MMR.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rag_app import registry
from rag_app.config.model import KIND_OF_SECTION, AppConfig, Section
from rag_app.config.warn import find_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_app.evaluation.grid import Variant
    from rag_app.options import Options


@dataclass(frozen=True, slots=True)
class _Off:
    """A config with one stage off: which it is, what was on, and what the variant is to be told."""

    stage: str
    value: str
    path: str
    chosen: str
    config: AppConfig


def find_ablations(variants: Sequence[Variant]) -> list[tuple[str, str, str, str]]:
    """Pairs of variants that differ in one optional stage: its name, what is on, without, with it.

    Names of configs, of indexes and of files are no difference.
    """
    names: dict[str, str] = {}
    for variant in variants:
        names.setdefault(_key(variant.config), variant.name)
    return [
        (off.stage, off.value, names[key], variant.name)
        for variant in variants
        for off in _turn_off(variant.config)
        if (key := _key(off.config)) in names
    ]


def with_ablations(variants: Sequence[Variant]) -> list[Variant]:
    """The variants and, after them, each with one of its optional stages off, where it is lacking.

    The values of all tell the stages that were turned off from those that are on.
    """
    known = {_key(variant.config) for variant in variants}
    names = {variant.name for variant in variants}
    added: list[Variant] = []
    for variant in variants:
        for off in _turn_off(variant.config):
            if (key := _key(off.config)) in known:
                continue
            known.add(key)
            values = {p: v for p, v in variant.values.items() if _stays(p, off)}
            name = _make_unique(f"{variant.name} without {off.stage}", names)
            values[off.path] = off.chosen
            added.append(replace(variant, name=name, values=values, config=off.config))
    paths = {"reranker", "retriever"} & {p for variant in added for p in variant.values}
    return [_fill(variant, paths) for variant in (*variants, *added)]


def _turn_off(config: AppConfig) -> Iterator[_Off]:
    """The config without each optional stage that it has."""
    if config.reranker is not None:
        without = _change(config, reranker=None)
        yield _Off("reranker", config.reranker.kind, "reranker", "none", without)
    retriever, options = config.retriever, config.retriever.options
    if retriever.kind == "hybrid":
        yield from _turn_off_lists(config)
    elif getattr(options, "mmr_lambda", None) is not None:
        given = {n: v for n, v in _given(options).items() if n not in {"mmr_lambda", "fetch_k"}}
        off = _change(config, retriever=_section(retriever, retriever.kind, given))
        value = f"mmr_lambda={options.model_dump()['mmr_lambda']:g}"
        yield _Off("mmr", value, "retriever", f"{retriever.kind} without mmr", off)


def _turn_off_lists(config: AppConfig) -> Iterator[_Off]:
    """Hybrid search without its words, and without its vectors; nothing when one is off already."""
    hybrid, options = config.retriever, config.retriever.options
    weights, words = getattr(options, "weights", None), getattr(options, "words", None)
    if weights is None or 0 in (weights.dense, weights.bm25):
        return
    given = _given(options)
    k = {"k": given["k"]} if "k" in given else {}
    dense = _section(hybrid, "dense", k)
    yield _Off("words", "hybrid", "retriever", "dense", _change(config, retriever=dense))
    if words == "bm25":
        alone = _section(hybrid, "bm25", {**k, **given.get("bm25", {})})
        chosen = "bm25"
    else:
        alone = _section(hybrid, "hybrid", {**given, "weights": {"dense": 0, "bm25": 1}})
        chosen = "hybrid(weights={dense=0,bm25=1})"
    yield _Off("vectors", "hybrid", "retriever", chosen, _change(config, retriever=alone))


def _given(options: Options) -> dict[str, Any]:
    return options.model_dump(exclude_unset=True)


def _section(old: Section, kind: str, given: dict[str, Any]) -> Section:
    """A backend with those options of another that it shares."""
    options = registry.config_class("retrievers", kind).model_validate(given)
    return Section(kind, options, {s: t for s, t in old.variables.items() if s[0] in given})


def _change(config: AppConfig, **sections: Section | None) -> AppConfig:
    """The config with other sections, and the warnings that those call for."""
    changed: AppConfig = replace(config, **sections)  # type: ignore[arg-type]
    return replace(changed, warnings=find_warnings(_sections(changed)))


def _sections(config: AppConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in KIND_OF_SECTION}


def _key(config: AppConfig) -> str:
    """What the config does, without names."""
    described = config.describe()
    return json.dumps({n: v for n, v in described.items() if n not in {"name", "index"}})


def _stays(path: str, off: _Off) -> bool:
    """Whether a value is still one of the config: not where the backend went, or the option."""
    section, _, inside = path.partition(".")
    left = getattr(off.config, section, None) if section == off.path else None
    if section != off.path or not inside:
        return section != off.path
    return left is not None and inside.partition(".")[0] in left.options.model_fields_set


def _make_unique(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}#{number}"
    taken.add(found)
    return found


def _fill(variant: Variant, paths: set[str]) -> Variant:
    """Say of each of `paths` what the variant has there, if its values do not tell."""
    missing: dict[str, str] = {}
    for path in sorted(paths - variant.values.keys()):
        section = getattr(variant.config, path)
        missing[path] = "none" if section is None else section.kind
    return replace(variant, values={**variant.values, **missing})
