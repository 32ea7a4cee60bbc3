"""The paragraphs of a SQuAD file, 1.1 or 2.0: each a document.

A paragraph without text, or whose name came before, is reported; the rest goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import OPERATIONAL, Field, FilePath, Options

if TYPE_CHECKING:
    from rag_app.loaders._source import SourceLoader


class Config(Options):
    """The options of a `squad` source."""

    path: FilePath = Field(
        description="The file, as dev-v2.0.json; it may be gzipped.", json_schema_extra=OPERATIONAL
    )
    prefix: str = Field(
        "", description="Put before every source name, for entries whose names would collide."
    )


def build(config: Config) -> SourceLoader:
    """The loader of one file's paragraphs."""
    from rag_app.datasets import squad
    from rag_app.loaders._data_set import DataSet
    from rag_app.loaders._source import SourceLoader
    from rag_app.parsers.parsed import ParseError

    def files() -> list[tuple[str, FilePath]]:
        path = config.path
        if not path.is_file():
            raise ParseError(f"{str(path)!r} {'is no file' if path.exists() else 'does not exist'}")
        return [(path.name, path)]

    return SourceLoader(DataSet(config.prefix, files, squad.read_documents))
