"""The only wiring: a config's sections become parts, and the parts a pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from rag_app import registry
from rag_app.config import load_config
from rag_app.errors import UsageError
from rag_app.timing import collect, timed
from rag_app.types import Answer, SearchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from langchain_core.documents import BaseDocumentCompressor
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable
    from langchain_text_splitters import TextSplitter

    from rag_app.config import AppConfig
    from rag_app.index.index import Index
    from rag_app.store import Store
    from rag_app.types import Filter, IngestReport

GENERATION = 1


def load(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> RagApp:
    """Open the pipeline a YAML file (or the same as a dict) describes.

    Args:
        source: the config's path, or its content.
        overrides: values by dotted path that win over the file: `{"retriever.k": 12}`.

    Raises:
        ConfigError: with every problem of the config.
        UsageError: `source` is neither a path nor a mapping.
    """
    if not isinstance(source, (str, PathLike, Mapping)):
        raise UsageError("load", f"{source!r} is no config", "Give a path or a dict.")
    return RagApp(load_config(source, overrides or {}))


class RagApp:
    """One pipeline. Parts are built when first used; use it as a context manager, or call `close`.

    Not built from parts: `from chains import qa` builds a chain from any LangChain retriever.
    """

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release files and connections. Parts used before must not be used after."""
        self._closed = True
        if "index" in self.__dict__:
            self.__dict__.pop("index").close()
        for part in ("_first_stage", "retriever", "chain"):  # they hold what was closed
            self.__dict__.pop(part, None)

    # -- the parts, as LangChain objects --------------------------------------------------------

    @cached_property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        section = self.config.embeddings
        made: Embeddings = registry.build("embeddings", section.kind, section.options)
        return made

    @property
    def store(self) -> Store:
        """The vector store, opened on this index's collection."""
        return self.index.store

    @cached_property
    def splitter(self) -> TextSplitter:
        """Cuts documents into chunks, counting in tokens of the embedding model."""
        section = self.config.splitter
        made: TextSplitter = registry.build(
            "splitters", section.kind, section.options, tokenizer=self.embeddings
        )
        return made

    @cached_property
    def reranker(self) -> BaseDocumentCompressor | None:
        """Orders found chunks anew; None where the config names none."""
        section = self.config.reranker
        if section is None:
            return None
        made: BaseDocumentCompressor = registry.build("rerankers", section.kind, section.options)
        return made

    def open_store(self, collection: str) -> Store:
        """The config's vector store, opened on a collection of any name."""
        section = self.config.vector_store
        made: Store = registry.build(
            "vector_stores",
            section.kind,
            section.options,
            embeddings=self.embeddings,
            collection=collection,
        )
        return made

    @cached_property
    def index(self) -> Index:
        """The store together with the record of what it should hold."""
        if self._closed:
            raise UsageError("app", "it was closed", "Open it again: rag_app.load(...).")
        from rag_app.index.identity import describe_embeddings, describe_splitter
        from rag_app.index.index import Index
        from rag_app.index.manifest import Manifest

        config = self.config
        store = self.open_store(f"{config.name}_g{GENERATION}")
        folder = config.index.path / config.name if store.persistent else None
        identity = describe_embeddings(
            config.embeddings.kind, config.embeddings.options, self.embeddings
        )
        return Index(
            config.name,
            folder,
            store,
            self.embeddings,
            Manifest(None if folder is None else folder / "manifest.sqlite"),
            kind=config.vector_store.kind,
            identity=identity,
            splitter=describe_splitter(config.splitter.kind, config.splitter.options, identity),
        )

    @cached_property
    def retriever(self) -> BaseRetriever:
        """Finds chunks; with a reranker in the config, reranked."""
        if self.reranker is None:
            return self._first_stage
        from rag_app.retrieval import RerankingRetriever

        return RerankingRetriever(retriever=self._first_stage, compressor=self.reranker)

    @cached_property
    def chat_model(self) -> BaseChatModel | None:
        """The chat model; None where the config names none."""
        section = self.config.chat_model
        if section is None:
            return None
        made: BaseChatModel = registry.build("chat_models", section.kind, section.options)
        return made

    @cached_property
    def chain(self) -> Runnable[Any, dict[str, Any]]:
        """Question to answer, as a Runnable: design and contract in the guide's page on chains."""
        section = self.config.chain
        parts: dict[str, Callable[[], Any]] = {
            "retriever": lambda: self.retriever,
            "chat_model": lambda: self.chat_model,
            "embeddings": lambda: self.embeddings,
        }
        made: Runnable[Any, dict[str, Any]] = registry.build_chain(
            section.kind, section.options, parts
        )
        return made

    # -- what it does ---------------------------------------------------------------------------

    def ingest(
        self,
        *,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
        rebuild: bool = False,
    ) -> IngestReport:
        """Make the index hold what the sources hold now.

        Args:
            progress: called as (stage, done, total or None).
            rebuild: drop the index and embed everything again, as after a change of model.

        Raises:
            IdentityError, SourceError, IndexStateError, ModelError, StoreError: see `ingest`.
        """
        from rag_app.index.ingest import ingest
        from rag_app.index.read import Source

        sources = [
            Source(
                section.kind,
                json.dumps({"kind": section.kind, **section.options.identity()}, sort_keys=True),
                registry.build("loaders", section.kind, section.options),
            )
            for section in self.config.sources
        ]
        try:
            report = ingest(self.index, sources, self.splitter, progress=progress, rebuild=rebuild)
        finally:
            for source in sources:
                getattr(source.loader, "close", lambda: None)()
        refresh = getattr(self._first_stage, "refresh", None)
        if refresh is not None and report.chunks_total:
            if report.chunks_written or report.chunks_deleted:
                progress("indexing words", 0, None)
            refresh()
        return report

    def search(
        self, query: str, *, k: int | None = None, filter: Filter | None = None
    ) -> SearchResult:
        """The chunks that fit `query` best, best first.

        Args:
            query: what to look for.
            k: how many; the config's by default.
            filter: on metadata, Mongo-style: `{"year": {"$gte": 2024}}`.

        Raises:
            UsageError: an empty query. FilterError: a malformed filter.
            IndexStateError, IdentityError: the index cannot answer for this config.
        """
        from rag_app.retrieval import to_hit

        given: dict[str, Any] = {"k": k, "filter": filter}
        given = {name: value for name, value in given.items() if value is not None}
        with collect() as timings:
            found = self.retriever.invoke(_require_words(query), **given)
        return SearchResult(query, tuple(map(to_hit, found)), timings)

    def ask(
        self,
        question: str,
        *,
        chat_history: Sequence[Any] = (),
        filter: Filter | None = None,
    ) -> Answer:
        """Answer from the documents, with citations.

        Args:
            question: in any words.
            chat_history: earlier messages, `{"role", "content"}` or LangChain's; used by the
                `conversational` chain.
            filter: as in `search`.

        Raises:
            UsageError, IndexStateError, IdentityError: as in `search`. ModelError: the chat model.
        """
        from langchain_core.callbacks import get_usage_metadata_callback

        from rag_app.retrieval import to_hit

        with collect() as timings, get_usage_metadata_callback() as usage, timed("total"):
            made = self.chain.invoke(_chain_input(question, chat_history, filter))
        return Answer(
            question,
            made["answer"],
            tuple(made["citations"]),
            tuple(map(to_hit, made["context"])),
            timings,
            _sum_usage(usage.usage_metadata),
            made.get("dropped", 0),
        )

    def stream(
        self,
        question: str,
        *,
        chat_history: Sequence[Any] = (),
        filter: Filter | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The answer as it comes: pieces with `context`, then `answer` tokens, then `citations`.

        Adding the pieces up gives what the chain's `invoke` returns. Raises as `ask` does.
        """
        yield from self.chain.stream(_chain_input(question, chat_history, filter))

    def prompt(self, question: str, *, filter: Filter | None = None) -> Sequence[BaseMessage]:
        """The messages the chat model would get for `question`, exactly; the model is not called.

        Raises:
            UsageError: the chain has no prompt. Others as `search`.
        """
        kind = self.config.chain.kind
        write = getattr(registry.module("chains", kind), "write_prompt", None)
        if write is None:
            raise UsageError(
                "chain", f"{kind!r} calls no chat model, so there is no prompt", "Use chain: qa."
            )
        given: dict[str, Any] = {} if filter is None else {"filter": filter}
        found = self.retriever.invoke(_require_words(question), **given)
        messages: Sequence[BaseMessage] = write(question, found, self.config.chain.options)
        return messages

    @cached_property
    def _first_stage(self) -> BaseRetriever:
        section = self.config.retriever
        made: BaseRetriever = registry.build(
            "retrievers", section.kind, section.options, index=self.index
        )
        return made


def _require_words(query: str) -> str:
    if not isinstance(query, str):
        raise UsageError("question", f"{query!r} is no text", "Give a string.")
    if not query.strip():
        raise UsageError("question", "it is empty", "Write what you want to know.")
    return query


def _chain_input(
    question: str, chat_history: Sequence[Any], filter: Filter | None
) -> dict[str, Any]:
    given: dict[str, Any] = {"question": _require_words(question)}
    if chat_history:
        given["chat_history"] = list(chat_history)
    if filter is not None:
        given["filter"] = filter
    return given


def _sum_usage(by_model: Mapping[str, Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for usage in by_model.values():
        for name in ("input_tokens", "output_tokens", "total_tokens"):
            total[name] = total.get(name, 0) + int(usage.get(name, 0))
    return total
