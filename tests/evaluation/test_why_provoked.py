"""A hundred failures made on purpose over real documents: the stage is named, and never a wrong one
with proof."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_app.errors import TruncationWarning
from rag_app.evaluation.why import explain
from tests.evaluation import provoked_documents as documents
from tests.evaluation.provoked_failures import Bench, Provoked

pytestmark = [pytest.mark.data, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bench(data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    tutorial = data("fastapi-docs") / "en" / "tutorial"
    return Bench(tutorial, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def provoked(
    bench: Bench, data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Provoked]:
    def folder() -> Path:
        return tmp_path_factory.mktemp("provoked")

    pdfs, types = data("pdf-samples"), data("file-types")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # that is what is provoked
        truncated = list(documents.truncate(bench, folder()))
    return [
        *documents.leave_out(bench, folder()),
        *documents.refuse(bench, folder(), pdfs, types),
        *documents.drop_parts(bench, folder()),
        *documents.drop_pages(folder(), pdfs),
        *documents.hide_in_html(bench, folder()),
        *documents.cut_through(bench, folder()),
        *truncated,
        *bench.exclude(),
        *bench.cut_lists(),
        *bench.cut_both(),
        *bench.fuse(),
        *bench.rerank(),
        *bench.cut_context(),
        *bench.ignore_context(),
    ]


def describe(each: Provoked) -> str:
    verdict = each.found.verdicts[0]
    told = f"{verdict.stage} ({verdict.proof or 'no proof'}; {verdict.note})"
    return f"{each.expected}, by {each.how}: {told} for {each.found.case}"


def test_there_are_a_hundred_of_eleven_stages(provoked: list[Provoked]) -> None:
    counts = Counter(each.expected for each in provoked)
    assert len(provoked) >= 100
    assert len(counts) == 11
    assert min(counts.values()) >= 6, counts


def test_the_stage_is_named(provoked: list[Provoked], record_property: Any) -> None:
    wrong = [each for each in provoked if each.found.stage != each.expected]
    right = Counter(e.expected for e in provoked if e.found.stage == e.expected)
    for stage, count in Counter(each.expected for each in provoked).items():
        record_property(stage, f"{right[stage]} of {count}")
    assert len(wrong) <= 0.05 * len(provoked), "\n".join(map(describe, wrong))


def test_no_wrong_stage_has_a_proof(provoked: list[Provoked]) -> None:
    wrong = [each for each in provoked if each.found.stage != each.expected]
    assert not [describe(each) for each in wrong if each.found.verdicts[0].proved]


def test_what_is_said_to_keep_it_does(bench: Bench, provoked: list[Provoked]) -> None:
    """`retriever.k=N keeps it`, held against what the search with that `k` returns."""
    kinds = {"below_cut_dense": "dense", "below_cut_bm25": "bm25", "lost_in_fusion": "hybrid"}
    checked = 0
    for each in provoked:
        if each.expected not in kinds or each.how in ("MMR", "similarity", "hybrid, k=2"):
            continue
        said = " ".join(each.found.verdicts[0].counterfactuals)
        wanted = re.search(r"retriever\.k=(\d+) keeps it", said)
        assert wanted, describe(each)
        (evidence,) = each.found.case.evidence
        with bench.open(retriever={"kind": kinds[each.expected], "k": int(wanted[1])}) as app:
            hits = app.search(each.found.case.question).hits
        texts = [" ".join(h.text.split()) for h in hits if h.source == evidence.source]
        assert any(evidence.quote and evidence.quote in text for text in texts)
        checked += 1
    assert checked >= 25


def test_what_is_said_to_mend_the_fusion_does(bench: Bench, provoked: list[Provoked]) -> None:
    """`retriever.weights={…} keeps it` and `retriever.rank_constant=…`, held against searches."""
    checked = 0
    for each in provoked:
        if each.expected != "lost_in_fusion":
            continue
        (evidence,) = each.found.case.evidence
        for said in each.found.verdicts[0].counterfactuals:
            wanted = re.fullmatch(r"retriever\.(weights|rank_constant)=(.*) keeps it", said)
            if wanted is None:
                continue
            option = {wanted[1]: yaml.safe_load(wanted[2])}
            with bench.open(retriever={"kind": "hybrid", "k": 2, **option}) as app:
                hits = app.search(each.found.case.question).hits
            texts = [" ".join(h.text.split()) for h in hits if h.source == evidence.source]
            assert any(evidence.quote and evidence.quote in text for text in texts), said
            checked += 1
    assert checked >= 10


def test_what_is_said_of_the_reranker_and_the_prompt_is_so(provoked: list[Provoked]) -> None:
    """The numbers that `reranker.k=` and `chain.context_chars=` name are the least that do."""
    for each in provoked:
        (said, *more) = each.found.verdicts[0].counterfactuals or [""]
        hits = [hit for hit in each.found.hits if hit.source == each.found.case.evidence[0].source]
        quote = each.found.case.evidence[0].quote or ""
        if each.expected == "cut_by_context_budget":
            chars = re.fullmatch(r"chain\.context_chars=(\d+) keeps it", said)
            at = next(n for n, h in enumerate(each.found.hits) if h in hits and quote in h.text)
            assert chars
            assert int(chars[1]) == sum(len(hit.text) for hit in each.found.hits[: at + 1])
        if each.expected == "dropped_by_reranker":
            ranks = each.found.verdicts[0].ranks
            assert said == f"reranker.k={ranks['reranker']} keeps it"
            assert more == [f"without the reranker it stays at rank {ranks['dense']}"]


def test_what_is_found_reached_the_prompt(bench: Bench) -> None:
    with bench.open() as app:
        found = [s for s in bench.sentences[:60] if bench.searched(app, s)]
        assert len(found) > 20
        stages = {explain(app, sentence.case()).stage for sentence in found}
    assert stages == {"reached"}
