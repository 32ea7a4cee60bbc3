"""An index whose sources get lost: what it held before must be in its store afterwards."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import rag_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rag_app.types import IngestReport


class Losing:
    """The index of one test, filled and lost by `sources`, which a test may change in between."""

    def __init__(self, folder: Path, *sources: dict[str, Any]) -> None:
        self.folder = folder
        self.sources = list(sources)
        self.index_options: dict[str, str] = {}

    @property
    def config(self) -> dict[str, Any]:
        """The config, as a dict."""
        return {
            "name": "losing",
            "sources": self.sources,
            "embeddings": "hashing",
            "vector_store": {"kind": "memory", "path": str(self.folder / "vectors.sqlite")},
            "index": {"path": str(self.folder / "rag"), **self.index_options},
            "chain": "extractive",
        }

    def ingest(self, **options: Any) -> IngestReport:
        with rag_app.load(self.config) as app:
            return app.ingest(**options)

    def hold(self) -> set[tuple[str, str]]:
        """Source and text of every row of the store."""
        with rag_app.load(self.config) as app:
            return {(str(row.metadata["source"]), row.text) for row in app.store.scan()}

    @contextmanager
    def keeping_all(self) -> Iterator[None]:
        """Nothing that the store holds before the block may be absent after it."""
        before = self.hold()
        assert before, "nothing is held that could be lost"
        yield
        assert not before - self.hold(), before - self.hold()

    def refuse(self, kind: type[rag_app.RagAppError], words: str, **options: Any) -> None:
        """Ingesting is refused with an error that says so, and leaves the store as it was."""
        before = self.hold()
        with pytest.raises(kind, match=words) as caught:
            self.ingest(**options)
        assert caught.value.remedy
        assert self.hold() == before

    def quarantine(self, words: str, **options: Any) -> list[str]:
        """Ingesting deletes nothing, and reports what was lost; the names of it."""
        with self.keeping_all():
            report = self.ingest(**options)
        assert report.deleted == 0
        named = [f"{each.source}: {each.reason}" for each in report.quarantine]
        assert named, "nothing is reported"
        assert all(re.search(words, each) for each in named), named
        return [each.source for each in report.quarantine]


def make_docs(folder: Path) -> Path:
    """Forty documents: `team` has three of them, and two are no Markdown."""
    docs = folder / "docs"
    for name, count in (("a", 18), ("b", 17), ("team", 3)):
        (docs / name).mkdir(parents=True)
        for number in range(count):
            words = f"Paragraph {number} of {name} tells of {name}{number}.\n"
            (docs / name / f"{number:02}.md").write_text(words)
    for name in ("x", "y"):
        (docs / f"{name}.txt").write_text(f"The note {name} is plain.\n")
    return docs


def index_docs(docs: Path) -> Losing:
    """The index of `docs`, filled."""
    made = Losing(docs.parent, {"kind": "files", "path": str(docs)})
    assert made.ingest().indexed == 40
    return made


def remake(path: Path, make: Callable[[Path], object]) -> None:
    """Something else in the place of a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)
