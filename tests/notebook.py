"""The cells of a notebook, run one after the other: `python -m tests.notebook` runs docs/notebook.ipynb and stores what they show."""

import ast
import base64
import io
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


def run_cells(cells, change=lambda source: source):
    """Run the code cells in the current folder; `change` may shorten what they do. Each gets what it shows as its outputs."""
    matplotlib.use("Agg")
    names, count = {"__name__": "notebook"}, 0
    for cell in cells:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = list(run_cell(change("".join(cell["source"])), names, count))


def run_cell(source, names, count):
    """The outputs of one cell: what it prints, the value of its last line, the pictures it leaves open."""
    from matplotlib import pyplot

    tree, value, printed = ast.parse(source), None, io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {count}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
    if printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        yield {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}
    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, dpi=70)
        data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
        yield {"output_type": "display_data", "metadata": {}, "data": data}
    pyplot.close("all")


def main():
    notebook = json.loads(NOTEBOOK.read_text())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run_cells(notebook["cells"])
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
