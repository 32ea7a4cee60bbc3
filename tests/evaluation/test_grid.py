"""Search dimensions: which lists are one, what configs they make, names, problems, ablations."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rag_app.config import load_config
from rag_app.errors import ConfigError, UsageError
from rag_app.evaluation.grid import (
    expand,
    expand_many,
    find_ablations,
    find_void,
    with_ablations,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_app.evaluation.grid import Variant

BASE: dict[str, Any] = {
    "name": "x1",
    "sources": [{"kind": "files", "path": "docs"}],
    "embeddings": "hashing",
}
RERANKER = {"kind": "cross_encoder", "model": "some/model"}


def names(variants: list[Variant]) -> list[str]:
    return [variant.name for variant in variants]


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., list[str]]:
    """`refuse(text, overrides)`: the problems of a file of that text, without the file's name."""

    def read(text: str, overrides: Any = ()) -> list[str]:
        file = tmp_path / "x.yaml"
        file.write_text("sources: [{kind: files, path: docs}]\nembeddings: hashing\n" + text)
        with pytest.raises(ConfigError) as caught:
            expand(file, overrides)
        return [str(p).removeprefix(f"{file}:") for p in caught.value.problems]

    return read


# -- what a dimension is --------------------------------------------------------------------------


def test_the_variants_are_the_product_and_each_is_the_config_of_its_values() -> None:
    lists: dict[str, list[Any]] = {
        "splitter.chunk_size": [128, 256, 512],
        "retriever": ["dense", {"kind": "hybrid", "k": 8}],
        "reranker": ["none", RERANKER],
    }
    found = expand({**BASE, "splitter": "recursive"}, lists)
    assert len(found) == 12
    assert len(set(names(found))) == 12
    for variant, chosen in zip(found, itertools.product(*lists.values()), strict=True):
        expected = load_config(
            {**BASE, "splitter": "recursive"}, dict(zip(lists, chosen, strict=True))
        )
        assert variant.config == expected
    assert found[0].name == "chunk_size=128 retriever=dense reranker=none"
    assert found[-1].values == {
        "splitter.chunk_size": 512,
        "retriever": "hybrid",
        "reranker": "cross_encoder",
    }


def test_the_same_from_a_file_from_set_and_from_python(tmp_path: Path) -> None:
    file = tmp_path / "x1.yaml"
    plain = "name: x1\nsources: [{kind: files, path: /docs}]\nembeddings: hashing\n"
    file.write_text(plain + "splitter: {kind: recursive, chunk_size: [128, 256]}\n")
    (tmp_path / "x2.yaml").write_text(plain + "splitter: recursive\n")
    given = {**BASE, "sources": [{"kind": "files", "path": "/docs"}]}
    ways = [
        expand(file),
        expand(tmp_path / "x2.yaml", ["splitter.chunk_size=[128, 256]"]),
        expand({**given, "splitter": {"kind": "recursive", "chunk_size": [128, 256]}}),
        expand(given, {"splitter.chunk_size": (128, 256)}),
    ]
    for way in ways:
        assert names(way) == ["chunk_size=128", "chunk_size=256"]
        assert [v.config.splitter for v in way] == [v.config.splitter for v in ways[0]]


def test_a_list_is_the_value_where_the_option_takes_one_and_lists_of_it_are_a_dimension() -> None:
    one = {"kind": "recursive", "separators": ["\n", " "]}
    assert len(expand({**BASE, "splitter": one})) == 1
    two = {"kind": "recursive", "separators": [["\n", " "], ["#"]]}
    found = expand({**BASE, "splitter": two})
    assert [v.config.splitter.options.model_dump()["separators"] for v in found] == [
        ("\n", " "),
        ("#",),
    ]
    assert [v.values["splitter.separators"] for v in found] == [["\n", " "], ["#"]]
    many = {"kind": "files", "path": "docs", "include": ["*.md", "*.txt"]}
    assert len(expand({**BASE, "sources": [many, many | {"path": "more"}]})) == 1


def test_sources_are_a_list_and_lists_of_sources_a_dimension() -> None:
    a, b = ({"kind": "files", "path": path} for path in "ab")
    found = expand({**BASE, "sources": [[a], [a, b]]})
    assert [len(v.config.sources) for v in found] == [1, 2]
    inside = expand({**BASE, "sources": [a, {**b, "include": [["*.md"], ["*.txt"]]}]})
    assert [v.values for v in inside] == [
        {"sources[1].include": ["*.md"]},
        {"sources[1].include": ["*.txt"]},
    ]


def test_a_list_of_kinds_is_a_dimension_and_options_follow_the_kind() -> None:
    found = expand({**BASE, "retriever": {"kind": ["bm25", "dense"], "k": [2, 3]}})
    assert [(v.config.retriever.kind, v.values["retriever.k"]) for v in found] == [
        ("bm25", 2),
        ("bm25", 3),
        ("dense", 2),
        ("dense", 3),
    ]
    assert found[0].name == "retriever=bm25 k=2"


def test_dimensions_inside_a_candidate_belong_to_it_alone() -> None:
    config = {
        **BASE,
        "retriever": ["dense", {"kind": "hybrid", "k": [4, 8], "weights": {"bm25": [1, 2]}}],
    }
    assert names(expand(config)) == [
        "retriever=dense",
        "retriever=hybrid k=4 bm25=1",
        "retriever=hybrid k=4 bm25=2",
        "retriever=hybrid k=8 bm25=1",
        "retriever=hybrid k=8 bm25=2",
    ]


def test_candidates_of_one_kind_are_named_by_what_tells_them_apart() -> None:
    config = {
        **BASE,
        "retriever": ["dense", {"kind": "dense", "k": 4}, {"kind": "dense", "k": 4, "fetch_k": 9}],
    }
    assert names(expand(config)) == [
        "retriever=dense",
        "retriever=dense(k=4)",
        "retriever=dense(k=4,fetch_k=9)",
    ]


def test_options_of_the_same_name_are_named_by_their_path() -> None:
    config = {
        **BASE,
        "retriever": {"kind": "dense", "k": [8, 9]},
        "reranker": {**RERANKER, "k": [2, 3]},
    }
    assert names(expand(config))[0] == "retriever.k=8 reranker.k=2"


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        ({"from": 4, "to": 20, "step": 4}, [4, 8, 12, 16, 20]),
        ({"from": 4, "to": 9, "step": 4}, [4, 8]),
        ({"from": 4, "to": 6}, [4, 5, 6]),
    ],
)
def test_a_range_of_whole_numbers(written: dict[str, int], numbers: list[int]) -> None:
    found = expand({**BASE, "retriever": {"kind": "dense", "k": written}})
    assert [v.values["retriever.k"] for v in found] == numbers
    assert [v.config.retriever.options.model_dump()["k"] for v in found] == numbers


def test_a_range_of_fractions_has_no_dust() -> None:
    weights = {"dense": {"from": 0.1, "to": 0.5, "step": 0.1}}
    found = expand({**BASE, "retriever": {"kind": "hybrid", "weights": weights}})
    assert [v.values["retriever.weights.dense"] for v in found] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_without_dimensions_there_is_one_variant_named_as_its_file(tmp_path: Path) -> None:
    file = tmp_path / "My Config.yaml"
    file.write_text("name: other\nsources: [{kind: files, path: docs}]\n")
    (only,) = expand(file)
    assert (only.name, only.values) == ("My Config", {})
    assert only.config == load_config(file)
    assert expand(BASE)[0].name == "x1"


def test_an_override_sets_the_option_of_each_candidate_but_none() -> None:
    config = {
        **BASE,
        "reranker": ["none", RERANKER],
        "retriever": ["dense", {"kind": "hybrid", "k": 9}],
    }
    found = expand(config, ["retriever.k=3", "reranker.k=2"])
    assert [v.config.retriever.options.model_dump()["k"] for v in found] == [3, 3, 3, 3]
    assert [v.config.reranker is None for v in found] == [True, False, True, False]
    one = expand(config, ["retriever[1].k=3"])
    assert [v.config.retriever.options.model_dump()["k"] for v in one] == [8, 8, 3, 3]


def test_variables_stay_names_and_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_KEY", "do-not-show-1")
    monkeypatch.setenv("A_SIZE", "do-not-show-2")
    model = {"kind": "openai", "model": "m", "api_key": ["${ONE_KEY}", "sk-do-not-show-3-abcdef"]}
    store = {"kind": "chroma", "path": ["${A_SIZE}", "b"]}
    found = expand({**BASE, "chat_model": model, "vector_store": store})
    assert len(found) == 4
    assert "do-not-show" not in repr([(v.name, v.values) for v in found])
    assert found[0].values["vector_store.path"] == "${A_SIZE}"
    assert {v.values["chat_model.api_key"] for v in found} == {"#1", "#2"}


# -- problems -------------------------------------------------------------------------------------


def test_every_problem_is_told_once_at_its_place(refuse: Callable[..., list[str]]) -> None:
    problems = refuse(
        "splitter: {kind: recursive, chunk_size: [128, many, 256], chunk_overlap: [0, 8], a: 1}\n"
        "retriever: [dense, {kind: hybird}, {kind: hybrid, k: 0}]\n"
        "reranker: []\n"
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "3:47",
        "3:82",
        "4:27",
        "4:54",
        "5:11",
    ]
    assert "splitter.chunk_size: 'many' is not a whole number" in problems[0]
    assert "Did you mean 'hybrid'?" in problems[2]
    assert "at least 1" in problems[3]
    assert "an empty list where one value belongs" in problems[4]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{from: 9, to: 4}", "3:32: retriever.k: from 9 to 4 is no range"),
        ("{from: 1, to: 4, step: 0}", "3:55: retriever.k.step: 0 is no step"),
        ("{from: 1, to: 4.5}", "3:46: retriever.k.to: 4.5 is not a whole number"),
        ("{from: 1, to: x}", "3:46: retriever.k.to: 'x' is not a whole number"),
        ("{from: 1, to: 4, by: 2}", "3:49: retriever.k.by: not a part of a range"),
        ("{from: 0, to: 4, log: true}", "3:39: retriever.k.from: 0 has no logarithm"),
        ("{from: 1, to: 4, log: true, step: 1}", "has no step. Leave one of them out"),
        ("{from: 1, to: 4, log: maybe}", "'maybe' is not true or false"),
        ("{from: 1, to: 4, log: true}", "only tune can search. Give it a step, or a list."),
        ("{from: 1, to: 90000000}", "more than 10,000 numbers. Give a larger step."),
        ("[4, 4]", "3:36: retriever.k: the same value a second time"),
        ("[4, [5, 6]]", "a list where one value belongs"),
    ],
)
def test_what_is_no_dimension_is_told(
    written: str, words: str, refuse: Callable[..., list[str]]
) -> None:
    (problem,) = refuse(f"retriever: {{kind: dense,    k: {written}}}\n")
    assert words in problem


def test_too_many_are_refused_with_the_dimensions_and_the_remedy(
    refuse: Callable[..., list[str]],
) -> None:
    (problem,) = refuse(
        "retriever: {kind: dense, k: {from: 1, to: 40}}\n"
        "splitter: {kind: recursive, chunk_size: {from: 64, to: 95}}\n"
    )
    assert "more than 1,000 configs: splitter.chunk_size (32), retriever.k (40)" in problem
    assert problem.endswith("rag-app tune")
    assert len(expand({**BASE, "retriever": {"kind": "dense", "k": {"from": 1, "to": 40}}})) == 40


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("retriever: [dense, hybrid]", "retriever"),
        ("retriever: {kind: [dense, hybrid]}", "retriever.kind"),
        ("retriever: {kind: dense, k: [4, 8]}", "retriever.k"),
        ("reranker: [none, {kind: cross_encoder, model: x}]", "reranker"),
    ],
)
def test_a_plain_command_says_where_a_dimension_belongs(
    line: str, path: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"sources: [{{kind: files, path: docs}}]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert problem.wrong == (
        "a list where one value belongs; that is a search dimension of compare and tune"
    )
    assert problem.remedy.endswith("or run: rag-app compare")
    assert len(expand(file)) == 2


def test_a_plain_command_says_where_a_range_belongs() -> None:
    with pytest.raises(ConfigError, match="a range where one value belongs; that is a search"):
        load_config({**BASE, "retriever": {"kind": "dense", "k": {"from": 4, "to": 8}}})


def test_the_place_of_the_index_is_not_searched(refuse: Callable[..., list[str]]) -> None:
    (problem,) = refuse("index: {cache: [true, false]}\n")
    assert problem.endswith("a list where one value belongs. Give one value: it is not searched.")


# -- several files --------------------------------------------------------------------------------


def test_variants_of_several_files_are_named_by_them(tmp_path: Path) -> None:
    files = []
    for folder, name, more in (
        ("a", "one", ""),
        ("a", "two", "retriever: [dense, bm25]\n"),
        ("b", "two", ""),
    ):
        file = tmp_path / folder / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text("sources: [{kind: files, path: docs}]\n" + more)
        files.append(file)
    assert names(expand_many(files[:2])) == ["one", "two: retriever=dense", "two: retriever=bm25"]
    assert names(expand_many(files)) == [
        "a/one",
        "a/two: retriever=dense",
        "a/two: retriever=bm25",
        "b/two",
    ]
    assert names(expand_many(files[1:2])) == ["retriever=dense", "retriever=bm25"]
    with pytest.raises(UsageError, match="named twice"):
        expand_many([files[0], tmp_path / "b" / ".." / "a" / "one.yaml"])


def test_the_problems_of_all_files_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("sources: [{kind: files, path: docs}]\nx: 1\n")
    with pytest.raises(ConfigError) as caught:
        expand_many([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [Path(p.place.split(":")[0]).stem for p in caught.value.problems] == ["a", "b"]


# -- ablations ------------------------------------------------------------------------------------


def test_pairs_that_differ_in_one_optional_stage_are_found() -> None:
    config = {
        **BASE,
        "retriever": ["dense", "bm25", "hybrid", {"kind": "dense", "mmr_lambda": 0.5}],
        "reranker": ["none", RERANKER],
        "splitter": {"kind": "recursive", "chunk_size": [128, 256]},
    }
    variants = expand(config)
    by_name = {variant.name: variant for variant in variants}
    found = find_ablations(variants)
    count = {stage: sum(f[0] == stage for f in found) for stage in {f[0] for f in found}}
    assert count == {"reranker": 8, "words": 4, "vectors": 4, "mmr": 4}
    for stage, value, without, with_it in found:
        a, b = by_name[without].values, by_name[with_it].values
        differ = {path for path in a if a[path] != b[path]}
        assert differ == {"reranker" if stage == "reranker" else "retriever"}
        if stage == "reranker":
            assert (a["reranker"], b["reranker"], value) == ("none",) + ("cross_encoder",) * 2
        else:
            single = {"words": "dense", "vectors": "bm25", "mmr": "dense"}[stage]
            assert by_name[without].config.retriever.kind == single


def test_options_that_differ_beside_the_stage_make_no_pair() -> None:
    config = {**BASE, "retriever": [{"kind": "dense", "k": 4}, {"kind": "hybrid", "k": 8}]}
    assert find_ablations(expand(config)) == []


def test_what_is_lacking_is_added_and_no_more() -> None:
    config = {
        **BASE,
        "retriever": [
            {"kind": "dense", "k": 5},
            {"kind": "hybrid", "k": 5, "bm25": {"b": 0.5, "tokenizer": "words"}},
        ],
        "reranker": {**RERANKER, "k": 9},
    }
    variants = expand(config)
    assert "drops nothing" in variants[0].config.warnings[0]
    more = with_ablations(variants)
    assert names(more)[:2] == names(variants)
    assert names(more)[2:] == [
        "retriever=dense without reranker",
        "retriever=hybrid without reranker",
        "retriever=hybrid without vectors",
    ]
    assert [variant.values["reranker"] for variant in more] == [
        "cross_encoder",
        "cross_encoder",
        "none",
        "none",
        "cross_encoder",
    ]
    assert more[2].config == load_config({**BASE, "retriever": {"kind": "dense", "k": 5}})
    words = {"kind": "bm25", "k": 5, "b": 0.5, "tokenizer": "words"}
    reranked = {**BASE, "retriever": words, "reranker": RERANKER | {"k": 9}}
    assert more[4].config == load_config(reranked)
    pairs = {(without, with_it) for _, _, without, with_it in find_ablations(more)}
    assert pairs >= {
        (names(more)[2], names(more)[0]),
        (names(more)[3], names(more)[1]),
        (names(more)[4], names(more)[1]),
    }
    assert with_ablations(more)[: len(more)] == more
    plain = expand({**BASE, "retriever": "dense"})
    assert with_ablations(plain) == plain


# -- options that decide nothing of what is measured ----------------------------------------------

RERANKED = {"reranker": {**RERANKER, "k": 4}}


@pytest.mark.parametrize(
    ("sections", "void"),
    [
        ({"retriever": {"kind": "bm25", "k": [4, 8]}}, ["retriever.k"]),
        ({"retriever": {"kind": "hybrid", "k": [4, 8]}}, ["retriever.k"]),
        ({"retriever": {"kind": "hybrid", "k": [4, 60], "fetch_k": 50}}, []),
        ({"retriever": {"kind": "dense", "k": [4, 60], "fetch_k": 50}}, ["retriever.k"]),
        ({"retriever": {"kind": "dense", "k": [4, 60], "mmr_lambda": 0.5, "fetch_k": 50}}, []),
        ({"retriever": ["dense", "bm25"]}, []),
        ({"retriever": ["bm25", {"kind": "dense", "k": [3, 5]}]}, ["retriever.k"]),
        ({"retriever": {"kind": "bm25", "k": [4, 8]}, **RERANKED}, []),
        ({"reranker": {**RERANKER, "k": [2, 4]}}, ["reranker.k"]),
        ({"reranker": ["none", RERANKER]}, []),
    ],
)
def test_a_k_that_no_ranking_depends_on_is_found(sections: dict[str, Any], void: list[str]) -> None:
    variants = expand({**BASE, **sections})
    assert len(variants) > 1
    assert find_void(variants, answers=False) == void
    assert find_void(variants, answers=True) == []


def test_it_is_found_among_files_too(tmp_path: Path) -> None:
    files = []
    for k in (4, 8):
        files.append(tmp_path / f"k{k}.yaml")
        text = "sources: [{kind: files, path: docs}]\nembeddings: hashing\n"
        files[-1].write_text(f"{text}retriever: {{kind: bm25, k: {k}}}\n")
    assert find_void(expand_many(files), answers=False) == ["retriever.k"]
