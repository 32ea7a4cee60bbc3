"""Hits, fusion and the reranking retriever."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever

from rag_app.errors import UsageError
from rag_app.hits import fuse, make_hit
from rag_app.retrieval import RerankingRetriever, reorder, to_document, to_hit
from rag_app.types import Hit, Rank

if TYPE_CHECKING:
    from collections.abc import Sequence


def hit(id: str, name: str = "dense", rank: int = 1, similarity: float | None = 0.5) -> Hit:
    metadata = {"source": f"{id}.md", "start": 3, "end": 7, "page": 2, "tags": ["a"]}
    ranks = {name: Rank(rank, 0.25)}
    return make_hit(id, "text", metadata, similarity=similarity, score=0.25, ranks=ranks)


def test_a_hit_survives_being_a_document() -> None:
    original = hit("a")
    document = to_document(original)
    assert document.metadata["source"] == "a.md"
    assert document.metadata["_hit"]["ranks"] == {"dense": {"rank": 1, "score": 0.25}}
    assert to_hit(document) == original
    assert "_hit" not in original.metadata
    assert original.metadata == {"page": 2, "tags": ["a"]}


def test_a_document_of_another_retriever_is_a_hit_too() -> None:
    found = to_hit(Document("words", id="x", metadata={"n": 1}))
    assert (found.source, found.start, found.end, found.similarity) == ("", 0, 5, None)
    assert found.metadata == {"n": 1}


RANKINGS = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(RANKINGS, RANKINGS, st.floats(0, 5), st.floats(0.1, 5), st.integers(0, 100))
def test_fusion_equals_brute_force(
    dense: list[str], words: list[str], weight: float, other: float, constant: int
) -> None:
    expected: dict[str, float] = defaultdict(float)
    for ids, each in ((dense, weight), (words, other)):
        for place, id in enumerate(ids):
            expected[id] += each / (constant + place + 1)
    fused = fuse(
        {
            "dense": [hit(id, "dense", rank) for rank, id in enumerate(dense, 1)],
            "bm25": [hit(id, "bm25", rank, None) for rank, id in enumerate(words, 1)],
        },
        {"dense": weight, "bm25": other},
        constant,
    )
    assert {each.id: each.score for each in fused} == {
        id: pytest.approx(score) for id, score in expected.items() if score > 0
    }
    assert [each.score for each in fused] == sorted((e.score for e in fused), reverse=True)
    for each in fused:
        places = {"dense": dense, "bm25": words}
        assert {name: rank.rank for name, rank in each.ranks.items()} == {
            name: ids.index(each.id) + 1 for name, ids in places.items() if each.id in ids
        }
        assert each.similarity == (0.5 if each.id in dense else None)


def test_fusion_breaks_ties_by_the_order_of_the_lists() -> None:
    lists = {"dense": [hit("b")], "bm25": [hit("a", "bm25")]}
    assert [each.id for each in fuse(lists, {"dense": 1, "bm25": 1})] == ["b", "a"]


class Fixed(BaseRetriever):
    """Finds the same documents every time, as many as asked for, of the language asked for."""

    documents: list[Document]
    k: int = 3

    def _get_relevant_documents(
        self, query: str, *, run_manager: Any, k: int | None = None, filter: Any = None
    ) -> list[Document]:
        found = [
            document
            for document in self.documents
            if filter is None or document.metadata["lang"] == filter["lang"]
        ]
        return found[: k or self.k]


class ByLength(BaseDocumentCompressor):
    """Longer texts first."""

    k: int

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        scores = [float(len(document.page_content)) for document in documents]
        return reorder(documents, scores, "by_length", self.k)


def reranking() -> RerankingRetriever:
    words = ["a", "bbb", "cc", "dddd", "eeeee"]
    documents = [
        Document(word, id=word, metadata={"lang": "en" if len(word) % 2 else "de"})
        for word in words
    ]
    return RerankingRetriever(retriever=Fixed(documents=documents), compressor=ByLength(k=2))


def test_reranking_cuts_what_the_retriever_fetched() -> None:
    found = reranking().invoke("q")
    assert [document.id for document in found] == ["bbb", "cc"]
    assert found[0].metadata["_hit"]["ranks"] == {"by_length": {"rank": 1, "score": 3.0}}
    assert found[0].metadata["_hit"]["score"] == 3.0


def test_reranking_passes_the_filter_and_k() -> None:
    assert [d.id for d in reranking().invoke("q", filter={"lang": "de"})] == ["dddd", "cc"]
    assert [d.id for d in reranking().invoke("q", k=1)] == ["bbb"]
    assert [d.id for d in reranking().invoke("q", k=4)] == ["dddd", "bbb", "cc", "a"]


async def test_async_search_takes_the_same_options() -> None:
    found = await reranking().ainvoke("q", k=1, filter={"lang": "de"})
    assert [document.id for document in found] == ["dddd"]


@pytest.mark.parametrize("options", [{"top_k": 3}, {"k": -1}, {"k": "3"}, {"k": True}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        reranking().invoke("q", **options)


def test_reordering_leaves_the_documents_alone() -> None:
    documents = [to_document(hit("a")), to_document(hit("b"))]
    before = [document.model_copy(deep=True) for document in documents]
    ranked = reorder(documents, [1.0, 2.0], "judge", 5)
    assert documents == before
    assert [document.id for document in ranked] == ["b", "a"]
    assert to_hit(ranked[0]).ranks == {"dense": Rank(1, 0.25), "judge": Rank(1, 2.0)}
    assert to_hit(ranked[0]).similarity == 0.5
