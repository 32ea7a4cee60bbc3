"""Results made by hand, for tests of what shows them: every figure in them is known."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Any

from rag_app.evaluation.metrics import measure_ranking
from rag_app.evaluation.results import (
    Ablation,
    AnswerResult,
    Case,
    CaseResult,
    Comparison,
    Evaluation,
    Evidence,
    Located,
    Pair,
    Paired,
    Retrieved,
)
from rag_app.evaluation.verdicts import STAGES, Explanation, Explanations, Verdict
from rag_app.types import Citation, Hit, Rank

KS = (1, 3, 5, 10)
SIZES = (300, 900, 450)
RERANKERS = ("none", "cross_encoder")
WORDS = re.findall(
    r"\w+",
    """
    index chunk vector store journal commit published generation identity filter metadata
    retriever hybrid fused rank score cosine similarity model window token splitter heading
    paragraph evidence citation answer question budget latency percentile config section
    """,
)


def make_document(number: int, *, length: int = 9000, hostile: str = "") -> str:
    """A text of made-up sentences, the same every time."""
    chance = random.Random(number)
    parts = [f"\U0001f600{hostile} "]  # one character here, two in JavaScript
    while sum(map(len, parts)) < length:
        said = [chance.choice(WORDS) for _ in range(chance.randint(6, 16))]
        parts.append(f"{' '.join(said).capitalize()}. ")
    return "".join(parts)[:length]


def make_case(number: int, documents: Sequence[str], *, hostile: str = "") -> Case:
    """A question whose evidence is a span of document `number % len(documents)`."""
    at = number % len(documents)
    start = (number * 613) % (len(documents[at]) - 200)
    span = (start, start + 140)
    quote = documents[at][span[0] : span[1]]
    first, second = WORDS[number % len(WORDS)], WORDS[number * 7 % 31]
    question = f"What does the {first} of the {second} do{hostile}?"
    written = f"cases.jsonl:{number + 1}"
    tags = ("factoid" if number % 3 else "how-to",)
    if number % 11 == 10:
        return Case(f"case-{number}", question, tags=("unanswerable",), place=written)
    evidence = (Evidence(f"guide/part-{at}.md", quote, span),)
    return Case(f"case-{number}", question, evidence, (quote[:60],), tags, place=written)


def make_hit(documents: Sequence[str], at: int, place: int, size: int, score: float) -> Hit:
    """Chunk `place` of document `at`, which is cut into pieces of `size` characters."""
    start = place * size
    text = documents[at][start : start + size]
    return Hit(
        id=f"{at}-{size}-{place}",
        source=f"guide/part-{at}.md",
        text=text,
        start=start,
        end=start + len(text),
        similarity=score,
        score=score,
        ranks={"dense": Rank(1 + place % 20, score), "bm25": Rank(1 + place % 7, 7.5)},
        metadata={"title": f"Part {at}"},
    )


def make_ranking(
    case: Case, documents: Sequence[str], size: int, rank: int | None, chance: random.Random, k: int
) -> tuple[Retrieved, ...]:
    """`k` chunks, the one with the evidence at `rank`, from 1; None for not found."""
    wanted = None
    if case.evidence and rank:
        at = int(case.evidence[0].source.split("-")[1].split(".")[0])
        assert case.evidence[0].span
        wanted = (at, case.evidence[0].span[0] // size)
    found, seen = [], {wanted}
    while len(found) < k:
        here = (chance.randrange(len(documents)), chance.randrange(len(documents[0]) // size))
        if wanted and len(found) + 1 == rank:
            here = wanted
        elif here in seen:
            continue
        seen.add(here)
        hit = make_hit(documents, *here, size, 0.92 - 0.04 * len(found))
        held = (0,) if wanted and here == wanted else ()
        found.append(Retrieved(hit, held))
    return tuple(found)


def make_evaluation(
    name: str = "hybrid",
    n: int = 5,
    *,
    skill: float = 0.7,
    size: int = 900,
    reranker: bool = True,
    answers: bool = True,
    latency: float = 40.0,
    cost: float | None = 0.02,
    hostile: str = "",
    seed: int = 0,
    documents: int = 8,
) -> Evaluation:
    """An evaluation of `n` cases; the better `skill`, in [0, 1], the higher the evidence stands."""
    texts = [make_document(number, hostile=hostile) for number in range(documents)]
    results = []
    for number in range(n):
        chance = random.Random(f"{name}{seed}{number}")
        case = make_case(number, texts, hostile=hostile if number == 0 else "")
        results.append(_make_result(case, texts, chance, skill, size, reranker, answers, latency))
    names = list(dict.fromkeys(name for result in results for name in result.metrics))
    scores = {m: [r.metrics[m] for r in results if m in r.metrics] for m in names}
    means = {m: math.fsum(values) / len(values) for m, values in scores.items()}
    stages = list(results[0].rankings)
    totals = sorted(result.timings_ms["total"] for result in results)
    return Evaluation(
        name=name,
        config={"name": "guide", "splitter": {"kind": "markdown", "chunk_size": size}},
        origin="cases.jsonl",
        digest=f"digest-{n}-{hostile}",
        ks=KS,
        results=tuple(results),
        metrics=means,
        intervals={m: (max(0.0, mean - 0.1), min(1.0, mean + 0.1)) for m, mean in means.items()},
        stages={s: {"ndcg@10": means["ndcg@10"] - 0.05 * (s == "retriever")} for s in stages},
        latency_ms={
            stage: {
                "p50": totals[n // 2] * share,
                "p95": totals[-1] * share,
                "mean": latency * share,
            }
            for stage, share in (("embed", 0.3), ("search", 0.2), ("total", 1.0))
        },
        tokens={"input_tokens": 1200 * n, "output_tokens": 90 * n} if answers else {},
        cost=cost,
        index={"documents": documents, "chunks": documents * 10, "revision": 3},
        seconds=n * latency / 1000,
        notes=("2 cases were left out: their evidence is not in the index.",),
    )


def _make_result(
    case: Case,
    texts: Sequence[str],
    chance: random.Random,
    skill: float,
    size: int,
    reranker: bool,
    answers: bool,
    latency: float,
) -> CaseResult:
    first = 1 + int(chance.expovariate(0.9 * skill + 0.08)) if case.evidence else None
    first = first if first and first <= 10 else None
    last = max(1, first + chance.choice((-3, -2, -1, 0, 0, 0, 1))) if first else None
    rankings = {"retriever": make_ranking(case, texts, size, first, chance, 10)}
    if reranker:
        rankings["reranker"] = make_ranking(case, texts, size, last, chance, 10)
    located = tuple(
        Located(each.source, (each.span,) if each.span else (), 1) for each in case.evidence
    )
    ranking = list(rankings.values())[-1]
    metrics: dict[str, float] = {}
    if located:
        metrics = dict(measure_ranking([each.evidence for each in ranking], [1], KS))
    answer = None
    if answers:
        top = ranking[0].hit
        right = 1.0 if ranking[0].evidence else 0.0
        measured = {"token_f1": 0.2 + 0.7 * right, "citation_precision": right} if located else {}
        cited = Citation(1, top.source, top.start, top.start + 60, top.text[:60])
        said = f"{top.text[:120]} [1]" if located else "The documents do not say."
        usage = {"input_tokens": 1200, "output_tokens": 90}
        cites = (cited,) if located else ()
        answer = AnswerResult(said, cites, not located, measured, usage)
        metrics |= measured
    took = latency * (0.6 + chance.random())
    return CaseResult(
        case=case,
        located=located,
        rankings=rankings,
        metrics=metrics,
        stages={stage: metrics for stage in rankings} if located else {},
        timings_ms={"embed": took * 0.3, "search": took * 0.2, "total": took},
        answer=answer,
    )


def make_paired(a: Evaluation, b: Evaluation, metric: str) -> Paired:
    """What the two differ by; p is made up: 0.01 for differences over 0.1."""
    first, second = a.scores(metric), b.scores(metric)
    values = [second[id] - first[id] for id in first]
    mean = math.fsum(values) / len(values)
    p = 0.01 if abs(mean) > 0.1 else 0.4
    counts = (sum(v > 0 for v in values), sum(v == 0 for v in values), sum(v < 0 for v in values))
    interval = (mean - 0.1, mean + 0.1)
    return Paired(len(values), mean, interval, p, p, mean / 0.4, *counts, 420, 0.09)


def make_comparison(count: int = 4, n: int = 20, *, hostile: str = "", **how: Any) -> Comparison:
    """Configs of falling skill, and their pairs."""
    made = [
        make_evaluation(
            f"splitter.chunk_size={SIZES[i % 3]}, reranker={RERANKERS[i % 2]} {i}{hostile}",
            n,
            skill=0.95 - 0.8 * i / count,
            size=SIZES[i % 3],
            reranker=bool(i % 2),
            latency=12.0 * (1 + (i * 5) % 7) * (3 if i % 2 else 1),
            cost=None if i == 2 else 0.001 * n * (1 + i % 4),
            hostile=hostile,
            **how,
        )
        for i in range(count)
    ]
    made.sort(key=lambda each: -each.metrics["ndcg@10"])
    names = [each.name for each in made]
    pairs = []
    for i, a in enumerate(made):
        for b in made[i + 1 :]:
            paired = make_paired(a, b, "ndcg@10")
            verdict = (
                f"{b.name} is worse than {a.name}: a difference."
                if paired.distinguishable
                else f"{a.name} and {b.name} cannot be told apart; 420 questions would be needed."
            )
            pairs.append(Pair(a.name, b.name, "ndcg@10", paired, verdict))
    tied = [names[0], *(p.b for p in pairs if p.a == names[0] and not p.paired.distinguishable)]
    ablation = Ablation(
        "reranker",
        "cross_encoder",
        names[-1],
        names[0],
        make_paired(made[-1], made[0], "ndcg@10"),
        31.5,
        None,
        "The reranker pays: ndcg@10 rises, for 32 ms a question.",
    )
    return Comparison(
        metric="ndcg@10",
        evaluations=tuple(made),
        settings={
            each.name: {
                "splitter.chunk_size": each.config["splitter"]["chunk_size"],
                "reranker.kind": "cross_encoder" if "cross" in each.name else "none",
            }
            for each in made
        },
        pairs=tuple(pairs),
        tied=tuple(tied),
        front=tuple(names[:2]),
        ablations=(ablation,),
        embedded=800,
        cached=2400,
        seconds=61.0,
        notes=("All were measured on the same cases.",),
    )


def make_explanations(n: int = 12, *, hostile: str = "") -> Explanations:
    """Every stage loses a case in turn."""
    texts = [make_document(number, hostile=hostile) for number in range(4)]
    stages = list(STAGES)
    explained = []
    for number in range(n):
        case = make_case(number * 3 + (number * 3 % 11 == 10), texts, hostile=hostile)
        stage = stages[number * 5 % len(stages)]
        ranking = make_ranking(case, texts, 900, None, random.Random(number), 5)
        proof = "" if number % 4 == 1 else f"Its best chunk is at rank {number + 9}; the cut is 8."
        verdict = Verdict(
            0,
            stage,
            "" if stage == "reached" else proof,
            ("retriever.k=20 keeps it", "BM25 alone finds it at rank 2"),
            {"dense": number + 9, "bm25": None, "fused": number + 4},
            (f"0-900-{number}",),
            "" if proof else f"What points at it in case {number}.",
        )
        explained.append(Explanation(case, stage, (verdict,), tuple(e.hit for e in ranking)))
    lost = {stage: sum(each.stage == stage for each in explained) for stage in stages}
    return Explanations("hybrid", {"name": "guide"}, "cases.jsonl", tuple(explained), lost, 2.5)
