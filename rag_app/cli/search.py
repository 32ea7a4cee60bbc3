"""`rag-app search`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.options import config_options, filter_option, json_option, open_app
from rag_app.cli.output import print_json, search_json

if TYPE_CHECKING:
    from rag_app.types import Hit


@click.command()
@click.argument("query")
@config_options
@json_option
@filter_option
@click.option("-k", type=click.IntRange(min=1), help="How many hits.  [default: retriever.k]")
def command(
    query: str,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    filter: Any,
    k: int | None,
) -> None:
    """Find the chunks that fit QUERY best, best first."""
    with open_app(config, overrides) as app:
        result = app.search(query, k=k, filter=filter)
    if as_json:
        print_json(search_json(result))
        return
    if not result.hits:
        click.echo("Nothing was found.")
    for number, hit in enumerate(result.hits, 1):
        click.echo(_lines(number, hit))


def _lines(number: int, hit: Hit) -> str:
    similarity = "" if hit.similarity is None else f"  similarity {hit.similarity:.3f}"
    ranks = ", ".join(f"{name} #{r.rank} ({r.score:.3f})" for name, r in hit.ranks.items())
    heading = hit.metadata.get("heading")
    page = hit.metadata.get("page")
    where = hit.source + (f" page {page}" if page else "") + (f" › {heading}" if heading else "")
    words = " ".join(hit.text.split())
    short = words if len(words) <= 200 else words[:199] + "…"
    return f"{number}. {where}\n   {short}\n   score {hit.score:.4f}{similarity}  {ranks}\n"
