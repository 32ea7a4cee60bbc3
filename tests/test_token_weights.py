"""Hybrid search by the weights of a model's tokens, against brute force."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

import rag_app
from rag_app import registry
from rag_app.check import check
from rag_app.errors import IdentityError, ModelError, UsageError
from rag_app.retrieval import to_hit
from rag_app.store import Row
from tests.tiny_models import add_sparse_head, describe_sentences, make_bert

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = {
    "a": "the cat sat over the sea",
    "b": "a dog and a cat and fish",
    "c": "two wings",
    "d": "fish sat",
    "e": "the cat sat over the sea",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_bert(tmp_path_factory.mktemp("tiny") / "weighing")
    return add_sparse_head(describe_sentences(place, "cls"))


def make(kind: str, name: str, parts: dict[str, Any] | None = None, **options: Any) -> Any:
    config = registry.config_class(kind, name)(**options)
    return registry.build(kind, name, config, **(parts or {}))


@dataclass
class SmallIndex:
    """What retrievers ask of an index, and of what it lets them read: it is its own view.

    `weighed` has the texts that the model weighed.
    """

    embeddings: Any
    folder: Path | None = None
    revision: str = "1"
    identity: str = "{}"
    coming: bool = False
    weighed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = {"embeddings": self.embeddings, "collection": "test"}
        self.store = make("vector_stores", "memory", parts, path=None)
        weigh = self.embeddings.sparse

        def counted(texts: list[str]) -> Any:
            self.weighed += texts
            return weigh(texts)

        self.embeddings.sparse = counted
        self.search, self.fetch = self.store.search, self.store.fetch
        self.scan, self.embed = self.store.scan, self.embeddings.embed_query

    def put(self, texts: dict[str, str]) -> None:
        vectors = self.embeddings.embed_documents(list(texts.values()))
        self.store.upsert(
            [
                Row(id, text, vector, {"source": id, "start": 0, "end": len(text)})
                for (id, text), vector in zip(texts.items(), vectors, strict=True)
            ]
        )

    def ids(self) -> set[str]:
        return {row.id for row in self.store.scan()}

    def read(self, function: Callable[[Any], Any]) -> Any:
        return function(self)


def open_index(model: Path, texts: dict[str, str], place: Path | None = None) -> SmallIndex:
    index = SmallIndex(make("embeddings", "huggingface", model=str(model), device="cpu"), place)
    index.put(texts)
    return index


def search(index: SmallIndex, query: str, **options: Any) -> Any:
    given = {"words": "model", "k": 5, "weights": {"dense": 0, "bm25": 1}, **options}
    retriever = make("retrievers", "hybrid", {"index": index}, **given)
    return [to_hit(document) for document in retriever.invoke(query)]


def score(embeddings: Any, query: str) -> dict[str, float]:
    """Every chunk's score by two loops."""
    asked, *held = embeddings.sparse([query, *TEXTS.values()])
    summed = {
        id: sum(weight * row.get(token, 0.0) for token, weight in asked.items())
        for id, row in zip(TEXTS, held, strict=True)
    }
    return {id: total for id, total in summed.items() if total > 0}


@pytest.mark.parametrize("query", ["the cat", "fish and sea", "two dog", "naïve"])
def test_chunks_come_in_the_order_of_brute_force(folder: Path, query: str) -> None:
    index = open_index(folder, TEXTS)
    expected = score(index.embeddings, query)
    hits = search(index, query)
    found = {hit.id: hit.ranks["sparse"].score for hit in hits}
    assert found == pytest.approx(expected, abs=1e-5)
    assert [hit.ranks["sparse"].rank for hit in hits] == list(range(1, len(hits) + 1))
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_words_of_the_model_are_fused_with_meaning(folder: Path) -> None:
    hits = search(open_index(folder, TEXTS), "the cat", weights={"dense": 1, "bm25": 1})
    assert {name for hit in hits for name in hit.ranks} == {"dense", "sparse"}


def test_the_model_reads_a_chunk_once_across_revisions_and_processes(
    folder: Path, tmp_path: Path
) -> None:
    first = open_index(folder, TEXTS, tmp_path)
    before = search(first, "the cat")
    assert sorted(first.weighed) == sorted([*set(TEXTS.values()), "the cat"])
    second = open_index(folder, TEXTS, tmp_path)  # as another process would
    assert search(second, "the cat") == before
    assert second.weighed == ["the cat"]
    second.put({"f": "a fish ran over the cat"})
    second.store.delete(["a"])
    second.revision, second.weighed[:] = "2", []
    after = {hit.id for hit in search(second, "the cat")}
    assert second.weighed == ["a fish ran over the cat", "the cat"]
    assert "f" in after
    assert "a" not in after
    assert len(list((tmp_path / "sparse").glob("*/*"))) == 1


def test_a_pipeline_of_a_local_model_from_its_yaml(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "models" / "weighing")
    (tmp_path / "docs").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "docs" / f"{name}.md").write_text(text, encoding="utf-8")
    (tmp_path / "rag-app.yaml").write_text(
        "name: weighed\n"
        "sources: [{kind: files, path: docs}]\n"
        "splitter: {kind: recursive, chunk_size: 32, chunk_overlap: 0}\n"
        "embeddings: {kind: huggingface, model: models/weighing, device: cpu}\n"
        "vector_store: {kind: memory, path: store.sqlite}\n"
        "retriever: {kind: hybrid, words: model}\n"
        "index: {path: index}\n",
        encoding="utf-8",
    )
    with rag_app.load(tmp_path / "rag-app.yaml") as app:
        assert app.ingest().indexed == len(TEXTS)
        before = app.search("the cat")
        assert {name for hit in before.hits for name in hit.ranks} == {"dense", "sparse"}
        told = {each.part: each for each in check(app)}["embeddings (huggingface)"]
        assert told.ok
        assert told.detail.startswith("32 dimensions, window 64 tokens, pooling cls")
    with rag_app.load(tmp_path / "rag-app.yaml") as app:
        assert app.search("the cat").hits == before.hits
        assert app.ingest().unchanged == len(TEXTS)
    other = rag_app.load(tmp_path / "rag-app.yaml", {"embeddings.query_prefix": "a "})
    with other, pytest.raises(IdentityError, match="query_prefix"):
        other.search("the cat")


def test_weights_of_other_options_are_not_used(folder: Path, tmp_path: Path) -> None:
    """A window of 8 tokens does not reach the words that a longer one weighs."""
    shutil.copytree(folder, tmp_path / "model")
    config = {
        "name": "weighed",
        "sources": [{"kind": "files", "path": str(tmp_path / "docs")}],
        "splitter": {"kind": "recursive", "chunk_size": 64, "chunk_overlap": 0},
        "vector_store": {"kind": "memory", "path": str(tmp_path / "store.sqlite")},
        "retriever": {"kind": "hybrid", "words": "model", "weights": {"dense": 0, "bm25": 1}},
        "chain": "extractive",
        "index": {"path": str(tmp_path / "index")},
    }
    (tmp_path / "docs").mkdir()
    text = "the cat sat over the sea a dog and a cat and fish two wings fish sat"
    (tmp_path / "docs" / "a.md").write_text(text)
    model = {"kind": "huggingface", "model": str(tmp_path / "model"), "device": "cpu"}
    scores = []
    for window in (8, 32, 32):
        with rag_app.load({**config, "embeddings": {**model, "max_tokens": window}}) as app:
            app.ingest(rebuild=True)
            asked = [hit for word in text.split() for hit in app.search(word).hits]
            scores.append([hit.ranks["sparse"].score for hit in asked])
        if len(scores) == 2:
            shutil.rmtree(tmp_path / "index" / "weighed" / "sparse")
    short, long, anew = scores
    assert long == pytest.approx(anew)
    assert short != pytest.approx(long)


def test_a_damaged_file_is_made_anew(folder: Path, tmp_path: Path) -> None:
    before = search(open_index(folder, TEXTS, tmp_path), "the cat")
    kept = next((tmp_path / "sparse").glob("*/*/weights.npy"))
    kept.write_bytes(kept.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    index = open_index(folder, TEXTS, tmp_path)
    assert search(index, "the cat") == before
    assert len(index.weighed) > 1


def test_a_model_that_weighs_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "plain")
    (tmp_path / "plain" / "sparse_linear.pt").unlink()
    with pytest.raises(ModelError, match="weighs no tokens"):
        search(open_index(tmp_path / "plain", TEXTS), "the cat")

    @dataclass
    class Other:
        embeddings: Any
        identity: str = "{}"

    with pytest.raises(UsageError, match="the embedding model weighs no tokens"):
        search(Other(make("embeddings", "hashing")), "the cat")  # type: ignore[arg-type]


def test_options_of_bm25_are_refused_where_bm25_is_not_used() -> None:
    with pytest.raises(ValidationError, match="does not use BM25"):
        registry.config_class("retrievers", "hybrid")(words="model", bm25={"tokenizer": "words"})
