"""`rag-app cases check`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rag_app.cli.measuring import cases_options, read_given_cases
from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json

if TYPE_CHECKING:
    from rag_app.evaluation.checking import Checked


@click.command()
@config_options
@json_option
@cases_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    cases: str,
    split: str | None,
) -> None:
    """See that the evidence of every case stands in its source, as it is indexed.

    Lists what does not, with the nearest passage; the exit status is 1 then. A quote may have any
    white space for its own.
    """
    from rag_app.evaluation.checking import check_cases

    chosen = read_given_cases(cases, split)
    with open_app(config, overrides) as app:
        checked = check_cases(app, chosen)
    if as_json:
        print_json({"sound": not checked.misplaced, **asdict(checked)})
    else:
        click.echo("\n".join(_lines(checked)))
    ctx.exit(1 if checked.misplaced else 0)


def _lines(checked: Checked) -> list[str]:
    lines = []
    for each in checked.misplaced:
        lines.append(f"{each.place}: {each.case}, evidence {each.number}: {each.reason}")
        if each.hint:
            lines.append(f"    {each.hint}")
    lines += [f"note: {each}" for each in checked.notes]
    found = checked.evidence - len(checked.misplaced)
    return [
        *lines,
        f"{found:,} of {checked.evidence:,} pieces of evidence stand in what is indexed; "
        f"{checked.cases:,} cases, {checked.unanswerable:,} of them unanswerable",
    ]
