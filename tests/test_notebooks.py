"""Every notebook runs from its first cell to its last, and is committed with what it showed.

They run on a kernel of this environment, in one folder, so that what one embedded the next finds.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
ON_SCIFACT = {"02_compare_embeddings", "03_compare_vector_stores", "05_rerank_and_hybrid"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    for module in FOLDER.glob("*.py"):
        shutil.copy(module, folder)
    return folder


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: Any) -> int:
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_six() -> None:
    assert [name[:2] for name in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(
    name: str,
    workplace: Path,
    data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name in ON_SCIFACT:
        monkeypatch.setenv("RAG_APP_DATA", str(data("scifact").parent))
    monkeypatch.delenv("RAG_APP_NOTEBOOK_DOCUMENTS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    notebook = read(name)
    for cell in code_of(notebook):
        cell.outputs = []

    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": workplace}}
    ).execute()

    printed = [o for cell in code_of(notebook) for o in cell.outputs if o.get("name") == "stderr"]
    assert not printed, "a warning that a reader would see"
    assert pictures(notebook) == pictures(read(name)) >= 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_is_committed_as_it_ran(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    cells = code_of(notebook)

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    silent = [cell.source for cell in cells if not cell.outputs]
    assert all(_says_nothing(source) for source in silent), silent
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert pictures(notebook) >= 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_tells_nothing_of_where_it_ran(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text("utf-8")

    for word in ("/home/", "/root/", "/tmp/", "C:\\\\", "ipykernel_", str(Path.home())):
        assert word not in text


def _says_nothing(source: str) -> bool:
    """Whether a cell ends in what has no output: an import, an assignment, a definition."""
    ends = (ast.Import, ast.ImportFrom, ast.Assign, ast.AugAssign, ast.FunctionDef, ast.ClassDef)
    lines = [line for line in source.splitlines() if not line.startswith("%")]
    last = ast.parse("\n".join(lines)).body[-1]
    return isinstance(last, ends)
