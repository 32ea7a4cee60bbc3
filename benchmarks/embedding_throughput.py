"""Passages per second of the embedded MiniLM beside sentence-transformers, on the same texts.

    python benchmarks/embedding_throughput.py [--passages 128] [--rounds 5]

Both sides run the shipped weights: the sentence-transformers folder is written from them, without
a download. The engines take turns within every round, so that a busy machine slows all alike.
Prints medians over the rounds of passages per second (wall) and CPU milliseconds per passage.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from rag_app.embeddings import minilm
from rag_app.minilm import FOLDER, MAX_TOKENS, MiniLM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.embeddings import Embeddings

BERT: Final = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 384,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
TOKENS: Final = range(160, MAX_TOKENS - 10)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--passages", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    texts = list_passages(given.passages)
    with tempfile.TemporaryDirectory() as folder:
        engines = build_engines(Path(folder))
        rows = measure(engines, texts, given.rounds)
    print(json.dumps(rows) if given.json else render(rows, texts))


def list_passages(count: int) -> list[str]:
    """English passages of about 200 tokens: docstrings of the standard library, run together."""
    model, passages, words = MiniLM(), [], ""
    for docstring in read_docstrings():
        words = f"{words} {docstring}".strip()
        while model.count_tokens(words) >= TOKENS.stop:
            spans = model.token_spans(words)
            cut = spans[TOKENS[len(passages) * 7 % len(TOKENS)] - 1][0]
            passages.append(words[:cut].strip())
            words = words[cut:]
        if len(passages) >= count:
            return passages[:count]
    sys.exit(f"--passages: {count}, the standard library has {len(passages)}. Ask for fewer.")


def read_docstrings() -> Iterator[str]:
    """Every docstring of the standard library, in order of file names."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8", "replace"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield " ".join((ast.get_docstring(node) or "").split())


def build_engines(folder: Path) -> dict[str, Embeddings]:
    """Ours in both precisions, and LangChain's HuggingFaceEmbeddings on the same weights."""
    from langchain_huggingface import HuggingFaceEmbeddings

    write_sentence_transformer(folder)
    return {
        "sentence-transformers": HuggingFaceEmbeddings(
            model_name=str(folder), encode_kwargs={"normalize_embeddings": True}
        ),
        "minilm fp32": minilm.build(minilm.Config()),
        "minilm int8": minilm.build(minilm.Config(precision="int8")),
    }


def write_sentence_transformer(folder: Path) -> None:
    """The shipped weights as a folder that sentence-transformers opens, in fp32."""
    from safetensors.numpy import load_file, save_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bert = folder / "bert"
    bert.mkdir()
    weights = {
        n: t.astype(np.float32) for n, t in load_file(FOLDER / "weights.safetensors").items()
    }
    save_file(weights, bert / "model.safetensors", {"format": "pt"})
    (bert / "config.json").write_text(json.dumps(BERT), "utf-8")
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    }
    PreTrainedTokenizerFast(
        tokenizer_file=str(FOLDER / "tokenizer.json"), model_max_length=MAX_TOKENS, **special
    ).save_pretrained(bert)
    words = Transformer(str(bert), max_seq_length=MAX_TOKENS)
    SentenceTransformer(modules=[words, Pooling(384)], device="cpu").save(str(folder))
    shutil.rmtree(bert)


def measure(
    engines: dict[str, Embeddings], texts: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Medians per engine: `passages_per_s` (wall), `cpu_ms` per passage, `cosine` to the first."""
    vectors = {name: np.array(engine.embed_documents(texts)) for name, engine in engines.items()}
    first = next(iter(vectors.values()))
    walls: dict[str, list[float]] = {name: [] for name in engines}
    cpus: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            wall, cpu = time.perf_counter(), time.process_time()
            engine.embed_documents(texts)
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    return {
        name: {
            "passages_per_s": len(texts) / statistics.median(walls[name]),
            "cpu_ms": statistics.median(cpus[name]) / len(texts) * 1000,
            "cosine": float((vectors[name] * first).sum(axis=1).mean()),
        }
        for name in engines
    }


def render(rows: dict[str, dict[str, float]], texts: list[str]) -> str:
    """The table, with ratios to sentence-transformers."""
    model = MiniLM()
    mean = statistics.mean(model.count_tokens(text) for text in texts)
    lines = [f"{len(texts)} passages, {mean:.0f} tokens on average, {model.threads} CPUs"]
    lines.append(
        f"{'engine':24}{'passages/s':>12}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}{'cosine':>9}"
    )
    base = next(iter(rows.values()))
    for name, row in rows.items():
        speed, cpu = row["passages_per_s"], row["cpu_ms"]
        wall_ratio, cpu_ratio = speed / base["passages_per_s"], base["cpu_ms"] / cpu
        lines.append(
            f"{name:24}{speed:12.1f}{wall_ratio:8.2f}{cpu:9.1f}{cpu_ratio:8.2f}{row['cosine']:9.4f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
