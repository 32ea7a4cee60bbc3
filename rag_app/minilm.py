"""all-MiniLM-L6-v2 on onnxruntime: the embedding model shipped with rag-app. No torch.

The model (Reimers & Gurevych 2019, sentence-transformers; weights in `models/minilm/`, see NOTICE
there) maps a text of up to 256 tokens to 384 numbers: the mean of its token vectors, scaled to
length 1. Texts run one at a time on several threads. On a CPU that is faster than batches, and it
makes a vector a function of its text alone: the same bits whatever else is embedded in the same
call, on any number of threads.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from rag_app.errors import ModelError, TruncationWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

    from rag_app.types import Span

Precision: TypeAlias = Literal["fp32", "int8"]

MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
REVISION: Final = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
"""The window the model was trained for, [CLS] and [SEP] included."""
FOLDER: Final = Path(__file__).parent / "models" / "minilm"

_LAYERS: Final = 6
_GRAPHS: Final = {"fp32": "graph.onnx", "int8": "graph_int8.onnx"}
_SLOW_FUSIONS: Final = ["SkipLayerNormFusion", "BiasGeluFusion"]
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class MiniLM:
    """The model, safe to share between threads.

    Args:
        precision: "fp32", or "int8": twice as fast, with close vectors (cosine 0.99).
        threads: texts computed at the same time; None for one per CPU this process may use.

    Attributes:
        truncated: how many texts have been cut to the window so far.
    """

    def __init__(self, precision: Precision = "fp32", threads: int | None = None) -> None:
        self.precision = precision
        self.threads = threads or _count_cpus()
        self.truncated = 0
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentence vectors of `texts`, float32 (n, 384), each of length 1.

        Warns once per call with `TruncationWarning` when texts exceed the window.
        """
        session = _open_session(self.precision)

        def run(text: str) -> tuple[NDArray[np.float32], bool]:
            ids = _tokenize(text).ids
            cut = len(ids) > MAX_TOKENS
            if cut:
                ids = [*ids[: MAX_TOKENS - 1], ids[-1]]
            return session.run(["sentence"], {"ids": np.array(ids, np.int64)})[0], cut

        results = _map(run, texts, self.threads)
        self._count(sum(cut for _, cut in results), len(texts))
        return (
            np.stack([v for v, _ in results]) if results else np.empty((0, DIMENSION), np.float32)
        )

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without truncation, [CLS] and [SEP] included."""
        return len(_tokenize(text))

    def token_spans(self, text: str) -> list[Span]:
        """The character span of each token of `text`, in order, without [CLS] and [SEP]; uncut."""
        return _tokenize(text).offsets[1:-1]

    def _count(self, cut: int, texts: int) -> None:
        if not cut:
            return
        with self._lock:
            self.truncated += cut
        wrong = f"{cut} of {texts} texts exceed MiniLM's window of {MAX_TOKENS} tokens and were cut"
        warnings.warn(f"{wrong}. Split them into smaller chunks.", TruncationWarning, stacklevel=4)


def _map(run: Callable[[str], Any], texts: Sequence[str], threads: int) -> list[Any]:
    """`[run(text) for text in texts]` on threads; an interrupt ends it within one text."""
    if len(texts) < 2 or threads == 1:
        return [run(text) for text in texts]
    pool = ThreadPoolExecutor(min(threads, len(texts)), thread_name_prefix="minilm")
    try:
        return list(pool.map(run, texts))
    finally:
        pool.shutdown(cancel_futures=True)


def _tokenize(text: str) -> Encoding:
    # A lone surrogate is no text in any encoding; the model drops U+FFFD, and the spans stay right.
    return _open_tokenizer().encode(_LONE_SURROGATE.sub("\ufffd", text))


def _count_cpus() -> int:
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@functools.cache
def _open_tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_read("tokenizer.json").decode("utf-8"))


@functools.cache
def _open_session(precision: Precision) -> InferenceSession:
    """The graph with its weights, one per precision and process."""
    import onnxruntime

    tensors = _arrange(_load_weights(), _quantise if precision == "int8" else _keep)
    # onnxruntime reads these arrays in place: they must outlive the session.
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in tensors.values()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_external_initializers(list(tensors), values)
    session = onnxruntime.InferenceSession(
        _read(_GRAPHS[precision]),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=_SLOW_FUSIONS,
    )
    session.rag_app_weights = (tensors, values)
    return session


def _load_weights() -> dict[str, NDArray[np.float16]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(_read("weights.safetensors"))
    except SafetensorError as error:
        raise _damaged("weights.safetensors", str(error)) from error


def _read(name: str) -> bytes:
    try:
        return (FOLDER / name).read_bytes()
    except OSError as error:
        raise _damaged(name, str(error.strerror)) from error


def _damaged(name: str, reason: str) -> ModelError:
    wrong = f"{FOLDER / name} cannot be read: {reason}"
    return ModelError("minilm", wrong, "Run: pip install --force-reinstall --no-deps rag-app")


Linear: TypeAlias = Callable[[str, "NDArray[np.float32]"], "dict[str, NDArray[Any]]"]


def _arrange(weights: dict[str, NDArray[np.float16]], linear: Linear) -> dict[str, NDArray[Any]]:
    """The published tensors under the graph's names; `linear` lays out each matrix (out, in)."""

    def get(*names: str) -> NDArray[np.float32]:
        return np.concatenate([weights[name].astype(np.float32) for name in names])

    place, kind = get("embeddings.position_embeddings.weight"), "embeddings.token_type_embeddings"
    tensors: dict[str, NDArray[Any]] = {
        "words": weights["embeddings.word_embeddings.weight"],
        "places": place + get(f"{kind}.weight")[0],  # every token is of the first type
    }
    for target, source in _name_norms().items():
        tensors[f"{target}.gain"] = get(f"{source}.weight")
        tensors[f"{target}.shift"] = get(f"{source}.bias")
    for target, sources in _name_matrices().items():
        tensors |= linear(target, get(*(f"{source}.weight" for source in sources)))
        tensors[f"{target}.bias"] = get(*(f"{source}.bias" for source in sources))
    return tensors


def _name_norms() -> dict[str, str]:
    names = {"embeddings": "embeddings.LayerNorm"}
    for n in range(_LAYERS):
        names[f"layer.{n}.attention"] = f"encoder.layer.{n}.attention.output.LayerNorm"
        names[f"layer.{n}"] = f"encoder.layer.{n}.output.LayerNorm"
    return names


def _name_matrices() -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for n in range(_LAYERS):
        layer = f"encoder.layer.{n}"
        heads = ("query", "key", "value")
        names[f"layer.{n}.qkv"] = [f"{layer}.attention.self.{head}" for head in heads]
        names[f"layer.{n}.output"] = [f"{layer}.attention.output.dense"]
        names[f"layer.{n}.widen"] = [f"{layer}.intermediate.dense"]
        names[f"layer.{n}.narrow"] = [f"{layer}.output.dense"]
    return names


def _keep(name: str, matrix: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    return {f"{name}.weight": matrix}


def _quantise(name: str, matrix: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Symmetric int8 with one scale per output channel, transposed to (in, out)."""
    scale = np.abs(matrix).max(axis=1) / np.float32(127)
    rounded = np.rint(matrix / scale[:, None]).astype(np.int8)
    return {f"{name}.weight": np.ascontiguousarray(rounded.T), f"{name}.scale": scale}
