"""The store contract: what every vector store does, whatever stands behind it.

Each class is a topic, each test runs on every row of `PLACES` in conftest.py.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from rag_app import registry
from rag_app.errors import FilterError, StoreError, TruncationWarning, UsageError
from rag_app.filters import matches, parse
from rag_app.store import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rag_app.store import Store

GENERATED_FILTERS = int(os.environ.get("RAG_APP_FILTERS", "200"))
"""How many filters are generated for each store; `make contracts` asks for 5,000."""


def make_rows(
    vectors: Any, metadata: Sequence[dict[str, Any]] | None = None, prefix: str = "id"
) -> list[Row]:
    vectors = np.asarray(vectors, dtype=np.float32)
    metadata = metadata or [{"n": i} for i in range(len(vectors))]
    return [
        Row(f"{prefix}-{i}", f"text {i}", vector, metadata[i]) for i, vector in enumerate(vectors)
    ]


def find_ids(store: Store, vector: Any, k: int, filter: dict[str, Any] | None = None) -> list[str]:
    return [document.id or "" for document, _ in store.search(vector, k, filter)]


def compute_cosines(vectors: Any, query: Any) -> Any:
    """The definition, in double precision."""
    vectors, query = np.asarray(vectors, dtype=np.float64), np.asarray(query, dtype=np.float64)
    return vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


def draw_vectors(count: int, dimension: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, dimension))


class TestLangChainStandard(VectorStoreIntegrationTests):
    """LangChain's own 25 tests."""

    @pytest.fixture
    def vectorstore(self, store: Store) -> Store:  # type: ignore[override]
        return store


class TestSimilarity:
    """Similarity is the cosine: higher is better, in [-1, 1], never misreported."""

    def test_equals_the_exact_cosine(self, store: Store) -> None:
        vectors = draw_vectors(300, 24) * np.linspace(0.01, 50, 300)[:, None]
        store.upsert(make_rows(vectors))
        for query in draw_vectors(10, 24, seed=1):
            exact = compute_cosines(vectors, query)
            found = store.search(query, 10)
            assert len(found) == 10
            for document, cosine in found:
                assert cosine == pytest.approx(exact[document.metadata["n"]], abs=1e-5)
            assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)

    def test_same_and_opposite_directions_are_one_and_minus_one(self, store: Store) -> None:
        store.upsert(make_rows([[3.0, 4.0], [-0.3, -0.4], [4.0, -3.0]]))
        found = store.search([30.0, 40.0], 3)
        assert [cosine for _, cosine in found] == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)
        assert all(-1.0 <= cosine <= 1.0 for _, cosine in found)

    def test_relevance_is_the_cosine_with_negative_ones_raised_to_zero(self, store: Store) -> None:
        store.add_texts(list("abcdefghij"))
        cosines = store.similarity_search_with_score("a", 10)
        relevances = store.similarity_search_with_relevance_scores("a", 10)
        assert min(cosine for _, cosine in cosines) < 0
        assert [r for _, r in relevances] == [max(0.0, cosine) for _, cosine in cosines]
        best = store.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99}
        ).invoke("a")
        assert [document.page_content for document in best] == ["a"]

    def test_huge_and_tiny_vectors_keep_their_direction(self, store: Store) -> None:
        store.upsert(
            [
                Row("huge", "", np.array([1e300, 1e300]), {}),
                Row("tiny", "", np.array([1e-300, 0]), {}),
            ]
        )
        found = {document.id: cosine for document, cosine in store.search([1e-200, 1e-200], 2)}
        assert found == pytest.approx({"huge": 1.0, "tiny": math.sqrt(0.5)}, abs=1e-6)

    def test_finds_the_nearest_of_a_real_models_vectors(
        self, store: Store, real_passages: RealPassages, record_property: Callable[..., None]
    ) -> None:
        passages = real_passages
        store.upsert(
            [
                Row(f"id-{i}", text, passages.vectors[i], {"n": i})
                for i, text in enumerate(passages.texts)
            ]
        )
        hits = 0
        for query in passages.queries:
            exact = compute_cosines(passages.vectors, query)
            wanted = set(np.argsort(-exact)[:10].tolist())
            found = store.search(query, 10)
            hits += len(wanted & {document.metadata["n"] for document, _ in found})
            for document, cosine in found:
                assert cosine == pytest.approx(exact[document.metadata["n"]], abs=1e-5)
                assert document.page_content == passages.texts[document.metadata["n"]]
        recall = hits / (10 * len(passages.queries))
        record_property("recall@10", f"{recall:.4f} of the exact cosine's, 1,000 SciFact abstracts")
        assert recall >= 0.99


class TestSearch:
    """LangChain's ways to search, with the arguments they share."""

    @pytest.mark.parametrize("k", [0, 1, 3, 7, 1000])
    def test_returns_k_or_all(self, store: Store, k: int) -> None:
        store.upsert(make_rows(draw_vectors(7, 6)))
        assert len(store.search(draw_vectors(1, 6)[0], k)) == min(k, 7)
        assert len(store.similarity_search("x", k)) == min(k, 7)
        assert len(store.max_marginal_relevance_search("x", k)) == min(k, 7)
        assert len(store.similarity_search("x", k, filter={"n": {"$gte": 5}})) == min(k, 2)

    async def test_every_search_takes_a_filter_sync_and_async(self, store: Store) -> None:
        store.add_texts(["a", "b", "c"], [{"x": 1}, {"x": 2}, {"x": 2}], ids=["a", "b", "c"])
        vector = store.embeddings.embed_query("a")
        wanted = {"filter": {"x": 2}, "k": 5}
        scored = [
            store.similarity_search_with_score("a", **wanted),
            store.similarity_search_with_relevance_scores("a", **wanted),
            await store.asimilarity_search_with_score("a", **wanted),
            await store.asimilarity_search_with_relevance_scores("a", **wanted),
        ]
        plain = [
            store.similarity_search("a", **wanted),
            store.similarity_search_by_vector(vector, **wanted),
            store.max_marginal_relevance_search("a", **wanted),
            store.max_marginal_relevance_search_by_vector(vector, **wanted),
            store.search("a", "similarity", **wanted),
            store.as_retriever(search_kwargs=wanted).invoke("a"),
            store.as_retriever(search_type="mmr", search_kwargs=wanted).invoke("a"),
            await store.asimilarity_search("a", **wanted),
            await store.asimilarity_search_by_vector(vector, **wanted),
            await store.amax_marginal_relevance_search("a", **wanted),
            await store.amax_marginal_relevance_search_by_vector(vector, **wanted),
            await store.as_retriever(search_kwargs=wanted).ainvoke("a"),
        ]
        for result in [*([d for d, _ in pairs] for pairs in scored), *plain]:
            assert {document.id for document in result} == {"b", "c"}

    def test_an_argument_it_does_not_know_is_an_error(self, store: Store) -> None:
        store.add_texts(["a"])
        for search in (
            store.similarity_search,
            store.similarity_search_with_score,
            store.similarity_search_with_relevance_scores,
            store.max_marginal_relevance_search,
            store.as_retriever(search_kwargs={"where": {}}).invoke,
        ):
            with pytest.raises(UsageError, match="where"):
                search("a", **({} if "invoke" in search.__name__ else {"where": {}}))
        with pytest.raises(UsageError, match="namespace"):
            store.add_texts(["a"], namespace="x")
        with pytest.raises(UsageError, match="k: -1"):
            store.similarity_search("a", -1)

    def test_mmr_follows_its_definition(self, store: Store) -> None:
        vectors = draw_vectors(30, 6, seed=3)
        store.upsert(make_rows(vectors))
        query = draw_vectors(1, 6, seed=4)[0]
        for lambda_mult in (0.0, 0.3, 1.0):
            found = store.max_marginal_relevance_search_by_vector(
                query.tolist(), 5, fetch_k=30, lambda_mult=lambda_mult
            )
            assert [d.metadata["n"] for d in found] == choose_by_mmr(vectors, query, 5, lambda_mult)


def choose_by_mmr(vectors: Any, query: Any, k: int, lambda_mult: float) -> list[int]:
    """Carbonell and Goldstein's formula, literally."""
    relevance = compute_cosines(vectors, query)
    chosen = [int(relevance.argmax())]
    while len(chosen) < k:
        rest = [i for i in range(len(vectors)) if i not in chosen]
        chosen.append(
            max(
                rest,
                key=lambda i: (
                    lambda_mult * relevance[i]
                    - (1 - lambda_mult) * max(compute_cosines(vectors[chosen], vectors[i]))
                ),
            )
        )
    return chosen


class TestWriting:
    """Adding is an upsert that replaces; ids are the user's."""

    def test_an_upsert_replaces_text_vector_and_all_metadata(self, store: Store) -> None:
        store.upsert(
            [Row("a", "old", np.array([1.0, 0.0]), {"old": 1, "both": "x", "deep": {"o": 1}})]
        )
        store.upsert([Row("a", "new", np.array([0.0, 1.0]), {"both": "y", "new": [1]})])
        (row,) = store.fetch(["a"])
        assert (row.text, row.metadata) == ("new", {"both": "y", "new": [1]})
        assert row.vector.tolist() == [0.0, 1.0]
        assert store.count() == 1
        assert find_ids(store, [1.0, 0.0], 5, {"old": 1}) == []
        assert find_ids(store, [1.0, 0.0], 5, {"deep.o": {"$exists": True}}) == []
        assert find_ids(store, [1.0, 0.0], 5, {"old": {"$ne": 1}, "both": "y"}) == ["a"]

    def test_of_an_id_given_twice_in_a_batch_the_last_counts(self, store: Store) -> None:
        assert store.add_texts(["x", "y"], [{"n": 1}, {"n": 2}], ids=["a", "a"]) == ["a", "a"]
        assert store.get_by_ids(["a"]) == [Document(id="a", page_content="y", metadata={"n": 2})]

    def test_missing_ids_become_distinct_and_given_ones_stay(self, store: Store) -> None:
        documents = [Document("x", id="mine"), Document("y"), Document("z")]
        ids = store.add_documents(documents)
        assert ids[0] == "mine"
        assert len(set(ids)) == 3
        assert [d.page_content for d in store.get_by_ids(ids[::-1])] == ["z", "y", "x"]
        assert documents[1].id is None

    def test_ids_of_any_characters(self, store: Store) -> None:
        ids = [
            "docs/a b.md#1",
            "日本語",
            "x" * 1500,
            "' OR 1=1 --",
            " ",
            "a\tb\n",
            "🦜",
            "%00",
            "\\",
        ]
        store.upsert([Row(id, id, np.eye(9)[i], {"id": id}) for i, id in enumerate(ids)])
        assert [row.text for row in store.fetch(ids)] == ids
        assert {row.id for row in store.scan()} == set(ids)
        assert find_ids(store, np.eye(9)[3], 1, {"id": ids[3]}) == [ids[3]]
        store.delete(ids[1:4])
        assert {row.id for row in store.scan()} == {*ids[:1], *ids[4:]}

    def test_a_batch_of_any_size(self, store: Store) -> None:
        rows = make_rows(draw_vectors(6500, 4))
        store.upsert(rows)
        assert store.count() == 6500
        assert len(store.fetch([row.id for row in rows])) == 6500
        assert sum(1 for _ in store.scan()) == 6500
        assert len(store.search([1, 0, 0, 0], 6500)) == 6500
        store.delete([row.id for row in rows[100:]])
        assert store.count() == 100
        assert set(find_ids(store, [1, 0, 0, 0], 200)) == {row.id for row in rows[:100]}

    def test_counts_and_finds_at_once_after_each_write(self, store: Store) -> None:
        for i, vector in enumerate(draw_vectors(20, 6)):
            store.upsert([Row(str(i), "t", vector, {})])
            assert store.count() == i + 1
            assert find_ids(store, vector, 1) == [str(i)]
        store.delete(["19", "unknown"])
        assert store.count() == 19
        assert "19" not in find_ids(store, draw_vectors(20, 6)[19], 20)

    def test_delete_needs_to_know_what(self, store: Store) -> None:
        store.add_texts(["a"])
        assert store.delete([]) is True
        with pytest.raises(UsageError, match="drop"):
            store.delete()
        assert store.count() == 1

    def test_drop_empties_and_frees_the_dimension(self, store: Store) -> None:
        store.upsert(make_rows(draw_vectors(5, 6)))
        assert store.dimension == 6
        store.drop()
        assert (store.count(), store.dimension, list(store.scan())) == (0, None, [])
        store.upsert(make_rows(draw_vectors(3, 9)))
        assert (store.count(), store.dimension) == (3, 9)
        assert len(store.search(draw_vectors(1, 9)[0], 5)) == 3


class TestContent:
    """Metadata of any JSON value and text of any length and script come back as they went in."""

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(metadatas=st.lists(st.dictionaries(st.text(), st.deferred(lambda: JSON)), max_size=8))
    def test_any_json_comes_back(self, store: Store, metadatas: list[dict[str, Any]]) -> None:
        rows = make_rows(draw_vectors(len(metadatas) or 1, 3)[: len(metadatas)], metadatas)
        store.upsert(rows)
        for row, held in zip(rows, store.fetch([row.id for row in rows]), strict=True):
            assert json.dumps(held.metadata, sort_keys=True) == json.dumps(
                row.metadata, sort_keys=True
            )

    def test_numbers_keep_their_type(self, store: Store) -> None:
        metadata = {
            "int": 1,
            "float": 1.0,
            "true": True,
            "big": 2**70,
            "null": None,
            "small": 5e-324,
        }
        store.upsert([Row("a", "", np.ones(2), metadata)])
        (held,) = store.get_by_ids(["a"])
        assert {k: (type(v), v) for k, v in held.metadata.items()} == {
            k: (type(v), v) for k, v in metadata.items()
        }

    def test_any_text_comes_back(self, store: Store) -> None:
        texts = [
            "", " ", "\n\t", "a\x00b", "0", "Ünïcödé", "漢字かな交じり文。", "עברית", "🏳️‍🌈 👩‍👩‍👧",
            "e\u0301", "\ufeffBOM", "\u202eRTL", "line\r\nline\u2028line", "長い" * 350_000,
        ]  # fmt: skip
        rows = [Row(str(i), text, draw_vectors(20, 6)[i], {}) for i, text in enumerate(texts)]
        store.upsert(rows)
        assert [row.text for row in store.fetch([row.id for row in rows])] == texts
        (best, _), *_ = store.search(rows[-1].vector, 1)
        assert best.page_content == texts[-1]

    def test_many_texts_of_a_megabyte_come_back(self, store: Store) -> None:
        mixed = "plain, ünïcödé, 漢字かな, עברית, 🏳️‍🌈, \x00, \\u0000, '\"%s {} \r\n"
        texts = [f"{i} {mixed * (1_000_000 // len(mixed.encode()))} {i}" for i in range(4)]
        assert all(len(text.encode()) > 990_000 for text in texts)
        vectors = np.eye(4)
        store.upsert([Row(str(i), text, vectors[i], {"n": i}) for i, text in enumerate(texts)])
        assert [row.text for row in store.fetch(list("0123"))] == texts
        assert {row.id: row.text for row in store.scan()} == dict(zip("0123", texts, strict=True))
        found = store.search(vectors[2], 4, {"n": {"$ne": 3}})
        assert sorted(document.page_content for document, _ in found) == texts[:3]
        store.upsert([Row("1", "short", vectors[1], {"n": 1})])
        assert store.fetch(["1"])[0].text == "short"

    def test_nested_metadata_comes_back_and_is_found(self, store: Store) -> None:
        nested = {
            "author": {"name": {"given": "Ada", "family": "L\x00velace"}, "papers": [1, [2, {}]]},
            "pages": [{"from": 1, "to": None}, {"from": 2.5, "to": []}],
            "empty": {"object": {}, "list": [], "text": "", "null": None},
            "dotted.key": {"in.side": True},
            "outer": {"in.side": True},
        }
        other = {"author": {"name": "Ada"}}
        store.upsert(make_rows(np.eye(2), [nested, other]))
        assert store.fetch(["id-0"])[0].metadata == nested
        for filter in (
            {"author.name.given": "Ada"},
            {"author.name.family": "L\x00velace"},
            {"author.papers": {"$contains": [2, {}]}},
            {"pages": {"$contains": {"to": None, "from": 1}}},
            {"dotted.key": {"in.side": True}},
            {"outer.in.side": True},
            {"empty.object": {}},
        ):
            assert find_ids(store, [1.0, 1.0], 5, filter) == ["id-0"]

    def test_scan_yields_every_row_once_with_its_unit_vector(self, store: Store) -> None:
        vectors = draw_vectors(1203, 5)
        rows = make_rows(vectors)
        store.upsert(rows)
        scanned = {row.id: row for row in store.scan()}
        assert len(scanned) == 1203
        for row, vector in zip(rows, vectors, strict=True):
            held = scanned[row.id]
            assert (held.text, held.metadata) == (row.text, row.metadata)
            assert held.vector.dtype == np.float32
            assert held.vector == pytest.approx(vector / np.linalg.norm(vector), abs=1e-6)

    def test_what_comes_back_can_be_changed_without_harm(self, store: Store) -> None:
        store.add_texts(["a"], [{"x": {"y": [1]}}], ids=["a"])
        store.get_by_ids(["a"])[0].metadata["x"]["y"].append(2)
        store.similarity_search("a", 1)[0].metadata["x"]["y"].append(3)
        assert store.get_by_ids(["a"])[0].metadata == {"x": {"y": [1]}}
        assert store.similarity_search("a", 1, filter={"x.y": [1]}) != []


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63, 10**400, 0.5, -1.5, 1e308, 2.0**53])
    | st.sampled_from(["", "a", "b", "ab", "Ab", "é", "10", "2024-05-01", "2024-11-30", "日本"])
)
JSON = st.recursive(
    SCALARS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from("xy"), SCALARS)
KEYS = st.sampled_from(["a", "b", "c.d", "c", "$e", "", "chroma:document"])
FIELDS = st.sampled_from(["a", "b", "c.d", "c", "c.x", "a.y", "", "chroma:document", "missing"])
ORDERED = SCALARS.filter(lambda v: isinstance(v, (int, float, str)) and not isinstance(v, bool))
CONDITIONS = (
    VALUES
    | st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES).map(lambda t: dict([t]))
    | st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=4)).map(
        lambda t: dict([t])
    )
    | st.dictionaries(
        st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED, min_size=1, max_size=2
    )
    | SCALARS.map(lambda v: {"$contains": v})
    | st.booleans().map(lambda v: {"$exists": v})
)
NEGATABLE = CONDITIONS.filter(lambda c: isinstance(c, dict) and any(k[:1] == "$" for k in c))
FILTERS = st.recursive(
    st.dictionaries(FIELDS, CONDITIONS | NEGATABLE.map(lambda c: {"$not": c}), max_size=2),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda fs: {"$and": fs})
        | st.lists(inner, min_size=1, max_size=3).map(lambda fs: {"$or": fs})
        | inner.map(lambda f: {"$not": f})
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def metadatas() -> list[dict[str, Any]]:
    """Eighty varied metadata, the same on every run."""
    drawn: list[dict[str, Any]] = []

    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @given(st.dictionaries(KEYS, VALUES, max_size=4))
    def draw(metadata: dict[str, Any]) -> None:
        drawn.append(metadata)

    draw()
    return drawn


@pytest.fixture(scope="module")
def filled(shared_place: Any, metadatas: list[dict[str, Any]]) -> Store:
    store: Store = shared_place.open()
    store.upsert(make_rows(draw_vectors(len(metadatas), 5), metadatas))
    return store


class TestFilters:
    """One filter language: every store finds exactly the rows for which `matches` holds."""

    @settings(max_examples=GENERATED_FILTERS, deadline=None)
    @given(filter=FILTERS)
    def test_agrees_with_the_definition(
        self, filled: Store, metadatas: list[dict[str, Any]], filter: dict[str, Any]
    ) -> None:
        node = parse(filter)
        wanted = {f"id-{i}" for i, metadata in enumerate(metadatas) if matches(node, metadata)}
        assert set(find_ids(filled, [1, 1, 0, 0, 0], 1000, filter)) == wanted
        assert len(filled.search([1, 1, 0, 0, 0], 3, filter)) == min(3, len(wanted))

    def test_a_rare_match_among_many_is_always_found(self, store: Store) -> None:
        vectors = draw_vectors(4000, 8)
        metadatas = [
            {"rare": i % 800 == 0, "day": f"2024-{i % 12:02}", "n": i} for i in range(4000)
        ]
        store.upsert(make_rows(vectors, metadatas))
        wanted = {f"id-{i}" for i in range(0, 4000, 800)}
        for filter in (
            {"rare": True},
            {"rare": True, "day": {"$gte": "2024"}},
            {"n": {"$in": [*range(0, 4000, 800)]}},
        ):
            for query in draw_vectors(5, 8, seed=5):
                assert set(find_ids(store, query, 5, filter)) == wanted

    def test_long_lists_and_many_conditions(self, store: Store) -> None:
        store.upsert(make_rows(draw_vectors(50, 4)))
        assert len(find_ids(store, [1, 0, 0, 0], 99, {"n": {"$in": [*range(10, 50_000)]}})) == 40
        many = {"$or": [{"$and": [{"n": i}, {"n": {"$ne": "x"}}]} for i in range(300)]}
        assert len(find_ids(store, [1, 0, 0, 0], 99, many)) == 50

    def test_a_malformed_filter_is_refused_even_when_empty(self, store: Store) -> None:
        for _ in range(2):
            with pytest.raises(FilterError, match=r"\$regex"):
                store.search([1.0] * 6, 3, {"a": {"$regex": "x"}})
            store.add_texts(["a"])

    def test_values_are_data(self, store: Store) -> None:
        hostile = ['" OR 1=1 --', "'; DROP TABLE rows; --", "%", "_", "\\", "{}", "${HOME}", "\x00"]
        store.upsert(make_rows(draw_vectors(8, 4), [{"v": v} for v in hostile]))
        for i, value in enumerate(hostile):
            assert find_ids(store, [1, 0, 0, 0], 9, {"v": value}) == [f"id-{i}"]
            assert len(find_ids(store, [1, 0, 0, 0], 9, {"v": {"$ne": value}})) == 7


class TestRefusals:
    """What a store cannot hold is refused, by name, before anything is written."""

    @pytest.mark.parametrize(
        ("vector", "words"),
        [
            ([0.0, 0.0], "zero"),
            ([math.nan, 1.0], "NaN"),
            ([math.inf, 1.0], "infinite"),
            ([], "shape"),
            ([[1.0, 2.0]], "shape"),
            (["a", "b"], "numbers"),
            ([1.0, 2.0, 3.0], "3 dimensions, the collection 2"),
        ],
    )
    def test_vectors(self, store: Store, vector: Any, words: str) -> None:
        store.upsert([Row("first", "", np.array([1.0, 0.0]), {})])
        good = Row("good", "", np.array([1.0, 0.0]), {})
        with pytest.raises(StoreError, match=words) as caught:
            store.upsert([good, Row("bad-one", "", vector, {})])
        assert "bad-one" in str(caught.value)
        with pytest.raises(StoreError, match=words):
            store.search(vector, 3)
        assert [row.id for row in store.scan()] == ["first"]

    @pytest.mark.parametrize(
        ("metadata", "words"),
        [
            ({"when": datetime.date(2024, 1, 1)}, r"'when'.*date.*isoformat"),
            ({"a": {"b": [1, np.float32(2)]}}, r"'a\.b\[1\]'.*float32.*\.item"),
            ({"t": (1, 2)}, r"'t'.*tuple.*list"),
            ({"n": math.nan}, r"'n'.*nan"),
            ({1: "x"}, "key 1 is a int"),
            ({"s": "\ud800"}, "surrogate"),
            (None, "NoneType"),
        ],
    )
    def test_metadata(self, store: Store, metadata: Any, words: str) -> None:
        with pytest.raises(StoreError, match=words) as caught:
            store.upsert([Row("bad-one", "", np.ones(2), metadata)])
        assert "bad-one" in str(caught.value)
        assert store.count() == 0

    def test_ids_and_texts(self, store: Store) -> None:
        for id, text in (("", "x"), (1, "x"), ("\ud800", "x"), ("a", None), ("a", "\ud800")):
            with pytest.raises(StoreError, match="Unicode"):
                store.upsert([Row(id, text, np.ones(2), {})])  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="2 ids were given for 1 texts"):
            store.add_texts(["a"], ids=["a", "b"])
        with pytest.raises(StoreError, match="1 metadatas were given for 2 texts"):
            store.add_texts(["a", "b"], [{}])

    def test_a_closed_store(self, store: Store) -> None:
        store.add_texts(["a"])
        store.close()
        store.close()
        for use in (
            store.count,
            lambda: store.similarity_search("a"),
            lambda: store.add_texts(["a"]),
        ):
            with pytest.raises(StoreError, match="closed"):
                use()

    def test_texts_alone_make_no_store(self, store: Store) -> None:
        with pytest.raises(UsageError, match="add_texts"):
            type(store).from_texts(["a"], store.embeddings)


class TestEmptiness:
    """Nothing in, nothing out, no error."""

    def test_nothing_added_to_nothing(self, store: Store) -> None:
        assert store.add_texts([]) == []
        assert store.add_documents([]) == []
        store.upsert([])
        store.delete(["unknown"])
        assert store.get_by_ids([]) == store.get_by_ids(["unknown"]) == []
        assert (store.count(), store.dimension, list(store.scan())) == (0, None, [])
        assert store.similarity_search("x", filter={"a": {"$contains": "b"}}) == []
        assert store.max_marginal_relevance_search("x") == []
        store.drop()

    def test_nothing_left_after_deleting_all(self, store: Store) -> None:
        ids = store.add_texts(["a", "b"], [{"x": 1}, {}])
        store.delete(ids)
        assert store.count() == 0
        assert store.similarity_search("x") == []
        assert store.similarity_search("x", filter={"x": 1}) == []
        assert store.similarity_search("x", filter={"x": {"$exists": False}}) == []
        store.add_texts(["c"])
        assert [d.page_content for d in store.similarity_search("x")] == ["c"]


ELSEWHERE = """
import json, sys
import numpy as np
from rag_app import registry
from rag_app.store import Row
kind, options, collection = json.loads(sys.argv[1])
config = registry.config_class("vector_stores", kind)(**options)
store = registry.build("vector_stores", kind, config, embeddings=None, collection=collection)
unpickled = []
sys.addaudithook(lambda event, _: event == "pickle.find_class" and unpickled.append(event))
found = [[d.id, d.page_content, d.metadata, s] for d, s in store.search([1.0, 0.0], 5)]
store.upsert([Row("theirs", "written elsewhere", np.array([1.0, 1.0]), {"by": {"pid": None}})])
store.delete(["b"])
print(json.dumps([store.count(), found, unpickled]))
store.close()
"""


class TestPersistence:
    """What was written is there for the next opening and for other processes."""

    def test_says_whether_it_lasts(self, place: Any) -> None:
        assert place.open().persistent is place.lasts

    def test_reopens_after_close(self, place: Any) -> None:
        store = place.open()
        store.upsert(make_rows(draw_vectors(1500, 6)))
        store.upsert(make_rows(draw_vectors(5, 6, seed=1), [{"again": True}] * 5))
        store.delete(["id-7"])
        store.close()
        again = place.open()
        assert again.count() == (1499 if place.lasts else 0)
        assert again.dimension == (6 if place.lasts else None)
        if place.lasts:
            assert find_ids(again, draw_vectors(5, 6, seed=1)[2], 1) == ["id-2"]
            assert len(find_ids(again, np.ones(6), 9, {"again": True})) == 5
            with pytest.raises(StoreError, match="dimensions"):
                again.search([1.0, 2.0], 3)

    def test_another_process_reads_and_writes(self, place: Any) -> None:
        if not place.lasts:
            assert place.open().count() == 0
            return
        store = place.open()
        store.upsert(
            [
                Row("a", "日本", np.array([1.0, 0.0]), {"x": [1]}),
                Row("b", "b", np.array([0.0, 1.0]), {}),
            ]
        )
        store.close()
        spec = json.dumps([place.kind, place.options, place.collection])
        ran = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, spec], capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stderr
        count, found, unpickled = json.loads(ran.stdout)
        assert unpickled == []
        assert (count, found[0]) == (2, ["a", "日本", {"x": [1]}, 1.0])
        again = place.open()
        assert find_ids(again, [1.0, 1.0], 5) == ["theirs", "a"]
        assert again.get_by_ids(["theirs"])[0].metadata == {"by": {"pid": None}}

    def test_two_openings_see_each_others_writes(self, place: Any) -> None:
        if not place.lasts:
            return
        one, two = place.open(), place.open()
        one.upsert(make_rows(draw_vectors(3, 6)))
        assert len(two.search(np.ones(6), 9)) == 3
        two.upsert(make_rows(draw_vectors(5, 6, seed=1)))
        two.delete(["id-0"])
        assert set(find_ids(one, np.ones(6), 9)) == {"id-1", "id-2", "id-3", "id-4"}
        assert find_ids(one, draw_vectors(5, 6, seed=1)[1], 1) == ["id-1"]
        two.drop()
        assert one.search(np.ones(6), 9) == []
        two.upsert(make_rows(draw_vectors(2, 4), prefix="new"))
        assert set(find_ids(one, np.ones(4), 9)) == {"new-0", "new-1"}

    def test_collections_do_not_mix(self, place: Any) -> None:
        names = [f"{place.collection}-{end}" for end in ("one", "two", "Ünï cödé/§")]
        stores = [place.open(name) for name in names]
        for i, store in enumerate(stores):
            store.upsert([Row("same", f"of {i}", np.eye(i + 2)[0], {"i": i})])
        assert [store.dimension for store in stores] == [2, 3, 4]
        assert [store.fetch(["same"])[0].text for store in stores] == ["of 0", "of 1", "of 2"]
        stores[0].drop()
        assert [store.count() for store in stores] == [0, 1, 1]


class TestThreads:
    """One store may be used by many threads."""

    def test_eight_threads_write_search_and_delete(self, store: Store) -> None:
        store.upsert([Row("first", "", np.ones(6), {"worker": -1})])
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                vectors = draw_vectors(16, 6, seed=number)
                for i, vector in enumerate(vectors):
                    store.upsert([Row(f"{number}-{i}", "t", vector, {"worker": number})])
                    assert find_ids(store, vector, 3, {"worker": number})[0] == f"{number}-{i}"
                store.delete([f"{number}-{i}" for i in range(0, 16, 2)])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.count() == 1 + 8 * 8
        for number in range(8):
            assert len(store.search(np.ones(6), 99, {"worker": number})) == 8


class RealPassages(NamedTuple):
    """Published texts and what the packaged model makes of them: float32 (n, 384) and (q, 384)."""

    texts: list[str]
    vectors: Any
    queries: Any


@pytest.fixture(scope="session")
def real_passages(data: Callable[[str], Path], pytestconfig: pytest.Config) -> RealPassages:
    """1,000 abstracts and 100 claims of SciFact; pytest's cache keeps their vectors."""
    texts = choose(read_jsonl(data("scifact") / "corpus.jsonl.gz"), 1000)
    queries = choose(read_jsonl(data("scifact") / "queries.jsonl"), 100)
    model = registry.module("embeddings", "minilm")
    embeddings = model.build(model.Config(precision="int8"))
    key = hash_words(json.dumps([texts, queries, embeddings.identity], sort_keys=True))
    held = pytestconfig.cache.mkdir("real_passages") / f"{key}.npy"  # type: ignore[union-attr]
    if held.is_file():
        vectors = np.load(held)
    else:
        with warnings.catch_warnings():  # of a long abstract the beginning is as real
            warnings.simplefilter("ignore", TruncationWarning)
            vectors = np.array(embeddings.embed_documents(texts + queries), dtype=np.float32)
        written = held.with_suffix(f".{os.getpid()}.npy")
        np.save(written, vectors)
        written.rename(held)
    return RealPassages(texts, vectors[: len(texts)], vectors[len(texts) :])


def read_jsonl(path: Path) -> list[str]:
    """Title and text of each record."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [f"{record.get('title', '')} {record['text']}".strip() for record in records]


def choose(texts: list[str], count: int) -> list[str]:
    """`count` of them in a fixed, shuffled order."""
    return sorted(set(texts), key=hash_words)[:count]


def hash_words(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
