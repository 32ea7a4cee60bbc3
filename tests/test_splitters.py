"""Splitters: chunks are exact spans, within the size, equal to LangChain's where they say so."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pydantic import ValidationError

from rag_app import registry
from rag_app.parsers.markdown import read_structure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rag_app.splitting import SpanSplitter
    from rag_app.types import Span

NAMES = ["recursive", "markdown", "sentences", "tokens", "none"]


class WordTokenizer:
    """Words cut into pieces of four characters, with two special tokens, as a model's might be."""

    max_tokens = None

    def token_spans(self, text: str) -> Sequence[Span]:
        words = [found.span() for found in re.finditer(r"\w+|[^\w\s]", text)]
        return [(i, min(i + 4, end)) for start, end in words for i in range(start, end, 4)]

    def count_tokens(self, text: str) -> int:
        return len(self.token_spans(text)) + 2


@cache
def minilm() -> Any:
    return registry.build("embeddings", "minilm", registry.config_class("embeddings", "minilm")())


def make(name: str, tokenizer: Any = None, **options: Any) -> SpanSplitter:
    config = registry.config_class("splitters", name)(**options)
    made: SpanSplitter = registry.build(
        "splitters", name, config, tokenizer=tokenizer or WordTokenizer()
    )
    return made


def small(name: str) -> dict[str, Any]:
    """Options for chunks of at most 16 tokens."""
    sizes: dict[str, dict[str, Any]] = {
        "recursive": {"chunk_size": 16, "chunk_overlap": 4},
        "tokens": {"chunk_size": 16, "chunk_overlap": 4},
        "sentences": {"chunk_size": 16, "overlap": 1},
        "markdown": {"chunk_size": 16},
    }
    return sizes.get(name, {})


PIECES = st.sampled_from(
    ["Word", " ", "\n", "\n\n", ". ", "? ", "，", "。", "今天天气", "# A\n\n", "## B\n", "- item\n"]
    + ["```\n  code\n```\n", "    indented\n", "extraordinarily", "x", "\t", "🙂", "e.g. ", "| a |"]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join)


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_chunks_are_exact_spans_that_cover_the_text(name: str, text: str) -> None:
    given = Document(text, metadata={"source": "a.md", **read_structure(text)})
    chunks = make(name, **small(name)).split_documents([given])
    covered: set[int] = set()
    for chunk in chunks:
        start, end = chunk.metadata["start"], chunk.metadata["end"]
        assert chunk.page_content == text[start:end]
        assert chunk.page_content.strip()
        covered.update(range(start, end))
    assert all(place in covered or text[place].isspace() for place in range(len(text)))
    starts = [chunk.metadata["start"] for chunk in chunks]
    assert starts == sorted(starts)


@pytest.mark.parametrize("name", ["recursive", "markdown", "sentences", "tokens"])
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_no_chunk_is_longer_than_the_size(name: str, text: str) -> None:
    count = WordTokenizer().count_tokens
    assert all(count(chunk) <= 16 for chunk in make(name, **small(name)).split_text(text))


@pytest.mark.parametrize("keep", ["start", "end"])
@given(text=TEXTS, size=st.integers(8, 60), overlap=st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_recursive_equals_langchain(keep: Any, text: str, size: int, overlap: int) -> None:
    separators = ["\n\n", "\n", ". ", "。", " ", ""]
    theirs = RecursiveCharacterTextSplitter(
        separators=separators,
        keep_separator=keep,
        chunk_size=size,
        chunk_overlap=overlap,
        length_function=WordTokenizer().count_tokens,
    )
    ours = make(
        "recursive",
        chunk_size=size,
        chunk_overlap=overlap,
        separators=separators,
        keep_separator=keep,
    )
    assert ours.split_text(text) == theirs.split_text(text)


@pytest.mark.data
@pytest.mark.parametrize(("size", "overlap", "chunks"), [(250, 125, 2542), (200, 0, 2523)])
def test_recursive_equals_langchain_on_published_corpora(
    size: int, overlap: int, chunks: int, data: Callable[[str], Path]
) -> None:
    """The counts are those printed for these corpora, length in MiniLM's tokens."""
    separators = ["\n\n", "\n", ".", "?", "!", " ", ""]
    ours = make(
        "recursive",
        minilm(),
        chunk_size=size,
        chunk_overlap=overlap,
        separators=separators,
        keep_separator="start",
    )
    corpora = sorted((data("chunking-evaluation") / "corpora").glob("*.md"))
    texts = {path.stem: path.read_text(encoding="utf-8") for path in corpora}
    assert sum(len(ours.split_text(text)) for text in texts.values()) == chunks
    theirs = RecursiveCharacterTextSplitter(
        separators=separators,
        chunk_size=size,
        chunk_overlap=overlap,
        length_function=minilm().count_tokens,
    )
    speech = texts["state_of_the_union"]
    assert ours.split_text(speech) == theirs.split_text(speech)


def test_langchains_methods_agree() -> None:
    splitter = make("recursive", chunk_size=8, chunk_overlap=0)
    text = "one two three. four five six seven. eight nine ten eleven"
    document = Document(text, metadata={"source": "a", "tags": ["x"], "_pages": [0]})
    texts = splitter.split_text(text)
    assert len(texts) > 2
    for chunks in (
        splitter.split_documents([document]),
        splitter.create_documents([text], [document.metadata]),
        splitter.transform_documents([document]),
    ):
        assert [chunk.page_content for chunk in chunks] == texts
        assert all(chunk.metadata["tags"] == ["x"] for chunk in chunks)
        assert not any(name.startswith("_") for chunk in chunks for name in chunk.metadata)
    chunks[0].metadata["tags"].append("y")
    assert chunks[1].metadata["tags"] == document.metadata["tags"] == ["x"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_blank_documents_give_no_chunks(name: str, text: str) -> None:
    assert make(name).split_documents([Document(text, metadata={"source": "a"})]) == []


def test_pages_and_headings_are_those_at_the_start() -> None:
    text = "before\n# A\nalpha\n### B\nbeta\n## C\ngamma"
    headings = [
        [text.index("# A"), 1, "A"],
        [text.index("### B"), 3, "B"],
        [text.index("## C"), 2, "C"],
    ]
    marks = {"_headings": headings, "_pages": [0, 11, text.index("beta")]}
    sections = make(
        "recursive", chunk_size=8, chunk_overlap=0, separators=["\n#"], keep_separator="start"
    )
    found = {
        chunk.page_content: (chunk.metadata["page"], chunk.metadata.get("heading"))
        for chunk in sections.split_documents(
            [Document("x " * 4 + "\n" + text, metadata=shift(marks))]
        )
    }
    assert found["# A\nalpha"] == (1, "A")
    assert found["### B\nbeta"] == (2, "A > B")
    assert found["## C\ngamma"] == (3, "A > C")
    assert None in {heading for _, heading in found.values()}


def shift(marks: dict[str, Any]) -> dict[str, Any]:
    """The marks for the text with nine characters put before it."""
    headings = [[start + 9, level, title] for start, level, title in marks["_headings"]]
    return {"_headings": headings, "_pages": [0, *(page + 9 for page in marks["_pages"][1:])]}


def test_chunk_before_its_first_heading_takes_it() -> None:
    text = "<body>\n# Title\nwords"
    marks = {"_headings": [[7, 1, "Title"]], "_code": []}
    (chunk,) = make("none").split_documents([Document(text, metadata=marks)])
    assert chunk.metadata == {"start": 0, "end": len(text), "heading": "Title"}


GUIDE = (
    """# Guide

## Install

Run this:

```python
def f():
    if True:
        return 1
```

## Use

- first
  - nested under first
- second

### Deep

"""
    + "A sentence of six words here. " * 20
)


def test_markdown_chunks_are_the_largest_sections_that_fit() -> None:
    chunks = make("markdown", chunk_size=40).create_documents([GUIDE])
    assert chunks[0].page_content.startswith("# Guide\n\n## Install")
    assert [chunk.metadata["heading"] for chunk in chunks[:3]] == [
        "Guide",
        "Guide > Use",
        "Guide > Use > Deep",
    ]
    assert chunks[1].page_content == "## Use\n\n- first\n  - nested under first\n- second"
    assert make("markdown", chunk_size=4000).split_text(GUIDE) == [GUIDE.strip()]


def test_markdown_keeps_code_and_indentation() -> None:
    fence = GUIDE[GUIDE.index("```") : GUIDE.rindex("```") + 3]
    prose = "Some words before it. " * 4
    chunks = make("markdown", chunk_size=24).split_text(f"# A\n\n{prose}\n\n{fence}\n\n{prose}\n")
    assert any(fence in chunk for chunk in chunks)
    lines = [f"    value_{number} = call({number})" for number in range(40)]
    code = "```\n" + "\n".join(lines) + "\n```"
    pieces = make("markdown", chunk_size=30).split_text(f"# A\n\n{code}\n")
    assert len(pieces) > 5
    assert "\n".join(pieces) == f"# A\n\n{code}"


def test_markdown_reads_marks_of_other_formats() -> None:
    text = "Install\nRun it now please.\nUse\n# not a heading here"
    marks = {"media_type": "text/html", "_headings": [[0, 1, "Install"], [27, 1, "Use"]]}
    chunks = make("markdown", chunk_size=10).split_documents([Document(text, metadata=marks)])
    assert [(chunk.metadata["heading"], chunk.page_content) for chunk in chunks] == [
        ("Install", "Install\nRun it now please."),
        ("Use", "Use\n# not a heading here"),
    ]


def test_sentences_are_whole_and_overlap_by_sentences() -> None:
    text = "One is here. Two is here. Six is here. Ten is here."
    assert make("sentences", chunk_size=10).split_text(text) == [text[:25], text[26:]]
    assert make("sentences", chunk_size=10, overlap=1).split_text(text) == [
        "One is here. Two is here.",
        "Two is here. Six is here.",
        "Six is here. Ten is here.",
    ]


def test_tokens_overlap_by_tokens() -> None:
    text = " ".join(f"w{number}" for number in range(20))
    chunks = make("tokens", chunk_size=10, chunk_overlap=3).split_text(text)
    assert [chunk.split()[0] for chunk in chunks] == ["w0", "w5", "w10", "w15"]
    assert [len(chunk.split()) for chunk in chunks] == [8, 8, 8, 5]


@pytest.mark.parametrize("name", ["recursive", "tokens"])
@pytest.mark.parametrize("options", [{"chunk_size": 16, "chunk_overlap": 16}, {"chunk_size": 20}])
def test_overlap_must_be_smaller_than_the_size(name: str, options: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=f"chunk_size, which is {options['chunk_size']}"):
        registry.config_class("splitters", name)(**options)
