"""What the commands print: JSON shapes that others rely on, and the same for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from rag_app.money import show_dollars

if TYPE_CHECKING:
    from rag_app.types import Answer, Hit, IngestPlan, IngestReport, SearchResult


NAMED: Final = 20
"""Documents of a kind that a plan names for people."""


def print_json(value: Any) -> None:
    """One JSON value on stdout, in any script."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def note(words: str) -> None:
    """A message for people: on stderr."""
    click.echo(words, err=True)


def ingest_json(report: IngestReport) -> dict[str, Any]:
    """`ingest --json`; `seen == indexed + unchanged + quarantined + excluded`."""
    return {
        "documents": {
            "seen": report.seen,
            "indexed": report.indexed,
            "unchanged": report.unchanged,
            "deleted": report.deleted,
            "quarantined": report.quarantined,
            "excluded": report.excluded,
        },
        "chunks": {
            "written": report.chunks_written,
            "deleted": report.chunks_deleted,
            "total": report.chunks_total,
        },
        "embedded": report.embedded,
        "cached": report.cached,
        "truncated": report.truncated,
        "tokens": report.tokens,
        "cost": _round_dollars(report.cost),
        "saved": _round_dollars(report.saved),
        "seconds": round(report.seconds, 3),
        "quarantine": [asdict(each) for each in report.quarantine],
    }


def plan_json(plan: IngestPlan) -> dict[str, Any]:
    """`ingest --plan --json`; `seen == new + unchanged + quarantined + excluded`."""
    return {
        "documents": {
            "seen": plan.seen,
            "new": plan.new,
            "unchanged": plan.unchanged,
            "gone": plan.gone,
            "quarantined": plan.quarantined,
            "excluded": plan.excluded,
        },
        "chunks": {
            "planned": plan.chunks,
            "held": plan.held,
            "cached": plan.cached,
            "embed": plan.embed,
        },
        "tokens": plan.tokens,
        "cost": _round_dollars(plan.cost),
        "saved": _round_dollars(plan.saved),
        "price": plan.price,
        "minutes": None if plan.minutes is None else round(plan.minutes, 2),
        "rebuild": plan.rebuild,
        "allow_delete": bool(plan.loss),
        "added": list(plan.added),
        "changed": list(plan.changed),
        "deleted": list(plan.deleted),
        "quarantine": [asdict(each) for each in plan.quarantine],
    }


def search_json(result: SearchResult) -> dict[str, Any]:
    """`search --json`."""
    return {
        "query": result.query,
        "hits": [hit_json(hit) for hit in result.hits],
        "timings_ms": _rounded(result.timings_ms),
    }


def answer_json(answer: Answer) -> dict[str, Any]:
    """`ask --json`; `page`, `heading` and `dropped` are there only where there are any."""
    dropped = {"dropped": answer.dropped} if answer.dropped else {}
    return dropped | {
        "question": answer.question,
        "answer": answer.answer,
        "citations": [
            {n: v for n, v in asdict(c).items() if v is not None} for c in answer.citations
        ],
        "context": [hit_json(hit) for hit in answer.context],
        "timings_ms": _rounded(answer.timings_ms),
        "usage": dict(answer.usage),
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as JSON: every rank with the score that list gave."""
    return {
        "id": hit.id,
        "source": hit.source,
        "text": hit.text,
        "start": hit.start,
        "end": hit.end,
        "similarity": hit.similarity,
        "score": hit.score,
        "ranks": {name: asdict(rank) for name, rank in hit.ranks.items()},
        "metadata": {n: v for n, v in hit.metadata.items() if not n.startswith("_")},
    }


def ingest_lines(report: IngestReport) -> list[str]:
    """What an ingest did, for people."""
    lines = [
        f"documents: {report.seen} seen = {report.indexed} indexed + {report.unchanged} unchanged"
        f" + {report.quarantined} quarantined + {report.excluded} excluded;"
        f" {report.deleted} deleted",
        f"chunks: {report.chunks_written} written, {report.chunks_deleted} deleted,"
        f" {report.chunks_total} in the index; {report.embedded} texts embedded"
        f"{_cached(report)} in {report.seconds:.1f} s",
    ]
    if report.tokens:
        lines.append(f"embedding service: {report.tokens:,} tokens, {_dollars(report.cost)}")
    if report.truncated:
        lines.append(
            f"truncated: {report.truncated} chunks are longer than the embedding model's window;"
            " their ends are not in the vectors. Set splitter.chunk_size lower."
        )
    lines += [f"quarantined: {each.source}: {each.reason}" for each in report.quarantine]
    return lines


def ingest_line(report: IngestReport) -> str:
    """What an ingest did, in a line."""
    return (
        f"{report.indexed} indexed, {report.deleted} deleted, {report.quarantined} quarantined; "
        f"{report.chunks_written} chunks written, {report.chunks_deleted} deleted, "
        f"{report.chunks_total} in the index; {report.seconds:.1f} s"
    )


def plan_lines(plan: IngestPlan) -> list[str]:
    """What an ingest would do, for people."""
    lines = [
        f"documents: {plan.seen} seen = {plan.new} new or changed + {plan.unchanged} unchanged"
        f" + {plan.quarantined} quarantined + {plan.excluded} excluded; {plan.gone} gone",
        f"chunks: {plan.chunks} planned, {plan.held} in the index already, {plan.cached} in the"
        f" cache; {plan.embed} to embed",
        f"tokens: about {plan.tokens:,}",
        f"cost: {_planned_cost(plan)}",
    ]
    if plan.rebuild:
        lines.append(
            "needs --rebuild: the index is in another vector store, or of another model or"
            " splitter; these are the figures of a rebuild"
        )
    if plan.loss:
        lines.append(f"needs --allow-delete: {plan.loss}")
    if plan.minutes is not None:
        lines.append(f"time: {plan.minutes:.1f} minutes at the rate limit")
    broken = [f"{each.source}: {each.reason}" for each in plan.quarantine]
    for what, names in (
        ("added", plan.added),
        ("changed", plan.changed),
        ("deleted", plan.deleted),
        ("quarantined", broken),
    ):
        lines += [f"{what}: {name}" for name in names[:NAMED]]
        if len(names) > NAMED:
            lines.append(f"{what}: and {len(names) - NAMED:,} more; --json names all")
    return [*lines, "nothing was embedded, and the index is as it was"]


def _planned_cost(plan: IngestPlan) -> str:
    if plan.cost == 0 and not plan.price:
        return "none, the model runs on a machine of yours"
    if plan.price is None:
        return _dollars(plan.cost)
    saved = f"; the cache saves about {_dollars(plan.saved)}" if plan.saved else ""
    return f"about {_dollars(plan.cost)} at ${plan.price:g} per million tokens{saved}"


def _cached(report: IngestReport) -> str:
    if not report.cached:
        return ""
    share = report.cached / (report.cached + report.embedded)
    saved = f", {_dollars(report.saved)} saved" if report.saved else ""
    return f", {report.cached} from the cache ({share:.0%}{saved})"


def _dollars(amount: float | None) -> str:
    return "no price known; set embeddings.price" if amount is None else show_dollars(amount)


def _round_dollars(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 6)


def _rounded(timings: Any) -> dict[str, float]:
    return {stage: round(ms, 2) for stage, ms in timings.items()}
