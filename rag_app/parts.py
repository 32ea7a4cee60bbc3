"""The only wiring: a config's sections become parts, each when it is first used."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rag_app import registry
from rag_app.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.documents import BaseDocumentCompressor
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable
    from langchain_text_splitters import TextSplitter

    from rag_app.config import AppConfig
    from rag_app.index.cache import EmbeddingCache
    from rag_app.index.index import Index
    from rag_app.index.manifest import Generation
    from rag_app.index.read import Source
    from rag_app.store import Store


class Parts:
    """What a config names, as LangChain objects. `close` frees what was opened."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self._closed = False
        self._borrowed: set[str] = set()
        self._temporary = ExitStack()

    def close(self) -> None:
        """Release files and connections. Parts used before must not be used after."""
        self._closed = True
        index = self.__dict__.pop("index", None)
        if index is not None and "index" not in self._borrowed:
            index.close()
        self._temporary.close()
        for part in ("_first_stage", "retriever", "chain"):  # they hold what was closed
            self.__dict__.pop(part, None)

    def borrow(self, name: str, part: Any) -> None:
        """Use a part that another pipeline opened, and closes, in place of one of its own.

        Args:
            name: `embeddings`, `index`, `reranker` or `chat_model`; not used here before.
        """
        self.__dict__[name] = part
        self._borrowed.add(name)

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
        asks = registry.needs("rerankers", section.kind, "chat_model")
        parts = {"chat_model": self.chat_model} if asks else {}
        made: BaseDocumentCompressor = registry.build(
            "rerankers", section.kind, section.options, **parts
        )
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
        first = f"{config.name}_g1"
        store = self.open_store(first)
        folder = config.index.path / config.name
        if not store.persistent:
            folder = Path(self._temporary.enter_context(TemporaryDirectory(prefix="rag-app-")))
        identity = describe_embeddings(
            config.embeddings.kind, config.embeddings.options, self.embeddings
        )
        secret = config.index.manifest_url
        url = None if secret is None else secret.get_secret_value()
        made = Index(
            config.name,
            folder,
            Manifest.open(folder / "manifest.sqlite", config.name, url),
            in_memory=not store.persistent,
            open_store=self.open_store,
            open_recorded=self._open_recorded,
            embeddings=self.embeddings,
            kind=config.vector_store.kind,
            identity=identity,
            splitter=describe_splitter(config.splitter.kind, config.splitter.options, identity),
            record=json.dumps(config.record(), sort_keys=True),
            cache=self.open_cache(identity, persistent=store.persistent),
        )
        made.adopt(first, store)
        return made

    def _open_recorded(self, generation: Generation) -> Store:
        """The vector store of a generation that another config wrote, on its collection."""
        from rag_app.config import load_config
        from rag_app.config.model import HIDDEN

        record = json.loads(generation.config)["config"]
        here = self.config
        if HIDDEN in json.dumps(record["vector_store"]):
            wrong = (
                f"generation {generation.number} is in another vector store, whose address or key "
                "was written out in its config, so it is not on record"
            )
            remedy = "Write it as ${VARIABLE} in the config that made it, and run: rag-app ingest"
            raise UsageError("vector_store", wrong, remedy)
        config = load_config(record, folder=here.index.path, dotenv=here.folder / ".env")
        section = config.vector_store
        made: Store = registry.build(
            "vector_stores",
            section.kind,
            section.options,
            embeddings=self.embeddings,
            collection=generation.collection,
        )
        return made

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
        return self.build_chain(lambda: self.retriever)

    def build_chain(self, retriever: Callable[[], BaseRetriever]) -> Runnable[Any, dict[str, Any]]:
        """The config's chain over another retriever, made only where the chain takes one."""
        section = self.config.chain
        parts: dict[str, Callable[[], Any]] = {
            "retriever": retriever,
            "chat_model": lambda: self.chat_model,
            "embeddings": lambda: self.embeddings,
        }
        made: Runnable[Any, dict[str, Any]] = registry.build_chain(
            section.kind, section.options, parts
        )
        return made

    @contextmanager
    def open_sources(self) -> Iterator[list[Source]]:
        """The config's sources, each with its loader; closed at the end."""
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
            yield sources
        finally:
            for source in sources:
                getattr(source.loader, "close", lambda: None)()

    def open_cache(self, identity: str, *, persistent: bool = True) -> EmbeddingCache | None:
        """The embedding cache for an identity; None where there is none. Where nobody asked, there
        is none for what is quicker made than looked up, nor for a store that is not persistent."""
        from rag_app.index import cache

        options = self.config.index
        if options.cache is False:
            return None
        if options.cache_url is not None:
            return cache.open_url(options.cache_url.get_secret_value(), identity)
        if options.cache or (persistent and getattr(self.embeddings, "worth_caching", True)):
            return cache.open_file(options.path / "embeddings.sqlite", identity)
        return None

    @cached_property
    def _first_stage(self) -> BaseRetriever:
        section = self.config.retriever
        made: BaseRetriever = registry.build(
            "retrievers", section.kind, section.options, index=self.index
        )
        return made
