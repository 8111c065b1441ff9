"""The rich display of an analysis, and the example notebook, run as a reader runs it."""

import shutil
from pathlib import Path

import pytest

from perfkit.report.notebook import fragment
from tests.report.sample import hostile_gpu, io_bound

ROOT = Path(__file__).parents[2]


def test_a_cell_shows_verdict_budget_and_what_to_try() -> None:
    analysis = io_bound()
    shown = fragment(analysis)
    assert "rank 0" in shown and "rank 1" in shown
    assert shown.count("<li>") == min(3, len(analysis.findings))
    assert "<script" not in shown


def test_hostile_names_stay_text() -> None:
    shown = fragment(hostile_gpu(16))
    assert "<img" not in shown and "<script" not in shown
    assert shown.count("display:flex") == 8 and "8 more ranks are in the report" in shown


def test_the_example_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shutil.copytree(ROOT / "traces/ddp", tmp_path / "traces/ddp")
    notebook = nbformat.read(ROOT / "examples/notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept free of outputs
    (tmp_path / "examples").mkdir()
    resources = {"metadata": {"path": str(tmp_path / "examples")}}
    nbclient.NotebookClient(notebook, timeout=250, resources=resources).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = cells[0].outputs[-1]["data"]["text/html"]
    assert "rank 0" in shown and "background:" in shown
    assert cells[1].outputs[0]["text"].startswith("rank 0: ")
    assert cells[2].outputs[-1]["data"]["text/html"]
