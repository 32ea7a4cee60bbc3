"""The class behind `splitters/sentences.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.cutting import Cutter
from rag_app.sentences import sentence_spans
from rag_app.splitting import Marks, SpanSplitter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.splitters.sentences import Config
    from rag_app.types import Span, Tokenizer


class SentenceSplitter(SpanSplitter):
    """As many neighbouring sentences as fit; one that is too long alone is cut at its clauses.

    Sentences to repeat are left out where they and the next sentence would not fit together.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__(config.chunk_size, 0, tokenizer.count_tokens)
        self._config = config
        self._count = tokenizer.count_tokens
        self._cutter = Cutter(config.chunk_size, 0, tokenizer.count_tokens)

    def spans(self, text: str, marks: Marks) -> Iterator[Span]:  # noqa: ARG002
        """Groups of at most `chunk_size` tokens."""
        special = self._count("")
        room = self._config.chunk_size - special
        group: list[tuple[int, int, int]] = []  # start, end, tokens
        for start, end in sentence_spans(text):
            length = self._count(text[start:end]) - special
            if sum(tokens for _, _, tokens in group) + length > room:
                yield from self._close(text, group)
                group = self._repeat(group, room - length)
            group.append((start, end, length))
        yield from self._close(text, group)

    def _close(self, text: str, group: list[tuple[int, int, int]]) -> Iterator[Span]:
        if not group:
            return
        start, end = group[0][0], group[-1][1]
        too_long = len(group) == 1 and self._count(text[start:end]) > self._config.chunk_size
        yield from self._cutter.cut(text, start, end) if too_long else [(start, end)]

    def _repeat(self, group: list[tuple[int, int, int]], room: int) -> list[tuple[int, int, int]]:
        """The last sentences of `group`, as many as are to be repeated and fit into `room`."""
        kept = group[max(0, len(group) - self._config.overlap) :] if self._config.overlap else []
        while kept and sum(tokens for _, _, tokens in kept) > room:
            kept = kept[1:]
        return kept
