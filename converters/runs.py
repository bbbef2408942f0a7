"""Runs on disk: folders are searched for those of the known codes."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from converters.codes.known import KNOWN
from converters.codes.protocols import Code
from converters.codes.run import Run
from converters.errors import Kind, Refused, reading, refused_by_system
from converters.no_matrices import is_pointer, nothing_to_read, refused_pointers, without_pointers


def code_module(name: str) -> Code:
    """What reads and writes the files of a code; imported when it is asked for."""
    return KNOWN[name].load()


def search(path: Path, codes: list[str]) -> Iterator[Run | Refused]:
    """Runs at or below a path in the order of their names, and what could not be searched or understood."""
    found = search_file(path, codes) if path.is_file() else search_tree(path, codes)
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        yield nothing_to_read(path, codes)


def counted(name: str) -> tuple[list[str | int], str]:
    """Sorts names as people count: md_2 before md_10."""
    return [int(part) if n % 2 else part for n, part in enumerate(re.split("([0-9]+)", name))], name


def search_file(path: Path, codes: list[str]) -> Iterator[Run | Refused]:
    """The run whose main file the path is."""
    return (item for item in understood(path.parent, codes) if isinstance(item, Refused) or item.main == path)


def search_tree(path: Path, codes: list[str]) -> Iterator[Run | Refused]:
    """Runs of all folders below a path, but for folders that belong to a run."""
    problems: list[OSError] = []
    for name, folders, _ in os.walk(path, onerror=problems.append):
        folders.sort(key=counted)
        yield from unsearchable(problems)
        items = understood(Path(name), codes)
        claimed = {folder for item in items if isinstance(item, Run) for folder in item.claimed}
        folders[:] = [folder for folder in folders if Path(name, folder) not in claimed]
        yield from items
    yield from unsearchable(problems)


def unsearchable(problems: list[OSError]) -> Iterator[Refused]:
    """Refusals of the folders that could not be opened, each once."""
    while problems:
        problem = problems.pop()
        yield refused_by_system(problem.filename, problem, "cannot be searched", Kind.NOT_THERE)


def understood(folder: Path, codes: list[str]) -> list[Run | Refused]:
    """Runs in one folder, or why they cannot be used; no file is passed over because it may not be read."""
    try:
        files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: counted(path.name))
    except OSError:
        return []  # the walk itself reports it
    closed = [
        Refused(Kind.NO_ACCESS, path, "cannot be read: permission denied")
        for path in files
        if not os.access(path, os.R_OK)
    ]
    pointers = [path for path in files if is_pointer(path)]
    files = [path for path in files if path not in pointers]
    try:
        with reading(folder):
            found = [run for code in codes for run in code_module(code).find_runs(folder, files)] if files else []
    except Refused as refusal:
        return [*closed, refusal]
    pointers += [path for run in found for path in run.matrices + run.others if is_pointer(path)]
    closed += refused_pointers(folder, pointers, codes)
    unreadable = {refusal.place for refusal in closed}
    found = [run for run in found if unreadable.isdisjoint(map(str, run.matrices + run.others))]
    runs = [whole for run in found if (whole := without_pointers(run)) is not None]
    names = sorted({run.code for run in runs})
    if len(names) > 1:
        reason = f"holds runs of {' and '.join(names)}; expected one code"
        return [*closed, Refused(Kind.AMBIGUOUS, folder, reason)]
    return [*closed, *runs]
