"""Drafts cases from an index with a chat model, for a person to confirm.

A draft is no evidence of anything until somebody has read it: models ask what the passage says in
its own words, and cannot know what else the documents hold. So each is tagged `draft`, and an
evaluation says how many of its cases are.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rag_app.errors import BudgetError, ModelError, UsageError
from rag_app.evaluation import draft_writing as writing
from rag_app.evaluation.cases import parse_lines, read_cases, to_line
from rag_app.evaluation.projection import read_chunks, read_texts
from rag_app.evaluation.results import Case, Evidence
from rag_app.evaluation.run import DRAFT
from rag_app.money import show_dollars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.language_models import BaseChatModel

    from rag_app.app import RagApp
    from rag_app.types import Span

    Progress: TypeAlias = Callable[[str, int, int | None], None]

COPIED: Final = "copied"
UNANSWERABLE: Final = "unanswerable-draft"

LEAST_WORDS: Final = 12
"""A passage of fewer says too little to be asked about."""

SEARCHED: Final = 5
"""Hits that are looked at for an answer to a question that should have none."""

_BEGUN: Final = b'{"id": "draft-'
"""How each draft's line begins."""

HOPELESS: Final = 20
"""Drafts that may fail in a row before it is given up."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """What drafting did.

    Attributes:
        cases: in the file now; `written`, of them in this run.
        copied: of those written, whose question has the words of its quote.
        unanswerable: of those written, that the documents seem not to answer.
        dropped: drafts that were not written, by the reason.
        tokens: of the chat model; `cost` in US dollars, None where no price is known.
        exhausted: whether there were no more passages to ask about.
    """

    path: str
    cases: int
    written: int
    copied: int
    unanswerable: int
    dropped: dict[str, int]
    tokens: dict[str, int]
    cost: float | None
    exhausted: bool


def draft_cases(
    app: RagApp,
    path: str | Path,
    n: int,
    *,
    seed: int = 0,
    unanswerable: float = 0.0,
    max_cost: float | None = None,
    progress: Progress = lambda *_: None,
) -> Drafted:
    """Write drafts to a JSONL file until it holds `n` cases; stopped, the same call goes on.

    Passages are chunks of the index, drawn so that every document has one asked about before any
    has two. Each case is on disk before the next is asked for.

    Args:
        path: may be there; its cases are kept.
        seed: of the draw.
        unanswerable: share of questions that the documents should not answer.
        max_cost: US dollars that the chat model may cost; None for no limit.
        progress: called as (stage, done, total).

    Raises:
        UsageError: no chat model in the config, no price for `max_cost`, or a file of other lines.
        BudgetError: it would cost more; what was drafted is kept.
        ModelError: the chat model fails, or nothing it writes can be used.
        IndexStateError, IdentityError: the index cannot answer for this config.
    """
    if app.chat_model is None:
        remedy = "Name one, as chat_model: {kind: openai, model: …}; guide: chat_models."
        raise UsageError("chat_model", "the config names none, and one writes the drafts", remedy)
    meter = _Meter(_find_price(app, max_cost), max_cost)
    target = _check_name(path)
    _mend_end(target)
    held = list(read_cases(target).cases) if target.exists() and target.stat().st_size else []
    run = _Run(app, app.chat_model, meter, [writing.find_words(c.question) for c in held])
    written = run.fill(target, held, n, seed, unanswerable, progress)
    total = len(held) + len(written)
    progress("drafting cases", total, n)
    tags = Counter(tag for case in written for tag in case.tags)
    return Drafted(
        path=str(path),
        cases=total,
        written=len(written),
        copied=tags[COPIED],
        unanswerable=tags[UNANSWERABLE],
        dropped=dict(run.dropped),
        tokens=dict(meter.tokens),
        cost=meter.cost,
        exhausted=total < n,
    )


@dataclass
class _Run:
    """Drafts one case after another; `asked` are the questions so far, by their words."""

    app: RagApp
    model: BaseChatModel
    meter: _Meter
    asked: list[frozenset[str]]
    dropped: Counter[str] = field(default_factory=Counter)

    def fill(
        self,
        target: Path,
        held: list[Case],
        n: int,
        seed: int,
        unanswerable: float,
        progress: Progress,
    ) -> list[Case]:
        """Draft, and append each case to the file, until there are `n`; what was written."""
        written: list[Case] = []
        failed, start = 0, _find_start(held, seed)
        for place, (source, span) in enumerate(_draw(self.app, seed)):
            count = len(held) + len(written)
            if count >= n:
                break
            if place < start:
                continue
            progress("drafting cases", count, n)
            wanted = int((count + 1) * unanswerable) > int(count * unanswerable)
            case = self.draft(f"draft-{seed}-{place}", source, span, unanswerable=wanted)
            failed = 0 if case else failed + 1
            if case:
                _append(target, case)
                written.append(case)
            elif failed >= HOPELESS:
                raise _give_up(self.dropped)
        return written

    def draft(self, id: str, source: str, span: Span, *, unanswerable: bool) -> Case | None:
        """A case about a passage; None when it had to be dropped, which is counted."""
        passage = read_texts(self.app, [source])[source][slice(*span)]
        if len(passage.split()) < LEAST_WORDS:
            self.dropped["the passage is too short to be asked about"] += 1
            return None
        try:
            with self.meter.counted():
                if unanswerable:
                    return self._draft_unanswerable(id, source, passage)
                return self._draft_answerable(id, source, passage)
        except writing.Refused as fault:
            self.dropped[str(fault)] += 1
            return None

    def _draft_answerable(self, id: str, source: str, passage: str) -> Case:
        made: writing.Written = writing.ask_twice(
            self.model,
            writing.write_answerable(source, passage),
            lambda reply: writing.read_answerable(reply, passage),
        )
        self._require_new(made.question)
        copied = writing.is_copied(made.question, made.quote)
        tags = (DRAFT, COPIED) if copied else (DRAFT,)
        return Case(id, made.question, (Evidence(source, made.quote),), (made.answer,), tags)

    def _draft_unanswerable(self, id: str, source: str, passage: str) -> Case:
        messages = writing.write_unanswerable(source, passage)
        made: writing.Written = writing.ask_twice(self.model, messages, writing.read_unanswerable)
        hits = self.app.search(made.question, k=SEARCHED).hits
        answered = writing.write_answered(made.question, hits)
        if hits and writing.ask_twice(self.model, answered, writing.read_answered):
            raise writing.Refused("the search finds an answer to what should have none")
        self._require_new(made.question)
        return Case(id, made.question, (), (), (DRAFT, UNANSWERABLE))

    def _require_new(self, question: str) -> None:
        words = writing.find_words(question)
        if any(writing.are_alike(words, other) for other in self.asked):
            raise writing.Refused("the question was asked already, in nearly the same words")
        self.asked.append(words)


@dataclass
class _Meter:
    """Counts what the chat model reads and writes, and stops before it costs too much."""

    price: Any
    max_cost: float | None
    tokens: Counter[str] = field(default_factory=Counter)

    @property
    def cost(self) -> float | None:
        """US dollars so far; None where no price is known."""
        if not any(self.tokens.values()):
            return 0.0
        if self.price is None:
            return None
        read, wrote = self.tokens["input_tokens"], self.tokens["output_tokens"]
        return float(read * self.price.input + wrote * self.price.output) / 1e6

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is asked inside; refused when the limit is reached."""
        from langchain_core.callbacks import get_usage_metadata_callback

        if self.max_cost is not None and (self.cost or 0.0) >= self.max_cost:
            wrong = f"{show_dollars(self.cost or 0.0)} is spent of {show_dollars(self.max_cost)}"
            raise BudgetError("max_cost", wrong, "Raise it, and run again: drafts are kept.")
        with get_usage_metadata_callback() as usage:
            try:
                yield
            finally:
                for each in usage.usage_metadata.values():
                    self.tokens["input_tokens"] += each["input_tokens"]
                    self.tokens["output_tokens"] += each["output_tokens"]
                    self.tokens["total_tokens"] += each["total_tokens"]


def _find_price(app: RagApp, max_cost: float | None) -> Any:
    section = app.config.chat_model
    price = None if section is None else getattr(section.options, "price", None)
    if price is None and max_cost is not None:
        wrong = "what the chat model costs is not known, so no limit can be kept"
        raise UsageError("--max-cost", wrong, "Set chat_model.price, or leave it out.")
    return price


def _draw(app: RagApp, seed: int) -> Iterator[tuple[str, Span]]:
    """Every chunk of the index, the first of each document before the second of any."""
    chance = random.Random(seed)
    sources = app.index.read(lambda view: sorted(app.index.journal(view.generation).contents()))
    chance.shuffle(sources)
    by_source = {source: [span for _, span in found] for source, found in _chunks(app, sources)}
    for chunks in by_source.values():
        chance.shuffle(chunks)
    for depth in range(max(map(len, by_source.values()), default=0)):
        for source, chunks in by_source.items():
            if depth < len(chunks):
                yield source, chunks[depth]


def _chunks(app: RagApp, sources: list[str]) -> Iterator[tuple[str, list[tuple[str, Span]]]]:
    found = read_chunks(app, sources)
    return ((source, found.get(source, [])) for source in sources)


def _find_start(held: list[Case], seed: int) -> int:
    """The place in the draw after that of the last draft of this seed."""
    pattern = re.compile(rf"draft-{seed}-(\d+)")
    places = [int(found[1]) for case in held if (found := pattern.fullmatch(case.id))]
    return max(places, default=-1) + 1


def _check_name(path: str | Path) -> Path:
    """The file of drafts, by the ending of which it is known for one of cases."""
    target = Path(path)
    if target.suffix != ".jsonl":
        wrong = f"{target} is no .jsonl file, as cases are written in"
        raise UsageError("--out", wrong, "Name one, as drafts.jsonl.")
    return target


def _mend_end(path: Path) -> None:
    """Take away a draft that was cut short when a run was killed; end a last line that is whole.

    Raises:
        UsageError: a line is no case, so that the file is somebody's: it is left as it is.
    """
    try:
        data = path.read_bytes()
        if not data or data.endswith(b"\n"):
            return
        kept, _, last = data.rpartition(b"\n")
        held = list(parse_lines(kept, path))
        if held and not _is_json(last) and (last.startswith(_BEGUN) or _BEGUN.startswith(last)):
            os.truncate(path, len(kept) + 1)
            return
        list(parse_lines(data, path))
        with path.open("ab") as file:
            file.write(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _append(path: Path, case: Case) -> None:
    line = json.dumps(to_line(case), ensure_ascii=False) + "\n"
    try:
        with path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    remedy = "Name a file in a folder that is there."
    return UsageError("--out", f"{path} cannot be written: {error.strerror}", remedy)


def _give_up(dropped: Counter[str]) -> ModelError:
    reason = dropped.most_common(1)[0][0]
    wrong = f"{HOPELESS} drafts in a row could not be used, most because {reason}"
    return ModelError("chat_model", wrong, "Choose another chat model; the drafts are kept.")
