"""Every message that the program refuses something with, read from its source: `python -m tests.messages` lists them by their cures, and writes the table of docs/errors.md."""

import ast
import re
from pathlib import Path

from converters.errors import IN_USE
from workflows.terminal.cures import CURES

ROOT = Path(__file__).parent.parent
PACKAGES = ("basis", "converters", "slem_plugin", "workflows")
# Stands for what is known only when the program runs.
UNKNOWN = "7"
PAGE = ROOT / "docs" / "errors.md"
BEGIN, END = "<!-- table of errors: begin -->\n", "<!-- table of errors: end -->"


def text_of(node, names):
    """All texts that an expression can become."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        texts = [""]
        for part in node.values:
            value = part.value
            ends = [value] if isinstance(part, ast.Constant) else text_of(value, names) or [UNKNOWN]
            texts = [text + end for text in texts for end in ends]
        return texts
    if isinstance(node, ast.BinOp):
        return [a + b for a in text_of(node.left, names) for b in text_of(node.right, names)]
    if isinstance(node, ast.IfExp):
        return text_of(node.body, names) + text_of(node.orelse, names)
    if isinstance(node, ast.Name):
        return names.get(node.id, [])
    return []


def calls_of(path):
    """Each call in the functions of a file, the name of what is called, and the texts that the names in its function stand for."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = text_of(node.value, names) + names.get(node.targets[0].id, [])
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                yield node, getattr(node.func, "id", getattr(node.func, "attr", "")), names


def messages_of(path):
    """(line, message) of each refusal in a file; messages that come from elsewhere as they are have no text here."""
    for call, called, names in calls_of(path):
        if called in ("Refused", "refuse") and call.args:
            for text in text_of(call.args[-1], names):
                yield call.lineno, text


def checks_of(path):
    """(line, refusal) of the checks of physics: their names, and what they expect."""
    for call, called, names in calls_of(path):
        if called == "Result":
            for name in text_of(call.args[0], {}):
                for expected in text_of(call.args[3], names) or [UNKNOWN]:
                    yield call.lineno, f"{name}: {UNKNOWN} ({expected})"


def all_messages():
    """(place in the source, message) of everything that a user can be told."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for line, text in (*messages_of(path), *checks_of(path)):
                yield f"{path.relative_to(ROOT)}:{line}", text
    for text in (IN_USE, "permission denied", "no such file or directory"):
        yield "the operating system", text


def kind_of(message):
    return next(cure.kind for cure in CURES if re.search(cure.pattern, message))


def page():
    """The table of docs/errors.md."""
    rows = ["| error | what to do |", "|---|---|", *(f"| {cure.kind} | {cure.cure} |" for cure in CURES)]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + page() + END + rest.split(END)[1])
    for cure in CURES:
        print(f"\n== {cure.kind}")
        for where, message in all_messages():
            if kind_of(message) == cure.kind:
                print(f"   {where}: {message}")
