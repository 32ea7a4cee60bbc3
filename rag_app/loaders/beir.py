"""The corpus of a BEIR or MTEB folder: each line a document, named by its `_id`.

A line that cannot be read, has no text or repeats an `_id` is reported; the rest goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_app.options import OPERATIONAL, Field, FilePath, Options

if TYPE_CHECKING:
    from rag_app.loaders._source import SourceLoader


class Config(Options):
    """The options of a `beir` source."""

    path: FilePath = Field(
        description="The folder with corpus.jsonl or corpus.jsonl.gz in it.",
        json_schema_extra=OPERATIONAL,
    )
    prefix: str = Field(
        "", description="Put before every source name, for entries whose names would collide."
    )


def build(config: Config) -> SourceLoader:
    """The loader of one folder's corpus."""
    from rag_app.datasets import beir
    from rag_app.loaders._data_set import DataSet, require_folder
    from rag_app.loaders._source import SourceLoader
    from rag_app.parsers.parsed import ParseError

    def files() -> list[tuple[str, FilePath]]:
        require_folder(config.path)
        try:
            return [(beir.CORPUS, beir.find_file(config.path, beir.CORPUS))]
        except ParseError as error:
            raise ParseError(f"{str(config.path)!r} {error}") from error

    return SourceLoader(DataSet(config.prefix, files, beir.read_documents))
