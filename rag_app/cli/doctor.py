"""`rag-app doctor`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress
from rag_app.errors import UsageError

if TYPE_CHECKING:
    from rag_app.types import Diagnosis, Finding

NAMED: Final = 10
"""Documents of a finding that are named for people."""

OTHERS: Final = {"other-store", "other-model", "other-splitter"}
"""Findings of an index that is whole, and that the config does not fit."""

DAMAGED: Final = 7
"""The exit status when something is damaged, or is still after mending."""


@click.command()
@config_options
@json_option
@click.option("--fix", is_flag=True, help="Mend what can be; then say what is left.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="DOLLARS",
    help="With --fix: stop before embedding costs more than this; the exit status is 6.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    fix: bool,
    max_cost: float | None,
) -> None:
    """Compare the index with its record, its sources and its cache; name what is damaged.

    Asks the embedding model for a few texts and changes nothing, unless --fix is given. Damage is
    what makes searches refused, wrong or incomplete: the exit status is 7 while there is any.
    """
    if max_cost is not None and not fix:
        raise UsageError("--max-cost", "only mending embeds texts to keep", "Add --fix.")
    with open_app(config, overrides) as app, show_progress() as progress:
        found = app.doctor(fix=fix, max_cost=max_cost, progress=progress)
        progress.clear()
    if as_json:
        print_json(diagnosis_json(found))
    else:
        click.echo("\n".join(diagnosis_lines(found)))
    ctx.exit(0 if found.sound else DAMAGED)


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """`doctor --json`."""
    return {
        "sound": found.sound,
        "documents": found.documents,
        "chunks": found.chunks,
        "findings": [asdict(each) for each in found.findings],
        "mended": [asdict(each) for each in found.mended],
        "written": found.written,
        "deleted": found.deleted,
        "embedded": found.embedded,
        "cached": found.cached,
        "compared": found.compared,
        "seconds": round(found.seconds, 3),
    }


def diagnosis_lines(found: Diagnosis) -> list[str]:
    """What is wrong with an index, for people."""
    lines = []
    for each in found.mended:
        lines += _lines("mended", each)
    if found.mended:
        lines.append(
            f"{found.written:,} rows written, {found.deleted:,} deleted; {found.embedded:,} texts "
            f"embedded, {found.cached:,} from the cache"
        )
    for each in found.findings:
        lines += [*_lines(each.severity, each), f"        {each.remedy}"]
    held = f"{found.documents:,} documents, {found.chunks:,} chunks"
    return [*lines, f"{_name_state(found)}: {held}; {found.seconds:.1f} s"]


def _name_state(found: Diagnosis) -> str:
    kinds = {each.kind for each in found.findings if each.severity == "damage"}
    if kinds and kinds <= OTHERS:
        return "the index is of another config"
    if kinds == {"nothing-published"}:
        return "nothing is served"
    return "damaged" if kinds else "sound"


def _lines(word: str, finding: Finding) -> list[str]:
    lines = [f"{word:6}  {finding.kind}: {finding.detail}"]
    if finding.documents:
        more = finding.documents[NAMED:]
        named = ", ".join(finding.documents[:NAMED])
        lines.append(f"        {named}" + (f", and {len(more):,} more" if more else ""))
    return lines
