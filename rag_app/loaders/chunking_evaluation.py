"""The corpora of a chunking-evaluation folder: each file a document, character by character."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rag_app.options import OPERATIONAL, Field, FilePath, Options
from rag_app.types import Doubt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rag_app.loaders._source import SourceLoader


class Config(Options):
    """The options of a `chunking_evaluation` source."""

    path: FilePath = Field(
        description="The folder with corpora/ and questions_df.csv in it.",
        json_schema_extra=OPERATIONAL,
    )
    prefix: str = Field(
        "", description="Put before every source name, for entries whose names would collide."
    )


def build(config: Config) -> SourceLoader:
    """The loader of one folder's corpora."""
    from rag_app.datasets import chunking_evaluation as form
    from rag_app.loaders._data_set import DataSet, require_folder
    from rag_app.loaders._source import SourceLoader
    from rag_app.parsers.parsed import ParseError

    def files() -> list[tuple[str, FilePath]]:
        require_folder(config.path)
        listed = [(path.name, path) for path in form.list_corpora(config.path)]
        if not listed:
            place = str(config.path / form.CORPORA)
            raise ParseError(f"there is no file ending in {form.ENDING} in {place!r}")
        return listed

    doubt = partial(_doubt_absent, config)
    return SourceLoader(DataSet(config.prefix, files, form.read_documents, doubt))


def _doubt_absent(config: Config) -> Iterator[Doubt]:
    """A doubt for each corpus that is asked about and not there; for all, if that cannot be told.

    A folder that was copied in part has some of them.
    """
    from rag_app.datasets import chunking_evaluation as form
    from rag_app.parsers.parsed import ParseError, UnreadError

    try:
        there = {path.name for path in form.list_corpora(config.path)}
        asked = {question.corpus for question in form.read_questions(config.path / form.QUESTIONS)}
    except (OSError, ParseError, UnreadError) as error:
        wrong = f"{form.QUESTIONS}, which names the corpora, {error}"
        covers = partial(_is_corpus, config.prefix, form.ENDING)
        yield Doubt("sources.path", wrong, "Mend that first.", covers)
        return
    for name in sorted(f"{corpus}{form.ENDING}" for corpus in asked):
        if name not in there:
            wrong = f"{form.QUESTIONS} asks about {form.CORPORA}/{name}, which is not there"
            remedy = "Bring the file back, or take its questions out."
            yield Doubt("sources.path", wrong, remedy, (config.prefix + name).__eq__)


def _is_corpus(prefix: str, ending: str, origin: str) -> bool:
    return origin.startswith(prefix) and origin.endswith(ending)
