"""`rag-app init`"""

from __future__ import annotations

from pathlib import Path

import click

from rag_app.cli.options import json_option
from rag_app.cli.output import note, print_json
from rag_app.errors import UsageError

TEMPLATE = Path(__file__).parents[1] / "template"


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Write a commented config, .env.example, sample documents and cases into FOLDER.

    Nothing that is already there is overwritten.
    """
    files = sorted(path for path in TEMPLATE.rglob("*") if path.is_file())
    targets = {path: folder / path.relative_to(TEMPLATE) for path in files}
    taken = [str(target) for target in targets.values() if target.exists()]
    if taken:
        raise UsageError(
            "init",
            f"{', '.join(taken)} already exist",
            "Choose another folder: rag-app init FOLDER",
        )
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        if not as_json:
            click.echo(str(target))
    if as_json:
        print_json({"files": [str(target) for target in targets.values()]})
    step = "" if folder == Path() else f"cd {folder} && "
    note(f'\nNext: {step}rag-app ingest && rag-app ask "How many days of vacation do we have?"')
