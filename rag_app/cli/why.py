"""`rag-app why`"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from rag_app.cli.measuring import check_outputs
from rag_app.cli.options import config_options, filter_option, json_option, open_app
from rag_app.cli.output import print_json
from rag_app.cli.progress import show_progress
from rag_app.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_app.app import RagApp
    from rag_app.evaluation.results import Case, Cases, Evidence
    from rag_app.evaluation.verdicts import Explanation, Explanations, Verdict

WORST: Final = 20
"""Cases that a list for people names."""
_WIDTH: Final = 30
_FIT: Final = ("split_by_splitter", "truncated_by_embedder")
_PASSED: Final = {
    "not_in_corpus": "in the corpus",
    "lost_by_loader": "in the loaded text",
    "split_by_splitter": "not lost by the splitter",
    "truncated_by_embedder": "not lost by the embedder",
    "excluded_by_filter": "let in by the filter",
    "search": "found by the retriever",
    "dropped_by_reranker": "kept by the reranker",
    "cut_by_context_budget": "in the prompt",
    "unused_in_answer": "used by the answer",
}
"""What to say of a stage that let evidence through."""


@click.command()
@click.argument("question", required=False)
@config_options
@json_option
@filter_option
@click.option("--source", metavar="NAME", help="The document that answers QUESTION.")
@click.option("--quote", metavar="TEXT", help="The words of it that do; without, the whole of it.")
@click.option("--cases", metavar="PATH", help="Instead of QUESTION: a set of questions.")
@click.option("--split", metavar="NAME", help="Of a data set that has splits.")
@click.option("--id", "id", metavar="ID", help="Of --cases this one only.")
@click.option("--all", "everything", is_flag=True, help="Show cases that lost nothing, too.")
@click.option(
    "--answers", is_flag=True, help="Ask, too, to tell evidence that the answer passed over."
)
@click.option("--report", metavar="FILE", help="Write an HTML page, with every case of --cases.")
def command(
    question: str | None,
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    filter: Any,
    source: str | None,
    quote: str | None,
    cases: str | None,
    split: str | None,
    id: str | None,
    everything: bool,
    answers: bool,
    report: str | None,
) -> None:
    """Name the stage of the pipeline that lost the evidence of a question, with proof.

    Of one: rag-app why "How much is the deposit?" --source rental.md --quote "two monthly rents".
    Of a set, where the failures are: rag-app why --cases cases.jsonl.
    """
    check_outputs({"--report": report}, [("-c", config), ("--cases", cases)])
    chosen = _choose_cases(question, source, quote, cases, split, id)
    if filter is not None:
        asked = tuple(replace(case, filter=_join(case.filter, filter)) for case in chosen.cases)
        chosen = replace(chosen, cases=asked)
    single = question is not None or id is not None
    if single and report is not None:
        raise UsageError("--report", "it is written of a set", "Leave out QUESTION and --id.")
    with open_app(config, overrides) as app:
        if single:
            _tell_one(app, chosen.cases[0], answers, as_json)
        else:
            _tell_all(app, chosen, answers, everything, as_json, report)


def _choose_cases(
    question: str | None,
    source: str | None,
    quote: str | None,
    cases: str | None,
    split: str | None,
    id: str | None,
) -> Cases:
    from rag_app.evaluation.cases import read_cases
    from rag_app.evaluation.results import Cases
    from rag_app.evaluation.why import make_case

    if (question is None) == (cases is None):
        wrong = "neither a question nor --cases was given" if question is None else "both are given"
        raise UsageError("QUESTION", wrong, "Give a question, or --cases.")
    if question is not None:
        if source is None:
            wrong = "it has no evidence, so there is nothing to look for"
            raise UsageError("QUESTION", wrong, "Name it: --source NAME --quote TEXT.")
        if split is not None or id is not None:
            name = "--id" if split is None else "--split"
            raise UsageError(name, "it chooses among --cases", "Leave it out, or QUESTION.")
        return Cases((make_case(question, source, quote),), "the command line", "")
    if source is not None or quote is not None:
        raise UsageError("--source", "cases have evidence of their own", "Leave it out.")
    assert cases is not None
    read = read_cases(cases, split)
    if id is None:
        return read
    from rag_app.spelling import did_you_mean

    named = tuple(case for case in read.cases if case.id == id)
    if not named:
        ids = [case.id for case in read.cases]
        wrong = f"{id!r} is not one of the {len(ids)} cases of {cases}"
        raise UsageError("--id", wrong, did_you_mean(id, ids) or "Look the names up there.")
    return replace(read, cases=named)


def _join(own: Any, given: Any) -> Any:
    return given if own is None else {"$and": [dict(own), given]}


def _tell_one(app: RagApp, case: Case, answers: bool, as_json: bool) -> None:
    from rag_app.evaluation.storing import to_json
    from rag_app.evaluation.why import explain

    found = explain(app, case, answer=answers)
    if as_json:
        print_json(to_json(found))
        return
    stages = _list_stages(app, filtered=case.filter is not None, answers=answers)
    click.echo("\n".join(explanation_lines(found, stages)))


def _tell_all(
    app: RagApp, cases: Cases, answers: bool, everything: bool, as_json: bool, report: str | None
) -> None:
    from rag_app.evaluation.storing import to_json
    from rag_app.evaluation.why import explain_all

    with show_progress() as progress:
        found = explain_all(
            app, cases, answer=answers, only_failures=not everything, progress=progress
        )
    if as_json:
        print_json(to_json(found))
    else:
        click.echo("\n".join(waterfall_lines(found)))
    if report is not None:
        from rag_app.evaluation.reports import write

        write(found, report)


def _list_stages(app: RagApp, *, filtered: bool, answers: bool) -> dict[str, str]:
    """The stages that this pipeline has, each with what to say of it when it lost nothing."""
    absent = set()
    if not filtered:
        absent.add("excluded_by_filter")
    if app.config.reranker is None:
        absent.add("dropped_by_reranker")
    if not hasattr(app.config.chain.options, "context_chars"):
        absent.add("cut_by_context_budget")
    if not answers:
        absent.add("unused_in_answer")
    return {stage: words for stage, words in _PASSED.items() if stage not in absent}


def explanation_lines(found: Explanation, stages: Mapping[str, str]) -> list[str]:
    """The walk of each piece of evidence through the stages, for people."""
    lines = [found.case.question]
    for evidence, verdict in zip(found.case.evidence, found.verdicts, strict=True):
        lines += ["", _name_evidence(evidence), *_walk(verdict, stages)]
    if not found.verdicts:
        lines += ["", "it has no evidence, so none was lost"]
    if found.answer is not None:
        lines += ["", f"answer: {found.answer.answer}"]
    return lines


def _name_evidence(evidence: Evidence) -> str:
    if evidence.quote is not None:
        return f"{evidence.source}: “{_shorten(evidence.quote, 100)}”"
    if evidence.span is not None:
        return f"{evidence.source}: characters {evidence.span[0]:,}-{evidence.span[1]:,}"
    return f"{evidence.source}: all of it"


def _walk(verdict: Verdict, stages: Mapping[str, str]) -> list[str]:
    from rag_app.evaluation.verdicts import STAGES

    lost = verdict.stage
    below = ("below_cut_dense", "below_cut_bm25", "lost_in_fusion")
    at = "search" if lost in below else lost
    lines = []
    for stage, words in stages.items():
        if stage == at:
            break
        if lost == "excluded_by_filter" and stage in _FIT:
            continue  # what excludes a chunk does so whatever is in it
        lines.append(f"  ✓ {words}")
    mark = "=" if lost == "reached" else "✗"
    sure = "" if verdict.proved else " (the likeliest; nothing proves it)"
    said = "reached the prompt" if lost == "reached" else STAGES[lost]
    if lost == "reached" and "unused_in_answer" in stages:
        said = STAGES[lost]
    lines.append(f"  {mark} {said}{sure}")
    lines += [f"    {words}" for words in (verdict.proof, verdict.note) if words]
    ranks = ", ".join(
        f"{name} {'none' if rank is None else rank}" for name, rank in verdict.ranks.items()
    )
    if ranks:
        lines.append(f"    ranks: {ranks}")
    return lines + [f"    tried: {tried}" for tried in verdict.counterfactuals]


def waterfall_lines(found: Explanations) -> list[str]:
    """How many cases each stage lost, and the first of those it lost."""
    from rag_app.evaluation.verdicts import STAGES

    cases = sum(found.lost.values())
    lost = cases - found.lost.get("reached", 0)
    lines = [f"{found.name}: {lost:,} of {cases:,} cases lost evidence; {found.seconds:.1f} s", ""]
    most = max([1, *found.lost.values()])
    for stage, count in found.lost.items():
        bar = "█" * round(_WIDTH * count / most)
        lines.append(f"{STAGES[stage]:<32}{count:>6,}  {bar}".rstrip())
    shown = found.explanations[:WORST]
    for explanation in shown:
        lines += ["", *_short_lines(explanation)]
    if more := len(found.explanations) - len(shown):
        lines += ["", f"and {more:,} more; --json names all, --id ID walks through one"]
    return lines + [f"note: {note}" for note in found.notes]


def _short_lines(explanation: Explanation) -> list[str]:
    from rag_app.evaluation.verdicts import STAGES

    case = explanation.case
    lines = [f"{case.id}: {_shorten(case.question, 90)}"]
    for verdict in explanation.verdicts:
        if verdict.stage == explanation.stage:
            told = verdict.proof or f"{verdict.note} (the likeliest; nothing proves it)"
            lines.append(f"  {STAGES[verdict.stage]}: {told}")
            lines += [f"  tried: {tried}" for tried in verdict.counterfactuals[:2]]
            break
    return lines


def _shorten(text: str, most: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= most else f"{words[: most - 1]}…"
