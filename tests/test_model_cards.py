"""The table of embedding models: whole, found by the names people write, and true where checked.

The prefixes below are written down a second time, from the models' own pages on the hub, so that a
slip in the table is seen.
"""

from __future__ import annotations

import re
from datetime import date

import pytest
import yaml

from rag_app.errors import UsageError
from rag_app.model_cards import FIELDS, TABLE, Card, check_dimension, find_card, list_cards
from scripts import write_docs

ENTRIES = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
CARDS = list_cards()
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
BGE = "Represent this sentence for searching relevant passages: "
PREFIXES = {
    r"intfloat/(multilingual-)?e5-(small|base|large)(-v2)?": ("query: ", "passage: "),
    r"intfloat/multilingual-e5-large-instruct": (f"Instruct: {WEB_SEARCH}\nQuery: ", ""),
    r"intfloat/e5-mistral-7b-instruct": (f"Instruct: {WEB_SEARCH}\nQuery: ", ""),
    r"Qwen/Qwen3-Embedding-(0\.6|4|8)B": (f"Instruct: {WEB_SEARCH}\nQuery:", ""),
    r"BAAI/bge-(small|base|large)-en-v1\.5": (BGE, ""),
    r"BAAI/bge-(small|base|large)-zh-v1\.5": ("为这个句子生成表示以用于检索相关文章：", ""),  # noqa: RUF001
    r"(nomic-ai/)?nomic-embed-text(-v1\.5|-v2-moe)?": ("search_query: ", "search_document: "),
    r"mixedbread-ai/mxbai-embed-large-v1|Snowflake/snowflake-arctic-embed-l": (BGE, ""),
    r"Snowflake/snowflake-arctic-embed-l-v2\.0": ("query: ", ""),
    r"google/embeddinggemma-300m": ("task: search result | query: ", "title: none | text: "),
}
POOLINGS = {
    "cls": r"BAAI/.*|Alibaba-NLP/.*|mixedbread-ai/.*|Snowflake/.*",
    "mean": r"thenlper/gte-(large|base|small)|intfloat/(?!e5-mistral).*|.*nomic.*"
    r"|sentence-transformers/.*|google/embeddinggemma.*",
    "last_token": r"Qwen/.*|intfloat/e5-mistral.*",
}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_an_entry_holds_what_a_card_may(entry: dict[str, object]) -> None:
    assert entry.keys() <= set(FIELDS)
    card = find_card(str(entry["name"]))
    assert card.known
    assert card.source.startswith("https://")
    assert card.window
    assert card.window >= 128
    assert card.dimension
    assert card.dimension >= 256
    assert list(card.dimensions) == sorted(card.dimensions, reverse=True)
    assert all(length < card.dimension for length in card.dimensions)
    assert card.shortest is None or card.shortest < card.dimension
    assert card.pooling in {None, "cls", "mean", "last_token"}
    assert card.languages in {"", "en", "zh", "multilingual"}
    assert card.licence in {"MIT", "Apache-2.0", "LicenseRef-Gemma", "proprietary"}
    assert (card.price is None) == (card.price_date is None)
    if card.price_date is not None:
        assert date.fromisoformat(card.price_date) <= date.today()
        assert card.price
        assert 0 < card.price < 10


def test_no_two_models_share_a_name() -> None:
    names = [name.casefold() for card in CARDS for name in (card.name, *card.aliases)]
    names += [card.name.rpartition("/")[2].casefold() for card in CARDS if "/" in card.name]
    assert sorted(names) == sorted(set(names))
    assert len(CARDS) == len(ENTRIES)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_prefixes_and_pooling_are_those_of_the_models_own_pages(card: Card) -> None:
    expected = [words for name, words in PREFIXES.items() if re.fullmatch(name, card.name)]
    assert [(card.query_prefix, card.document_prefix)] == (expected or [("", "")])
    pooled = [mode for mode, names in POOLINGS.items() if re.fullmatch(names, card.name)]
    assert [card.pooling] == (pooled or [None])


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("BAAI/bge-m3", "BAAI/bge-m3"),
        ("baai/BGE-M3", "BAAI/bge-m3"),
        ("bge-m3:latest", "BAAI/bge-m3"),
        ("bge-m3:567m-fp16", "BAAI/bge-m3"),
        ("models/bge-m3/", "BAAI/bge-m3"),
        ("C:\\models\\bge-m3", "BAAI/bge-m3"),
        ("/hub/models--BAAI--bge-m3/snapshots/5617a9f6", "BAAI/bge-m3"),
        ("models/gemini-embedding-001", "gemini-embedding-001"),
        ("openai/text-embedding-3-small", "text-embedding-3-small"),
        ("qwen3-embedding", "Qwen/Qwen3-Embedding-8B"),
        ("qwen3-embedding:latest", "Qwen/Qwen3-Embedding-8B"),
        ("qwen3-embedding:0.6b", "Qwen/Qwen3-Embedding-0.6B"),
        ("qwen3-embedding:0.6b-fp16", "Qwen/Qwen3-Embedding-0.6B"),
        ("all-minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-minilm:33m", "sentence-transformers/all-MiniLM-L12-v2"),
        ("nomic-embed-text:137m-v1.5-fp16", "nomic-embed-text"),
        ("mxbai-embed-large", "mixedbread-ai/mxbai-embed-large-v1"),
    ],
)
def test_a_model_is_found_by_the_names_people_write(written: str, name: str) -> None:
    assert find_card(written).name == name


@pytest.mark.parametrize("written", ["unheard-of", "all-minilm:7b", "bge-m3:tuned", "bge", ""])
def test_another_name_is_unknown_and_has_no_facts(written: str) -> None:
    card = find_card(written)
    assert card == Card(written, known=False)
    assert card.takes(7)


def test_a_length_that_a_model_has_not_is_refused_with_those_it_has() -> None:
    gemini, bge = find_card("gemini-embedding-001"), find_card("bge-m3")
    for length in (None, 128, 768, 3071, 3072):
        check_dimension(gemini, length)
    with pytest.raises(UsageError, match="It has 3072, or 128 to 3072"):
        check_dimension(gemini, 127)
    with pytest.raises(UsageError, match=r"no vectors of 512 dimensions\. It has 1024\."):
        check_dimension(bge, 512)


def test_the_guides_table_is_the_table() -> None:
    page = (write_docs.ROOT / "rag_app" / "guide" / "embeddings.md").read_text(encoding="utf-8")
    assert f"<!-- model cards -->\n{write_docs._cards()}\n<!-- /model cards -->" in page
