"""The cross-encoder reranker, on a model of a few random weights made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document

from rag_app import registry
from rag_app.errors import ModelError
from tests.tiny_models import make_cross_encoder

if TYPE_CHECKING:
    import shutil
import shutil
from pathlib import Path

DOCUMENTS = [
    Document(text, id=text[:3], metadata={"source": "a.md", "start": 0, "end": len(text)})
    for text in ("the cat sat", "a dog ran over the sea", "fish", "the cat and the dog", "sea")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("model") / "tiny")


def make(**options: Any) -> Any:
    config = registry.config_class("rerankers", "cross_encoder")(**options)
    return registry.build("rerankers", "cross_encoder", config)


def test_scores_are_the_models(folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    query = "which cat and dog"
    texts = [document.page_content for document in DOCUMENTS]
    scores = CrossEncoder(str(folder)).predict([(query, text) for text in texts])
    assert len(set(scores.tolist())) == len(texts)
    expected = sorted(zip(scores.tolist(), texts, strict=True), reverse=True)
    ranked = make(model=str(folder), k=3).compress_documents(DOCUMENTS, query)
    assert [document.page_content for document in ranked] == [text for _, text in expected[:3]]
    for place, document in enumerate(ranked, 1):
        found = document.metadata["_hit"]
        assert found["score"] == pytest.approx(expected[place - 1][0], abs=1e-6)
        assert found["ranks"]["cross_encoder"] == {"rank": place, "score": found["score"]}
    assert not any("_hit" in document.metadata for document in DOCUMENTS)


def test_nothing_is_reranked_without_a_model() -> None:
    assert make(model="no-such-model").compress_documents([], "cat") == []


def test_a_folder_is_found_beside_the_config_file(folder: Path) -> None:
    config = registry.config_class("rerankers", "cross_encoder").model_validate(
        {"model": folder.name}, context={"folder": str(folder.parent)}
    )
    assert config.model == str(folder)


def test_a_missing_model_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model.*Give the folder"):
        make(model=str(tmp_path / "empty")).compress_documents(DOCUMENTS, "cat")


def test_a_model_of_several_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    place = tmp_path / "classes"
    shutil.copytree(folder, place)
    classes = BertForSequenceClassification.from_pretrained(
        folder, num_labels=3, ignore_mismatched_sizes=True
    )
    classes.save_pretrained(place)
    with pytest.raises(ModelError, match="one finite score"):
        make(model=str(place)).compress_documents(DOCUMENTS, "cat")


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16", "bfloat16"])
def test_the_dtype_moves_scores_a_little(folder: Path, dtype: str) -> None:
    def score(**options: Any) -> dict[str, float]:
        ranked = make(model=str(folder), k=5, device="cpu", **options).compress_documents(
            DOCUMENTS, "which cat and dog"
        )
        return {document.page_content: document.metadata["_hit"]["score"] for document in ranked}

    exact, found = score(dtype="float32"), score(dtype=dtype)
    assert found == pytest.approx(exact, abs={"float16": 0.02, "bfloat16": 0.2}.get(dtype, 1e-6))


def test_a_chat_model_is_no_cross_encoder(tmp_path: Path) -> None:
    from transformers import BertTokenizer, GPT2Config, GPT2LMHeadModel

    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\ndog")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=8, n_layer=1, n_head=1)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ModelError, match="model trained for reranking"):
        make(model=str(tmp_path)).compress_documents(DOCUMENTS, "cat")


def test_a_model_with_holes_is_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would fill them with random numbers and say so in its log alone."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, tmp_path / "holes")
    weights = load_file(tmp_path / "holes" / "model.safetensors")
    del weights["bert.pooler.dense.weight"]
    save_file(weights, tmp_path / "holes" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights: bert.pooler.dense.weight"):
        make(model=str(tmp_path / "holes")).compress_documents(DOCUMENTS, "cat")


def test_a_name_that_cannot_be_downloaded_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="reranker.model: 'owner/none' is not on this disk"):
        make(model="owner/none").compress_documents(DOCUMENTS, "cat")
