"""Generations as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.types import GenerationInfo

_TITLES: Final = (
    *("generation", "state", "store", "embeddings"),
    *("chunks", "documents", "begun", "published"),
)
_COUNTS: Final = frozenset({"generation", "chunks", "documents"})


def generation_lines(generations: Sequence[GenerationInfo]) -> list[str]:
    """A table with a line for each."""
    rows = [_TITLES, *map(_cells, generations)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_align(row, widths)).rstrip() for row in rows]


def generation_line(generation: GenerationInfo) -> str:
    """What it is, in a few words."""
    return (
        f"generation {generation.number} ({generation.store}, {generation.embeddings}): "
        f"{generation.chunks:,} chunks of {generation.documents:,} documents"
    )


def description_lines(described: dict[str, Any], indent: str = "") -> list[str]:
    """A nested description, a value a line."""
    lines = []
    for name, value in described.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", *description_lines(value, f"{indent}  ")]
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            lines.append(f"{indent}{name}:")
            for each in value:
                lines += [f"{indent}  -", *description_lines(each, f"{indent}    ")]
        else:
            lines.append(f"{indent}{name}: {'none' if value is None else value}")
    return lines


def _cells(each: GenerationInfo) -> tuple[str, ...]:
    counts = f"{each.chunks:,}", f"{each.documents:,}"
    when = each.begun, each.published or "never"
    return (str(each.number), each.state, each.store, each.embeddings, *counts, *when)


def _align(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if title in _COUNTS else cell.ljust(width)
        for title, cell, width in zip(_TITLES, row, widths, strict=True)
    ]
