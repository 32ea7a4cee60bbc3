"""What every chain does alike, so that its own file holds only its own steps.

A chain is a generator from a `Question` to pieces of its output. `as_runnable` makes it a LangChain
Runnable: `stream` yields the pieces, `invoke` adds them up, the async methods run it in a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rag_app.errors import ModelError, UsageError
from rag_app.model_errors import chat_model_errors
from rag_app.timing import timed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable

    from rag_app.types import Citation, Filter

Piece: TypeAlias = dict[str, Any]
"""Part of an output: some of the keys `question`, `context`, `answer`, `citations`, `dropped`."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a chain is asked.

    Attributes:
        chat_history: earlier messages, oldest first: `{"role", "content"}` or LangChain messages.
        filter: on the metadata of chunks, handed to the retriever.
    """

    question: str
    chat_history: Sequence[Any] = field(default=())
    filter: Filter | None = None


def read_question(given: Any) -> Question:
    """A chain's input: a string, or `{"question", "chat_history"?, "filter"?}`.

    Raises:
        UsageError: anything else, an unknown key, or a question without words.
    """
    if isinstance(given, str):
        given = {"question": given}
    if not isinstance(given, Mapping):
        wrong = f"a {type(given).__name__} was given"
        raise UsageError("question", wrong, 'Give a string or {"question": …}.')
    allowed = {"question", "chat_history", "filter"}
    if unknown := sorted(map(str, given.keys() - allowed)):
        wrong = f"{', '.join(unknown)} is not a key of a chain's input"
        raise UsageError("question", wrong, f"It takes: {', '.join(sorted(allowed))}.")
    question = given.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UsageError("question", f"{question!r} asks nothing", "Write what you want to know.")
    return Question(question, tuple(given.get("chat_history") or ()), given.get("filter"))


def retrieve(retriever: BaseRetriever, asked: Question) -> list[Document]:
    """The chunks for the question. The filter is passed only when there is one.

    Raises:
        UsageError: there is a filter, and the retriever would have ignored it.
    """
    if asked.filter is None:
        return retriever.invoke(asked.question)
    if not takes_filter(retriever):
        wrong = f"{type(retriever).__name__} takes no filter and would search everything"
        raise UsageError("filter", wrong, "Use a retriever that takes one, or leave it out.")
    return retriever.invoke(asked.question, filter=asked.filter)


def takes_filter(retriever: Any) -> bool:
    """Whether a retriever's search takes `filter`."""
    find = getattr(retriever, "_get_relevant_documents", retriever.invoke)
    parameters = inspect.signature(find).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return open_ended or "filter" in parameters


def fit(documents: Sequence[Document], context_chars: int) -> list[Document]:
    """The first documents, whole, whose texts fit into `context_chars` characters together.

    Raises:
        UsageError: not even the first fits.
    """
    kept: list[Document] = []
    used = 0
    for document in documents:
        used += len(document.page_content)
        if used > context_chars:
            break
        kept.append(document)
    if documents and not kept:
        wrong = f"{context_chars} characters do not hold the first chunk, which has {used}"
        raise UsageError("chain.context_chars", wrong, "Raise it, or make the chunks smaller.")
    return kept


def write(chat_model: BaseChatModel, messages: Sequence[BaseMessage]) -> Iterator[str]:
    """The model's reply as it comes.

    Raises:
        ModelError: the model refused, cannot be reached, wrote nothing, was cut off, or ended for
            a reason that is not known for a good one.
    """
    written, ended = False, ""
    with timed("generate"), chat_model_errors(chat_model):
        for chunk in chat_model.stream(list(messages)):
            ended = _read_end(chunk.response_metadata) or ended
            if text := str(chunk.text):
                written = True
                yield text
    if ended not in _CUT:
        _require_good_end(ended)
    if not written:
        wrong = "the model wrote nothing"
        remedy = "Raise chat_model.max_tokens: a model that reasons may have spent them all."
        raise ModelError("chat_model", wrong, remedy)
    if ended in _CUT:
        wrong = "the answer was cut off at the longest reply allowed"
        remedy = "Raise it, or ask for less."
        raise ModelError("chat_model.max_tokens", wrong, remedy)


_GOOD: Final = frozenset(
    ["stop", "stop_sequence", "end_turn", "complete", "completed", "eos", "eos_token", "endoftext"]
)
"""How vendors say that an answer is whole; an empty string, where a model says nothing."""
_CUT: Final = frozenset(
    ["length", "max_tokens", "model_length", "model_context_window_exceeded", "error_limit"]
)
_FILTERED: Final = frozenset(["content_filter", "safety", "recitation", "refusal"])


def _require_good_end(ended: str) -> None:
    if not ended or ended in _GOOD:
        return
    remedy = "Ask in other words, or use another model."
    if ended in _FILTERED:
        wrong = f"the service's filter cut the answer off ({ended})"
        raise ModelError("chat_model", wrong, remedy)
    wrong = f"the model ended its answer for the reason {ended!r}, so it may not be whole"
    raise ModelError("chat_model", wrong, remedy)


def _read_end(metadata: Mapping[str, Any]) -> str:
    """Why the model stopped, in lower case, by whatever name its vendor says so."""
    names = ("finish_reason", "stop_reason", "done_reason")
    given = next((str(metadata[name]) for name in names if metadata.get(name)), "")
    return given.rpartition(".")[2].strip().lower()  # an enum's comes with its class's name


def last_piece(citations: list[Citation], dropped: int) -> Piece:
    """What a chain yields last; `dropped` only when a number pointed nowhere."""
    return {"citations": citations, "dropped": dropped} if dropped else {"citations": citations}


def as_runnable(
    name: str, answer: Callable[[Question], Iterator[Piece]]
) -> Runnable[Any, dict[str, Any]]:
    """The chain `answer` as a Runnable. Its pieces add up: lists and strings are joined."""
    from langchain_core.runnables import AddableDict, RunnableGenerator

    def steps(inputs: Iterator[Any]) -> Iterator[dict[str, Any]]:
        for piece in answer(read_question(_only(list(inputs)))):
            yield AddableDict(piece)

    async def asteps(inputs: AsyncIterator[Any]) -> AsyncIterator[dict[str, Any]]:
        given = [part async for part in inputs]
        async for piece in _in_thread(steps(iter(given))):
            yield piece

    return RunnableGenerator(steps, asteps, name=name)


def _only(parts: list[Any]) -> Any:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


async def _in_thread(steps: Iterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()

    def advance() -> dict[str, Any] | None:
        return context.run(lambda: next(steps, None))

    while (piece := await loop.run_in_executor(None, advance)) is not None:
        yield piece


def sum_usage(by_model: Mapping[str, Any]) -> dict[str, int]:
    """Tokens of all models together, by LangChain's names."""
    total: dict[str, int] = {}
    for usage in by_model.values():
        for name in ("input_tokens", "output_tokens", "total_tokens"):
            total[name] = total.get(name, 0) + int(usage.get(name, 0))
    return total
