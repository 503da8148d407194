"""The notebooks of docs/ run from top to bottom, and are committed without their outputs."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def run(notebook: Path) -> list[Any]:
    """What Jupyter would show below each cell: the value of an expression in its last line, else None."""
    names: dict[str, Any] = {}
    shown = []
    for number, cell in enumerate(code_cells(notebook), 1):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        where = f"{notebook.name}, code cell {number}"
        exec(compile(tree, where, "exec"), names)
        shown.append(eval(compile(ast.Expression(last.value), where, "eval"), names) if last else None)
    return shown


def test_there_is_a_notebook():
    assert [notebook.name for notebook in NOTEBOOKS] == ["first_composite.ipynb"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(notebook):
    for cell in code_cells(notebook):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.slow
def test_first_composite_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (notebook,) = NOTEBOOKS
    shown = run(notebook)
    assert sum(isinstance(value, Image.Image) for value in shown) == 3
    assert True in shown, "outside the mask the result must equal the background"
    assert (tmp_path / "first_composite.mp4").stat().st_size > 0
