"""Runs: what a reader is asked to read, and how folders are searched for them."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

from basis.radial import Functions
from basis.shells import Species
from converters.errors import Kind, Refused, reading, refused_by_system

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

# The DFT codes: a name on the command line and the module that reads and writes it. A module is imported when a folder
# is searched for its runs. It defines
#   NAME                      the name in this table
#   find_runs(folder, files)  the runs in a folder, recognised by the contents of its files
#   read_run(run)             the frames of one run, checked as far as the files allow
#   find_functions            of a run, its frame and some folders: the radial functions of its species, of those whose files lie in
#                             the folders, beside the run, or where its input says; several possibilities, the likeliest first
CODES = {name: f"converters.{name}" for name in ("abacus", "deeph", "openmx", "pyscf", "siesta")}


@dataclass(frozen=True)
class Run:
    """One calculation on disk.

    `matrices` are the files that hold its matrices, the first of them names the run; `others` may be read for what
    those do not say. `claimed` are folders below that belong to the run and are not searched.
    """

    code: str
    folder: Path
    matrices: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    claimed: tuple[Path, ...] = ()

    @property
    def main(self) -> Path:
        return self.matrices[0]

    @cached_property
    def source(self) -> str:
        """Identity of the run: its code and the contents of its matrices, wherever they lie."""
        contents = [digest_file(path) for path in self.matrices]
        return hashlib.sha256(json.dumps([self.code, contents]).encode()).hexdigest()

    def digests(self, *files: Path) -> dict[str, str]:
        """SHA-256 of each file, by its name relative to the folder."""
        return {str(path.relative_to(self.folder)): digest_file(path) for path in files}


@dataclass(frozen=True, eq=False)
class FoundFunctions:
    """Radial functions that belong to a run, and the files that they are from."""

    functions: Mapping[Species, Functions]
    files: tuple[Path, ...] = ()


def leaves(folder: Path, path: Path) -> bool:
    """Whether a path that an input file names lies outside of the folder of its run."""
    return not path.resolve().is_relative_to(folder.resolve())


def digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def starts_with(path: Path, magic: bytes) -> bool:
    """True for a readable file that begins with the bytes."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return False


def code_module(name: str) -> ModuleType:
    return import_module(CODES[name])


def search(path: Path, codes: list[str]) -> Iterator[Run | Refused]:
    """Runs at or below a path in the order of their names, and what could not be searched or understood."""
    found = search_file(path, codes) if path.is_file() else search_tree(path, codes)
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        yield Refused(Kind.NO_RUN, path, "holds nothing to read", f"runs of {' or '.join(codes)}")


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
    try:
        with reading(folder):
            runs = [run for code in codes for run in code_module(code).find_runs(folder, files)] if files else []
    except Refused as refusal:
        return [*closed, refusal]
    found = sorted({run.code for run in runs})
    if len(found) > 1:
        reason = f"holds runs of {' and '.join(found)}; expected one code"
        return [*closed, Refused(Kind.AMBIGUOUS, folder, reason)]
    return [*closed, *runs]
