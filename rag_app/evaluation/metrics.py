"""How good a ranking is, exactly as `trec_eval` measures rankings of documents.

A ranking is a list of units, best first, each with the evidence it holds. Where the evidence is
whole documents, a unit is a document and every figure here is that of `trec_eval`. Where it is
spans, a unit is a chunk: one may hold several pieces of evidence, several may hold the same one,
and evidence counts where it is held first.

    recall@k      share of the evidence that the first k units hold together
    precision@k   share of k, also where fewer were found, whose unit holds any evidence
    hit_rate@k    1 if any of the first k units holds evidence
    mrr@k         1 / rank of the first unit that holds evidence; 0 if it is below k
    map@k         average precision: at every unit that holds evidence for the first time, the
                  share of units so far that did, once for each piece; over all the evidence
    ndcg@k        gains are the relevance of the evidence held for the first time, discounted by
                  log2(rank + 1), over those of the ideal ranking: alpha-nDCG with alpha = 1

Sources: trec_eval 9 (https://github.com/usnistgov/trec_eval: P, recall, success, recip_rank,
map_cut, ndcg_cut) and, for units that share evidence, Clarke et al., "Novelty and Diversity in
Information Retrieval Evaluation", SIGIR 2008, with its greedy ideal.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np

from rag_app.errors import UsageError
from rag_app.evaluation.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rag_app.evaluation.results import CaseResult, Evaluation

_NOT_IN_A_NAME: Final = re.compile(r"[\s%]")


def measure_ranking(
    found: Sequence[Collection[int]],
    relevance: Sequence[int],
    ks: Sequence[int],
    units: Iterable[Collection[int]] | None = None,
) -> dict[str, float]:
    """Each metric of the module's list at each cutoff, as `ndcg@10`; all of them in [0, 1].

    Args:
        found: the ranking, best first: for each unit the numbers of the evidence it holds, from 0.
        relevance: of each piece of evidence, from 1. Empty: nothing can be found, and there are no
            metrics.
        ks: the cutoffs, from 1.
        units: the evidence of each unit there is, in any order, for the ideal ranking; those that
            hold none may be left out. None: a unit of its own for each piece, as for documents.

    The ideal is never below what the ranking reaches, so that nDCG is at most 1 where the greedy
    choice is not the best.

    Raises:
        UsageError: a cutoff below 1, or none.
    """
    depth = check_cutoffs(ks)
    if not relevance:
        return {}
    if units is None:
        best = sorted(relevance, reverse=True)[:depth]
    else:
        best = _find_ideal_gains(units, relevance, depth)
    ranks = np.arange(1, depth + 1)
    fresh = _take_new(found[:depth])
    pieces = _pad([len(new) for new in fresh], depth)
    holds = _pad([bool(unit) for unit in found[:depth]], depth)
    gained = _discount([_weigh(new, relevance) for new in fresh], ranks)
    ideal = np.maximum(gained, _discount(best, ranks))
    newly = np.cumsum(pieces > 0) / ranks
    curves = {
        "recall": np.cumsum(pieces) / len(relevance),
        "precision": np.cumsum(holds) / ranks,
        "hit_rate": np.maximum.accumulate(holds),
        "mrr": np.maximum.accumulate(holds / ranks),
        "ndcg": np.divide(gained, ideal, out=np.zeros(depth), where=ideal > 0),
        "map": np.cumsum(pieces * newly) / len(relevance),
    }
    return {f"{name}@{k}": float(curve[k - 1]) for name, curve in curves.items() for k in ks}


def check_cutoffs(ks: Sequence[int]) -> int:
    """The deepest of the cutoffs.

    Raises:
        UsageError: a cutoff below 1, or none.
    """
    if not ks or min(ks) < 1:
        raise UsageError("ks", f"{list(ks)} are no cutoffs", "Give whole numbers from 1.")
    return max(ks)


def rank_documents(sources: Iterable[str]) -> list[str]:
    """The documents of a ranking of chunks: each where its first chunk stands."""
    return list(dict.fromkeys(sources))


def order_run(scores: Mapping[str, float]) -> list[str]:
    """Documents by score as `trec_eval` orders them, whatever order they are given in.

    Scores are compared as 32-bit floats, higher first; of equal ones the name that is later in
    the order of its UTF-8 bytes is first.

    Raises:
        UsageError: a score that is not a number.
    """
    with np.errstate(over="ignore"):  # beyond the range all are alike, there as here
        compared = {name: float(np.float32(score)) for name, score in scores.items()}
    for name, score in compared.items():
        if np.isnan(score):
            raise UsageError("scores", f"that of {name!r} is not a number", "Give each a number.")
    return sorted(compared, key=lambda name: (compared[name], name.encode()), reverse=True)


def measure_run(
    scores: Mapping[str, float], judgments: Mapping[str, int], ks: Sequence[int]
) -> dict[str, float]:
    """A scored run of documents for one question, as `trec_eval` measures it.

    Args:
        scores: of each document found; `order_run` orders them.
        judgments: of documents by name; below 1 is not relevant. Without any that is relevant
            there are no metrics.
        ks: the cutoffs, from 1.

    Raises:
        UsageError: a score that is not a number, a cutoff below 1, or no cutoff.
    """
    relevant = {name: grade for name, grade in judgments.items() if grade >= 1}
    numbers = {name: number for number, name in enumerate(relevant)}
    found = [(numbers[name],) if name in numbers else () for name in order_run(scores)]
    return measure_ranking(found, list(relevant.values()), ks)


def write_trec(evaluation: Evaluation, folder: str | Path) -> tuple[Path, Path]:
    """The rankings and the evidence in `trec_eval`'s own formats, to check these figures with it.

    Of the cases whose evidence is whole documents: `run.txt` has the documents of the last stage,
    with scores that fall strictly, so that the order is read back as it is; `qrels.txt` has what
    is relevant. White space and `%` in a name are written as in a URL, in both. Then
    `trec_eval -c -m ndcg_cut.10 qrels.txt run.txt` prints the mean; `-c` counts the questions
    that nothing was found for.

    Returns:
        The two files.

    Raises:
        UsageError: no case has whole documents as evidence, or the folder cannot be written.
    """
    whole = [result for result in evaluation.results if _is_of_documents(result)]
    if not whole:
        wrong = "no case has whole documents as evidence, and trec_eval knows no other"
        raise UsageError(evaluation.origin, wrong, "Evaluate cases of a BEIR folder.")
    run, judged = Path(folder) / "run.txt", Path(folder) / "qrels.txt"
    _write_lines(run, [line for result in whole for line in _write_run(result)])
    _write_lines(judged, [line for result in whole for line in _write_judgments(result)])
    return run, judged


def _is_of_documents(result: CaseResult) -> bool:
    return bool(result.located) and not any(located.spans for located in result.located)


def _write_run(result: CaseResult) -> list[str]:
    question = _to_name(result.case.id)
    documents = rank_documents(retrieved.hit.source for retrieved in result.ranking)
    return [
        f"{question} Q0 {_to_name(name)} {rank} {len(documents) - rank + 1} rag-app\n"
        for rank, name in enumerate(documents, 1)
    ]


def _write_judgments(result: CaseResult) -> list[str]:
    question = _to_name(result.case.id)
    return [
        f"{question} 0 {_to_name(located.source)} {located.relevance}\n"
        for located in result.located
    ]


def _to_name(text: str) -> str:
    return _NOT_IN_A_NAME.sub(lambda found: quote(found.group(), safe=""), text)


def _write_lines(path: Path, lines: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        wrong = f"it cannot be written: {error.strerror}"
        raise UsageError(str(path), wrong, "Name a folder that can be written.") from error
    write_whole(path, "".join(lines).encode())


def _take_new(found: Iterable[Collection[int]]) -> list[set[int]]:
    """Of each unit, the evidence that none before it holds."""
    held: set[int] = set()
    fresh = []
    for unit in found:
        fresh.append(set(unit) - held)
        held |= fresh[-1]
    return fresh


def _find_ideal_gains(
    units: Iterable[Collection[int]], relevance: Sequence[int], depth: int
) -> list[int]:
    """The gains of the greedy ranking: every time the unit that brings most; of equal ones, the
    one that comes first by the evidence it holds."""
    left = sorted({frozenset(unit) for unit in units if unit}, key=sorted)
    gains: list[int] = []
    while left and len(gains) < depth:
        best = max(left, key=lambda unit: _weigh(unit, relevance))
        gains.append(_weigh(best, relevance))
        left = [unit - best for unit in left if unit - best]
    return gains


def _weigh(evidence: Iterable[int], relevance: Sequence[int]) -> int:
    return sum(relevance[number] for number in evidence)


def _discount(gains: Sequence[int], ranks: NDArray[np.int_]) -> NDArray[np.float64]:
    return np.cumsum(_pad(gains, len(ranks)) / np.log2(ranks + 1))


def _pad(values: Sequence[float], depth: int) -> NDArray[np.float64]:
    padded = np.zeros(depth)
    padded[: len(values)] = values
    return padded
