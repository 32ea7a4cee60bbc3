"""The chains through their public contract: context, answer, citations; streamed and refused."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun, get_usage_metadata_callback
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable

import rag_app
from chains import conversational, extractive, qa
from rag_app.chat_models import openai, scripted
from rag_app.embeddings import hashing, minilm
from rag_app.errors import FilterError, ModelError, UsageError
from rag_app.timing import collect
from rag_app.types import Citation
from tests.openai_server import OpenAIServer, Refusal, Request

TENANCY = (
    "# Deposit\n\nThe deposit is two months of rent. It is paid back within six weeks after you "
    "leave.\n\n# Pets\n\nCats are allowed. Dogs need a written permission from the owner."
)
KITCHEN = (
    "The oven heats to 250 degrees. Clean the filter of the dishwasher once a month. "
    "The fridge is set to 5 degrees.\n\n```\nDishwasher.clean(filter=True)\n```"
)
DOCUMENTS = [
    Document(TENANCY, metadata={"source": "tenancy.md", "start": 100, "heading": "Tenancy"}),
    Document(KITCHEN, metadata={"source": "kitchen.pdf", "start": 0, "page": 3}),
]


class WordRetriever(BaseRetriever):
    """The documents with the most words of the question; keeps the questions and filters it got."""

    documents: list[Document] = DOCUMENTS
    asked: list[tuple[str, Any]] = []

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, filter: Any = None
    ) -> list[Document]:
        self.asked.append((query, filter))
        words = set(query.lower().split())
        return sorted(
            self.documents, key=lambda d: -len(words & set(d.page_content.lower().split()))
        )


class PlainRetriever(BaseRetriever):
    """Takes nothing but the question."""

    documents: list[Document] = DOCUMENTS

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self.documents


def say(*replies: str) -> BaseChatModel:
    return scripted.build(scripted.Config(responses=replies))


def add_up(pieces: Any) -> dict[str, Any]:
    first, *rest = pieces
    return sum(rest, start=first)


def every_chain() -> list[Runnable[Any, dict[str, Any]]]:
    cited = say("Two months [1]. Monthly [2] [9].")
    return [
        qa.build(PlainRetriever(), cited),
        conversational.build(PlainRetriever(), cited),
        extractive.build(PlainRetriever(), hashing.build(hashing.Config())),
    ]


CHAINS = pytest.mark.parametrize("chain", every_chain(), ids=lambda c: c.get_name())


def test_qa_answers_with_citations_from_any_retriever_and_model() -> None:
    model = FakeListChatModel(responses=["Two months of rent [1], cats are allowed [1]. 5 C [2]."])
    made = qa.build(PlainRetriever(), model).invoke("How much is the deposit?")
    assert list(made) == ["question", "context", "answer", "citations"]
    assert made["context"] == DOCUMENTS
    assert made["answer"] == "Two months of rent [1], cats are allowed [1]. 5 C [2]."
    quote = "The deposit is two months of rent."
    start = 100 + TENANCY.index(quote)
    assert made["citations"][0] == Citation(
        1, "tenancy.md", start, start + len(quote), quote, heading="Tenancy"
    )
    assert [c.quote for c in made["citations"][1:]] == [
        "Cats are allowed.",
        "The fridge is set to 5 degrees.",
    ]
    assert made["citations"][2].page == 3


@CHAINS
def test_pieces_add_up_to_the_answer_and_come_in_order(
    chain: Runnable[Any, dict[str, Any]],
) -> None:
    pieces = list(chain.stream("What does the deposit come to?"))
    assert add_up(pieces) == chain.invoke("What does the deposit come to?")
    kinds = [next(k for k in ("context", "answer", "citations") if k in p) for p in pieces]
    assert kinds[0] == "context"
    assert kinds[-1] == "citations"
    assert set(kinds[1:-1]) == {"answer"}


@CHAINS
async def test_the_async_methods_give_the_same(chain: Runnable[Any, dict[str, Any]]) -> None:
    question = {"question": "What does the deposit come to?"}
    expected = chain.invoke(question)
    assert await chain.ainvoke(question) == expected
    assert add_up([piece async for piece in chain.astream(question)]) == expected


@CHAINS
async def test_many_questions_at_once(chain: Runnable[Any, dict[str, Any]]) -> None:
    made = await chain.abatch([f"What is {n}?" for n in range(8)])
    assert [m["question"] for m in made] == [f"What is {n}?" for n in range(8)]


@CHAINS
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("  ", "asks nothing"),
        ({"question": None}, "asks nothing"),
        (7, "a int was given"),
        ({"question": "x", "top": 3}, "top is not a key"),
    ],
)
def test_what_is_no_question_is_refused(
    chain: Runnable[Any, dict[str, Any]], given: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        chain.invoke(given)


@CHAINS
def test_a_filter_the_retriever_would_ignore_is_refused(
    chain: Runnable[Any, dict[str, Any]],
) -> None:
    with pytest.raises(UsageError, match="PlainRetriever takes no filter"):
        chain.invoke({"question": "What?", "filter": {"page": 3}})


def test_the_filter_reaches_the_retriever_only_when_given() -> None:
    retriever = WordRetriever(asked=[])
    chain = qa.build(retriever, say("Yes [1]."))
    chain.invoke({"question": "One?", "filter": {"page": 3}})
    chain.invoke("Two?")
    assert retriever.asked == [("One?", {"page": 3}), ("Two?", None)]


@pytest.mark.parametrize("chain", ["extractive", "qa", "conversational"])
@pytest.mark.parametrize("wrong", [[], "", 0, False])
def test_a_malformed_filter_is_refused_also_when_it_is_empty(
    wrong: Any, chain: str, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("Dogs need a written permission from the owner.")
    config = {
        "sources": [{"kind": "files", "path": str(tmp_path)}],
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": None},
        "chat_model": "scripted",
        "chain": chain,
    }
    with rag_app.load(config) as app:
        app.ingest()
        with pytest.raises(FilterError):
            app.chain.invoke({"question": "Are dogs allowed?", "filter": wrong})


def test_without_hits_the_model_is_not_asked() -> None:
    with OpenAIServer("Made up [1].") as server:
        chain = qa.build(PlainRetriever(documents=[]), build_model(server))
        made = chain.invoke("What?")
    assert (made["answer"], made["citations"], made["context"]) == (qa.NO_EVIDENCE, [], [])
    assert server.requests == []


def test_dropped_numbers_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    made = qa.build(PlainRetriever(), say("Yes [1, 7]. No [8].")).invoke("What?")
    assert (made["answer"], made["dropped"]) == ("Yes [1]. No.", 2)
    assert "point at no passage were dropped: 2" in caplog.text


def test_whole_chunks_that_fit_are_kept_in_order() -> None:
    documents = [Document(c * 100) for c in "abc"]
    options = qa.Config(context_chars=250)
    made = qa.build(PlainRetriever(documents=documents), say("Yes [3]."), options).invoke("What?")
    assert made["context"] == documents[:2]
    assert made["dropped"] == 1


def test_a_budget_smaller_than_the_first_chunk_is_refused() -> None:
    chain = qa.build(
        PlainRetriever(documents=[Document("a" * 300)]), say("x"), qa.Config(context_chars=200)
    )
    with pytest.raises(UsageError, match="context_chars: 200 characters do not hold.*300"):
        chain.invoke("What?")


def build_model(server: OpenAIServer, **options: Any) -> BaseChatModel:
    return openai.build(openai.Config(base_url=server.url, max_retries=0, **options))


def test_tokens_arrive_while_the_server_still_writes() -> None:
    go_on = threading.Event()

    def reply(_: Request) -> Any:
        yield "Two "
        assert go_on.wait(30)
        yield from ["months", " of", " rent", " [", "1", "]."]

    with OpenAIServer(reply) as server:
        pieces = qa.build(PlainRetriever(), build_model(server)).stream("What is the deposit?")
        assert "context" in next(pieces)
        assert next(pieces)["answer"].strip() == "Two"
        go_on.set()
        rest = list(pieces)
    assert "".join(p.get("answer", "") for p in rest) == " months of rent [1]."
    assert rest[-1]["citations"][0].quote == "The deposit is two months of rent."
    assert server.requests[0].body["stream"] is True


async def test_tokens_arrive_one_by_one_asynchronously_too() -> None:
    steps: queue.Queue[str] = queue.Queue()

    def reply(_: Request) -> Any:
        while token := steps.get(timeout=30):
            yield token

    with OpenAIServer(reply) as server:
        pieces = qa.build(PlainRetriever(), build_model(server)).astream("What is it?")
        assert "context" in await anext(pieces)
        for word in ("One ", "two ", "three "):
            steps.put(word)
            assert (await anext(pieces))["answer"].strip() == word.strip()
        steps.put("")
        assert [p async for p in pieces][-1] == {"citations": []}


def test_usage_and_times_are_known() -> None:
    with (
        OpenAIServer(lambda _: ["Two ", "months ", "[1]."]) as server,
        collect() as timings,
        get_usage_metadata_callback() as usage,
    ):
        qa.build(PlainRetriever(), build_model(server, model="m")).invoke("What?")
    sent = sum(len(text.split()) for _, text in server.requests[0].messages)
    assert usage.usage_metadata["m"]["input_tokens"] == sent
    assert usage.usage_metadata["m"]["output_tokens"] == 3
    assert "generate" in timings


def test_the_prompt_is_sent_exactly_as_it_is_shown() -> None:
    with OpenAIServer("Yes [1].") as server:
        qa.build(PlainRetriever(), build_model(server)).invoke("What is the deposit?")
    shown = qa.write_prompt("What is the deposit?", DOCUMENTS)
    roles = {"system": "system", "human": "user"}
    assert server.requests[0].messages == [(roles[m.type], m.text) for m in shown]


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_a_refusal_by_the_server_is_an_error_of_ours(status: int) -> None:
    with OpenAIServer(lambda _: Refusal(status, "no")) as server:
        pieces = qa.build(PlainRetriever(), build_model(server)).stream("What?")
        assert "context" in next(pieces)
        with pytest.raises(ModelError, match=str(status)):
            next(pieces)


def test_a_model_that_writes_nothing_is_an_error() -> None:
    with (
        OpenAIServer("") as server,
        pytest.raises(ModelError, match="wrote nothing.*max_tokens"),
    ):
        qa.build(PlainRetriever(), build_model(server)).invoke("What?")


HISTORY = [
    {"role": "user", "content": "How much is the deposit?"},
    {"role": "assistant", "content": "Two months of rent [1]."},
]


@pytest.mark.parametrize(
    "history", [HISTORY, [HumanMessage(HISTORY[0]["content"]), AIMessage(HISTORY[1]["content"])]]
)
def test_a_follow_up_is_rewritten_from_the_history(history: list[Any]) -> None:
    replies = ["When is the deposit paid back?", "Within six weeks after you leave [1]."]
    retriever = WordRetriever(asked=[])
    with OpenAIServer(lambda _: replies.pop(0)) as server:
        chain = conversational.build(retriever, build_model(server))
        made = chain.invoke({"question": "And when back?", "chat_history": history})
    rewriting, answering = (request.messages for request in server.requests)
    for said in ("How much is the deposit?", "Two months of rent [1].", "And when back?"):
        assert said in rewriting[-1][1]
    assert retriever.asked == [("When is the deposit paid back?", None)]
    assert answering[-1][1].endswith("Question: When is the deposit paid back?")
    assert made["question"] == "And when back?"
    assert made["standalone_question"] == "When is the deposit paid back?"
    assert made["citations"][0].quote == "It is paid back within six weeks after you leave."


def test_without_history_nothing_is_rewritten() -> None:
    with OpenAIServer("Two months of rent [1].") as server:
        chain = conversational.build(PlainRetriever(), build_model(server))
        made = chain.invoke({"question": "How much?", "chat_history": []})
    assert len(server.requests) == 1
    assert list(made) == ["question", "context", "answer", "citations"]


def test_only_the_last_turns_are_read() -> None:
    history = [
        {"role": role, "content": f"{role} {turn}"}
        for turn in range(9)
        for role in ("user", "assistant")
    ]
    options = conversational.Config(history_turns=2)
    shown = conversational.write_rewrite_prompt("And?", history, options)[-1].text
    assert "user 7" in shown
    assert "assistant 6" not in shown


def test_a_history_of_something_else_is_refused() -> None:
    chain = conversational.build(PlainRetriever(), say("x"))
    with pytest.raises(UsageError, match="chat_history"):
        chain.invoke({"question": "And?", "chat_history": [7]})


@pytest.fixture(scope="module")
def quoting() -> Runnable[Any, dict[str, Any]]:
    return extractive.build(PlainRetriever(), minilm.build(minilm.Config()))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How much is the deposit?", "The deposit is two months of rent. [1]"),
        ("Do I need permission for a dog?", "Dogs need a written permission from the owner. [1]"),
        ("How often must the dishwasher filter be cleaned?", "once a month. [2]"),
    ],
)
def test_extractive_quotes_the_sentence_that_answers(
    quoting: Runnable[Any, dict[str, Any]], question: str, expected: str
) -> None:
    made = quoting.invoke(question)
    assert expected in made["answer"]
    for citation in made["citations"]:
        document = made["context"][citation.number - 1]
        start = document.metadata["start"]
        assert document.page_content[citation.start - start : citation.end - start] == (
            citation.quote
        )
        assert f"{citation.quote} [{citation.number}]" in made["answer"]


@pytest.mark.parametrize(
    "question", ["Who won the football world cup?", "How do I fine-tune a neural network?"]
)
def test_extractive_says_when_nothing_supports_an_answer(
    quoting: Runnable[Any, dict[str, Any]], question: str
) -> None:
    made = quoting.invoke(question)
    assert (made["answer"], made["citations"]) == (extractive.NO_EVIDENCE, [])


def test_extractive_quotes_no_heading_no_code_and_nothing_twice() -> None:
    options = extractive.Config(max_sentences=20, min_support=0, margin=2)
    documents = [*DOCUMENTS, Document(TENANCY, metadata={"source": "copy.md"})]
    chain = extractive.build(
        PlainRetriever(documents=documents), hashing.build(hashing.Config()), options
    )
    answer = chain.invoke("What about the deposit and the dishwasher?")["answer"]
    assert "#" not in answer
    assert "filter=True" not in answer
    assert answer.count("two months of rent") == 1


def quote(text: str, question: str) -> str:
    """The extractive chain's answer from one document, when every sentence is good enough."""
    chain = extractive.build(
        PlainRetriever(documents=[Document(text)]),
        hashing.build(hashing.Config()),
        extractive.Config(min_support=0),
    )
    answer: str = chain.invoke(question)["answer"]
    return answer


def test_extractive_quotes_nothing_that_shows_no_words() -> None:
    image = "![](paid-vacation-days-for-every-employee.png)"
    question = "How many paid vacation days for every employee?"
    sentence = "Vacation is 30 days a year."
    assert quote(f"{image}\n\n{sentence}", question) == f"{sentence} [1]"
    assert quote(image, question) == extractive.NO_EVIDENCE


def test_extractive_prefers_a_sentence_to_a_row_of_a_table() -> None:
    sentence, row = "The oven heats to 250 degrees.", "| The oven heats | to 250 degrees |"
    question = "How hot is the oven?"
    assert quote(f"{sentence}\n\n{row}", question) == f"{sentence} [1]"
    assert quote(row, question) == "The oven heats · to 250 degrees [1]"


def test_extractive_shows_links_and_marks_of_a_document_as_text() -> None:
    text = "Pay the [deposit](https://evil.example/) before you move in [7] ![x](//e.example)."
    chain = extractive.build(
        PlainRetriever(documents=[Document(text)]),
        hashing.build(hashing.Config()),
        extractive.Config(min_support=0),
    )
    made = chain.invoke("When do I pay the deposit?")
    assert made["answer"] == ("Pay the deposit (https://evil.example/) before you move in x. [1]")
    assert made["citations"][0].quote == text


def test_extractive_without_hits_says_so() -> None:
    chain = extractive.build(PlainRetriever(documents=[]), hashing.build(hashing.Config()))
    assert chain.invoke("What?")["answer"] == extractive.NO_EVIDENCE
