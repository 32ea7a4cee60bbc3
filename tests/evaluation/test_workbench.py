"""What configs of a comparison share, they have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tests.openai_server
from rag_app.evaluation.cases import parse_cases
from rag_app.evaluation.compare import compare
from rag_app.evaluation.grid import expand, expand_many
from rag_app.evaluation.queries import RememberedQueries
from rag_app.index.identity import take_probes
from tests.evaluation.corpora import draw_cases, make_config, write_corpus
from tests.openai_server import OpenAIServer

IN_MEMORY = {"kind": "memory", "path": None}


def test_configs_alike_but_for_their_folder_are_measured_on_their_own_documents(
    tmp_path: Path,
) -> None:
    quote = "The deposit is two rents."
    for name, others in (("old", 0), ("new", 12)):
        docs = tmp_path / name / "docs"
        docs.mkdir(parents=True)
        (docs / "rent.md").write_text(quote)
        for number in range(others):
            (docs / f"n{number}.md").write_text(f"deposit deposit rents rents {number}")
        (docs.parent / "app.yaml").write_text(
            "name: shop\nsources: [{kind: files, path: docs}]\nembeddings: hashing\n"
            "retriever: {kind: bm25, k: 4}\n"
        )
    evidence = [{"source": "rent.md", "quote": quote}]
    cases = parse_cases([{"id": "q", "question": "deposit rents?", "evidence": evidence}])
    paths = [tmp_path / name / "app.yaml" for name in ("old", "new")]
    found = compare(expand_many(paths), cases, metric="mrr@10")
    assert {each.name: each.index["documents"] for each in found.evaluations} == {
        "old/app": 1,
        "new/app": 13,
    }


def list_texts(server: OpenAIServer) -> list[str]:
    given = [request.body["input"] for request in server.requests]
    return [text for each in given for text in ([each] if isinstance(each, str) else each)]


def embeddings_of(server: OpenAIServer, **more: Any) -> dict[str, Any]:
    return {"kind": "openai", "model": "m", "api_key": "k", "base_url": server.url, **more}


@pytest.mark.parametrize("kept", [False, True])
def test_questions_of_a_model_that_was_replaced_are_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    cases = parse_cases(draw_cases(write_corpus(tmp_path / "docs", 12), 6, whole=True))
    with OpenAIServer() as server:
        config = make_config(
            tmp_path,
            embeddings=embeddings_of(server),
            vector_store={"kind": "memory", "path": str(tmp_path / "v")} if kept else IN_MEMORY,
            retriever={"kind": "dense", "k": [4, 5]},
        )
        first = compare(expand(config), cases, metric="mrr@10")
        again = compare(expand(config), cases, metric="mrr@10")
        assert again.embedded == 0
        embed = tests.openai_server.embed_words

        def embed_otherwise(text: str, length: int) -> Any:
            return embed(" ".join(f"other{word}" for word in text.split()), length)

        monkeypatch.setattr(tests.openai_server, "embed_words", embed_otherwise)
        server.requests.clear()
        replaced = compare(expand(config), cases, metric="mrr@10")
        sent = list_texts(server)
    assert {case.question for case in cases.cases} <= set(sent)
    assert replaced.embedded == first.embedded
    monkeypatch.undo()


def test_configs_that_differ_in_a_price_share_an_index_and_have_each_its_own_cost(
    tmp_path: Path,
) -> None:
    texts = write_corpus(tmp_path / "docs", 6)
    drawn = draw_cases(texts, 4, whole=True)
    words = sum(len(case["question"].split()) for case in drawn)
    with OpenAIServer() as server:
        config = make_config(tmp_path, embeddings=embeddings_of(server, price=[100, 300]))
        variants = expand(config)
        found = compare(variants, parse_cases(drawn), metric="mrr@10")
        sent = list_texts(server)
    assert all(sent.count(text) == 1 for text in texts.values())
    costs = {each.name: each.cost for each in found.evaluations}
    for variant in variants:
        price = variant.config.embeddings.options.model_dump()["price"]
        assert costs[variant.name] == pytest.approx(price * words / 1e6, rel=1e-3)


class OneVector:
    """Embeds every text alike, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.vector = [1.0, 0.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.vector for _ in texts]

    def embed_query(self, text: str) -> list[float]:  # noqa: ARG002
        self.asked += 1
        return self.vector


def test_settled_on_other_vectors_a_question_is_embedded_anew() -> None:
    model = OneVector()
    queries = RememberedQueries(model, None)  # type: ignore[arg-type]
    queries.settle(take_probes(model))  # type: ignore[arg-type]
    assert queries.embed_query("a") == queries.embed_query("a") == [1.0, 0.0]
    asked = model.asked
    queries.settle(take_probes(model))  # type: ignore[arg-type]
    queries.embed_query("a")
    assert model.asked == asked
    model.vector = [0.0, 1.0]
    queries.settle(take_probes(model))  # type: ignore[arg-type]
    assert queries.embed_query("a") == [0.0, 1.0]
