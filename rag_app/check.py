"""Does each part of a pipeline work? Proved by using it once, not by looking at its options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_app import registry
from rag_app.config.warn import find_config_card
from rag_app.errors import RagAppError, SourceError, StoreError
from rag_app.model_report import describe_model, warn_of_language

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rag_app.app import RagApp
    from rag_app.config import Section

_MUCH_TEXT = 100_000
_SENTENCE = "A sentence to see whether this part works."


@dataclass(frozen=True, slots=True)
class Check:
    """One part and whether it worked; `remedy` is what to do when it did not, or not well."""

    part: str
    ok: bool
    detail: str
    remedy: str = ""


def check(app: RagApp) -> Iterator[Check]:
    """Use each part once, cheaply: read a document, embed a text, keep a chunk, ask for a token.

    The index's own content is not touched: the chunk goes to a collection of its own.
    """
    config = app.config
    read: list[str] = []
    for place, section in enumerate(config.sources):
        yield _try(f"sources[{place}] ({section.kind})", partial(_read_source, section, read))
    embeddings = _try(f"embeddings ({config.embeddings.kind})", lambda: _embed(app))
    yield replace(embeddings, remedy=embeddings.remedy or _warn_of_language(app, read))
    yield _after(embeddings, f"splitter ({config.splitter.kind})", _split, app)
    store = _after(embeddings, f"vector_store ({config.vector_store.kind})", _keep_a_chunk, app)
    yield store
    retriever = _after(store, f"retriever ({config.retriever.kind})", _build_retriever, app)
    yield retriever
    if config.reranker is not None:
        yield _try(f"reranker ({config.reranker.kind})", lambda: _rerank(app))
    if config.chat_model is not None:
        chat_model = _try(f"chat_model ({config.chat_model.kind})", lambda: _ask_a_token(app))
        yield chat_model
        retriever = retriever if chat_model.ok else chat_model
    yield _after(retriever, f"chain ({config.chain.kind})", _build_chain, app)


def _after(needed: Check, part: str, prove: Callable[[RagApp], str], app: RagApp) -> Check:
    """Try a part that stands on another; when that failed, saying so once is enough."""
    if needed.ok:
        return _try(part, lambda: prove(app))
    return Check(part, False, f"not tried, because {needed.part.partition(' ')[0]} failed")


def _try(part: str, prove: Callable[[], str]) -> Check:
    try:
        return Check(part, True, prove())
    except RagAppError as error:
        where = "" if error.where.partition(".")[0] in part else f"{error.where}: "
        return Check(part, False, f"{where}{error.wrong}", error.remedy)
    except Exception as error:  # a library's own words are better than none
        return Check(part, False, f"{type(error).__name__}: {error}", "")


def _read_source(section: Section, read: list[str]) -> str:
    """Read the first document there is, and add its text to `read`.

    One broken file is a note, for the others may be whole.
    """
    loader = registry.build("loaders", section.kind, section.options)
    try:
        origins = getattr(loader, "origins", None)
        if origins is None:
            document = next(iter(loader.lazy_load()))
            read.append(document.page_content)
            return f"read: {document.metadata.get('source')}"
        first = next(origin for origin in origins() if origin.excluded is None)
        try:
            read += [getattr(each, "page_content", "") for each in islice(first.load(), 1)]
        except SourceError as error:
            if section.kind != "files":
                raise
            return f"listed, but {first.source}: {error.wrong}"
        return f"read: {first.source}"
    finally:
        getattr(loader, "close", lambda: None)()


def _split(app: RagApp) -> str:
    return f"{len(app.splitter.split_text(_SENTENCE))} chunk from a sentence"


def _embed(app: RagApp) -> str:
    return describe_model(app.embeddings, len(app.embeddings.embed_query(_SENTENCE)))


def _warn_of_language(app: RagApp, read: list[str]) -> str:
    """Whether the embedding model is one for the documents' language; of what was read of each."""
    if app.config.retriever.kind == "bm25":
        return ""  # it compares no vectors
    card = find_config_card(app.config.embeddings)
    told = (warn_of_language(card, text[:_MUCH_TEXT]) for text in read if card is not None)
    return next(filter(None, told), "")


def _keep_a_chunk(app: RagApp) -> str:
    from rag_app.store import Row

    collection = f"{app.config.name}_check"
    store = app.open_store(collection)
    vector = np.asarray(app.embeddings.embed_query(_SENTENCE), dtype=np.float32)
    try:
        store.upsert([Row("check", _SENTENCE, vector, {"source": "check", "start": 0, "end": 1})])
        found = store.search(vector, 1)
        if not found or found[0][0].id != "check" or found[0][1] < 0.999:
            raise StoreError(collection, f"a chunk written was read as {found!r}", "")
        store.delete(["check"])
        if store.count():
            raise StoreError(collection, "a deleted chunk is still there", "")
    finally:
        store.drop()
        store.close()
    return "a chunk written, found and deleted"


def _build_retriever(app: RagApp) -> str:
    _ = app.retriever
    if not app.index.manifest.generations():
        return "built; the index is empty, run: rag-app ingest"
    count = app.index.read(lambda view: view.count())
    return f"ready; {count} chunks in the index"


def _rerank(app: RagApp) -> str:
    from langchain_core.documents import Document

    reranker: Any = app.reranker
    ordered = reranker.compress_documents([Document(_SENTENCE, id="check")], _SENTENCE)
    return f"{len(ordered)} chunk scored"


def _ask_a_token(app: RagApp) -> str:
    from rag_app.model_errors import chat_model_errors

    model: Any = app.chat_model
    with chat_model_errors(model):
        reply = model.invoke("Answer with the word: ready")
    return f"answered in {len(reply.text)} characters"


def _build_chain(app: RagApp) -> str:
    _ = app.chain
    return "built"
