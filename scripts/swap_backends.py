"""Every vector store with every embedding backend, by `--set` alone, on the same documents.

Seven stores times six embedding backends: each pair ingests the same folder and answers the same
questions through the command line. Services that cannot run here are servers of their documented
protocol (`tests/*_server.py`), PostgreSQL is real, and the local model is one of random weights.
Prints a table; the exit status is 1 unless every pair answers.

    python scripts/swap_backends.py
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rag_app.cli import main as run  # noqa: E402
from tests.embedding_servers import (  # noqa: E402
    CohereEmbeddingServer,
    GoogleEmbeddingServer,
    OllamaEmbeddingServer,
)
from tests.openai_server import OpenAIServer  # noqa: E402
from tests.pinecone_server import open_pinecone  # noqa: E402
from tests.postgres_server import PostgresServer  # noqa: E402
from tests.tiny_models import make_bert  # noqa: E402
from tests.weaviate_server import WeaviateServer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS: Final = {
    "heron.txt": "The heron stands in the river and waits for fish.",
    "owl.txt": "The owl hunts mice at night without a sound.",
    "bee.txt": "The bee gathers nectar and makes honey for the winter.",
}
QUESTIONS: Final = {
    "Which bird stands in the river and waits for fish?": "heron.txt",
    "What does the bee make for the winter?": "bee.txt",
}
"""Each question with the document that has its answer."""

CONFIG: Final = """
name: swap
sources: [{kind: files, path: docs}]
embeddings: minilm
vector_store: {kind: memory, path: null}
retriever: {kind: hybrid, k: 2}
chain: extractive
"""


def find_stores(folder: Path, stack: ExitStack) -> dict[str, list[str]]:
    """Each store with the overrides that choose it."""
    postgres = stack.enter_context(PostgresServer())
    os.environ["SWAP_POSTGRES"] = postgres.url
    weaviate = stack.enter_context(WeaviateServer())
    pinecone = stack.enter_context(open_pinecone())
    os.environ["PINECONE_API_KEY"] = "any-key-will-do"
    chosen: dict[str, dict[str, Any]] = {
        "chroma": {"path": str(folder / "chroma")},
        "faiss": {"path": str(folder / "faiss")},
        "milvus": {"path": str(folder / "milvus")},
        "qdrant": {"path": str(folder / "qdrant")},
        "pgvector": {"url": "${SWAP_POSTGRES}"},
        "weaviate": weaviate.options,
        "pinecone": pinecone,
    }
    return {kind: [f"vector_store={_inline(kind, given)}"] for kind, given in chosen.items()}


def find_embeddings(folder: Path, stack: ExitStack) -> dict[str, list[str]]:
    """Each embedding backend with the overrides that choose it."""
    os.environ["SWAP_KEY"] = "any-key-will-do"
    key = {"api_key": "${SWAP_KEY}"}
    openai = stack.enter_context(OpenAIServer())
    google = stack.enter_context(GoogleEmbeddingServer())
    cohere = stack.enter_context(CohereEmbeddingServer())
    ollama = stack.enter_context(OllamaEmbeddingServer())
    chosen: dict[str, dict[str, Any]] = {
        "minilm": {},
        "openai": {"model": "text-embedding-3-small", "base_url": openai.url, **key},
        "google": {"model": "gemini-embedding-001", "base_url": google.url, **key},
        "cohere": {"model": "embed-v4.0", "base_url": cohere.url, **key},
        "ollama": {"model": "nomic-embed-text", "base_url": ollama.url},
        "huggingface": {"model": str(make_bert(folder / "model")), "pooling": "mean"},
    }
    return {kind: [f"embeddings={_inline(kind, given)}"] for kind, given in chosen.items()}


def try_pair(folder: Path, store: str, embeddings: str, overrides: list[str]) -> str:
    """ "" when the pair ingests and answers each question from the right document, else why not."""
    name = f"swap-{store}-{embeddings}"
    given = [f"name={name}", f"index.path={folder / 'rag'}", *overrides]
    options = [part for each in given for part in ("--set", each)]
    file = ["-c", str(folder / "rag-app.yaml")]
    status, out, err = _call(["ingest", *file, *options, "--json"])
    if status:
        return err
    if json.loads(out)["chunks"]["total"] != len(DOCUMENTS):
        return f"not all documents are in the index: {out}"
    for question, source in QUESTIONS.items():
        status, out, err = _call(["ask", question, *file, *options, "--json"])
        if status:
            return err
        citations = json.loads(out)["citations"]
        if not citations or citations[0]["source"] != source:
            return f"{question!r} was answered from {citations}"
    return ""


def swap(folder: Path, each: int = 1) -> Iterator[tuple[str, str, str]]:
    """Try every pair, or every `each`-th; store, embeddings, why it failed ("" if it did not)."""
    (folder / "docs").mkdir()
    for file, text in DOCUMENTS.items():
        (folder / "docs" / file).write_text(text, encoding="utf-8")
    (folder / "rag-app.yaml").write_text(CONFIG, encoding="utf-8")
    with ExitStack() as stack:
        stores, embeddings = find_stores(folder, stack), find_embeddings(folder, stack)
        for row, (store, store_set) in enumerate(stores.items()):
            for column, (model, model_set) in enumerate(embeddings.items()):
                if (row + column) % each == 0:
                    yield store, model, try_pair(folder, store, model, [*store_set, *model_set])


def _inline(kind: str, options: dict[str, Any]) -> str:
    return json.dumps({"kind": kind, **options})  # JSON is YAML


def _call(arguments: list[str]) -> tuple[int, str, str]:
    """The command line in this process: exit status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    given, sys.argv = sys.argv, ["rag-app", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run()
    except SystemExit as error:
        return int(error.code or 0), out.getvalue(), err.getvalue()
    finally:
        sys.argv = given
    raise AssertionError("the command line always exits")


def main() -> int:
    """Print the table; 1 unless every pair works."""
    start, failed, count = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        for store, model, wrong in swap(Path(place)):
            count += 1
            failed += bool(wrong)
            print(f"{store:10} {model:12} {wrong.strip() or 'ok'}", flush=True)
    print(f"{count - failed} of {count} in {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
