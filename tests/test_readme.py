"""What the README shows is what happens: every command, config and program in it is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_app.config import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
STAGES = "reading|embedding|indexing words|examining|splitting again|mending"
BASE: dict[str, Any] = {"name": "handbook", "sources": [{"kind": "files", "path": "docs"}]}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in the order of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def steps(block: str) -> list[tuple[str, str]]:
    """Each command of a console block with the output shown under it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def spaced(text: str) -> str:
    """The words of an output; how long something took is never the same."""
    text = re.sub(r"\b\d+\.\d s\b", "0.0 s", text)
    return " ".join(re.sub(r"[+-]\d+ ms\b", "+0 ms", text).split())


def on_terminal(printed: str) -> str:
    """Without the stages of progress: a terminal shows them as bars, gone when the work is done."""
    return re.sub(
        rf"^(?:{STAGES})(?: [\d,]+(?: of [\d,]+)?)?(?:, about .*)?\n", "", printed, flags=re.M
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, for commands that write beside it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("configs", "rag_app/guide", "rag_app/schema.json"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return folder


def test_the_first_command_and_its_output_stand_in_the_first_lines() -> None:
    lines = README.splitlines()
    first = next(i for i, line in enumerate(lines, 1) if line.startswith("$ "))
    assert first < 15
    assert lines[first].strip(), "the command is followed by its output"


def test_every_command_shown_prints_what_is_shown(clone: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:.*\n\t@\S+/rag-app demo$", makefile, re.MULTILINE)
    shown = {"make demo": "rag-app demo", "make test": "true", 'pip install ".[files]"': "true"}
    folder = clone
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    for command, output in [step for block in blocks("console") for step in steps(block)]:
        whole = f"{shown.get(command, command)}\necho; pwd >&3"
        done = subprocess.run(
            ["bash", "-c", f"exec 3>{clone / 'pwd'}; {whole}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        folder = Path((clone / "pwd").read_text().strip())
        printed = on_terminal(done.stdout.replace(f"{ROOT}{os.sep}", ""))
        assert spaced(output) in spaced(printed), command
        ran += bool(output.strip())
    assert ran >= 3


def test_every_config_shown_is_valid() -> None:
    shown = [yaml.safe_load(block) for block in blocks("yaml")]
    assert len(shown) >= 2
    for config in shown:
        for options in config.values():
            if isinstance(options, dict) and options.get("api_key") == "${OPENAI_API_KEY}":
                options["api_key"] = "a key, as the variable would give it"
        assert load_config(BASE | config).name == "handbook"


def test_the_program_shown_runs(clone: Path) -> None:
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=clone, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    answer, *citations = done.stdout.splitlines()
    assert answer.startswith("A file that cannot be read is quarantined")
    number, source, start, end = citations[0].split()
    text = (clone / "rag_app" / "guide" / source).read_text(encoding="utf-8")
    assert f"{text[int(start) : int(end)]} [{number}]" in answer


def test_links_to_files_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert len(links) >= 3
    assert [link for link in links if not (ROOT / link).exists()] == []
