"""Dense, BM25 and hybrid search over a small index, against brute force."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests import RetrieversIntegrationTests

from rag_app import registry
from rag_app.errors import FilterError, IndexStateError, UsageError
from rag_app.lexical import LexicalIndex, Scoring
from rag_app.retrieval import HitRetriever, to_hit
from rag_app.timing import collect
from rag_app.words import cut_chunk, cut_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rag_app.store import Row, Store

TEXTS = {
    "cats": "The cat sat on the mat; other cats were sitting there too.",
    "dogs": "Dogs chase cats, and a dog chases its tail.",
    "birds": "Birds fly over the sea.",
    "fish": "Fish swim in the sea, and the cat eats fish. Fish!",
    "weather": "今天天气很好，我们去公园。",
    "empty": "of the and",
}


def make(kind: str, name: str, **options: Any) -> Any:
    return registry.config_class(kind, name)(**options)


def open_store() -> Store:
    embeddings = registry.build("embeddings", "hashing", make("embeddings", "hashing"))
    config = make("vector_stores", "memory", path=None)
    store: Store = registry.build(
        "vector_stores", "memory", config, embeddings=embeddings, collection="test"
    )
    return store


@dataclass
class SmallIndex:
    """What retrievers ask of an index, over a store in memory: all its rows are published."""

    folder: Path | None = None
    store: Store = field(default_factory=open_store)
    revision: str = "0"
    ready: bool = True
    scans: int = 0

    @property
    def embeddings(self) -> Any:
        return self.store.embeddings

    def read(self, function: Callable[[SmallView], Any]) -> Any:
        if not self.ready:
            raise IndexStateError("index 'test'", "it is empty", "Run: rag-app ingest")
        return function(SmallView(self))

    def add(self, texts: dict[str, str], **metadata: Any) -> None:
        listed = [
            {"source": f"{id}.md", "length": len(text), **metadata} for id, text in texts.items()
        ]
        self.store.add_texts(list(texts.values()), listed, ids=list(texts))
        self.revision = str(int(self.revision) + 1)


class SmallView:
    """What an index hands to who reads it."""

    coming = False

    def __init__(self, index: SmallIndex) -> None:
        self._index = index
        self.revision, self.folder, self.coming = index.revision, index.folder, False
        self.search, self.fetch = index.store.search, index.store.fetch
        self.embed = index.embeddings.embed_query

    def scan(self) -> Iterator[Row]:
        self._index.scans += 1
        return self._index.store.scan()

    def ids(self) -> set[str]:
        return {row.id for row in self._index.store.scan()}


@pytest.fixture
def index() -> SmallIndex:
    made = SmallIndex()
    made.add(TEXTS)
    return made


def open_retriever(name: str, index: SmallIndex, **options: Any) -> HitRetriever:
    made: HitRetriever = registry.build(
        "retrievers", name, make("retrievers", name, **options), index=index
    )
    return made


def brute_force(texts: dict[str, str], query: str, k1: float, b: float) -> dict[str, float]:
    """Lucene's BM25 from its formula; chunks without a word of the query are left out."""
    words = {id: cut_chunk("english", text) for id, text in texts.items()}
    mean = sum(map(len, words.values())) / len(words)
    scores = dict.fromkeys(words, 0.0)
    for word in cut_query("english", query):
        holding = sum(word in each for each in words.values())
        idf = math.log(1 + (len(words) - holding + 0.5) / (holding + 0.5))
        for id, each in words.items():
            tf = Counter(each)[word]
            scores[id] += idf * tf / (tf + k1 * (1 - b + b * len(each) / mean)) if tf else 0
    return {id: score for id, score in scores.items() if score > 0}


# BM25

WORDS = st.lists(
    st.sampled_from(["cat", "dog", "sea", "fish", "fly", "the", "天气", "好"]), max_size=12
)


@given(st.lists(WORDS, min_size=1, max_size=8), WORDS, st.floats(0, 3), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_scores_are_lucenes(
    documents: list[list[str]], query: list[str], k1: float, b: float
) -> None:
    texts = {f"d{place}": " ".join(words) for place, words in enumerate(documents)}
    built = LexicalIndex.build(texts.items(), Scoring("english", k1, b))
    found = list(built.rank(" ".join(query)))
    expected = brute_force(texts, " ".join(query), k1, b)
    assert dict(found) == {id: pytest.approx(score, rel=1e-4) for id, score in expected.items()}
    assert found == sorted(found, key=lambda each: (-each[1], each[0]))


def test_only_chunks_that_share_a_word_are_found(index: SmallIndex) -> None:
    bm25 = open_retriever("bm25", index)
    found = [to_hit(document) for document in bm25.invoke("Which cats?")]
    assert {hit.id for hit in found} == {"cats", "dogs", "fish"}
    assert [hit.ranks["bm25"].rank for hit in found] == [1, 2, 3]
    assert all(hit.similarity is None for hit in found)
    assert bm25.invoke("zebra") == bm25.invoke("the of and") == []


def test_text_without_spaces_is_found_by_its_pairs(index: SmallIndex) -> None:
    bm25 = open_retriever("bm25", index)
    assert [document.id for document in bm25.invoke("公园的天气")] == ["weather"]
    assert [document.id for document in bm25.invoke("园")] == ["weather"]
    assert bm25.invoke("园公") == []


def test_the_index_is_kept_and_read_by_others(tmp_path: Path) -> None:
    first = SmallIndex(tmp_path)
    first.add(TEXTS)
    expected = open_retriever("bm25", first).invoke("cats in the sea")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".npy"}
    again = SmallIndex(tmp_path, first.store, first.revision)
    assert open_retriever("bm25", again).invoke("cats in the sea") == expected
    assert (first.scans, again.scans) == (1, 0)
    code = (
        "import sys; from pathlib import Path; from rag_app.lexical import LexicalIndex, Scoring\n"
        "(params,) = Path(sys.argv[1]).rglob('params.index.json')\n"
        "index = LexicalIndex.load(params.parent, Scoring('english', 1.5, 0.75))\n"
        "print(next(index.rank('cats in the sea'))[0])"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.check_output(run, text=True).strip() == expected[0].id


def test_changed_content_is_found_at_once(tmp_path: Path) -> None:
    index = SmallIndex(tmp_path)
    index.add(TEXTS)
    bm25 = open_retriever("bm25", index)
    assert bm25.invoke("zebra") == []
    index.add({"zebras": "A zebra is no horse."})
    assert [document.id for document in bm25.invoke("zebra")] == ["zebras"]
    index.store.delete(["zebras"])
    index.revision = "deleted"
    assert bm25.invoke("zebra") == []
    assert len(list(tmp_path.rglob("ids.json"))) == 1


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"{}", b"[1, 2]"])
def test_damaged_files_are_built_anew(tmp_path: Path, damage: bytes) -> None:
    index = SmallIndex(tmp_path)
    index.add(TEXTS)
    expected = open_retriever("bm25", index).invoke("sea")
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.write_bytes(damage)
        assert open_retriever("bm25", index).invoke("sea") == expected
    index.scans = 0
    assert open_retriever("bm25", index).invoke("sea") == expected
    assert index.scans == 0


def test_threads_and_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    index = SmallIndex(tmp_path)
    index.add(TEXTS)
    retrievers = [open_retriever("bm25", index) for _ in range(4)]
    expected = open_retriever("bm25", SmallIndex(None, index.store)).invoke("sea")
    results: list[Any] = []
    work = [
        threading.Thread(target=lambda each=each: results.append(each.invoke("sea")))
        for each in retrievers * 2
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert results == [expected] * 8
    assert not list(tmp_path.rglob(".unfinished*"))


def test_only_new_chunks_are_read_for_the_words(tmp_path: Path) -> None:
    index = SmallIndex(tmp_path)
    index.add(TEXTS)
    open_retriever("bm25", index).invoke("cats")
    index.add({"new": "A zebra, and cats."})
    index.store.delete(["dogs"])
    index.scans = 0
    bm25 = open_retriever("bm25", index)  # as another process would
    assert [document.id for document in bm25.invoke("zebra")] == ["new"]
    texts = {row.id: row.text for row in index.store.scan()}
    scores = {hit.id: hit.score for hit in map(to_hit, bm25.invoke("cats in the sea"))}
    assert scores == pytest.approx(brute_force(texts, "cats in the sea", 1.5, 0.75))
    assert index.scans == 0


def test_words_of_a_run_that_failed_are_not_taken_for_those_of_the_next(tmp_path: Path) -> None:
    index = SmallIndex(tmp_path)
    index.add(TEXTS)
    open_retriever("bm25", index).invoke("cats")  # what it keeps is named by the revision
    index.store.delete(["cats"])
    index.add({"new": "A zebra."})
    index.revision = "1"
    found = open_retriever("bm25", index).invoke("zebra")
    assert [document.id for document in found] == ["new"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("not a folder")
    index = SmallIndex(place)
    index.add(TEXTS)
    with pytest.raises(IndexStateError, match="cannot be written"):
        open_retriever("bm25", index).invoke("sea")


# Dense


def test_dense_equals_brute_force(index: SmallIndex) -> None:
    query = "cats and dogs at sea"
    unit = np.array(index.embeddings.embed_query(query))
    cosines = {row.id: float(row.vector @ unit) for row in index.store.scan()}
    found = [to_hit(document) for document in open_retriever("dense", index, k=4).invoke(query)]
    assert [hit.id for hit in found] == sorted(cosines, key=lambda id: -cosines[id])[:4]
    for place, hit in enumerate(found, 1):
        assert hit.score == hit.similarity == pytest.approx(cosines[hit.id], abs=1e-5)
        assert hit.ranks["dense"].rank == place
    least = found[1].score
    some = open_retriever("dense", index, min_similarity=least).invoke(query)
    assert [document.id for document in some] == [hit.id for hit in found[:2]]


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_mmr_equals_langchains(index: SmallIndex, weight: float) -> None:
    query = "cats and dogs at sea"
    rows = list(index.store.scan())
    unit = np.array(index.embeddings.embed_query(query))
    chosen = maximal_marginal_relevance(unit, [row.vector for row in rows], weight, k=4)
    dense = open_retriever("dense", index, k=4, mmr_lambda=weight)
    found = [to_hit(document) for document in dense.invoke(query)]
    assert {hit.id for hit in found} == {rows[place].id for place in chosen}
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True) or weight < 1
    assert all(hit.ranks["dense"].score == hit.similarity for hit in found)


# Hybrid


def test_hybrid_is_the_fusion_of_both(index: SmallIndex) -> None:
    query, constant = "cats at sea", 7
    lists = {
        name: [d.id for d in open_retriever(name, index, k=6).invoke(query)]
        for name in ("dense", "bm25")
    }
    weights = {"dense": 2.0, "bm25": 0.5}
    expected: Counter[Any] = Counter()
    for name, ids in lists.items():
        expected.update({id: weights[name] / (constant + r) for r, id in enumerate(ids, 1)})
    hybrid = open_retriever("hybrid", index, weights=weights, rank_constant=constant, fetch_k=6)
    found = [to_hit(document) for document in hybrid.invoke(query)]
    assert {hit.id: hit.score for hit in found} == pytest.approx(dict(expected))
    cosines = {
        row.id: row.vector @ np.array(index.embeddings.embed_query(query))
        for row in index.store.scan()
    }
    for hit in found:
        assert hit.similarity == pytest.approx(cosines[hit.id], abs=1e-5)
        assert {name: rank.rank for name, rank in hit.ranks.items()} == {
            name: ids.index(hit.id) + 1 for name, ids in lists.items() if hit.id in ids
        }


def test_hits_of_one_list_have_a_similarity_too(index: SmallIndex) -> None:
    only_words = open_retriever("hybrid", index, weights={"dense": 0})
    found = [to_hit(document) for document in only_words.invoke("fish")]
    assert [hit.id for hit in found] == ["fish"]
    assert found[0].similarity is not None


def test_stages_are_timed(index: SmallIndex) -> None:
    with collect() as timings:
        open_retriever("hybrid", index).invoke("cats")
    assert set(timings) == {"embed", "dense", "bm25", "fusion"}


# All three


@pytest.mark.parametrize("name", ["dense", "bm25", "hybrid"])
class TestEveryRetriever:
    def test_filters_are_exact(self, name: str, index: SmallIndex) -> None:
        index.add({f"more{n}": f"cat number {n}" for n in range(300)}, year=2020)
        index.add({"late": "A late cat, much longer than other texts about a cat."}, year=2024)
        retriever = open_retriever(name, index, k=3)
        found = retriever.invoke("cat", filter={"year": {"$gte": 2024}})
        assert [document.id for document in found] == ["late"]
        assert len(retriever.invoke("cat", filter={"year": 2020})) == 3
        assert retriever.invoke("cat", filter={"year": 1}) == []
        with pytest.raises(FilterError):
            retriever.invoke("cat", filter={"year": {"$near": 1}})

    def test_nothing_is_found_in_nothing(self, name: str) -> None:
        assert open_retriever(name, SmallIndex()).invoke("cat") == []

    def test_an_index_that_is_not_ready_is_not_searched(self, name: str, index: SmallIndex) -> None:
        index.ready = False
        with pytest.raises(IndexStateError):
            open_retriever(name, index).invoke("cat")

    def test_unknown_options_are_refused(self, name: str, index: SmallIndex) -> None:
        with pytest.raises(UsageError, match="top_k"):
            open_retriever(name, index).invoke("cat", top_k=3)
        assert open_retriever(name, index).invoke("cat", k=0) == []

    def test_hits_are_json(self, name: str, index: SmallIndex) -> None:
        for document in open_retriever(name, index).invoke("cat"):
            assert json.loads(json.dumps(document.metadata)) == document.metadata


class TestDenseStandard(RetrieversIntegrationTests):
    name = "dense"

    @property
    def retriever_constructor(self) -> type[HitRetriever]:
        return HitRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        index = SmallIndex()
        index.add(TEXTS)
        made = open_retriever(self.name, index)
        return {"search": made.search, "index": index, "k": 2}

    @property
    def retriever_query_example(self) -> str:
        return "Which cats?"


class TestBM25Standard(TestDenseStandard):
    name = "bm25"


class TestHybridStandard(TestDenseStandard):
    name = "hybrid"
