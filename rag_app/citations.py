"""The citation contract: chunks become numbered passages, `[n]` marks become spans of sources.

Holds always: `citation.quote == document[citation.start : citation.end]`, where `document` is the
text of the source that the chunk's own `start` counts in. A chunk without `start` (from a foreign
retriever) counts from its own first character.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rag_app.marks import AnswerScanner, Links, Mark
from rag_app.sentences import sentence_spans
from rag_app.types import Citation, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_core.documents import Document

_log = logging.getLogger(__name__)

_CJK: Final = "぀-ヿ㐀-䶿一-鿿가-힣"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_MARKS = re.compile(r"[ \t]*\[\d+\]")
_TEMPLATE_TOKENS = re.compile(r"<(?=[|｜]|/?s>|(?:start|end)_of_turn)")  # noqa: RUF001
_CLAIM_WORDS: Final = 3
_QUOTE_SENTENCES: Final = 3
_MORE_SENTENCES_WORTH: Final = 0.15


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk as the chat model sees it: `number` is what the answer cites."""

    number: int
    text: str
    source: str
    start: int
    title: str | None
    page: int | None
    heading: str | None
    inside: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)


def number_passages(documents: Iterable[Document]) -> list[Passage]:
    """Number chunks from 1 in their order. Documents of any LangChain retriever will do."""
    return [_to_passage(number, document) for number, document in enumerate(documents, 1)]


def _to_passage(number: int, document: Document) -> Passage:
    metadata = document.metadata
    page, title, heading = (metadata.get(name) for name in ("page", "title", "heading"))
    start = metadata.get("start")
    return Passage(
        number,
        document.page_content,
        str(metadata.get("source") or document.id or f"document {number}"),
        start if isinstance(start, int) else 0,
        title if isinstance(title, str) else None,
        page if isinstance(page, int) else None,
        heading if isinstance(heading, str) else None,
        metadata.get("_inside") or {},
    )


def render_passages(passages: Iterable[Passage]) -> str:
    """The passages for a prompt, one JSON object a line.

    A JSON string cannot be closed from inside, so no text of a document can pose as the end of the
    passages, as another passage or as a message. The marks that chat templates give a meaning
    (`<|…|>`, `<s>`) are written with an escaped `<`, which is the same string.
    """
    return "\n".join(_render(passage) for passage in passages)


def _render(passage: Passage) -> str:
    shown: dict[str, Any] = {"number": passage.number, "source": passage.source}
    for name in ("title", "heading", "page"):
        if (value := getattr(passage, name)) is not None:
            shown[name] = value
    return to_json_line({**shown, "text": passage.text})


def to_json_line(value: Any) -> str:
    """`value` as JSON on one line, whatever Unicode calls a line end, without template tokens."""
    line = json.dumps(value, ensure_ascii=False)
    line = re.sub("[\x7f-\x9f\u2028\u2029]", lambda c: f"\\u{ord(c.group()):04x}", line)
    return _TEMPLATE_TOKENS.sub(r"\\u003c", line)


class AnswerReader:
    """Reads an answer while it streams, and resolves its marks when it is over.

    Args:
        passages: what the marks can point at.
        known: further text in which addresses may stand, such as the question.
        links: see `rag_app.marks`.
    """

    def __init__(self, passages: Sequence[Passage], known: str = "", links: Links = "text") -> None:
        self._passages = passages
        texts = [known, *(p.text for p in passages), *(p.source for p in passages)]
        self._scanner = AnswerScanner(len(passages), "\n".join(texts), links)
        self._answer = ""

    def feed(self, piece: str) -> str:
        """Take the next piece of the model's text; returns what of the answer is certain by now."""
        return self._keep(self._scanner.feed(piece))

    def close(self) -> str:
        """The model is done: the rest of the answer."""
        return self._keep(self._scanner.close())

    def _keep(self, text: str) -> str:
        self._answer += text
        return text

    @property
    def dropped(self) -> int:
        """Numbers taken out of the answer because they point at no passage."""
        return self._scanner.dropped

    def citations(self) -> list[Citation]:
        """One for each number and quote, in the order of the answer. Call after `close`."""
        if self.dropped:
            _log.warning("citation marks that point at no passage were dropped: %d", self.dropped)
        marks = self._scanner.marks
        made = (
            cite(self._passages[mark.number - 1], _read_claim(self._answer, mark, marks))
            for mark in marks
        )
        return list(dict.fromkeys(made))


def resolve(
    answer: str, passages: Sequence[Passage], links: Links = "text"
) -> tuple[str, list[Citation], int]:
    """A whole answer at once: its clean text, its citations, the count of numbers dropped."""
    reader = AnswerReader(passages, links=links)
    text = reader.feed(answer) + reader.close()
    return text, reader.citations(), reader.dropped


def cite(passage: Passage, claim: str) -> Citation:
    """The sentences of `passage` nearest to `claim`; all of it when none shares a word."""
    return cite_span(passage, find_support(passage.text, claim))


def cite_span(passage: Passage, span: Span) -> Citation:
    """A citation of the span of the passage's text, counted from the passage's first character."""
    start, end = span
    return Citation(
        passage.number,
        passage.source,
        passage.start + start,
        passage.start + end,
        passage.text[start:end],
        _at(passage, "pages", start) or passage.page,
        _at(passage, "headings", start) or passage.heading,
    )


def _at(passage: Passage, kind: str, start: int) -> Any:
    """The page or heading that begins last before a place inside the passage; None if none does."""
    place = passage.start + start
    before = [name for at, name in passage.inside.get(kind, ()) if at <= place]
    return before[-1] if before else None


def to_plain(text: str, passage: Passage, links: Links = "text") -> str:
    """A sentence of `passage` for an answer: on one line, without marks or links of its own."""
    reader = AnswerReader([], passage.text, links)
    row = " ".join(text.split()).strip("| ").replace(" | ", " · ")
    return (reader.feed(row) + reader.close()).strip()


def find_support(text: str, claim: str) -> Span:
    """The one to three neighbouring sentences of `text` that cover `claim`'s words best.

    A word counts the less, the more sentences of `text` hold it; a further sentence must bring
    15 % of the claim; a heading supports nothing. Without a common word the whole text it is.
    """
    spans = sentence_spans(text)
    sentences = [_words_of_statement(text[start:end]) for start, end in spans]
    spread = Counter(word for sentence in sentences for word in sentence)
    weights = {word: 1 / spread[word] for word in words(claim) if word in spread}
    total = sum(weights.values())
    best, found = 0.0, _trim(text)
    for first in range(len(spans)):
        covered: set[str] = set()
        for last in range(first, min(first + _QUOTE_SENTENCES, len(spans))):
            covered |= sentences[last] & weights.keys()
            share = sum(weights[word] for word in covered) / total if total else 0.0
            score = share - _MORE_SENTENCES_WORTH * (last - first)
            if covered and score > best:
                best, found = score, (spans[first][0], spans[last][1])
    return found


def _words_of_statement(sentence: str) -> frozenset[str]:
    return frozenset() if sentence.startswith("#") else frozenset(words(sentence))


def words(text: str) -> list[str]:
    """The words of `text`, lower-cased, a plural `s` cut off; each CJK character is a word."""
    found = (word.lower() for word in _WORD.findall(text))
    return [w[:-1] if len(w) > 3 and w[-1] == "s" and w[-2] != "s" else w for w in found]


def _trim(text: str) -> Span:
    start = len(text) - len(text.lstrip())
    return start, max(start, len(text.rstrip()))


def _read_claim(answer: str, mark: Mark, marks: Sequence[Mark]) -> str:
    """What the mark stands behind: its sentence, from the mark before it if that leaves enough."""
    before = answer[: mark.position]
    sentence = _last_sentence(_MARKS.sub("", before))
    earlier = max((m.position for m in marks if m.position < mark.position), default=None)
    if earlier is not None:
        since = _last_sentence(_MARKS.sub("", before[earlier:]))
        if len(words(since)) >= _CLAIM_WORDS and sentence.endswith(since):
            return since
    if len(words(sentence)) >= _CLAIM_WORDS:
        return sentence
    after = answer[mark.position :]
    return f"{sentence} {_first_sentence(_MARKS.sub('', after))}"


def _last_sentence(text: str) -> str:
    text = text.rstrip()
    spans = sentence_spans(text)
    return text[spans[-1][0] :] if spans else ""


def _first_sentence(text: str) -> str:
    spans = sentence_spans(text)
    return text[slice(*spans[0])] if spans else ""
