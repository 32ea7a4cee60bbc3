"""Every file in broken_configs/ is refused with exactly the problems its header announces.

A header line is `#! line:column path words | words`: where, the option's path (`-` for none) and
what the message must hold.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rag_app.config import load_config
from rag_app.errors import ConfigError

FOLDER = Path(__file__).parent / "broken_configs"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPECTED = re.compile(r"#! (\d+:\d+) (\S+) ?(.*)")
SECRETS = ("hunter2", "90210902109", "do-not-show")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_VARIABLE", "")
    monkeypatch.setenv("HIDDEN_WORD", "do-not-show")
    monkeypatch.setenv("YAML_INJECTION", "{kind: recursive, do-not-show: 1}")


def _refuse(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return caught.value


def test_there_are_enough() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_problems_are_those_announced_in_file_order(file: Path) -> None:
    expected = [m.groups() for m in map(EXPECTED.match, file.read_text().splitlines()) if m]
    problems = _refuse(file).problems
    places = [(p.place.removeprefix(f"{file}:"), p.path or "-") for p in problems]
    assert places == [(place, path) for place, path, _ in expected], "\n".join(map(str, problems))
    for problem, (_, _, words) in zip(problems, expected, strict=True):
        for part in words.split(" | "):
            assert part in str(problem)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_message_is_plain_complete_and_holds_no_secret(file: Path) -> None:
    error = _refuse(file)
    assert error.exit_status == 2
    text = str(error)
    assert not any(secret in text for secret in SECRETS), text
    assert "pydantic" not in text
    assert "Input should" not in text
    assert "input_value" not in text
    assert text.count(str(file)) == len(error.problems) == len(text.splitlines())
    for problem in error.problems:
        assert problem.wrong
        assert not problem.wrong.endswith(".")
