"""The embedded model equals the published one: an independent BERT, published similarities."""

from __future__ import annotations

import gc
import hashlib
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import rag_app
from rag_app.errors import TruncationWarning
from rag_app.minilm import FOLDER, MAX_TOKENS, MiniLM

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Reference = Callable[[str], NDArray[np.float32]]

TEXTS = [
    "",
    "wing",
    "Dense retrieval compares vectors; BM25 compares words.",
    "Ünïcödé, naïve café — 42 % of “quotes”…",
    "向量数据库は検索に使う。 벡터 검색",
    "def f(x):\n    return x ** 2  # 🦜🔗\n" * 5,
    "Supercalifragilisticexpialidocious " * 12,
    "The boundary layer separates from the wing at high angles of attack. " * 14,
]
LONG = "retrieval " * 400


@pytest.fixture(scope="module")
def fp32() -> MiniLM:
    return MiniLM("fp32", threads=2)


@pytest.fixture(scope="module")
def int8() -> MiniLM:
    return MiniLM("int8", threads=2)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Token vectors by transformers' own BERT on torch, with the shipped weights."""
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    bert = BertModel(BertConfig(**shape), add_pooling_layer=False).eval()
    weights = {n: t.float() for n, t in load_file(FOLDER / "weights.safetensors").items()}
    missing, unexpected = bert.load_state_dict(weights, strict=False)
    assert set(missing) <= {"embeddings.position_ids"}
    assert not unexpected
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)

    def run(text: str) -> NDArray[np.float32]:
        with torch.no_grad():
            vectors: Any = bert(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        return np.asarray(vectors.numpy(), np.float32)

    return run


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_equals_torch(text: str, fp32: MiniLM, reference: Reference) -> None:
    expected, sentence = reference(text), fp32.encode([text])[0]
    assert sentence.dtype == np.float32
    np.testing.assert_allclose(sentence, normalise(expected.mean(axis=0)), atol=2e-6)


def test_a_text_over_the_window_equals_torch(fp32: MiniLM, reference: Reference) -> None:
    with pytest.warns(TruncationWarning):
        sentence = fp32.encode([LONG])[0]
    np.testing.assert_allclose(sentence, normalise(reference(LONG).mean(axis=0)), atol=2e-6)


@pytest.mark.parametrize(
    ("first", "second", "published"),
    [  # the model's card and the sentence-transformers manual
        ("That is a happy person", "That is a very happy person", 0.943),
        ("That is a happy person", "That is a happy dog", 0.695),
        ("That is a happy person", "Today is a sunny day", 0.257),
        ("The cat sits outside", "The dog plays in the garden", 0.284),
        ("The new movie is awesome", "The new movie is so great", 0.894),
    ],
)
def test_gives_the_published_similarities(
    first: str, second: str, published: float, fp32: MiniLM
) -> None:
    vectors = fp32.encode([first, second])
    assert vectors[0] @ vectors[1] == pytest.approx(published, abs=0.002)


def test_int8_is_near_fp32(fp32: MiniLM, int8: MiniLM) -> None:
    cosines = (fp32.encode(TEXTS) * int8.encode(TEXTS)).sum(axis=1)
    assert cosines.mean() > 0.985
    assert cosines.min() > 0.95


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_does_not_depend_on_its_neighbours(precision: Any) -> None:
    together = MiniLM(precision, threads=4).encode(TEXTS * 3)
    model = MiniLM(precision, threads=1)
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    assert np.array_equal(together, np.tile(alone, (3, 1)))
    assert np.array_equal(model.encode(TEXTS[::-1]), alone[::-1])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_vector_has_length_one(precision: Any) -> None:
    lengths = np.linalg.norm(MiniLM(precision).encode(TEXTS), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_no_texts_give_no_vectors(fp32: MiniLM) -> None:
    assert fp32.encode([]).shape == (0, 384)


def test_one_model_serves_many_threads(fp32: MiniLM) -> None:
    expected = fp32.encode(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fp32.encode, [TEXTS] * 16))
    assert all(np.array_equal(vectors, expected) for vectors in found)


def test_texts_over_the_window_are_counted_and_told_once_per_call() -> None:
    model = MiniLM(threads=2)
    with pytest.warns(TruncationWarning, match="2 of 3 texts") as told:
        model.encode([LONG, "short", LONG])
    assert len(told) == 1
    assert model.truncated == 2
    with pytest.warns(TruncationWarning, match="1 of 1 texts"):
        model.encode([LONG])
    assert model.truncated == 3


def test_the_window_holds_256_tokens_with_the_special_ones() -> None:
    model = MiniLM()
    full = " ".join(["wing"] * (MAX_TOKENS - 2))
    assert model.count_tokens(full) == MAX_TOKENS
    model.encode([full])
    assert model.truncated == 0
    with pytest.warns(TruncationWarning):
        assert np.array_equal(model.encode([full + " wing flap"]), model.encode([full]))
    assert model.truncated == 1


def test_tokens_are_counted_beyond_the_window(fp32: MiniLM) -> None:
    assert fp32.count_tokens("") == 2
    assert fp32.count_tokens("wing flap") == 4
    assert fp32.count_tokens("wing " * 10_000) == 10_002


def test_spans_point_at_the_words(fp32: MiniLM) -> None:
    text = "  The café's naïve 🦜 parrot\n\tsaid: 你好 Tokenisation!"
    spans = fp32.token_spans(text)
    words = [text[start:end] for start, end in spans]
    assert words[:4] == ["The", "café", "'", "s"]
    assert words[words.index("你") :][:2] == ["你", "好"]
    assert "".join(words).endswith("Tokenisation!")
    assert spans == sorted(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert len(spans) == fp32.count_tokens(text) - 2


def test_spans_go_on_beyond_the_window(fp32: MiniLM) -> None:
    spans = fp32.token_spans("wing " * 1000)
    assert len(spans) == 1000
    assert spans[-1] == (4995, 4999)


def test_a_lone_surrogate_is_no_reason_to_fail(fp32: MiniLM) -> None:
    text = "wing \ud83d flap"
    assert [text[start:end] for start, end in fp32.token_spans(text)] == ["wing", "flap"]
    assert np.array_equal(fp32.encode([text]), fp32.encode(["wing flap"]))


def test_an_interrupt_leaves_no_work_behind(fp32: MiniLM) -> None:
    texts = ["The boundary layer separates from the wing. " * 20] * 3000
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    gc.collect()
    gc.disable()  # Python drops an interrupt that hits while garbage is collected
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            fp32.encode(texts)
        timer.join()
    finally:
        gc.enable()
    assert not [t for t in threading.enumerate() if t.name.startswith("minilm")]
    assert fp32.encode(["still here"]).shape == (1, 384)


def test_shipped_files_are_those_of_the_notice() -> None:
    notice = (FOLDER / "NOTICE").read_text("utf-8").partition("files here:")[2]
    sums = dict(re.findall(r"([0-9a-f]{64})  (\S+)", notice))
    assert set(sums.values()) == {p.name for p in FOLDER.iterdir()} - {"LICENSE", "NOTICE"}
    for expected, name in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == expected
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 50_000_000


@pytest.mark.parametrize("damage", ["absent", "cut short"])
def test_damaged_weights_are_named_with_the_remedy(damage: str, tmp_path: Path) -> None:
    package = Path(rag_app.__file__).parent
    copy = tmp_path / "rag_app"
    (copy / "models").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "types.py", "minilm.py"):
        shutil.copy(package / name, copy)
    shutil.copytree(FOLDER, copy / "models" / "minilm")
    weights = copy / "models" / "minilm" / "weights.safetensors"
    short = weights.read_bytes()[:1000]
    weights.unlink()
    if damage == "cut short":
        weights.write_bytes(short)
    code = "from rag_app.minilm import MiniLM; MiniLM().encode(['wing'])"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "ModelError: minilm: " in run.stderr
    assert str(weights) in run.stderr
    assert "pip install --force-reinstall" in run.stderr
