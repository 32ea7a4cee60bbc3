"""Whether evidence was lost because a border goes through it, or because a chunk is too long.

The stage is named only where its repair alone would have brought the evidence within the cut of the
retriever; what a later stage would cut off again is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_core.documents import Document

from rag_app import registry
from rag_app.evaluation.verdicts import Verdict
from rag_app.evaluation.why.trials import Trial, try_chunk
from rag_app.spans import trim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag_app.evaluation.why.pipeline import Pipeline, Run
    from rag_app.evaluation.why.places import Chunk, Place
    from rag_app.index.view import View
    from rag_app.types import Span

_SPANS: Final = 3
"""Places of a quote that are tried."""
_LETTERS: Final = 24
"""Characters of text looked at for each token of a chunk, beside the evidence."""


def find_split(
    pipeline: Pipeline, view: View, run: Run, place: Place, ranks: Mapping[str, int | None]
) -> Verdict | None:
    """The verdict that a border of chunks lost the evidence; None where that is not so.

    It is so when no chunk holds it whole, and one of the same size that does would be found.
    """
    if place.holding:
        return None
    instead = frozenset(chunk.row.id for chunk in place.touching)
    tried, outcome = [], None
    for option, chunk in _split_anew(pipeline, place):
        made = try_chunk(pipeline, view, run, place, Trial(chunk, instead))
        found = made.describe(pipeline.k)
        keeps = "keeps it whole, and finds it" if made.found else "keeps it whole, but it would be"
        tried.append(f"{option} {keeps} {found}")
        if made.found:
            outcome = made
            break
    if outcome is None:
        for chunk in _windows(pipeline, place):
            made = try_chunk(pipeline, view, run, place, Trial(chunk, instead))
            if made.found:
                outcome = made
                break
    if outcome is None:
        return None
    proof = (
        f"{_describe_border(place)}; a chunk {_describe_size(pipeline, place)} that holds it whole "
        f"would be found {outcome.describe(pipeline.k)}"
    )
    return Verdict(
        place.number,
        "split_by_splitter",
        proof,
        tuple(tried),
        ranks,
        tuple(chunk.row.id for chunk in place.touching),
        place.note,
    )


def find_truncated(
    pipeline: Pipeline, view: View, run: Run, place: Place, ranks: Mapping[str, int | None]
) -> Verdict | None:
    """The verdict that the embedding model did not see the evidence; None where it did, or where
    seeing it would not have been enough."""
    hidden = [_find_hidden(pipeline, place, chunk) for chunk in place.holding]
    if not place.spans or not hidden or not all(hidden) or pipeline.kind == "bm25":
        return None
    for chunk, unseen in zip(place.holding, filter(None, hidden), strict=True):
        for text in unseen.texts:
            row = chunk.row
            whole = Document(row.text, metadata=dict(row.metadata))
            trial = Trial(whole, frozenset([row.id]), shown=text)
            outcome = try_chunk(pipeline, view, run, place, trial)
            if outcome.found:
                proof = (
                    f"its chunk has {unseen.length:,} tokens, the model's window {unseen.window:,}"
                    f"; the vector ends at character {unseen.at:,} of {place.source!r}, before the "
                    "evidence does"
                )
                tried = (
                    f"what the model did not see, embedded by itself, would be found "
                    f"{outcome.describe(pipeline.k)}",
                )
                ids = tuple(each.row.id for each in place.touching)
                return Verdict(
                    place.number, "truncated_by_embedder", proof, tried, ranks, ids, place.note
                )
    return None


@dataclass(frozen=True, slots=True)
class _Unseen:
    """Evidence that lies beyond a model's window.

    Attributes:
        texts: of what was not seen, the pieces to try: around the evidence, from it on, itself.
        at: the character of the document at which the window ends.
        length: the chunk's tokens, and `window` those that the model takes.
    """

    texts: tuple[str, ...]
    at: int
    length: int
    window: int


def _find_hidden(pipeline: Pipeline, place: Place, chunk: Chunk) -> _Unseen | None:
    """What of a chunk the model did not see; None where it saw one of the evidence's places."""
    model: Any = pipeline.app.embeddings
    window = getattr(model, "max_tokens", None)
    if window is None or not hasattr(model, "token_spans"):
        return None
    text, start = chunk.row.text, chunk.span[0]
    tokens = model.token_spans(text)
    special = model.count_tokens("")
    room = window - special
    if len(tokens) <= room:
        return None
    seen = tokens[room - 1][1]
    spans = [
        (max(0, first - start), last - start)
        for first, last in (trim(place.document.text, *span) for span in place.spans)
        if place.covers([chunk.span], (first, last))
    ]
    if any(last <= seen for _, last in spans):
        return None
    first, last = spans[0]
    at = next((n for n, token in enumerate(tokens) if token[1] > first), len(tokens) - 1)
    texts = []
    for begin in (max(room, at - room // 4) if at >= room else at, at):
        end = min(begin + room, len(tokens))
        texts.append(text[tokens[begin][0] : tokens[end - 1][1]])
    pieces = tuple(dict.fromkeys([*texts, text[first:last]]))
    return _Unseen(pieces, start + seen, len(tokens) + special, window)


# -- chunks that hold the evidence whole ------------------------------------------------------


def _split_anew(pipeline: Pipeline, place: Place) -> Iterator[tuple[str, Document]]:
    """Chunks that hold it whole, of the config's own splitter with larger overlaps: each with the
    option that makes it. The first overlap that does, and the largest."""
    section = pipeline.app.config.splitter
    name, overlaps = _list_overlaps(section.options)
    for overlap in overlaps:
        key = place.source, overlap
        if key not in pipeline.cuts:
            options = type(section.options)(**{**section.options.model_dump(), name: overlap})
            splitter = registry.build(
                "splitters", section.kind, options, tokenizer=pipeline.app.embeddings
            )
            document = Document(place.document.text, metadata=dict(place.document.metadata))
            pipeline.cuts[key] = splitter.split_documents([document])
        for piece in pipeline.cuts[key]:
            span = piece.metadata["start"], piece.metadata["end"]
            if any(place.covers([span], each) for each in place.spans):
                metadata = {**piece.metadata, "source": place.source}
                yield f"splitter.{name}={overlap}", Document(piece.page_content, metadata=metadata)
                break


def _list_overlaps(options: Any) -> tuple[str, list[int]]:
    """The option that makes chunks overlap, and larger values of it."""
    if hasattr(options, "chunk_overlap"):
        size, now = options.chunk_size, options.chunk_overlap
        wanted = {size // 8, size // 4, size // 2, 3 * size // 4}
        return "chunk_overlap", sorted(n for n in wanted if now < n < size - 4)
    if hasattr(options, "overlap"):
        return "overlap", [n for n in (1, 2, 4) if n > options.overlap]
    return "", []


def _windows(pipeline: Pipeline, place: Place) -> Iterator[Document]:
    """Pieces of the document as long as its chunks, or as the evidence where that is longer, with
    the evidence in the middle, at the end and at the beginning."""
    text = place.document.text
    for span in place.spans[:_SPANS]:
        for share in (0.5, 1.0, 0.0):
            start, end = trim(text, *_widen(pipeline, place, span, share))
            metadata = {"source": place.source, "start": start, "end": end}
            yield Document(text[start:end], metadata={**place.document.metadata, **metadata})


def _widen(pipeline: Pipeline, place: Place, span: Span, share: float) -> Span:
    """A span of a chunk's size around another, with `share` of the room before it."""
    text = place.document.text
    model: Any = pipeline.app.embeddings
    size = getattr(pipeline.app.config.splitter.options, "chunk_size", None)
    if size is None or not hasattr(model, "token_spans"):
        longest = max(chunk.span[1] - chunk.span[0] for chunk in place.touching)
        room = max(0, longest - (span[1] - span[0]))
        start = max(0, span[0] - int(share * room))
        return start, min(len(text), max(span[1], start + longest))
    low = max(0, span[0] - _LETTERS * size)
    region = text[low : span[1] + _LETTERS * size]
    tokens = [(low + a, low + b) for a, b in model.token_spans(region)]
    inside = [n for n, token in enumerate(tokens) if token[1] > span[0] and token[0] < span[1]]
    if not inside:
        return span
    room = max(0, size - model.count_tokens("") - len(inside))
    first = max(0, inside[0] - int(share * room))
    last = min(len(tokens) - 1, inside[-1] + room - (inside[0] - first))
    return min(span[0], tokens[first][0]), max(span[1], tokens[last][1])


def _describe_border(place: Place) -> str:
    """Where the border goes through."""
    start, end = place.spans[0]
    borders = sorted({c.span[1] for c in place.touching if start < c.span[1] < end})
    where = f" at character {borders[0]:,}" if borders else ""
    return (
        f"no chunk holds it whole: characters {start:,}-{end:,} of {place.source!r} lie in "
        f"{len(place.touching)} chunks, with a border{where}"
    )


def _describe_size(pipeline: Pipeline, place: Place) -> str:
    model: Any = pipeline.app.embeddings
    size = getattr(pipeline.app.config.splitter.options, "chunk_size", None)
    if size is not None and hasattr(model, "count_tokens"):
        start, end = place.spans[0]
        needed = model.count_tokens(place.document.text[start:end])
        if needed > size:
            return f"of {needed:,} tokens, more than splitter.chunk_size={size},"
    return "of the same size"
