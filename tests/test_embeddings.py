"""Each embedding backend of ours is a LangChain `Embeddings` and a token counter."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from rag_app import registry
from rag_app.embeddings import hashing, minilm
from rag_app.embeddings._hashing import HashingEmbeddings
from rag_app.embeddings._minilm import MiniLMEmbeddings
from rag_app.errors import TruncationWarning
from rag_app.minilm import MiniLM


class _MiniLM:
    @property
    def embeddings_class(self) -> type[MiniLMEmbeddings]:
        return MiniLMEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": MiniLM()}


class TestMiniLMUnit(_MiniLM, EmbeddingsUnitTests):
    pass


class TestMiniLM(_MiniLM, EmbeddingsIntegrationTests):
    pass


class _Hashing:
    @property
    def embeddings_class(self) -> type[HashingEmbeddings]:
        return HashingEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"dimension": 64}


class TestHashingUnit(_Hashing, EmbeddingsUnitTests):
    pass


class TestHashing(_Hashing, EmbeddingsIntegrationTests):
    pass


def build(name: str, **options: Any) -> Any:
    config = registry.config_class("embeddings", name)(**options)
    return registry.build("embeddings", name, config)


@pytest.mark.parametrize("name", ["minilm", "hashing"])
def test_a_question_and_a_document_are_embedded_alike(name: str) -> None:
    embeddings = build(name)
    texts = ["How do I reset my password?", "", "向量数据库"]
    assert embeddings.embed_documents(texts) == [embeddings.embed_query(text) for text in texts]
    assert embeddings.embed_documents([]) == []


@pytest.mark.parametrize("name", ["minilm", "hashing"])
def test_every_vector_is_finite_and_of_length_one(name: str) -> None:
    texts = ["", " \n", "…!", "wing", "向", "\ud83d", "a b c " * 80]
    vectors = np.array(build(name).embed_documents(texts))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", ["minilm", "hashing"])
def test_spans_cover_the_words_that_are_counted(name: str) -> None:
    embeddings, text = build(name), "One naïve wing — 两 wings"
    words = [text[start:end] for start, end in embeddings.token_spans(text)]
    assert [word for word in words if word != "—"] == ["One", "naïve", "wing", "两", "wings"]
    special = 0 if embeddings.max_tokens is None else 2
    assert embeddings.count_tokens(text) == len(words) + special


def test_threads_are_no_part_of_the_identity_and_precision_is() -> None:
    assert minilm.Config(threads=3).identity() == {"precision": "fp32"}
    assert minilm.Config(precision="int8").identity() == {"precision": "int8"}
    assert build("minilm", threads=1).embed_query("wing") == build("minilm").embed_query("wing")
    assert hashing.Config(dimension=64).identity() == {"dimension": 64}


def test_minilm_counts_and_tells_what_it_cut() -> None:
    embeddings = build("minilm")
    with pytest.warns(TruncationWarning, match="1 of 2 texts") as told:
        embeddings.embed_documents(["wing " * 300, "wing"])
    with pytest.warns(TruncationWarning, match="1 of 1 texts"):
        embeddings.embed_query("wing " * 300)
    assert told[0].filename == __file__
    assert embeddings.truncated == 2
    assert embeddings.max_tokens == 256


def test_hashing_gives_the_cosine_of_shared_words() -> None:
    vectors = np.array(build("hashing", dimension=65536).embed_documents(["A cat sat", "the CAT"]))
    assert vectors[0] @ vectors[1] == pytest.approx(1 / np.sqrt(3 * 2), abs=1e-6)


def test_hashing_dampens_repeated_words() -> None:
    vectors = np.array(build("hashing").embed_documents(["cat cat cat dog", "cat"]))
    tf = 1 + np.log(3)
    assert vectors[0] @ vectors[1] == pytest.approx(tf / np.hypot(tf, 1), abs=1e-6)


def test_hashing_knows_the_order_of_characters_without_spaces() -> None:
    embeddings = build("hashing", dimension=65536)
    asked, same, shuffled = np.array(
        embeddings.embed_documents(["向量数据库", "向量数据库好", "库据数量向"])
    )
    assert asked @ same > asked @ shuffled > 0.3


def test_hashing_is_the_same_in_every_process() -> None:
    code = (
        "from rag_app.embeddings import hashing;"
        "print(hashing.build(hashing.Config(dimension=16)).embed_query('wing flap 向量'))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{build('hashing', dimension=16).embed_query('wing flap 向量')}\n"}
