"""Failures made on purpose: a pipeline that finds a sentence, with one thing changed so that it
does not.

Each failure is held against what the pipeline returns, not against what explains it: before the
change the sentence is in a hit, after it in none. So the stage that lost it is the one changed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import BaseDocumentCompressor, Document

import rag_app
from rag_app.app import RagApp
from rag_app.config import load_config
from rag_app.evaluation.results import Case, Evidence
from rag_app.evaluation.verdicts import Explanation, Stage
from rag_app.evaluation.why import explain
from rag_app.index.read import Source
from rag_app.types import Hit, Origin

_SENTENCE = re.compile(r"(?:(?<=[.!?] )|(?<=\n\n))[A-Z][^\n.!?<>\[\]`*{}|]{45,170}[.!](?=\s)")


@dataclass(frozen=True)
class Sentence:
    """A sentence that stands once in a corpus, and a question made of its words."""

    source: str
    text: str
    question: str

    def case(self, **given: Any) -> Case:
        return Case(
            f"{self.source}: {self.text[:30]}",
            self.question,
            (Evidence(self.source, self.text),),
            **given,
        )

    def is_in(self, texts: Sequence[str]) -> bool:
        return any(self.text in " ".join(text.split()) for text in texts)


@dataclass(frozen=True)
class Provoked:
    """A failure with the stage that was changed to make it, and what is said of it."""

    expected: Stage
    how: str
    found: Explanation


def read_sentences(folder: Path) -> list[Sentence]:
    """Sentences of the Markdown files of a folder, one of each file in turn."""
    texts = {str(p.relative_to(folder)): p.read_text("utf-8") for p in folder.rglob("*.md")}
    together = "\n".join(texts.values())
    by_file = []
    for source, text in sorted(texts.items()):
        found = [m.group() for m in _SENTENCE.finditer(text)]
        once = [each for each in found if together.count(each) == 1]
        by_file.append([Sentence(source, each, ask(each)) for each in once])
    rows = max(map(len, by_file))
    return [listed[row] for row in range(rows) for listed in by_file if row < len(listed)]


def ask(sentence: str) -> str:
    """A question of every second longer word of a sentence."""
    words = [word for word in re.findall(r"[A-Za-z]+", sentence) if len(word) > 3]
    return f"What about {' '.join(words[::2][:5])}?"


def make_config(folder: Path, **sections: Any) -> dict[str, Any]:
    """A pipeline over `folder` that needs no model."""
    usual: dict[str, Any] = {
        "name": "provoked",
        "sources": [{"kind": "files", "path": str(folder)}],
        "splitter": {"kind": "recursive", "chunk_size": 120, "chunk_overlap": 0},
        "embeddings": {"kind": "hashing", "dimension": 2048},
        "vector_store": {"kind": "memory", "path": str(folder.parent / "store")},
        "retriever": {"kind": "dense", "k": 20},
        "chain": {"kind": "extractive"},
        "index": {"path": str(folder.parent / "index")},
    }
    return usual | sections


class Shortest(BaseDocumentCompressor):
    """A reranker for which short chunks are best."""

    k: int

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        return sorted(documents, key=lambda document: len(document.page_content))[: self.k]


class WithShortest(RagApp):
    """A pipeline with that reranker."""

    @cached_property
    def reranker(self) -> BaseDocumentCompressor:
        return Shortest(k=3)


class LosingLoader(BaseLoader):
    """A loader that forgets the second of a document's four parts."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def origins(self) -> Iterator[Origin]:
        for origin in self._loader.origins():
            fingerprint = f"losing {origin.fingerprint}"
            yield Origin(
                origin.source, fingerprint, lambda o=origin: self._load(o), read=origin.read
            )

    def close(self) -> None:
        self._loader.close()

    def _load(self, origin: Origin) -> Iterator[Document]:
        for document in origin.load():
            assert isinstance(document, Document)
            text = document.page_content
            part = len(text) // 4
            metadata = {n: v for n, v in document.metadata.items() if n[0] != "_"}
            yield Document(text[:part] + text[2 * part :], metadata=metadata)


class WithLosingLoader(RagApp):
    """A pipeline with that loader."""

    @contextmanager
    def open_sources(self) -> Iterator[list[Source]]:
        with super().open_sources() as sources:
            yield [Source(s.kind, s.settings, LosingLoader(s.loader)) for s in sources]


class Bench:
    """Provokes failures over the documents of a folder, which is indexed once."""

    def __init__(self, documents: Path, folder: Path) -> None:
        self.folder = folder / "docs"
        shutil.copytree(documents, self.folder)
        self.sentences = read_sentences(self.folder)
        with self.open() as app:
            app.ingest()

    def open(self, kind: type[RagApp] = RagApp, **sections: Any) -> RagApp:
        return kind(load_config(make_config(self.folder, **sections), {}))

    def searched(self, app: RagApp, sentence: Sentence, filter: Any = None) -> bool:
        hits = app.search(sentence.question, filter=filter).hits
        return sentence.is_in(texts_of(hits, sentence.source))

    def by_change(
        self, stage: Stage, how: str, before: RagApp, after: RagApp, wanted: int
    ) -> Iterator[Provoked]:
        """Sentences that one pipeline finds and another does not."""

        def lost() -> Iterator[Provoked]:
            for sentence in self.sentences:
                if self.searched(before, sentence) and not self.searched(after, sentence):
                    yield Provoked(stage, how, explain(after, sentence.case()))

        with before, after:
            yield from islice(lost(), wanted)

    # -- the search ----------------------------------------------------------------------------

    def cut_lists(self) -> Iterator[Provoked]:
        """Too small a `k`, in dense search and in BM25; MMR and a least similarity."""
        for kind, stage in (("dense", "below_cut_dense"), ("bm25", "below_cut_bm25")):
            before = self.open(retriever={"kind": kind, "k": 30})
            after = self.open(retriever={"kind": kind, "k": 1})
            yield from self.by_change(stage, f"{kind}, k=1", before, after, 10)  # type: ignore[arg-type]
        plain = {"kind": "dense", "k": 4}
        mmr = {**plain, "mmr_lambda": 0.2}
        yield from self.by_change(
            "below_cut_dense", "MMR", self.open(retriever=plain), self.open(retriever=mmr), 3
        )
        near = {**plain, "min_similarity": 0.5}
        yield from self.by_change(
            "below_cut_dense",
            "similarity",
            self.open(retriever=plain),
            self.open(retriever=near),
            3,
        )

    def cut_both(self) -> Iterator[Provoked]:
        """Too small a `k` for both lists of hybrid search: the one where it stands better."""
        k = 2

        def lost() -> Iterator[Provoked]:
            for sentence in self.sentences:
                if self.searched(hybrid, sentence):
                    continue
                places = {name: self.rank(app, sentence) for name, app in apps.items()}
                best = min(places, key=lambda name: places[name])
                if k < places[best] < 100 and len(set(places.values())) == 2:
                    found = explain(hybrid, sentence.case())
                    yield Provoked(stages[best], "hybrid, k=2", found)

        stages: dict[str, Stage] = {"dense": "below_cut_dense", "bm25": "below_cut_bm25"}
        apps = {kind: self.open(retriever={"kind": kind, "k": 100}) for kind in stages}
        with self.open(retriever={"kind": "hybrid", "k": k}) as hybrid:
            yield from islice(lost(), 8)
        for app in apps.values():
            app.close()

    def rank(self, app: RagApp, sentence: Sentence) -> int:
        """Where its chunk is in a search; after all of them where it is in none."""
        hits = app.search(sentence.question).hits
        held = (sentence.is_in(texts_of([hit], sentence.source)) for hit in hits)
        return next((rank for rank, is_held in enumerate(held, 1) if is_held), len(hits) + 1)

    def fuse(self) -> Iterator[Provoked]:
        """BM25 alone finds it, and not the fusion of as many hits."""
        alone = self.open(retriever={"kind": "bm25", "k": 2})
        fused = self.open(retriever={"kind": "hybrid", "k": 2})
        yield from self.by_change("lost_in_fusion", "fusion", alone, fused, 10)

    def exclude(self) -> Iterator[Provoked]:
        """A filter that the document does not pass."""
        filters: list[Callable[[Sentence], Any]] = [
            lambda s: {"source": {"$ne": s.source}},
            lambda s: {"media_type": "text/html"},
            lambda s: {"$not": {"source": s.source}, "media_type": {"$exists": True}},
        ]
        with self.open() as app:
            found = (s for s in self.sentences if self.searched(app, s))
            for number, sentence in enumerate(islice(found, 10)):
                filter = filters[number % 3](sentence)
                assert not self.searched(app, sentence, filter)
                case = sentence.case(filter=filter)
                yield Provoked("excluded_by_filter", str(filter), explain(app, case))

    def rerank(self) -> Iterator[Provoked]:
        """A reranker that prefers others."""
        retriever = {"kind": "dense", "k": 12}
        before, after = self.open(retriever=retriever), self.open(WithShortest, retriever=retriever)
        yield from self.by_change("dropped_by_reranker", "shortest", before, after, 10)

    # -- the answer ----------------------------------------------------------------------------

    def cut_context(self) -> Iterator[Provoked]:
        """A prompt that holds the first chunks only."""
        chat = {"kind": "scripted"}

        def lost() -> Iterator[Provoked]:
            with self.answering(24_000, chat) as wide, self.answering(1500, chat) as narrow:
                for sentence in self.sentences:
                    full, cut = (app.ask(sentence.question).context for app in (wide, narrow))
                    texts = [texts_of(hits, sentence.source) for hits in (full, cut)]
                    if sentence.is_in(texts[0]) and not sentence.is_in(texts[1]):
                        found = explain(narrow, sentence.case())
                        yield Provoked("cut_by_context_budget", "1500 characters", found)

        yield from islice(lost(), 9)

    def ignore_context(self) -> Iterator[Provoked]:
        """Chat models that say something else, with the sentence before them."""
        replies = ("The documents do not answer this question.", "It is all quite different. [5]")
        for reply in replies:
            chat = {"kind": "scripted", "responses": [reply]}
            with self.answering(24_000, chat) as app:
                seen = (s for s in self.sentences if self.is_shown(app, s))
                for sentence in islice(seen, 5):
                    found = explain(app, sentence.case(), answer=True)
                    yield Provoked("unused_in_answer", reply, found)

    def answering(self, chars: int, chat: Any) -> RagApp:
        chain = {"kind": "qa", "context_chars": chars}
        return self.open(retriever={"kind": "dense", "k": 6}, chain=chain, chat_model=chat)

    def is_shown(self, app: RagApp, sentence: Sentence) -> bool:
        """Whether it is in the prompt, in another passage than the fifth, which is cited."""
        context = app.ask(sentence.question).context
        return sentence.is_in(texts_of(context[:4], sentence.source))


def texts_of(hits: Sequence[Hit], source: str) -> list[str]:
    return [hit.text for hit in hits if hit.source == source]


def load_over(folder: Path, **sections: Any) -> RagApp:
    return rag_app.load(make_config(folder, **sections))
