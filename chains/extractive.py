"""Quotes the sentences that answer best, word for word with their places; needs no chat model.

Question -> retrieve -> score every sentence -> quote the best, or say that nothing supports one.
Copy this file to make your own chain: `answer` is the whole pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_app.answering import Piece, Question, as_runnable, last_piece, retrieve
from rag_app.citations import cite_span, number_passages, to_plain, words
from rag_app.marks import Links  # noqa: TC001, pydantic reads it
from rag_app.options import Field, Options
from rag_app.support import THRESHOLD, Candidate, find_candidates, score
from rag_app.timing import timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable

NO_EVIDENCE = "The documents do not answer this question."

SAME = 0.6
"""Two sentences that share more of their words than this say the same; one is quoted."""


TABLE_ROW = 0.05
"""How much a row of a table stands back: it says less without its table than a sentence does."""


class Config(Options):
    """How much is quoted, and how well it must fit."""

    max_sentences: int = Field(3, ge=1, le=20, description="How many sentences are quoted at most.")
    min_support: float = Field(
        THRESHOLD,
        ge=0,
        le=2,
        description="Support the best sentence must reach, else the answer is that there is none; "
        "the default was fitted for minilm.",
    )
    margin: float = Field(
        0.15,
        ge=0,
        le=2,
        description="How far below the best sentence's support a further one may lie.",
    )
    links: Links = Field(
        "text",
        description="'text' shows links and images of the quoted sentence as plain text in the "
        "answer, 'keep' as they are; the citation's quote is always the exact text.",
    )


def build(
    retriever: BaseRetriever, embeddings: Embeddings, options: Config | None = None
) -> Runnable[Any, dict[str, Any]]:
    """A Runnable from a question to `{"question", "context", "answer", "citations"}`.

    Args:
        retriever: any LangChain retriever.
        embeddings: any LangChain embeddings; for others than minilm choose `min_support` anew.
        options: see `Config`.

    Raises:
        UsageError: an input that is no question. ModelError: from the embedding model.
    """
    chosen = options or Config()

    def answer(asked: Question) -> Iterator[Piece]:
        documents = retrieve(retriever, asked)
        yield {"question": asked.question, "context": documents}

        with timed("generate"):
            found = find_candidates(number_passages(documents))
            candidates = [c for c in found if to_plain(c.text, c.passage, chosen.links)]
            quoted = choose(asked.question, candidates, embeddings, chosen)
        if not quoted:
            yield {"answer": NO_EVIDENCE}
        separator = ""
        for candidate in quoted:
            text = to_plain(candidate.text, candidate.passage, chosen.links)
            yield {"answer": f"{separator}{text} [{candidate.passage.number}]"}
            separator = " " if text[-1] in ".!。！" else "\n"  # noqa: RUF001
        yield last_piece([cite_span(c.passage, c.span) for c in quoted], dropped=0)

    return as_runnable("extractive", answer)


def choose(
    question: str, candidates: Sequence[Candidate], embeddings: Embeddings, options: Config
) -> list[Candidate]:
    """The sentences to quote: the best first, then its neighbours, then other sources'."""
    if not candidates:
        return []
    support = score(question, candidates, embeddings)
    rank = support - [TABLE_ROW * candidate.text.startswith("|") for candidate in candidates]
    order = [place for place in rank.argsort()[::-1] if support[place] >= options.min_support]
    kept: list[Candidate] = []
    for place in order:
        candidate = candidates[place]
        if rank[place] < rank[order[0]] - options.margin or len(kept) == options.max_sentences:
            break
        if not any(_say_the_same(candidate, other) for other in kept):
            kept.append(candidate)
    sources = [candidate.passage.source for candidate in kept]
    return sorted(
        kept, key=lambda c: (sources.index(c.passage.source), c.passage.start + c.span[0])
    )


def _say_the_same(one: Candidate, other: Candidate) -> bool:
    a, b = set(words(one.text)), set(words(other.text))
    return len(a & b) > SAME * len(a | b)
