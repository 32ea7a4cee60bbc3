"""The options of commands that measure pipelines on cases, and what they open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from rag_app.cli.options import filter_option, open_app
from rag_app.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from langchain_core.language_models import BaseChatModel

    from rag_app.evaluation.results import Cases

Command = TypeVar("Command", bound="Callable[..., Any]")

WORSE: Final = 10
"""The exit status when the result is worse than what was asked for."""

TREC: Final = ("run.txt", "qrels.txt")
"""The files of a folder that `--trec` names."""
_DATA_SET: Final = (".jsonl", ".tsv", ".csv", ".md", ".gz")
"""Endings of what the folder of a data set is read from."""


def cases_options(function: Command) -> Command:
    """Add `--cases` and `--split`; they arrive as `cases` and `split`."""
    split = click.option(
        "--split", metavar="NAME", help="Of a data set that has splits, as test of a BEIR folder."
    )
    cases = click.option(
        "--cases",
        required=True,
        metavar="PATH",
        help="Questions with evidence: a JSONL file, a BEIR or chunking-evaluation folder, or a "
        "SQuAD file.",
    )
    return cases(split(function))


def measuring_options(function: Command) -> Command:
    """Add how pipelines are measured; arrives as `ks answers judge filter stale`."""
    stale = click.option(
        "--stale",
        type=click.Choice(["error", "skip", "miss"]),
        default="error",
        show_default=True,
        help="Cases whose evidence is not in the index: refuse, leave them out, or count them as "
        "not found.",
    )
    judge = click.option(
        "--judge",
        metavar="FILE",
        help="With --answers: a config whose chat_model judges faithfulness and correctness.",
    )
    answers = click.option(
        "--answers", is_flag=True, help="Ask, too, and measure the answers; else only the search."
    )
    ks = click.option(
        "--k",
        "ks",
        metavar="K,K,…",
        callback=_parse_cutoffs,
        help="The cutoffs that rankings are measured at.  [default: 1,3,5,10]",
    )
    return ks(answers(judge(filter_option(stale(function)))))


def read_given_cases(path: str, split: str | None) -> Cases:
    """The cases of `--cases` and `--split`.

    Raises:
        UsageError: they cannot be read.
    """
    from rag_app.evaluation.cases import read_cases

    return read_cases(path, split)


def open_judge(file: str | None, *, answers: bool) -> BaseChatModel | None:
    """The chat model of the config of `--judge`; None without one.

    Raises:
        UsageError: nothing is to be judged, or the config has no chat model.
    """
    if file is None:
        return None
    if not answers:
        raise UsageError("--judge", "only answers can be judged", "Add --answers.")
    with open_app(file, ()) as app:
        if app.chat_model is None:
            raise UsageError("--judge", f"{file} names no chat_model", "Add one to it.")
        return app.chat_model


def check_outputs(
    outputs: Mapping[str, str | None], inputs: Iterable[tuple[str, str | None]]
) -> None:
    """Refuse, before anything is measured, to write over what is read, or one result over another.

    Args:
        outputs: what each option names; None where it is not given. `--trec` names a folder.
        inputs: options with what they name: a file, or the folder of a data set.

    Raises:
        UsageError: naming both options.
    """
    read = [(option, path) for option, path in inputs if path is not None]
    taken: list[tuple[str, str]] = []
    for option, path in _list_files(outputs):
        for other, place in read:
            if _is_same(path, place) or _is_part(path, place):
                wrong = f"{path!r} is what {other} reads, and would be lost"
                raise UsageError(option, wrong, "Name another file to write.")
        for other, place in taken:
            if option != other and _is_same(path, place):
                wrong = f"{path!r} is what {other} writes, too"
                raise UsageError(option, wrong, "Name a file for each.")
        taken.append((option, path))


def _list_files(outputs: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    for option, path in outputs.items():
        if path is not None and option == "--trec":
            yield from ((option, os.path.join(path, name)) for name in TREC)
        elif path is not None:
            yield option, path


def _is_same(path: str, other: str) -> bool:
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def _is_part(path: str, folder: str) -> bool:
    """Whether it is a file that the data set in a folder is read from."""
    file = Path(path).resolve()
    within = os.path.isdir(folder) and file.is_relative_to(Path(folder).resolve())
    return within and file.exists() and file.suffix in _DATA_SET


def pad(rows: list[list[str]], left: int = 1) -> Iterator[str]:
    """Rows as lines with their columns below each other; the first `left` start where they are."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def show_interval(interval: tuple[float, float] | None) -> str:
    """`[0.671, 0.755]`; nothing where there is none."""
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _parse_cutoffs(_: click.Context, __: click.Parameter, given: str | None) -> tuple[int, ...]:
    from rag_app.evaluation.results import CUTOFFS

    if given is None:
        return CUTOFFS
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise click.BadParameter(f"{given!r} is no list of whole numbers from 1, as in 1,5,10.")
    return tuple(sorted({int(word) for word in words}))
