"""A pipeline: what can be done with the parts that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_app import registry
from rag_app.config import load_config
from rag_app.errors import UsageError
from rag_app.timing import collect, timed
from rag_app.types import Answer, SearchResult
from rag_app.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from threading import Event

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from rag_app.errors import RagAppError
    from rag_app.evaluation.results import Case, Cases, Evaluation
    from rag_app.evaluation.run import WhenStale
    from rag_app.evaluation.verdicts import Explanation
    from rag_app.types import Filter, IngestReport, MigrationReport


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


class RagApp(Upkeep):
    """One pipeline. Parts are built when first used; use it as a context manager, or call `close`.

    Not built from parts: `from chains import qa` builds a chain from any LangChain retriever.
    """

    # -- what it does ---------------------------------------------------------------------------

    def ingest(
        self,
        *,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
        rebuild: bool = False,
        max_cost: float | None = None,
        allow_delete: bool = False,
        retry_quarantined: bool = False,
    ) -> IngestReport:
        """Make the index hold what the sources hold now.

        Args:
            progress: called as (stage, done, total or None).
            rebuild: fill a new generation and serve it in place of the old one, as after a change
                of model; vectors that the cache has are not computed again.
            max_cost: US dollars that embedding may cost; None for no limit.
            allow_delete: let any number of documents go that the sources no longer have; without
                it, many at once are taken for lost.
            retry_quarantined: read what was quarantined again, though it has not changed.

        Raises:
            BudgetError: embedding would cost more than `max_cost`.
            IdentityError, SourceError, IndexStateError, ModelError, StoreError: see `ingest`.
        """
        from rag_app.index.ingest import ingest

        with self.open_sources() as sources:
            report = ingest(
                self.index,
                sources,
                self.splitter,
                progress=progress,
                rebuild=rebuild,
                max_cost=max_cost,
                allow_delete=allow_delete,
                retry_quarantined=retry_quarantined,
                prepare=lambda: self._prepare(progress),
            )
        if report.chunks_total:
            self.refresh()
        return report

    def watch(
        self,
        *,
        report: Callable[[IngestReport], None] = lambda _: None,
        failed: Callable[[RagAppError], None] | None = None,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
        stop: Event | None = None,
        **given: Any,
    ) -> None:
        """Ingest, and again after each burst of changes in the folders of the sources.

        Args:
            report: called after each ingest.
            failed: called with the error of an ingest after the first, and watching goes on; left
                out, it is raised.
            progress: as in `ingest`.
            stop: ends it when it is set; an ingest that has begun is ended first.
            given: as `ingest` takes them; they hold for each.

        Raises:
            UsageError: a source is not `files`. SourceError: its folder cannot be watched.
            Others as `ingest`.
        """
        from threading import Event

        from rag_app.index.watch import find_watched, watch

        store = getattr(self.config.vector_store.options, "path", None)
        written = [self.config.index.path, *([store] if isinstance(store, PathLike) else [])]
        watch(
            find_watched(self.config.sources, [Path(place) for place in written]),
            lambda: self.ingest(progress=progress, **given),
            report=report,
            failed=failed,
            stop=stop or Event(),
        )

    def _prepare(self, progress: Callable[[str, int, int | None], None]) -> None:
        """Derive what searches need from what will be published next."""
        progress("indexing words", 0, None)
        self.refresh()

    def migrate(
        self,
        to: str | Path | Mapping[str, Any],
        *,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
        max_cost: float | None = None,
        cases: str | Path | None = None,
        accept_worse: bool = False,
    ) -> MigrationReport:
        """Change the embedding model, the splitter or the vector store to those of another config
        of the same index, with searches answered throughout.

        Apps that are open go on with what they search until it is removed or the new generation
        changes; an app opened by the old config afterwards is refused.

        Args:
            to: the config to change to; its `name` and `index` are this one's.
            progress: called as (stage, done, total).
            max_cost: US dollars that embedding may cost; None for no limit.
            cases: JSONL of questions with evidence; when less of it is found than before, nothing
                is switched.
            accept_worse: switch all the same.

        Raises:
            UsageError, IndexStateError, LockedError, BudgetError, ModelError, StoreError: nothing
                was switched; running it again resumes.
        """
        from rag_app.migration import run_migration

        with self._open_target(to) as target:
            return run_migration(
                target,
                RagApp,
                progress=progress,
                max_cost=max_cost,
                cases=None if cases is None else Path(cases),
                accept_worse=accept_worse,
            )

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

        from rag_app.answering import sum_usage
        from rag_app.retrieval import to_hit

        with collect() as timings, get_usage_metadata_callback() as usage, timed("total"):
            made = self.chain.invoke(_chain_input(question, chat_history, filter))
        return Answer(
            question,
            made["answer"],
            tuple(made["citations"]),
            tuple(map(to_hit, made["context"])),
            timings,
            sum_usage(usage.usage_metadata),
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

    def evaluate(
        self,
        cases: str | Path | Cases | Iterable[Mapping[str, Any]],
        *,
        split: str | None = None,
        ks: Sequence[int] = (1, 3, 5, 10),
        answers: bool = False,
        judge: BaseChatModel | None = None,
        filter: Filter | None = None,
        stale: WhenStale = "error",
        max_cost: float | None = None,
        resume: bool = True,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> Evaluation:
        """Measure the pipeline on questions whose evidence is known.

        Args:
            cases: a JSONL file, a data set in a form that `sources` take, or the cases themselves.
            split: of a data set that has splits.
            ks: the cutoffs of rankings.
            answers: ask, too; without it only the search is measured.
            judge: a chat model that judges answers.
            filter: that every question is asked with.
            stale: of cases whose evidence is not in the index: `error`, `skip` them or count a
                `miss`.
            max_cost: US dollars that measuring may cost; None for no limit.
            resume: go on where the same evaluation was interrupted.
            progress: called as (stage, done, total).

        Raises:
            UsageError: cases that are none, or whose evidence is not in the index. BudgetError:
                it costs more; what was measured is kept. Others as `ask`.
        """
        from rag_app.evaluation.cases import take_cases
        from rag_app.evaluation.run import Plan, evaluate

        plan = Plan(tuple(ks), answers, judge, filter, stale, max_cost)
        return evaluate(self, take_cases(cases, split), plan, resume=resume, progress=progress)

    def why(
        self,
        question: str | Case,
        *,
        source: str | None = None,
        quote: str | None = None,
        filter: Filter | None = None,
        answer: bool = False,
    ) -> Explanation:
        """Which stage lost the evidence of a question, with proof and what would have kept it.

        Args:
            question: a case; or a question, with the `source` of its evidence and the `quote` that
                stands there (all of the document without one), and the `filter` it is asked with.
            answer: ask, too, and see whether the answer uses the evidence.

        Raises:
            UsageError: no evidence is given. Others as `search` and `ask`.
        """
        from rag_app.evaluation.why import explain, make_case

        if isinstance(question, str):
            question = make_case(question, source, quote, filter)
        return explain(self, question, answer=answer)

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
