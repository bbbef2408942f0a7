"""The notebook of the documentation does what it shows."""

import json

from tests.notebook import NOTEBOOK, run_cells


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    stored = [
        [kind for output in cell.get("outputs", []) for kind in sorted(output.get("data", ["text"]))] for cell in cells
    ]
    run_cells(cells, lambda source: source.replace('time="1m"', "steps=3"))
    shown = [
        [kind for output in cell.get("outputs", []) for kind in sorted(output.get("data", ["text"]))] for cell in cells
    ]
    assert shown == stored
    assert any("image/png" in kinds for kinds in stored)


def test_the_notebook_shows_a_start_that_saves_steps():
    text = NOTEBOOK.read_text()
    assert '"nbformat": 4' in text
    assert "iterations from the prediction" in text
