"""The class behind `splitters/tokens.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.splitting import Marks, SpanSplitter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_app.splitters.tokens import Config
    from rag_app.types import Span, Tokenizer


class TokenSplitter(SpanSplitter):
    """Windows of tokens. A window reaches to the next one's first token: no character is lost."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__(config.chunk_size, config.chunk_overlap, tokenizer.count_tokens)
        self._size, self._overlap = config.chunk_size, config.chunk_overlap
        self._tokenizer = tokenizer

    def spans(self, text: str, marks: Marks) -> Iterator[Span]:  # noqa: ARG002
        """Windows of `chunk_size` tokens, neighbours sharing `chunk_overlap` of them."""
        starts = [start for start, _ in self._tokenizer.token_spans(text)]
        if not starts:
            yield 0, len(text)
            return
        borders = [0, *starts[1:], len(text)]  # borders[i] is where token i begins
        first, last = 0, 0
        while last < len(starts):
            last = self._find_end(text, borders, first)
            yield borders[first], borders[last]
            first = max(first + 1, last - self._overlap)

    def _find_end(self, text: str, borders: Sequence[int], first: int) -> int:
        """The token before which the window from `first` must end.

        A word cut in two can be more tokens than it was; the window then ends earlier.
        """
        room = self._size - self._tokenizer.count_tokens("")
        last = min(first + room, len(borders) - 1)
        while last > first + 1:
            excess = self._tokenizer.count_tokens(text[borders[first] : borders[last]]) - self._size
            if excess <= 0:
                break
            last = max(first + 1, last - excess)
        return last
