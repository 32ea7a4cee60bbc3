"""The values that travel between the rooms: frozen, without behaviour or imports of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from langchain_core.documents import Document

Metadata: TypeAlias = Mapping[str, Any]
"""JSON values by name. Names that begin with an underscore are rag-app's own."""

Filter: TypeAlias = Mapping[str, Any]
"""A metadata filter as the user writes it, Mongo-style; `rag_app.filters` parses it."""
Span: TypeAlias = tuple[int, int]
"""Half-open range of characters, `text[start:end]`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One thing a source offers (a file, a page), fingerprinted, parsed and quarantined as one.

    Attributes:
        source: its name, unique within the index: a path relative to the source's folder, a URL.
        fingerprint: changes whenever the content may have; None when only loading can tell.
        load: parses it; may raise, may yield `Unreadable` for a part that is broken.
        excluded: why the user's own patterns leave it out; None when they do not.
        read: its bytes as they are stored, where it has any; may raise OSError.
    """

    source: str
    fingerprint: str | None
    load: Callable[[], Iterable[Document | Unreadable]]
    excluded: str | None = None
    read: Callable[[], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a listing that came to its end may lack things all the same, as an unmounted folder does.

    Attributes:
        where: the option concerned.
        wrong: what was seen there.
        remedy: what mends it.
        covers: whether an origin of this name, if it is listed no more, may be one of those things.
    """

    where: str
    wrong: str
    remedy: str
    covers: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document that could not be read, with the reason, while its neighbours could."""

    source: str
    reason: str


class Tokenizer(Protocol):
    """What an embedding model knows about its tokens; our `Embeddings` implement it as well."""

    @property
    def max_tokens(self) -> int | None:
        """The model's window in tokens, special tokens included; None when it has none."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens the model would see for `text` without truncation, special tokens included."""
        ...

    def token_spans(self, text: str) -> Sequence[Span]:
        """The character span of each token of `text`, in order, special tokens left out."""
        ...


@dataclass(frozen=True, slots=True)
class Rank:
    """Where one list put a hit: 1 is best, with that list's own score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found.

    Attributes:
        similarity: cosine of question and chunk in [-1, 1]; None where no vector was compared.
        score: what the last stage ordered by, higher is better (similarity, BM25, …).
        ranks: the rank and score in every list that held it: "dense", "bm25", the reranker's name.
    """

    id: str
    source: str
    text: str
    start: int
    end: int
    similarity: float | None
    score: float
    ranks: Mapping[str, Rank]
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Citation:
    """A `[number]` of an answer: the span of the source it rests on, and the words there."""

    number: int
    source: str
    start: int
    end: int
    quote: str
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What `search` found, best first; times in milliseconds per stage."""

    query: str
    hits: tuple[Hit, ...]
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What `ask` answered, with the citations its `[n]` marks stand for and the hits it was given.

    Attributes:
        usage: tokens by the chat model's own count (`input_tokens`, …); empty without a model.
        dropped: numbers that pointed at no passage and were taken out of the answer.
    """

    question: str
    answer: str
    citations: tuple[Citation, ...]
    context: tuple[Hit, ...]
    timings_ms: Mapping[str, float]
    usage: Mapping[str, int]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did. `seen == indexed + unchanged + quarantined + excluded` always holds.

    Attributes:
        embedded: texts sent to the embedding model.
        cached: texts whose vectors were in the embedding cache.
        truncated: of both, the ones longer than the model's window.
        tokens: what was sent, as the service counted it; None for a local model.
        cost: US dollars of that, and `saved` what the cache saved; None without a price.
        quarantine: what could not be read, each with its reason.
    """

    seen: int
    indexed: int
    unchanged: int
    deleted: int
    quarantined: int
    excluded: int
    chunks_written: int
    chunks_deleted: int
    chunks_total: int
    embedded: int
    truncated: int
    seconds: float
    quarantine: tuple[Unreadable, ...] = field(default=())
    cached: int = 0
    tokens: int | None = None
    cost: float | None = None
    saved: float | None = None


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """One generation of an index.

    Attributes:
        state: `served`; `kept`, for a rollback; `filling`, not published yet.
        embeddings: the backend's kind, with the model where it names one.
        chunks: published ones; of a generation that is filling, those in the store.
        begun: UTC, ISO 8601; `published` the last time, None for never.
    """

    number: int
    state: str
    store: str
    embeddings: str
    chunks: int
    documents: int
    begun: str
    published: str | None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote: `bytes` on disk, of a folder all its files."""

    target: str
    documents: int
    chunks: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration would do.

    Attributes:
        changes: what differs from what is served, in words.
        chunks: of the new generation; of them `copied` keep their vectors.
        cached: texts whose vectors are in the embedding cache.
        embed: texts that would be sent to the embedding model, and their `tokens`.
        cost: US dollars of that, 0 for a local model; None where no price is known.
        minutes: what the rate limits alone take; None without limits.
    """

    changes: tuple[str, ...]
    documents: int
    chunks: int
    copied: int
    cached: int
    embed: int
    tokens: int
    cost: float | None
    minutes: float | None


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration did.

    Attributes:
        before: the generation that was served, and is kept; `generation` the one that is now.
        copied: chunks that kept their vectors.
        embedded: texts sent to the embedding model; `cached` those whose vectors were at hand.
        tokens: what was sent, as the service counted it; None for a local model.
        cost: US dollars of that; None without a price.
        recall: of the old generation and the new one, on the cases given; None without cases.
    """

    before: int
    generation: int
    documents: int
    chunks: int
    copied: int
    embedded: int
    cached: int
    tokens: int | None
    cost: float | None
    seconds: float
    recall: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an examination of an index found.

    Attributes:
        severity: `damage` when searches are refused, wrong or incomplete because of it.
        documents: the names of those concerned; `count` is of the chunks, rows or documents.
    """

    kind: str
    severity: Literal["damage", "note"]
    detail: str
    documents: tuple[str, ...]
    count: int
    remedy: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with an index; after mending, what is left.

    Attributes:
        mended: the damage that was found before and is there no more.
        documents: published ones, and `chunks` of them.
        written: rows written to the store, and `deleted` from it.
        embedded: texts sent to the embedding model to mend; `cached` those that the cache had.
        compared: texts sent to it to compare vectors, probe sentences included.
    """

    findings: tuple[Finding, ...]
    mended: tuple[Finding, ...]
    documents: int
    chunks: int
    written: int
    deleted: int
    embedded: int
    cached: int
    compared: int
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing that was found is damage."""
        return all(each.severity != "damage" for each in self.findings)


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What an ingest would do. `seen == new + unchanged + quarantined + excluded` always holds.

    Attributes:
        rebuild: whether it would refuse without `rebuild`, as the index is in another store, or of
            another model or splitter; the figures are those of a rebuild then.
        loss: why it would refuse without `allow_delete`; empty when it would not.
        new: documents to be indexed, new ones and changed ones.
        gone: documents in the index that no source has any more.
        chunks: of new documents; those that the index has already are `held`.
        cached: texts whose vectors the embedding cache has.
        embed: texts for the embedding model; their `tokens` are estimated without its tokenizer.
        cost: US dollars of that, 0 for a local model; `saved` what the cache saves; None: no price.
        price: US dollars per million tokens.
        minutes: what the rate limits alone take; None without limits.
        added: names of the new documents, `changed` of the changed ones, and `deleted` of the gone.
    """

    seen: int
    new: int
    unchanged: int
    quarantined: int
    excluded: int
    gone: int
    chunks: int
    held: int
    cached: int
    embed: int
    tokens: int
    cost: float | None
    saved: float | None
    price: float | None
    minutes: float | None
    quarantine: tuple[Unreadable, ...] = field(default=())
    rebuild: bool = False
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    loss: str = ""
