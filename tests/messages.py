"""Every refusal in the source, by its kind: `python -m tests.messages` lists them, and writes the table of docs/errors.md."""

import ast
from pathlib import Path

from workflows.terminal.cures import CURES

ROOT = Path(__file__).parent.parent
PACKAGES = ("basis", "converters", "slem_plugin", "workflows")
PAGE = ROOT / "docs" / "errors.md"
BEGIN, END = "<!-- table of errors: begin -->\n", "<!-- table of errors: end -->"


def refusals():
    """(place in the source, names of the kinds, source of the message) of every expression that names a kind."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name in ("cures.py", "errors.py"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    kinds = [kind_named(argument) for argument in (*node.args, *(word.value for word in node.keywords))]
                    place = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield from ((place, kind, ast.unparse(node)) for kind in kinds if kind)


def kind_named(node):
    is_kind = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Kind"
    return node.attr if is_kind else None


def page():
    """The table of docs/errors.md."""
    rows = ["| error | what to do |", "|---|---|", *(f"| {kind.value} | {cure} |" for kind, cure in CURES.items())]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + page() + END + rest.split(END)[1])
    found = list(refusals())
    for kind in CURES:
        print(f"\n== {kind.value}")
        for where, name, words in found:
            if name == kind.name:
                print(f"   {where}: {' '.join(words.split())}")
