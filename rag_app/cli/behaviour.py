"""What changed between two configs, question by question, as `compare --behaviour` tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_app.evaluation.behaviour import Change, Move
    from rag_app.evaluation.results import Comparison

NAMED: Final = 10
"""Questions that are told for people, of each pair of configs."""

Told = tuple[str, str, "Sequence[Change]"]
"""Two configs, and the questions that the second treats otherwise, worst first."""


def find_behaviour(found: Comparison) -> list[Told]:
    """What changed from the first config that was named to each of the others."""
    from rag_app.evaluation.behaviour import changes

    by_name = {each.name: each for each in found.evaluations}
    first, *others = (by_name[name] for name in found.settings if name in by_name)
    return [
        (first.name, each.name, [c for c in changes(first, each, found.metric) if c.changed])
        for each in others
    ]


def behaviour_json(told: Sequence[Told]) -> list[dict[str, Any]]:
    """For `compare --json`: every question that changed."""
    return [
        {"before": before, "after": after, "changes": [_to_json(change) for change in found]}
        for before, after, found in told
    ]


def behaviour_lines(told: Sequence[Told]) -> list[str]:
    """For people: the worst of each pair."""
    lines: list[str] = []
    for before, after, found in told:
        lines += ["", f"from {before} to {after}: {len(found):,} questions changed"]
        for change in found[:NAMED]:
            lines += _lines(change)
        if len(found) > NAMED:
            lines.append(f"  and {len(found) - NAMED:,} more; --json names all")
    return lines


def _to_json(change: Change) -> dict[str, Any]:
    return {
        "case": change.case.id,
        "question": change.case.question,
        "metric": change.metric,
        "difference": change.difference,
        "flip": change.flip,
        "moves": [_move_json(move) for move in change.moves if move.kind != "stayed"],
    }


def _move_json(move: Move) -> dict[str, Any]:
    kept = move.after or move.before
    assert kept is not None
    hit = kept[1]
    return {
        "kind": move.kind,
        "before": None if move.before is None else move.before[0],
        "after": None if move.after is None else move.after[0],
        "id": hit.id,
        "source": hit.source,
        "start": hit.start,
        "end": hit.end,
        "evidence": list(move.evidence),
    }


def _lines(change: Change) -> list[str]:
    gain = f"{change.difference:+.3f} {change.metric}" if change.difference else ""
    words = ", ".join(filter(None, [gain, change.flip and f"answer {change.flip}"]))
    counts = {
        kind: sum(move.kind == kind for move in change.moves)
        for kind in ("appeared", "vanished", "moved")
    }
    moved = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    lines = [f"  {change.case.id}: {change.case.question}", f"      {words or 'as good'}; {moved}"]
    return lines + [f"      {_say(move)}" for move in change.moves if _tells(move)]


def _tells(move: Move) -> bool:
    return bool(move.evidence) and move.kind != "stayed"


def _say(move: Move) -> str:
    kept = move.after or move.before
    assert kept is not None
    ranks = [f"rank {each[0]}" if each else "not found" for each in (move.before, move.after)]
    return f"evidence in {kept[1].source}: {ranks[0]} -> {ranks[1]}"
