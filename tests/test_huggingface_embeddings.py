"""Local embedding models, against a plain forward pass and pooling by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from rag_app import registry
from rag_app.errors import ModelError, TruncationWarning, UsageError
from tests.hub_server import COMMIT, HubServer
from tests.tiny_models import add_sparse_head, describe_sentences, make_bert, make_qwen3

TEXTS = ["the cat sat", "a dog ran over the sea and the fish", "", "两 cat", "sea \ud83d fish"]
POOLINGS = ["cls", "mean", "last_token"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with the tiny models, by pooling; `bare` says none."""
    place = tmp_path_factory.mktemp("models")
    make_bert(place / "bare")
    for pooling in ("cls", "mean"):
        shutil.copytree(place / "bare", place / pooling)
        describe_sentences(place / pooling, pooling)
    describe_sentences(make_qwen3(place / "last_token"), "lasttoken")
    shutil.copytree(place / "cls", place / "sparse")
    add_sparse_head(place / "sparse")
    return place


def build(model: Path | str, **options: Any) -> Any:
    config = registry.config_class("embeddings", "huggingface")(
        model=str(model), device="cpu", **options
    )
    return registry.build("embeddings", "huggingface", config)


def compute(folder: Path, pooling: str, text: str) -> np.ndarray[Any, Any]:
    """The vector of one text without padding, by transformers and NumPy alone."""
    states, _ = run(folder, text)
    pooled = {"cls": states[0], "mean": states.mean(axis=0), "last_token": states[-1]}[pooling]
    return pooled / np.linalg.norm(pooled)


def run(folder: Path, text: str) -> tuple[np.ndarray[Any, Any], list[int]]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state[0]
    return states.double().numpy(), inputs["input_ids"][0].tolist()


class _Standard:
    @property
    def embeddings_class(self) -> Any:
        return build

    @pytest.fixture(autouse=True)
    def _folder(self, models: Path) -> None:
        self.folder = models / "mean"

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self.folder}


class TestHuggingFaceUnit(_Standard, EmbeddingsUnitTests):
    pass


class TestHuggingFace(_Standard, EmbeddingsIntegrationTests):
    pass


# -- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_those_of_a_plain_forward_pass(models: Path, pooling: str) -> None:
    vectors = np.array(build(models / pooling).embed_documents(TEXTS))
    clean = [text.replace("\ud83d", "\ufffd") for text in TEXTS]
    expected = np.array([compute(models / pooling, pooling, text) for text in clean])
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_vector_is_the_same_alone_and_in_a_batch_and_in_order(models: Path, pooling: str) -> None:
    texts = [f"{'the cat and ' * n}dog" for n in (7, 1, 5, 0, 3, 2, 6)]
    embeddings = build(models / pooling, batch_size=3)
    together = np.array(embeddings.embed_documents(texts))
    alone = np.array([embeddings.embed_query(text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_bare_folder_is_pooled_as_told_and_never_by_a_guess(models: Path, pooling: str) -> None:
    vector = build(models / "bare", pooling=pooling).embed_query("the cat")
    np.testing.assert_allclose(vector, compute(models / "bare", pooling, "the cat"), atol=2e-6)
    with pytest.raises(ModelError, match="does not say which state becomes the vector") as told:
        build(models / "bare").embed_query("the cat")
    assert told.value.where == "embeddings.pooling"


def test_a_bare_folder_is_pooled_as_its_card_says(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "bare", tmp_path / "bge-small-en-v1.5")
    embeddings = build(tmp_path / "bge-small-en-v1.5")
    assert embeddings.identity["pooling"] == "cls"
    expected = compute(models / "bare", "cls", "the cat")
    np.testing.assert_allclose(embeddings.embed_documents(["the cat"])[0], expected, atol=2e-6)


def test_a_folder_that_pools_otherwise_than_its_card_is_refused(
    models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models / "mean", tmp_path / "bge-small-en-v1.5")
    with pytest.raises(ModelError, match="says pooling 'mean'; BAAI/bge-small-en-v1.5 has 'cls'"):
        build(tmp_path / "bge-small-en-v1.5").embed_query("the cat")
    with pytest.raises(ModelError, match="says pooling 'mean'; the option says 'cls'"):
        build(models / "mean", pooling="cls").embed_query("the cat")


def test_shortened_vectors_have_length_one(models: Path) -> None:
    vector = build(models / "mean", dimensions=8).embed_query("the cat")
    cut = compute(models / "mean", "mean", "the cat")[:8]
    np.testing.assert_allclose(vector, cut / np.linalg.norm(cut), atol=2e-6)
    with pytest.raises(ModelError, match="has vectors of 32 dimensions, not of 48"):
        build(models / "mean", dimensions=48).embed_query("the cat")
    with pytest.raises(UsageError, match="no vectors of 100 dimensions"):
        build("BAAI/bge-m3", dimensions=100)


def test_threads_share_a_model(models: Path) -> None:
    embeddings = build(models / "mean")
    texts = [f"{'cat ' * (n % 9)}dog" for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(embeddings.embed_query, texts))
        counts = list(pool.map(embeddings.count_tokens, texts))
    expected = [compute(models / "mean", "mean", text) for text in texts[:9]]
    np.testing.assert_allclose(np.array(vectors[:9]), np.array(expected), atol=2e-6)
    assert counts == [n % 9 + 3 for n in range(40)]


# -- prefixes -------------------------------------------------------------------------------------


def test_prefixes_are_the_users_else_the_cards_else_the_folders(
    models: Path, tmp_path: Path
) -> None:
    told = {"query": "the dog : ", "passage": "a fish : "}
    unknown, known = tmp_path / "unheard-of", tmp_path / "e5-small-v2"
    for folder in (unknown, known):
        shutil.copytree(models / "mean", folder)
        describe_sentences(folder, "mean", told)
    cases: list[tuple[Path, dict[str, str], str, str]] = [
        (unknown, {}, "the dog : ", "a fish : "),
        (known, {}, "query: ", "passage: "),
        (known, {"query_prefix": "sea "}, "sea ", "passage: "),
        (unknown, {"query_prefix": "", "document_prefix": ""}, "", ""),
    ]
    for folder, options, query, document in cases:
        embeddings = build(folder, **options)
        assert embeddings.prefixes == {"query": query, "document": document}
        assert embeddings.identity["query_prefix"] == query
        asked, stored = embeddings.embed_query("cat"), embeddings.embed_documents(["cat"])[0]
        np.testing.assert_allclose(asked, compute(folder, "mean", f"{query}cat"), atol=2e-6)
        np.testing.assert_allclose(stored, compute(folder, "mean", f"{document}cat"), atol=2e-6)


# -- tokens ---------------------------------------------------------------------------------------


def test_tokens_are_the_models_own(models: Path) -> None:
    embeddings, text = build(models / "mean"), "the naïve wing — 两 wings"
    words = [text[start:end] for start, end in embeddings.token_spans(text)]
    assert words == ["the", "naïve", "wing", "—", "两", "wings"]
    assert embeddings.count_tokens(text) == len(words) + 2
    assert embeddings.max_tokens == 64
    prefixed = build(models / "mean", document_prefix="the cat ")
    assert prefixed.count_tokens(text) == len(words) + 4


def test_what_is_cut_is_counted_and_told(models: Path) -> None:
    embeddings = build(models / "mean", max_tokens=10)
    assert embeddings.max_tokens == 10
    with pytest.warns(TruncationWarning, match="1 of 2 texts exceed the window of 10") as told:
        long, _ = embeddings.embed_documents(["cat " * 20, "cat"])
    assert told[0].filename == __file__
    assert embeddings.truncated == 1
    expected = compute(models / "mean", "mean", "cat " * 8)
    np.testing.assert_allclose(long, expected, atol=2e-6)


def test_a_window_wider_than_the_model_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match=r"100 tokens are more than .* has places for \(64\)"):
        build(models / "mean", max_tokens=100).embed_query("cat")


# -- identity and errors --------------------------------------------------------------------------


def test_a_folder_counts_by_what_it_holds_not_by_where_it_lies(
    models: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(models / "mean", moved)
    first, second = build(models / "mean"), build(moved)
    assert first.identity == second.identity
    assert (
        "model"
        not in registry.config_class("embeddings", "huggingface")(model=str(moved)).identity()
    )
    (moved / "README.md").write_text("words that decide nothing")
    assert build(moved).identity == first.identity
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    assert build(moved).identity != first.identity


def test_a_folder_is_found_beside_the_config_file(models: Path) -> None:
    config = registry.config_class("embeddings", "huggingface").model_validate(
        {"model": "mean"}, context={"folder": str(models)}
    )
    assert config.model == str(models / "mean")


def test_what_cannot_be_loaded_is_told(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model"):
        build(tmp_path / "empty").embed_query("cat")
    with pytest.raises(ModelError, match="is no folder"):
        build("./models/not-there").embed_query("cat")
    shutil.copytree(models / "mean", tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        build(tmp_path / "damaged").embed_query("cat")


@pytest.mark.parametrize("verbosity", ["warning", "error"])
def test_weights_with_holes_are_refused_and_not_filled_with_random_ones(
    models: Path, tmp_path: Path, verbosity: str
) -> None:
    from safetensors.numpy import load_file, save_file
    from transformers.utils import logging

    for hole in ("encoder.layer.0.output.dense.weight", "pooler.dense.weight"):
        folder = tmp_path / hole
        shutil.copytree(models / "mean", folder)
        tensors = load_file(folder / "model.safetensors")
        del tensors[hole]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    before = logging.get_verbosity()
    getattr(logging, f"set_verbosity_{verbosity}")()
    try:
        with pytest.raises(ModelError, match=r"lacks weights: encoder\.layer\.0\.output\.dense"):
            build(tmp_path / "encoder.layer.0.output.dense.weight").embed_query("the cat")
        found = build(tmp_path / "pooler.dense.weight").embed_query("the cat")
    finally:
        logging.set_verbosity(before)
    np.testing.assert_allclose(found, compute(models / "mean", "mean", "the cat"), atol=2e-6)


def test_a_folder_whose_code_would_have_to_be_run_is_refused(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    shutil.copytree(models / "bare", folder)
    config = folder / "config.json"
    added = '{"auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Model"}, "model_type": "own",'
    config.write_text(added + config.read_text().replace('"model_type": "bert"', '"a": 1')[1:])
    (folder / "own.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(ModelError, match="needs Python code of its repository"):
        build(folder, pooling="mean").embed_query("cat")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points the hub's client to an address, with an empty place to keep models in."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def point(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )

    return point


def test_a_name_without_a_network_fails_at_once_and_says_why(hub: Callable[[str], None]) -> None:
    hub("http://127.0.0.1:9")
    with pytest.raises(ModelError, match="not on this disk, and huggingface.co cannot be reached"):
        build("someone/unheard-of").embed_query("cat")


def test_a_name_is_downloaded_once_and_then_used_without_the_hub(
    hub: Callable[[str], None], models: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    shutil.copytree(models / "mean", given)
    (given / "modeling_own.py").write_text("raise SystemExit")
    (given / "pytorch_model.bin").write_bytes(b"the same weights in the older form")
    (given / "onnx").mkdir()
    (given / "onnx" / "model.onnx").write_bytes(b"for other programs")
    with HubServer("someone/tiny", given) as server:
        hub(server.url)
        first = build("someone/tiny")
        found = first.embed_query("the cat")
        needed = {"config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json"}
        assert needed | {"model.safetensors"} <= set(server.fetched)
        unneeded = {"modeling_own.py", "pytorch_model.bin", "onnx/model.onnx"}
        assert not unneeded & set(server.fetched)
    np.testing.assert_allclose(found, compute(models / "mean", "mean", "the cat"), atol=2e-6)
    hub("http://127.0.0.1:9")
    second = build("someone/tiny")
    assert second.embed_query("the cat") == found
    assert second.identity["revision"] == first.identity["revision"] == f"commit {COMMIT}"


def test_a_bare_model_is_known_to_be_bare_without_the_hub(
    hub: Callable[[str], None], models: Path
) -> None:
    with HubServer("someone/tiny", models / "bare") as server:
        hub(server.url)
        found = build("someone/tiny", pooling="cls").embed_query("the cat")
    hub("http://127.0.0.1:9")
    assert build("someone/tiny", pooling="cls").embed_query("the cat") == found
    with pytest.raises(ModelError, match="does not say which state"):
        build("someone/tiny").embed_query("the cat")


def test_what_another_program_kept_in_part_is_completed(
    hub: Callable[[str], None], models: Path
) -> None:
    from huggingface_hub import hf_hub_download

    with HubServer("someone/tiny", models / "mean") as server:
        hub(server.url)
        for file in ("config.json", "model.safetensors"):
            hf_hub_download("someone/tiny", file)
        found = build("someone/tiny").embed_query("the cat")
        assert "modules.json" in server.fetched
    np.testing.assert_allclose(found, compute(models / "mean", "mean", "the cat"), atol=2e-6)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "huggingface.co has no model 'someone/else'"),
        (401, "does not give out 'someone/else'.*misspelt or closed"),
        (500, r"huggingface.co failed \(500\)"),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: Callable[[str], None], models: Path, status: int, words: str
) -> None:
    with HubServer("someone/tiny", models / "mean", {"someone/else": status}) as server:
        hub(server.url)
        with pytest.raises(ModelError, match=words):
            build("someone/else").embed_query("cat")


# -- weights of tokens ----------------------------------------------------------------------------


def test_tokens_are_weighed_as_the_paper_says(models: Path) -> None:
    import torch

    head = torch.load(models / "sparse" / "sparse_linear.pt", weights_only=True)
    linear = head["weight"].double().numpy()[0], float(head["bias"][0])
    texts = ["the cat sat and the cat ran", "sea", "a dog and two fish"]
    found = build(models / "sparse", batch_size=2).sparse(texts)
    for text, weighed in zip(texts, found, strict=True):
        states, ids = run(models / "sparse", text)
        expected: dict[int, float] = {}
        for token, weight in zip(ids, states @ linear[0] + linear[1], strict=True):
            if weight > 0 and token > 4:  # the first five are special
                expected[token] = max(expected.get(token, 0.0), weight)
        assert weighed == pytest.approx(expected, abs=1e-5)
    assert any(found)


def test_a_model_without_the_head_says_so(models: Path) -> None:
    embeddings = build(models / "mean")
    assert not embeddings.has_sparse
    with pytest.raises(ModelError, match="weighs no tokens"):
        embeddings.sparse(["cat"])
