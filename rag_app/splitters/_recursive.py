"""The class behind `splitters/recursive.py`; apart, so that reading a config stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.cutting import Cutter
from rag_app.splitting import Marks, SpanSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rag_app.splitters.recursive import Config
    from rag_app.types import Span, Tokenizer


class RecursiveSplitter(SpanSplitter):
    """LangChain's `RecursiveCharacterTextSplitter`, its chunks and all, with character spans."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__(config.chunk_size, config.chunk_overlap, tokenizer.count_tokens)
        self._cutter = Cutter(
            config.chunk_size,
            config.chunk_overlap,
            tokenizer.count_tokens,
            config.separators,
            config.keep_separator,
        )

    def spans(self, text: str, marks: Marks) -> Iterable[Span]:  # noqa: ARG002
        """Chunks of at most `chunk_size` tokens; structure is not looked at."""
        return self._cutter.cut(text, 0, len(text))
