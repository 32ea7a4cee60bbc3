"""The search for the best config: what it finds and judges by, going on, and what it writes."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from filelock import FileLock
from langchain_core.language_models import FakeListChatModel

from rag_app.config import load_config
from rag_app.errors import ConfigError, IndexStateError, LockedError, UsageError
from rag_app.evaluation.cases import parse_cases
from rag_app.evaluation.grid import expand
from rag_app.evaluation.results import CaseResult, Evaluation, Located
from rag_app.evaluation.run import Plan
from rag_app.evaluation.search import Search
from rag_app.evaluation.storing import to_json
from rag_app.evaluation.tune import split_cases
from rag_app.evaluation.tune import tune as tune_by_plan
from rag_app.evaluation.tuning import write_best
from rag_app.evaluation.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_app.evaluation.grid import Variant
    from rag_app.evaluation.results import Cases
    from rag_app.evaluation.tuning import Tuning

BASE: dict[str, Any] = {
    "name": "tuned",
    "sources": [{"kind": "files", "path": "docs"}],
    "embeddings": "hashing",
}


def tune(source: Any, cases: Cases, measure: Any, plan: Plan | None = None, **given: Any) -> Tuning:
    """By the plan that measures the search alone, where none is given."""
    return tune_by_plan(source, cases, measure, plan or Plan(), **given)


def make_cases(answerable: int = 20, unanswerable: int = 4) -> Cases:
    evidence = [{"source": "a.md"}]
    with_it = [
        {"id": f"q{n}", "question": f"What is {n}?", "evidence": evidence}
        for n in range(answerable)
    ]
    without = [
        {"id": f"u{n}", "question": f"Who is {n}?", "evidence": []} for n in range(unanswerable)
    ]
    return parse_cases([*with_it, *without])


def give(score: Callable[[Variant, str], float], latency: float = 5.0) -> Measured:
    return Measured(score, lambda _: latency)


class Measured:
    """Scores as a function of config and question; counts what was measured."""

    def __init__(
        self, score: Callable[[Variant, str], float], latency: Callable[[Variant], float]
    ) -> None:
        self.score, self.latency = score, latency
        self.calls: list[tuple[str, int]] = []
        self.plans: list[Plan] = []
        self.fail_at = math.inf
        self.corpus: str | None = None

    def __call__(self, variant: Variant, cases: Cases, plan: Plan) -> Evaluation:
        self.plans.append(plan)
        if len(self.calls) >= self.fail_at:
            raise RuntimeError("stopped")
        self.calls.append((variant.name, len(cases.cases)))
        results = [
            CaseResult(
                case,
                (Located("a.md", ()),) * case.answerable,
                {"retriever": ()},
                dict.fromkeys(("ndcg@10", "exact_match"), self.score(variant, case.id))
                if case.answerable
                else {},
                {},
                {},
            )
            for case in cases.cases
        ]
        scores = [result.metrics["ndcg@10"] for result in results if result.metrics]
        p50 = self.latency(variant)
        return Evaluation(
            name=variant.name,
            config=variant.config.describe(),
            origin=cases.origin,
            digest=cases.digest,
            ks=(10,),
            results=tuple(results),
            metrics=dict.fromkeys(("ndcg@10", "false_answer_rate", "exact_match"), fmean(scores)),
            intervals={},
            stages={},
            latency_ms={"total": {"p50": p50, "p95": p50, "mean": p50}},
            tokens={},
            cost=0.0,
            index={"corpus": self.corpus},
            seconds=0.0,
        )


GRID = {
    **BASE,
    "splitter": {"kind": "recursive", "chunk_size": [64, 128, 256], "chunk_overlap": 8},
    "retriever": ["dense", {"kind": "hybrid", "k": [4, 8]}],
}


def score_of(variant: Variant, case: str) -> float:
    """Best at 128 with hybrid and k = 8; every question a little different."""
    size = {64: 0.2, 128: 0.5, 256: 0.4}[variant.config.splitter.options.model_dump()["chunk_size"]]
    kind = {"dense": 0.0, "hybrid": 0.1}[variant.config.retriever.kind]
    k = variant.config.retriever.options.model_dump()["k"] / 100
    return float(size + kind + k + (sum(map(ord, case)) % 7) / 1000)


# -- what is found --------------------------------------------------------------------------------


def test_of_a_small_space_every_config_is_tried_and_the_best_is_that_of_brute_force() -> None:
    cases = make_cases()
    found = tune(GRID, cases, give(score_of), trials=9)
    train, held = split_cases(cases, 0.5, 0)

    def mean(variant: Variant, part: Cases) -> float:
        return fmean(score_of(variant, c.id) for c in part.cases if c.answerable)

    variants = expand(GRID)
    brute = max(variants, key=lambda variant: mean(variant, train))
    assert found.complete
    assert len(found.trials) == len(variants) == 9
    assert found.trials[0].values == brute.values
    assert [t.score for t in found.trials] == sorted((t.score for t in found.trials), reverse=True)
    assert found.trials[0].score == pytest.approx(mean(brute, train))
    assert found.best.metrics["ndcg@10"] == pytest.approx(mean(brute, held))
    assert found.baseline.config["splitter"]["chunk_size"] == 64
    assert found.baseline.config["retriever"]["kind"] == "dense"
    gain = mean(brute, held) - mean(variants[0], held)
    assert found.paired.difference == pytest.approx(gain)
    assert found.paired.n == found.held_out == 10
    assert found.optimism == pytest.approx(mean(brute, train) - mean(brute, held))
    assert "beats" in found.verdict
    assert to_json(found)["trials"][0]["score"] == pytest.approx(mean(brute, train))


def test_held_out_questions_are_measured_with_the_best_and_the_first_config_alone() -> None:
    measured = give(score_of)
    tune(GRID, make_cases(), measured, trials=9, holdout=0.25)
    sizes = [size for _, size in measured.calls]
    assert sizes == [18] * 9 + [6] * 2


def test_a_space_without_end_is_searched_from_the_first_values_on() -> None:
    config = {
        **BASE,
        "retriever": {
            "kind": "hybrid",
            "k": {"from": 2, "to": 40},
            "rank_constant": {"from": 1, "to": 1000, "log": True},
        },
    }

    def score(variant: Variant, _: str) -> float:
        options = variant.config.retriever.options.model_dump()
        far = abs(options["k"] - 30) / 40 + abs(math.log10(options["rank_constant"]) - 2) / 3
        return float(1 - far / 2)

    found = tune(config, make_cases(), give(score), trials=40, seed=3)
    again = tune(config, make_cases(), give(score), trials=40, seed=3)
    assert not found.complete
    assert found.baseline.config["retriever"]["k"] == 2
    assert found.baseline.config["retriever"]["rank_constant"] == 1
    assert found.trials[0].score > 0.9
    assert found.trials == again.trials
    assert len(found.trials) <= 40


@pytest.mark.parametrize(
    ("medians", "order"),
    [({4: 90.0, 6: 20.0, 8: 50.0}, [6, 8, 4]), ({4: 21.0, 6: 20.0, 8: 22.0}, [4, 6, 8])],
    ids=["quicker", "noise"],
)
def test_of_equal_configs_one_that_is_clearly_quicker_is_the_best(
    medians: dict[int, float], order: list[int]
) -> None:
    config = {**BASE, "retriever": {"kind": "dense", "k": [4, 6, 8]}}
    measured = Measured(
        lambda *_: 0.5, lambda v: medians[v.config.retriever.options.model_dump()["k"]]
    )
    found = tune(config, make_cases(), measured)
    assert [trial.values["retriever.k"] for trial in found.trials] == order
    assert found.paired.difference == 0


def test_a_metric_of_which_less_is_better_is_searched_downwards() -> None:
    config = {**BASE, "retriever": {"kind": "dense", "k": [4, 6, 8]}}

    class Both(Measured):
        def __call__(self, variant: Variant, cases: Cases, plan: Plan) -> Evaluation:
            made = super().__call__(variant, cases, plan)
            for result in made.results:
                if result.metrics:
                    result.metrics["false_answer_rate"] = result.metrics["ndcg@10"]  # type: ignore[index]
            return made

    measured = Both(score_of, lambda _: 1.0)
    measured.score = lambda v, _: v.config.retriever.options.model_dump()["k"] / 10
    found = tune(config, make_cases(), measured, metric="false_answer_rate")
    assert found.trials[0].values["retriever.k"] == 4


def test_the_first_values_may_be_the_best() -> None:
    config = {**BASE, "retriever": {"kind": "dense", "k": [8, 4]}}
    measured = give(lambda v, _: v.config.retriever.options.model_dump()["k"] / 10)
    found = tune(config, make_cases(), measured)
    assert found.paired.difference == 0
    assert "first value" in found.verdict
    assert len(measured.calls) == 3


def test_values_that_do_not_go_together_are_told_and_the_search_goes_on() -> None:
    sizes = {"chunk_size": [300, 64], "chunk_overlap": {"from": 0, "to": 250}}
    config = {**BASE, "splitter": {"kind": "recursive", **sizes}}
    measured = give(lambda *_: 0.5)
    found = tune(config, make_cases(), measured, trials=30)
    (note,) = (note for note in found.notes if "combinations" in note)
    invalid = int(note.split()[0])
    assert invalid > 0
    assert len(found.trials) <= 30 - invalid
    for trial in found.trials:
        assert trial.values["splitter.chunk_overlap"] < trial.values["splitter.chunk_size"]


def test_values_that_do_not_go_together_are_refused_where_every_config_is_tried() -> None:
    sizes = {"chunk_size": [300, 64], "chunk_overlap": [0, 100]}
    measured = give(lambda *_: 0.5)
    with pytest.raises(ConfigError, match="100 must be smaller than chunk_size, which is 64"):
        tune({**BASE, "splitter": {"kind": "recursive", **sizes}}, make_cases(), measured)
    assert measured.calls == []


def test_a_candidate_that_is_wrong_by_itself_is_told_before_anything_is_measured() -> None:
    config = {
        **BASE,
        "retriever": ["dense", "hybird"],
        "splitter": {"kind": "recursive", "chunk_size": {"from": 64, "to": 2000}},
    }
    measured = give(lambda *_: 0.5)
    with pytest.raises(ConfigError, match="Did you mean 'hybrid'") as caught:
        tune(config, make_cases(), measured, trials=5)
    assert len(caught.value.problems) == 1
    assert measured.calls == []


def test_optunas_own_messages_are_quiet_and_its_settings_as_they_were(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = optuna.logging.get_verbosity()
    tune(GRID, make_cases(), give(score_of))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


# -- which questions ------------------------------------------------------------------------------


def test_the_parts_share_the_kinds_of_cases_and_no_case() -> None:
    cases = make_cases(30, 10)
    train, held = split_cases(cases, 0.3, 1)
    assert {c.id for c in train.cases} | {c.id for c in held.cases} == {c.id for c in cases.cases}
    assert not {c.id for c in train.cases} & {c.id for c in held.cases}
    assert sum(case.answerable for case in held.cases) == 9
    assert sum(not case.answerable for case in held.cases) == 3
    assert train.digest != held.digest


def test_the_parts_depend_on_the_seed_and_not_on_the_order() -> None:
    cases = make_cases(30, 10)
    turned = parse_cases(
        {"id": c.id, "question": c.question, "evidence": [{"source": "a.md"}] * c.answerable}
        for c in reversed(cases.cases)
    )
    ids = [
        {c.id for c in split_cases(given, 0.5, seed)[1].cases}
        for given, seed in ((cases, 0), (turned, 0), (cases, 1))
    ]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


# -- going on -------------------------------------------------------------------------------------

ENDLESS = {**BASE, "retriever": {"kind": "hybrid", "rank_constant": {"from": 0.5, "to": 90.0}}}


def score_constant(variant: Variant, case: str) -> float:
    far = abs(variant.config.retriever.options.model_dump()["rank_constant"] - 33) / 90
    return float(1 - far - len(case) / 100)


@pytest.mark.parametrize("config", [GRID, ENDLESS], ids=["grid", "endless"])
def test_an_interrupted_search_goes_on_and_ends_as_if_it_was_not(
    config: dict[str, Any], tmp_path: Path
) -> None:
    storage = tmp_path / "index" / "tune.sqlite"
    score = score_of if config is GRID else score_constant
    whole = tune(config, make_cases(), give(score), trials=15)
    stopped = give(score)
    stopped.fail_at = 5
    with pytest.raises(RuntimeError):
        tune(config, make_cases(), stopped, trials=15, storage=storage)
    rest = give(score)
    found = tune(config, make_cases(), rest, trials=15, storage=storage)
    assert found.resumed == 5
    assert found.trials == whole.trials
    assert found.config == whole.config
    assert len(rest.calls) == len(whole.trials) - 5 + 1 + 2


def test_trials_of_other_documents_do_not_count(tmp_path: Path) -> None:
    storage = tmp_path / "tune.sqlite"
    tune(GRID, make_cases(), give(score_of), storage=storage)
    other = give(lambda variant, case: 1 - score_of(variant, case))
    found = tune(GRID, make_cases(), other, storage=storage)
    assert found.resumed == 0
    assert len(found.trials) == 9
    assert any("do not count" in note for note in found.notes)
    assert found.trials == tune(GRID, make_cases(), other).trials


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "false_answer_rate"},
        {"seed": 7},
        {"holdout": 0.4},
        {"overrides": {"embeddings": {"kind": "hashing", "dimension": 512}}},
    ],
    ids=["metric", "seed", "holdout", "config"],
)
def test_trials_of_another_search_do_not_count(change: dict[str, Any], tmp_path: Path) -> None:
    storage = tmp_path / "tune.sqlite"
    tune(GRID, make_cases(), give(score_of), storage=storage)
    if "metric" in change:
        with pytest.raises(UsageError):  # its cases have no score of that metric
            tune(GRID, make_cases(), give(score_of), storage=storage, **change)
        return
    assert tune(GRID, make_cases(), give(score_of), storage=storage, **change).resumed == 0


@pytest.mark.parametrize(
    ("before", "plan"),
    [
        (Plan(), Plan(ks=(10,))),
        (Plan(), Plan(answers=True)),
        (Plan(), Plan(filter={"lang": "en"})),
        (Plan(), Plan(stale="skip")),
        (Plan(answers=True), Plan(answers=True, judge=FakeListChatModel(responses=["yes"]))),
    ],
    ids=["ks", "answers", "filter", "stale", "judge"],
)
def test_trials_by_another_plan_do_not_count(before: Plan, plan: Plan, tmp_path: Path) -> None:
    storage, config = tmp_path / "tune.sqlite", {**BASE, "retriever": ["bm25", "dense"]}
    tune(config, make_cases(), give(lambda *_: 0.5), before, storage=storage)
    other = give(lambda *_: 0.5)
    assert tune(config, make_cases(), other, plan, storage=storage).resumed == 0
    assert [id(each) for each in other.plans] == [id(plan)] * 3
    assert tune(config, make_cases(), other, plan, storage=storage).resumed == 2
    assert tune(config, make_cases(), other, before, storage=storage).resumed == 2


SCRIPTED = """
sources: [{kind: files, path: docs}]
embeddings: hashing
chat_model:
  - {kind: scripted, responses: ["first"]}
  - {kind: scripted, responses: ["${SECOND}"]}
  - {kind: scripted, responses: ["third"]}
"""


def test_a_trial_whose_own_config_says_something_else_by_now_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.yaml").write_text(SCRIPTED)

    def score(variant: Variant, _: str) -> float:
        model = variant.config.chat_model
        assert model is not None
        return {"first": 0.5, "bad": 0.1, "good": 0.9, "third": 0.4}[
            model.options.model_dump()["responses"][0]
        ]

    def search(second: str) -> tuple[Tuning, int]:
        monkeypatch.setenv("SECOND", second)
        measured = give(score)
        found = tune(tmp_path / "x.yaml", make_cases(), measured, storage=tmp_path / "t.sqlite")
        return found, len(measured.calls)

    found, calls = search("bad")
    assert ([t.score for t in found.trials], calls) == ([0.5, 0.4, 0.1], 3 + 1)
    found, calls = search("good")
    assert [t.score for t in found.trials] == [0.9, 0.5, 0.4]
    assert (found.resumed, calls) == (2, 1 + 1 + 2)  # the check, the second, those held out
    assert found.baseline.metrics["ndcg@10"] == pytest.approx(0.5)
    assert any("1 earlier trials do not count" in note for note in found.notes)
    assert search("good")[0].resumed == 3


def test_trials_on_other_texts_do_not_count_though_the_first_scores_the_same(
    tmp_path: Path,
) -> None:
    storage = tmp_path / "tune.sqlite"
    tune(GRID, make_cases(), give(score_of), storage=storage)
    other = give(score_of)
    other.corpus = "of other texts"
    found = tune(GRID, make_cases(), other, storage=storage)
    assert (found.resumed, len(other.calls)) == (0, 9 + 2)
    assert any("documents read otherwise" in note for note in found.notes)


@pytest.mark.parametrize("config", [GRID, ENDLESS], ids=["grid", "endless"])
@pytest.mark.parametrize("place", [0, 3])
def test_a_search_that_was_killed_after_it_put_a_config_in_the_queue_goes_on(
    config: dict[str, Any], place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, score = tmp_path / "tune.sqlite", score_of if config is GRID else score_constant
    whole = tune(config, make_cases(), give(score), trials=12)
    own, seen = Search._try, iter(range(100))

    def killed(*args: Any) -> None:
        if next(seen) == place:
            raise KeyboardInterrupt
        own(*args)

    with monkeypatch.context() as patched:
        patched.setattr(Search, "_try", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(config, make_cases(), give(score), trials=12, storage=storage)
    found = tune(config, make_cases(), give(score), trials=12, storage=storage)
    assert found.resumed == place
    assert found.trials == whole.trials
    assert found.config == whole.config


@pytest.mark.parametrize("attr", ["score", "name"])
def test_a_search_that_was_killed_while_it_kept_a_score_goes_on(
    attr: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "tune.sqlite"
    whole = tune(GRID, make_cases(), give(score_of))
    own = optuna.Trial.set_user_attr

    def killed(self: optuna.Trial, key: str, value: Any) -> None:
        own(self, key, value)
        if (self.number, key) == (2, attr):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "set_user_attr", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(GRID, make_cases(), give(score_of), storage=storage)
    found = tune(GRID, make_cases(), give(score_of), storage=storage)
    assert found.resumed == {"score": 2, "name": 3}[attr]
    assert found.trials == whole.trials


def test_a_file_that_cannot_be_written_any_more_is_told(tmp_path: Path) -> None:
    storage = tmp_path / "tune.sqlite"

    def score(variant: Variant, case: str) -> float:
        with sqlite3.connect(storage) as database:
            database.execute("DROP TABLE IF EXISTS trial_user_attributes")
        database.close()
        return score_of(variant, case)

    with pytest.raises(IndexStateError, match="cannot be written"):
        tune(GRID, make_cases(), give(score), storage=storage)


def test_a_searched_k_that_the_metric_does_not_depend_on_is_noted() -> None:
    config = {**BASE, "retriever": {"kind": "bm25", "k": [4, 8]}}
    words = "retriever.k decides nothing that ndcg@10 measures"
    noted = tune(config, make_cases(), give(lambda *_: 0.5)).notes
    assert sum(words in note for note in noted) == 1
    found = tune(
        config,
        make_cases(),
        give(lambda *_: 0.5),
        Plan(answers=True),
        metric="exact_match",
    )
    assert not any("decides nothing" in note for note in found.notes)


def test_one_process_searches_at_a_time(tmp_path: Path) -> None:
    storage = tmp_path / "tune.sqlite"
    with FileLock(f"{storage}.lock"), pytest.raises(LockedError, match="another process"):
        tune(GRID, make_cases(), give(score_of), storage=storage)


def test_a_file_that_holds_no_trials_is_refused(tmp_path: Path) -> None:
    storage = tmp_path / "tune.sqlite"
    storage.write_text("not a database, and long enough to be read as one" * 100)
    with pytest.raises(IndexStateError, match="Remove it"):
        tune(GRID, make_cases(), give(score_of), storage=storage)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        (BASE, {}, "no search dimension"),
        (GRID, {"trials": 0}, "at least 1"),
        (GRID, {"holdout": 1.0}, "between 0 and 1"),
        (GRID, {"holdout": 0.01}, "would be held out"),
        (GRID, {"metric": "ndcg@1"}, "Did you mean 'ndcg@10'"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    config: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        tune(config, make_cases(), give(score_of), **arguments)


# -- what is written ------------------------------------------------------------------------------

FILE = """\
# a comment of mine
name: handbook
sources:
  - {kind: files, path: docs, include: ["**/*.md", "*.txt"]}
splitter: {kind: recursive, chunk_size: [64, 128, 256], separators: ["\\n\\n", "#: ", "null"]}
embeddings: {kind: hashing}
vector_store: {kind: chroma, path: "${STORE_FOLDER}/here"}
retriever: [dense, {kind: hybrid, k: [4, 8], weights: {dense: 1.5}}]
chat_model: {kind: openai, model: gpt-x, api_key: "${THE_KEY}", base_url: "http://localhost:1/v1"}
index: {path: kept, cache: true}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Tuning]:
    monkeypatch.setenv("THE_KEY", "do-not-show-me")
    monkeypatch.setenv("STORE_FOLDER", "vectors")
    file = tmp_path / "config" / "handbook.yaml"
    file.parent.mkdir()
    file.write_text(FILE)
    return file, tune(file, make_cases(), give(score_of), overrides=["retriever.fetch_k=30"])


@pytest.mark.parametrize("target", ["config/best.yaml", "best.yaml", "config/deep/er/best.yaml"])
def test_the_best_config_is_valid_and_keeps_every_other_value(
    target: str, written: tuple[Path, Tuning], tmp_path: Path
) -> None:
    file, found = written
    best = tmp_path / target
    best.parent.mkdir(parents=True, exist_ok=True)
    write_best(found, best)
    chosen = ["splitter.chunk_size=128", "retriever.fetch_k=30", "retriever.k=8"]
    retriever = "retriever={kind: hybrid, weights: {dense: 1.5}}"
    expected = load_config(file, [retriever, *chosen])
    loaded = load_config(best)
    for section in ("splitter", "embeddings", "retriever", "chat_model", "name"):
        assert getattr(loaded, section) == getattr(expected, section), section
    for mine, theirs in (
        (loaded.sources[0].options, expected.sources[0].options),
        (loaded.vector_store.options, expected.vector_store.options),
        (loaded.index, expected.index),
    ):
        one, two = (each.model_dump() for each in (mine, theirs))
        assert one.pop("path").resolve() == two.pop("path").resolve()
        assert one == two


def test_comments_tell_why_and_no_secret_is_written(
    written: tuple[Path, Tuning], tmp_path: Path
) -> None:
    _, found = written
    best = tmp_path / "best.yaml"
    write_best(found, best)
    text = best.read_text()
    by_size = {
        size: max(t.score for t in found.trials if t.values["splitter.chunk_size"] == size)
        for size in (64, 128, 256)
    }
    figures = f"{by_size[128]:.3f} against {by_size[64]:.3f}, {by_size[256]:.3f}"
    assert f"chunk_size: 128  # best of 128, 64, 256 on 10 questions: {figures}" in text
    assert "retriever:  # best of hybrid, dense on 10 questions" in text
    assert 'api_key: "${THE_KEY}"' in text
    assert "do-not-show-me" not in text
    assert "do-not-show-me" not in repr(to_json(found))
    assert f"{found.best.metrics['ndcg@10']:.3f}" in text.splitlines()[1]


def test_a_secret_given_in_python_becomes_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"kind": "openai", "model": "gpt-x", "api_key": "sk-do-not-show-me-0123456789"}
    found = tune({**GRID, "chat_model": model}, make_cases(), give(score_of))
    write_best(found, tmp_path / "best.yaml")
    assert "do-not-show-me" not in (tmp_path / "best.yaml").read_text()
    monkeypatch.setenv("CHAT_MODEL_API_KEY", "a-value")
    loaded = load_config(tmp_path / "best.yaml").chat_model
    assert loaded is not None
    assert loaded.options.model_dump()["api_key"].get_secret_value() == "a-value"


def test_a_folder_that_is_not_there_is_told(written: tuple[Path, Tuning], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_best(written[1], tmp_path / "nowhere" / "best.yaml")


# -- with real pipelines --------------------------------------------------------------------------


def test_a_real_space_is_searched_and_the_best_is_that_of_brute_force(tmp_path: Path) -> None:
    words = ["amber", "basalt", "cobalt", "dune", "ember", "fjord", "glacier", "harbour"]
    (tmp_path / "docs").mkdir()
    lines = []
    for place, word in enumerate(words):
        filler = " ".join(f"{words[(place + n) % 8]} common filler words here." for n in range(12))
        text = f"{filler}\n\nThe {word} festival begins in week {place + 3}.\n\n{filler}"
        (tmp_path / "docs" / f"{word}.md").write_text(text)
        quote = f"The {word} festival begins in week {place + 3}."
        lines.append(
            {
                "id": word,
                "question": f"When does the {word} festival begin?",
                "evidence": [{"source": f"{word}.md", "quote": quote}],
            }
        )
    config = tmp_path / "small.yaml"
    config.write_text(
        "name: small\nsources: [{kind: files, path: docs}]\nembeddings: hashing\n"
        "splitter: {kind: recursive, chunk_size: [400, 32], chunk_overlap: 0}\n"
        "retriever: {kind: [bm25, dense], k: 1}\nindex: {path: kept}\n"
    )
    cases = parse_cases(lines)
    plan = Plan()
    with Workbench() as bench:
        found = tune(config, cases, bench.measure, plan, metric="char_precision@1")
        train, _ = split_cases(cases, 0.5, 0)
        scores = {
            variant.name: bench.measure(variant, train, plan).metrics["char_precision@1"]
            for variant in expand(config)
        }
        bench.finish()
    assert len(set(scores.values())) > 1
    assert found.trials[0].score == pytest.approx(max(scores.values()))
    assert sorted(t.score for t in found.trials) == pytest.approx(sorted(scores.values()))
    assert found.trials[0].latency_ms > 0
    write_best(found, tmp_path / "best.yaml")
    assert load_config(tmp_path / "best.yaml").name == "small"
