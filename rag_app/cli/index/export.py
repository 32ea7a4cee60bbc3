"""`rag-app index export`"""

from __future__ import annotations

from dataclasses import asdict

import click

from rag_app.cli.options import config_options, json_option, open_app
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress


@click.command()
@click.argument("target", type=click.Path())
@config_options
@json_option
@click.option("--force", is_flag=True, help="Replace an export that is there.")
def command(
    target: str, config: str, overrides: tuple[str, ...], as_json: bool, force: bool
) -> None:
    """Write what the index serves now into TARGET: a folder, or a file when it ends in .zip.

    Documents, chunks and vectors, in a form that NumPy and a JSON parser read. It is there whole or
    not at all. `rag-app index import` serves it again, in any vector store.
    """
    with open_app(config, overrides) as app, show_progress() as progress:
        report = app.export_index(target, force=force, progress=progress)
        progress.clear()
    if as_json:
        print_json({**asdict(report), "seconds": round(report.seconds, 3)})
    else:
        click.echo(
            f"exported: {report.chunks:,} chunks of {report.documents:,} documents to "
            f"{report.target}, {report.bytes:,} bytes in {report.seconds:.1f} s"
        )
