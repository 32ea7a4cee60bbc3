"""What is measured counts for what decides it, by its values: not for how it is written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import chains
from rag_app.config import AppConfig, load_config
from rag_app.evaluation.conditions import digest_config, digest_index
from tests.evaluation.corpora import make_config, write_corpus

SERVED = {"kind": "openai", "model": "m", "base_url": "http://localhost:1/v1"}


def read(folder: Path, **sections: Any) -> AppConfig:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    return load_config(make_config(folder, **sections), {})


def test_alike_texts_in_two_folders_are_two_configs(tmp_path: Path) -> None:
    made = []
    for name in ("old", "new"):
        write_corpus(tmp_path / name / "docs", 1)
        file = tmp_path / name / "app.yaml"
        file.write_text("name: shop\nsources: [{kind: files, path: docs}]\nembeddings: hashing\n")
        made.append(load_config(file, {}))
    old, new = made
    assert old.record() == new.record()
    assert digest_index(old) != digest_index(new)
    assert digest_config(old) != digest_config(new)
    assert digest_config(old) == digest_config(load_config(tmp_path / "old" / "app.yaml", {}))
    assert digest_config(replace(old, name="other")) == digest_config(old)


def test_a_variable_counts_by_its_value_and_a_secret_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for key in ("first", "second"):
        monkeypatch.setenv("STORE", f"postgresql://user:{key}@localhost/x")
        config = read(tmp_path, vector_store={"kind": "pgvector", "url": "${STORE}"})
        digests |= {digest_index(config), digest_config(config)}
    assert len(digests) == 4
    assert all(len(each) == 64 and int(each, 16) for each in digests)


@pytest.mark.parametrize(
    ("changed", "another"),
    [
        ({"price": 7}, False),
        ({"timeout": 7}, False),
        ({"max_retries": 1}, False),
        ({"batch_size": 7}, False),
        ({"api_key": "${SMALL_KEY}"}, False),
        ({"model": "n"}, True),
        ({"base_url": "http://localhost:2/v1"}, True),
        ({"document_prefix": "x"}, True),
    ],
    ids=str,
)
def test_an_index_is_another_only_for_what_decides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], another: bool
) -> None:
    monkeypatch.setenv("SMALL_KEY", "k")
    one = read(tmp_path, embeddings=SERVED)
    other = read(tmp_path, embeddings={**SERVED, **changed})
    assert (digest_index(one) != digest_index(other)) is another
    assert digest_config(one) != digest_config(other)  # each changes a figure: quality, time, cost


def test_where_the_index_is_and_what_it_reads_decide_it(tmp_path: Path) -> None:
    source = {"kind": "files", "path": str(tmp_path / "docs")}
    store = {"kind": "memory", "path": str(tmp_path / "other.sqlite")}
    configs = [
        read(tmp_path),
        read(tmp_path, index={"path": str(tmp_path / "elsewhere")}),
        read(tmp_path, vector_store=store),
        read(tmp_path, sources=[{**source, "include": ["*.md"]}]),
        read(tmp_path, splitter="recursive"),
    ]
    assert len({digest_index(each) for each in configs}) == len(configs)
    searched = read(tmp_path, retriever={"kind": "bm25", "k": 9})
    assert digest_index(searched) == digest_index(configs[0])
    assert digest_config(searched) != digest_config(configs[0])


def test_the_files_of_a_local_model_count(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    weights = model / "model.safetensors"
    weights.write_bytes(b"1")
    reranker = {"kind": "cross_encoder", "model": str(model)}
    one = digest_config(read(tmp_path, reranker=reranker))
    assert digest_config(read(tmp_path, reranker=reranker)) == one
    weights.write_bytes(b"2")
    os.utime(weights, ns=(1, 1))
    assert digest_config(read(tmp_path, reranker=reranker)) != one


def test_the_code_of_a_chain_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(chains.__file__).parent / "extractive.py"
    mine = tmp_path / "mine" / "chains_of_mine.py"
    mine.parent.mkdir()
    mine.write_text(own.read_text())
    monkeypatch.setattr(chains, "__path__", [*chains.__path__, str(mine.parent)])
    one = digest_config(read(tmp_path, chain="chains_of_mine"))
    assert digest_config(read(tmp_path, chain="chains_of_mine")) == one
    mine.write_text(own.read_text() + "\n# changed\n")
    assert digest_config(read(tmp_path, chain="chains_of_mine")) != one
